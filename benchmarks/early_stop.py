"""What deciding early costs and saves: accuracy, mean steps and energy of the demo's networks, by the margin that is enough.

    tet-deploy demo --data digits --out out/digits && tet-deploy demo --data event-digits --out out/event-digits
    python benchmarks/early_stop.py out/digits out/event-digits --figure docs/figures/streams.svg

The curves are of the whole test set, a point for each margin, none of them chosen. Then rules are calibrated on every other
test sample for some accuracies, and judged on the rest. Energy is that of the steps shown.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np

import tet_deploy as td
from tet_deploy.contracts import Recording
from tet_deploy.data.opened import open_samples
from tet_deploy.errors import DataError
from tet_deploy.experiments.figures import COLORS, GREY, save_figure
from tet_deploy.ir.graph import Graph
from tet_deploy.layout import Table
from tet_deploy.stopping import Stopped, calibrated

WANTED = (0.90, 0.95, 0.96, 0.97)
TABLE = "45nm-int8"
MARGINS = 12  # points of a curve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="of the demo")
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", td.TetDeployWarning)  # runs are cut short on purpose
    curves = {}
    for folder in arguments.folders:
        graph = td.load(folder / "network.int8.safetensors")
        samples, of = open_samples(None, graph.metadata)
        frames, labels = samples.batch(range(len(samples)))
        recording = td.run(graph, frames, runtime="onnx", probes="none")
        curves[of] = [point(graph, frames, rule.on(recording, labels)) for rule in rules(recording)]
        print(
            Table(of, ("accuracy", "of 95 %", "mean steps", "nJ a sample"), [row(*each) for each in curves[of]]), end="\n\n"
        )
        print(Table(f"{of}, calibrated on every other", COLUMNS, judged(graph, frames, recording, labels)), end="\n\n")
    if arguments.figure:
        save_figure(lambda figure: draw(figure, curves), arguments.figure, (7.2, 2.9))


COLUMNS = ("wanted", "margin", "accuracy", "of 95 %", "mean steps", "nJ a sample")


def rules(recording: Recording) -> list[td.EarlyStop]:
    """Never before the last step, at margins that part the samples evenly, and always at the first."""
    mean = np.sort(recording.sums / np.arange(1, recording.steps + 1)[:, None, None], axis=-1)
    lead = (mean[..., -1] - mean[..., -2])[:-1]
    chosen = [np.inf, *np.quantile(lead, np.linspace(1, 0, MARGINS)[1:-1]), 0.0]
    return [td.EarlyStop(threshold=float(margin), steps=recording.steps) for margin in chosen]


def point(graph: Graph, frames: np.ndarray, found: Stopped) -> tuple[Stopped, float]:
    """What a rule decided, and nanojoules a sample: each sample's own steps."""
    total = 0.0
    for steps in np.unique(found.steps):
        energy = td.energy(graph, frames[:steps, found.steps == steps], runtime="onnx", table=TABLE)
        total += energy.mean(energy.default) * energy.samples
    return found, total / len(found.steps) / 1e3


def row(found: Stopped, energy: float) -> tuple[str, ...]:
    low, high = found.interval
    return f"{found.accuracy:.2%}", f"{low:.1%} to {high:.1%}", f"{found.mean_steps:.2f}", f"{energy:.1f}"


def judged(graph: Graph, frames: np.ndarray, recording: Recording, labels: np.ndarray) -> list[tuple[str, ...]]:
    """For each wanted accuracy, the rule of the even samples and what it decides on the odd ones."""
    parts = [Recording(readout=recording.readout[:, start::2], runtime=recording.runtime) for start in (0, 1)]
    rows = []
    for wanted in WANTED:
        try:
            rule = calibrated(parts[0], labels[::2], accuracy=wanted)
        except DataError:
            rows.append((f"{wanted:.0%}", "not shown", "-", "-", "-", "-"))
            continue
        found = point(graph, frames[:, 1::2], rule.on(parts[1], labels[1::2]))
        rows.append((f"{wanted:.0%}", f"{rule.threshold:.4g}", *row(*found)))
    return rows


def draw(figure: object, curves: dict[str, list[tuple[Stopped, float]]]) -> None:
    left, right = figure.subplots(1, 2, sharey=True)  # type: ignore[attr-defined]  # matplotlib's
    for (of, points), color in zip(curves.items(), (COLORS["tet"], COLORS["sdt"], GREY), strict=False):
        accuracy = [100 * found.accuracy for found, _ in points]
        left.plot([found.mean_steps for found, _ in points], accuracy, "o-", color=color, markersize=3.5, label=of)
        right.plot([energy for _, energy in points], accuracy, "o-", color=color, markersize=3.5, label=of)
    left.set(xlabel="steps until a decision, mean", ylabel="accuracy (%)")
    right.set(xlabel=f"energy a sample (nJ, {TABLE})")
    left.legend()


if __name__ == "__main__":
    main()
