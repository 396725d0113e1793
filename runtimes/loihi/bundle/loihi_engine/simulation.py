"""A plan from its first step to its last in this process: the same integers as Lava's, wherever numpy runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .pipeline import Pipeline
from .records import Records, report


def simulate(plan: Mapping[str, Any], arrays: Mapping[str, np.ndarray], frames: Path, records: Records) -> None:
    """Stream all samples of a file of frames through a plan, and fill the records.

    Parameters
    ----------
    plan, arrays
        Content of plan.json and arrays.npz.
    frames
        File of frames [T, B, *shape].
    records
        Where to write what.
    """
    pipeline = Pipeline(all_nodes(plan), arrays, str(frames), records)
    for time in range(1, records.steps + 1):
        pipeline.take(time, pipeline.fire(time))
    report(records.steps, records.steps)


def all_nodes(plan: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The input, the nodes between and the readout, each with its kind and its latency."""
    return [{**plan["input"], "kind": "input", "latency": 0}, *plan["nodes"], {**plan["readout"], "kind": "readout"}]
