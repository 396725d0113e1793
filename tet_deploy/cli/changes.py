"""What a command changed in a network, measured on samples that it has not seen."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import typer

from tet_deploy import terminal
from tet_deploy.batches import FrameBatches
from tet_deploy.cli.options import Shown, samples_for
from tet_deploy.errors import ArgumentError
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import WEIGHTED
from tet_deploy.ir.shapes import padded_macs
from tet_deploy.links import Deviation, Link, Pair, compared
from tet_deploy.links.link import fast_runtime, of_graph
from tet_deploy.links.tables import deviation_tables, deviation_values
from tet_deploy.pipeline import known_labels

_MACS = 5e9  # multiply-accumulates of a few seconds; between these numbers of samples
_FEWEST, _MOST = 8, 256

TestData = Annotated[
    str | None,
    typer.Option(
        help="Measure what changed on these frames: an .npz, or a data set's test samples; by default the test samples of "
        "the data set, or those of the file that were not used."
    ),
]
TestSamples = Annotated[
    int | None, typer.Option(min=0, help="Measure on the first N of them, 0 for none; by default as many as take seconds.")
]


class Change(NamedTuple):
    """How a network deviates from what it was made from, and on which samples."""

    found: Deviation
    frames: FrameBatches
    which: str


def held_out(graph: Graph, used: str | None, count: int, test_data: str | None, test_samples: int | None) -> Shown | None:
    """Samples that were not used: of the test split, or behind the first `count` of a file; None where there are none."""
    shown = _unused(graph, used, count, test_data, test_samples)
    if shown is not None:
        known_labels(graph, shown.frames, None)  # before long work
    return shown


def _unused(graph: Graph, used: str | None, count: int, test_data: str | None, test_samples: int | None) -> Shown | None:
    from tet_deploy.data import DATA

    if test_samples == 0:
        if test_data is not None:
            raise ArgumentError("--test-data: --test-samples 0 measures nothing on it. Leave out one of them.")
        return None
    if test_data is not None or used is None or used in DATA:
        shown = samples_for(graph, test_data or used, test_samples)
        number = test_samples or _number(graph, shown.frames)
        return shown if number >= len(shown.frames) else samples_for(graph, test_data or used, number)
    whole = samples_for(graph, used, None).frames
    if count >= len(whole):
        return None
    rest = whole.part(count, len(whole))
    rest = rest.part(0, min(test_samples or _number(graph, rest), len(rest)))
    if len(rest) == 1:
        return Shown(rest, f"sample {rest.start:,} of {used}, which was not used")
    return Shown(rest, f"samples {rest.start:,} to {rest.stop - 1:,} of {used}, which were not used")


def _number(graph: Graph, frames: FrameBatches) -> int:
    """Of samples that take seconds."""
    macs = sum(padded_macs(node, graph.shapes[node.name]) for node in graph if isinstance(node, WEIGHTED))
    return max(_FEWEST, min(_MOST, int(_MACS / max(1, macs * frames.steps))))


def measured(before: Link, after: Graph, name: str, shown: Shown) -> Change:
    """How a new network deviates from what it was made from."""
    pair = Pair(before, of_graph(after, fast_runtime(), name=name))
    with terminal.progress_bar("measuring the change") as progress:
        return Change(compared(pair, shown.frames, progress=lambda _: progress), *shown)


def show_change(change: Change | None) -> None:
    """Print it for people."""
    if change is None:
        terminal.say("What changed was not measured, as there are no samples that were not used. Name some: --test-data.")
        return
    for what in deviation_tables(change.found, change.which):
        terminal.say(what)


def change_values(change: Change | None) -> dict[str, Any] | None:
    """It for machines."""
    return None if change is None else {"of": change.which, **deviation_values(change.found)}


def need_labels(shown: Shown | None) -> None:
    """See before long work that a loss of accuracy can be measured.

    Raises
    ------
    ArgumentError
        No sample, or no labels.
    """
    if shown is None:
        raise ArgumentError("--max-loss: needs samples that were not used to calibrate. Name some: --test-data.")
    if getattr(shown.frames.source, "labels", None) is None:
        raise ArgumentError("--max-loss: is of an accuracy, and no labels are known. Give --test-data with 'labels'.")


def check_loss(change: Change | None, most: float | None) -> None:
    """Tell of a loss of accuracy; exit code 1 where it is more than was allowed, in points.

    Without a limit a loss is told that chance does not explain: the 95 % interval of the difference lies below 0.
    """
    accuracy = None if change is None else change.found.accuracy
    if accuracy is None:
        return
    loss, beyond = 100 * accuracy.loss, accuracy.intervals()["difference"][1] < 0
    if most is not None and loss > most:
        terminal.tell(f"error: {loss:.2f} points of accuracy are lost; --max-loss allows {most:g}. The file was written.")
        raise typer.Exit(1)
    if most is None and beyond:
        terminal.tell(f"warning: {loss:.2f} points of accuracy are lost, more than chance explains. Look at --report.")
