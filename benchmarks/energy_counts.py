"""The counts of docs/energy.md: ours beside those of other counters and the mean-rate formula, of one stored network.

    python benchmarks/energy_counts.py

The network is `tests/versions/v0_1/digits.float.safetensors` with its own frames, so that no training stands between the
page and its numbers. Counters that are not installed have no row, see `energy_peers`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from energy_peers import Counts, theirs

import tet_deploy as td
from tet_deploy.counting import EnergyReport
from tet_deploy.ir.graph import Graph

FOLDER = Path(__file__).parents[1] / "tests" / "versions" / "v0_1"


def main() -> None:
    graph, frames = network()
    print("\n".join(table(ours(td.energy(graph, frames)) | theirs(graph, frames))))


def network() -> tuple[Graph, np.ndarray]:
    """A small network that was trained on digits, and frames [T, B, 1, 8, 8]."""
    with np.load(FOLDER / "digits.frames.npz") as arrays:
        return td.load(FOLDER / "digits.float.safetensors"), arrays["frames"]


def ours(report: EnergyReport) -> Counts:
    """What we say, and what the mean-rate formula says."""
    additions, padded = int(report.additions().sum()), report.traffic.of_kind("analog") * report.traffic["mac_padded"]
    firing = report.parts("rate")["additions"].sum() / report.table.addition.picojoules * report.samples
    full = sum(int(report.traffic[name].sum()) for name in ("bias_additions", "neuron_updates"))
    return {
        "tet_deploy, synapses": (int(report.multiplications("dense").sum()), additions),
        "tet_deploy, synapses, zero inputs skipped": (int(report.multiplications("event").sum()), additions),
        "tet_deploy, biases and comparisons": (None, full),
        "mean-rate formula, padded": (int(padded.sum()), round(firing)),
    }


def table(found: Counts) -> list[str]:
    """The page's table: counts over all samples and steps."""
    rows = [
        f"| {name} | {'' if macs is None else f'{macs:,}'} | {additions:,} |" for name, (macs, additions) in found.items()
    ]
    return ["| count | multiply-accumulates | additions |", "|---|---|---|", *rows]


if __name__ == "__main__":
    main()
