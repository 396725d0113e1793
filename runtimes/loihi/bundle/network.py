"""Builds the Lava network that plan.json describes, a process for each region."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from lava.magma.core.run_configs import Loihi2SimCfg
from loihi_engine.records import Records
from loihi_engine.regions import cut
from loihi_engine.simulation import all_nodes
from loihi_models.regions import RegionProcess, StockRegion, fast_model


def build(
    plan: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    frames: Path,
    records: Records,
    processes: int | None,
    stock: bool,
) -> tuple[RegionProcess, Loihi2SimCfg]:
    """Connect all processes.

    Parameters
    ----------
    plan, arrays
        Content of plan.json and arrays.npz.
    frames
        File of frames [T, B, *shape].
    records
        Where to write what.
    processes
        How many regions, see `cut`.
    stock
        Whether Lava's own models compute, of all that the host does not.

    Returns
    -------
    tuple
        One of the processes, from which Lava finds the others, and the configuration to run it with.
    """
    nodes = all_nodes(plan)
    regions = cut(nodes, arrays, processes, plan.get("host", ()))
    shapes = {node["name"]: tuple(reversed(node["shape"])) for node in nodes if "shape" in node}
    built = [RegionProcess(region, shapes, arrays=arrays, frames=str(frames), records=records) for region in regions]
    exits = {name: port for process in built for name, port in process.exits.items()}
    for process in built:
        for name, port in process.entries.items():
            exits[name].connect(port)
    models = {
        process: StockRegion if stock and not region.on_host else fast_model(region)
        for process, region in zip(built, regions, strict=True)
    }
    return built[0], Loihi2SimCfg(select_tag="fixed_pt", exception_proc_model_map=models)
