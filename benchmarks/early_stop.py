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
from tet_deploy.data.opened import open_samples
from tet_deploy.energy_curve import Point, energy_curve
from tet_deploy.errors import DataError
from tet_deploy.experiments.figures import COLORS, GREY, save_figure
from tet_deploy.ir.graph import Graph
from tet_deploy.layout import Table
from tet_deploy.stopping import calibrated

WANTED = (0.90, 0.95, 0.96, 0.97)
TABLE = "45nm-int8"


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
        course = energy_curve(graph, frames, labels, runtime="onnx", table=TABLE)
        curves[of] = course.early()
        print(
            Table(of, ("accuracy", "of 95 %", "mean steps", "nJ a sample"), [row(each) for each in curves[of]]), end="\n\n"
        )
        print(Table(f"{of}, calibrated on every other", COLUMNS, judged(graph, frames, labels)), end="\n\n")
    if arguments.figure:
        save_figure(lambda figure: draw(figure, curves), arguments.figure, (7.2, 2.9))


COLUMNS = ("wanted", "margin", "accuracy", "of 95 %", "mean steps", "nJ a sample")


def row(point: Point) -> tuple[str, ...]:
    low, high = point.interval
    energy = point.picojoules[TABLE] / 1e3
    return f"{point.accuracy:.2%}", f"{low:.1%} to {high:.1%}", f"{point.mean_steps:.2f}", f"{energy:.1f}"


def judged(graph: Graph, frames: np.ndarray, labels: np.ndarray) -> list[tuple[str, ...]]:
    """For each wanted accuracy, the rule of the even samples and what it decides on the odd ones."""
    recording = td.run(graph, frames[:, ::2], runtime="onnx", probes="none")
    others = energy_curve(graph, frames[:, 1::2], labels[1::2], runtime="onnx", table=TABLE)
    rows = []
    for wanted in WANTED:
        try:
            rule = calibrated(recording, labels[::2], accuracy=wanted)
        except DataError:
            rows.append((f"{wanted:.0%}", "not shown", "-", "-", "-", "-"))
            continue
        rows.append((f"{wanted:.0%}", f"{rule.threshold:.4g}", *row(others.stopped(rule.threshold))))
    return rows


def draw(figure: object, curves: dict[str, list[Point]]) -> None:
    left, right = figure.subplots(1, 2, sharey=True)  # type: ignore[attr-defined]  # matplotlib's
    for (of, points), color in zip(curves.items(), (COLORS["tet"], COLORS["sdt"], GREY), strict=False):
        accuracy = [100 * point.accuracy for point in points]
        left.plot([point.mean_steps for point in points], accuracy, "o-", color=color, markersize=3.5, label=of)
        right.plot(
            [point.picojoules[TABLE] / 1e3 for point in points], accuracy, "o-", color=color, markersize=3.5, label=of
        )
    left.set(xlabel="steps until a decision, mean", ylabel="accuracy (%)")
    right.set(xlabel=f"energy a sample (nJ, {TABLE})")
    left.legend()


if __name__ == "__main__":
    main()
