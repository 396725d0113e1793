"""Run a network over samples and write all that is seen of it down as a page."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tet_deploy import counting, reporting, validation
from tet_deploy.arguments import whole
from tet_deploy.batches import FrameBatches, Source
from tet_deploy.chips.resources import Resources, map_resources
from tet_deploy.contracts import Frames, Progress, tell_ranges
from tet_deploy.counting import EnergyReport
from tet_deploy.counting.tables import Chosen, choose
from tet_deploy.decisions import Decisions, confusion
from tet_deploy.deployment import Run, side_by_side
from tet_deploy.errors import GraphError, cut
from tet_deploy.exporters.lava_latency import schedule
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.spec import need_graph
from tet_deploy.links import Pair, compared
from tet_deploy.links.tables import link_values
from tet_deploy.passes.snap_to_grid import OFF_GRID
from tet_deploy.pipeline import agreement_of, equality_expected, known_labels, labels_of
from tet_deploy.range_totals import RangeTotals
from tet_deploy.totals import plus
from tet_deploy.validation import Agreement
from tet_deploy.wording import number_of

_CHIP = "loihi2"  # takes the graded messages that quantized images and counts are sent as; Loihi 1 does not


def report(
    graph: Graph,
    frames: Frames | Source,
    labels: Any = None,
    *,
    samples: str = "",
    path: str | os.PathLike[str] = "report.html",
    runtimes: Sequence[str] = ("reference", "onnx"),
    table: Chosen | Sequence[Chosen] | None = None,
    chip: str | None = None,
    against: Sequence[Any] = (),
    show: Sequence[int] = (0,),
    log: str | os.PathLike[str] | None = None,
    command: str = "",
    progress: Callable[[str], Progress | None] | None = None,
) -> Path:
    """Run a network, compare runtimes, count energy, and write one self-contained HTML page with JSON and CSV beside it.

    Parameters
    ----------
    graph, frames
        As in `run`.
    labels
        Classes of the samples, [B], for the accuracy.
    samples
        What they are, for the page: "all 360 test samples of digits"; by default their number.
    path
        The page to write.
    runtimes
        The first is the reference for the others, and its spikes are counted.
    table
        As in `energy`.
    chip
        What a quantized network takes of it, as `map_resources` says; by default of Loihi 2.
    against
        Other links of the chain, as `compare` takes them; the network is compared with each on the same samples.
    show
        Numbers of the samples to draw step by step, from 0.
    log
        The log of the training, for its curves.
    command
        What was typed, for the head of the page.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    ArtifactError
        See `reporting.check_report_path`; it is looked at before anything is run.
    """
    reporting.check_report_path(path)
    tables = choose(table, quantized=need_graph(graph).is_quantized)
    batches = FrameBatches.of(graph, frames)
    resources, no_chip = _on_chip(graph.with_metadata(steps=str(batches.steps)), chip)
    known, thresholds = known_labels(graph, batches, labels), validation.thresholds(graph)
    pairs = [Pair.of(other, graph, batches) for other in against]
    epochs = [] if log is None else reporting.read_log(log)
    show = [whole("show", number, least=0, greatest=len(batches) - 1) for number in show]
    reference, *others = runtimes
    decided: Decisions | None = None
    confused: np.ndarray | None = None
    potentials: dict[str, reporting.Membrane] = {}
    spent: EnergyReport | None = None
    agreements: dict[str, Agreement | None] = dict.fromkeys(others)
    runs = [Run(graph=graph, runtime=name) for name in runtimes]
    views: dict[int, reporting.SampleView] = {}
    for part, (recording, *recordings) in side_by_side(runs, batches, progress=progress):
        assert recording is not None
        x, y = part.frames(), labels_of(known, part, batches)
        decided = plus(decided, Decisions.of(recording, y, RangeTotals.of(graph, recording.ranges, part.start)))
        potentials = reporting.added(potentials, reporting.membranes(recording, thresholds))
        if y is not None:
            confused = plus(confused, confusion(y, recording.decisions, recording.readout.shape[-1]))
        spent = plus(spent, counting.estimate(graph, recording, x, table=tables))
        for name, other in zip(others, recordings, strict=True):
            assert other is not None
            agreements[name] = plus(agreements[name], agreement_of(graph, recording, other, thresholds, part))
        for number in show:
            here = number - (part.start - batches.start)
            if 0 <= here < len(part):
                label = None if y is None else int(y[here])
                views[number] = reporting.SampleView.of(recording, x, here, label, number)
    assert decided is not None and spent is not None
    by_step, agreed = decided.accuracy_by_step, {name: found for name, found in agreements.items() if found is not None}
    reason = "" if equality_expected(graph, batches) else f". {OFF_GRID}"
    links = [compared(pair, batches, known, progress=progress) for pair in pairs]
    data = reporting.ReportData(
        title=f"tet_deploy: {cut(graph.metadata.get('model') or graph.metadata.get('source') or 'network')}",
        provenance=reporting.provenance(graph, command),
        samples=samples or number_of("sample", len(batches)),
        accuracy={reference: by_step[-1]} if by_step else {},
        accuracy_counts={reference: decided.samples} if by_step else {},
        accuracy_by_step={reference: by_step} if by_step else {},
        confusion=confused,
        confusion_of=reference,
        firing_rates=reporting.firing_rates(spent),
        membranes=potentials,
        chain=[link_values(link) for link in links],
        reference=reference,
        mismatches={name: agreement.counts() for name, agreement in agreed.items()},
        divergences={name: f"{agreement.first}{reason}" for name, agreement in agreed.items() if agreement.first},
        energy=spent,
        energy_accuracy_by_step=by_step,
        views=[views[number] for number in show],
        training=epochs,
        graph=graph,
        latency=schedule(graph).latency if graph.is_quantized else {},
        resources=resources,
        no_chip=no_chip,
        ranges=validation.ranges(agreed) | decided.ranges,
    )
    written = reporting.write_report(data, Path(path))
    tell_ranges(data.ranges)
    return written


def _on_chip(graph: Graph, chip: str | None) -> tuple[Resources | None, str]:
    """What a quantized network takes of the chip, by default of `_CHIP`; there, why it can go to none, if it cannot."""
    if chip is not None:
        return map_resources(graph, chip), ""
    if not graph.is_quantized:
        return None, ""
    try:
        return map_resources(graph, _CHIP), ""
    except GraphError as error:
        return None, str(error)
