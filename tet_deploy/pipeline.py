"""Run, decide, compare, count: each folds what runtimes observe, a few samples at a time, into results that add up."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tet_deploy import counting, validation
from tet_deploy.arguments import whole
from tet_deploy.batches import FrameBatches, Source
from tet_deploy.contracts import Frames, Probes, Progress, Recording, concatenate, tell_ranges
from tet_deploy.counting import EnergyReport
from tet_deploy.counting.tables import Chosen, choose
from tet_deploy.data.frames import check_labels
from tet_deploy.decisions import Decisions
from tet_deploy.deployment import Run, check_options, side_by_side
from tet_deploy.errors import ArgumentError, shown
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.spec import need_graph
from tet_deploy.passes.snap_to_grid import frames_fit
from tet_deploy.range_totals import RangeTotals
from tet_deploy.totals import plus, total_of
from tet_deploy.units import ByChannel, float_thresholds, in_float_units
from tet_deploy.units import units as units_of
from tet_deploy.validation import Agreement


def run(
    graph: Graph,
    frames: Frames | Source,
    *,
    runtime: Any = "reference",
    probes: Probes = "all",
    progress: Progress | None = None,
    **options: Any,
) -> Recording:
    """Run a network over frames and record what it did.

    Parameters
    ----------
    graph
        The network; "lava" needs a quantized one, "onnx" a lowered one, "reference" takes any.
    frames
        [T, B, C, H, W], or [T, B, N] for a network without convolutions; or a source of such samples, as `data.load` gives.
    runtime
        "reference", "onnx", "lava" or "lava-numpy"; or the torch model that the network was made from, which runs in its
        place.
    probes
        "all" (spikes and membrane potentials of every LIF), "spikes", "none", or names of LIF nodes.
    progress
        Called as progress(done, total).
    options
        For the runtime, see `deployed`.

    Returns
    -------
    Recording
        Spikes, potentials and readout, time first; and `ranges`, how many values left the chip's range.

    Warns
    -----
    RangeWarning
        Values left the chip's range: messages were clipped, sums wrapped, potentials held at the limit. So do `validate`,
        `energy` and `report`; each once.

    Examples
    --------
    >>> recording = td.run(int8, frames, runtime="onnx")
    >>> recording.readout.shape, recording.decisions.shape  # 4 steps, 3 samples, 3 classes
    ((4, 3, 3), (3,))
    """
    runs, batches = [Run(graph=graph, runtime=runtime, options=options)], FrameBatches.of(graph, frames)
    parts = side_by_side(runs, batches, probes=probes, progress=lambda _: progress)
    recording = concatenate([recording for _, (recording,) in parts if recording is not None])
    tell_ranges(RangeTotals.of(graph, recording.ranges, batches.start))
    return recording


def decide(
    graph: Graph,
    frames: Frames | Source,
    labels: Any = None,
    *,
    runtime: str = "reference",
    progress: Progress | None = None,
    **options: Any,
) -> Decisions:
    """Run a network over any number of samples and keep what it decided, not what it did.

    Parameters
    ----------
    graph, frames, runtime, options
        As in `run`.
    labels
        Classes of the samples, int64 [B]; by default those that the source knows.

    Examples
    --------
    >>> decide(int8, frames, labels, runtime="onnx").samples
    3
    """
    batches = FrameBatches.of(graph, frames)
    known = known_labels(graph, batches, labels)
    parts = side_by_side(
        [Run(graph=graph, runtime=runtime, options=options)], batches, probes="none", progress=lambda _: progress
    )
    decisions = total_of(
        Decisions.of(found, labels_of(known, part, batches), RangeTotals.of(graph, found.ranges, part.start))
        for part, (found,) in parts
        if found is not None
    )
    tell_ranges(decisions.ranges)
    return decisions


def decided(graph: Graph, frames: Frames | Source, recording: Recording, labels: Any = None) -> Decisions:
    """What a recorded run decided."""
    batches = FrameBatches.of(graph, frames)
    ranges = RangeTotals.of(graph, recording.ranges, batches.start)
    return Decisions.of(recording, known_labels(graph, batches, labels), ranges)


def validate(
    graph: Graph,
    frames: Frames | Source,
    *,
    runtimes: Sequence[Any] = ("reference", "onnx", "lava"),
    probes: Probes = "all",
    samples: Mapping[str, int] | None = None,
    progress: Callable[[str], Progress | None] | None = None,
) -> dict[str, Agreement]:
    """Compare runtimes value by value: spikes, membrane potentials and readout at every step.

    Parameters
    ----------
    graph, frames
        As in `run`; memory does not grow with the number of samples.
    runtimes
        Names, and at most one torch model, "torch", that the network was made from. The first is the one that the others are
        compared with. Beside a model all are compared in units of the float network; `td.compare` then says more.
    samples
        Per runtime, the number of leading samples to compare; all by default.
    progress
        Given a runtime's name, returns its progress callback.

    Returns
    -------
    dict
        Per runtime but the first, its `Agreement`; see `equality_expected` for when anything but equality is a fault.

    Examples
    --------
    >>> td.validate(int8, frames, runtimes=["reference", "onnx"])["onnx"].equal
    True
    """
    batches = FrameBatches.of(graph, frames)
    runs = [Run(graph=graph, runtime=runtime) for runtime in ([] if isinstance(runtimes, str) else runtimes)]
    names = [run.name for run in runs]
    if len(names) < 2 or len(set(names)) < len(names):
        raise ArgumentError(f"runtimes: need two or more different ones to compare, as a list; got {runtimes!r}.")
    others = names[1:]
    counts = [len(batches), *_leading(samples, others, len(batches))]
    units = units_of(graph) if "torch" in names else None
    thresholds = validation.thresholds(graph)
    if units is not None:
        thresholds = float_thresholds(graph)
    found: dict[str, Agreement | None] = dict.fromkeys(others)
    for part, recordings in side_by_side(runs, batches, probes=probes, counts=counts, progress=progress):
        expected, *rest = [
            in_float_units(recording, units) if recording and units and name != "torch" else recording
            for name, recording in zip(names, recordings, strict=True)
        ]
        for name, recording in zip(others, rest, strict=True):
            if expected is not None and recording is not None:
                found[name] = plus(found[name], agreement_of(graph, expected, recording, thresholds, part))
    agreements = {name: agreement for name, agreement in found.items() if agreement is not None}
    tell_ranges(validation.ranges(agreements))
    return agreements


def _leading(samples: Mapping[str, int] | None, runtimes: Sequence[str], most: int) -> list[int]:
    """How many samples each runtime sees, of so many."""
    if samples is not None and not isinstance(samples, Mapping):
        raise ArgumentError(f"samples: must say how many by runtime, as in {{'lava': 10}}; got {shown(samples)}.")
    for name in samples or {}:
        if name not in runtimes:
            raise ArgumentError(
                f"samples: {shown(name)} is none of the runtimes that are compared with the first: {', '.join(runtimes)}."
            )
    said = {name: whole(f"samples of {name!r}", count) for name, count in (samples or {}).items()}
    return [min(said.get(name, most), most) for name in runtimes]


def agreement_of(
    graph: Graph, expected: Recording, found: Recording, thresholds: Mapping[str, ByChannel], part: FrameBatches
) -> Agreement:
    """How two recordings of the samples of a part agree, and what left its range there."""
    expected = expected.sample(0, found.samples)
    known, other = (RangeTotals.of(graph, each.ranges, part.start) for each in (expected, found))
    return dataclasses.replace(validation.compare(expected, found, thresholds, start=part.start), ranges=known | other)


def energy(
    graph: Graph,
    frames: Frames | Source,
    *,
    table: Chosen | Sequence[Chosen] | None = None,
    runtime: str = "reference",
    progress: Progress | None = None,
    **policies: Any,
) -> EnergyReport:
    """Run a network and count every addition and multiplication of its spike traffic.

    Parameters
    ----------
    graph, frames, runtime
        As in `run`.
    table
        Name of an energy table, see `counting.TABLES`, "all" for all of them, or a TOML file of your own; or several. By
        default that of the network's own number format (45nm-int8 for a quantized network), and beside it the TET paper's,
        45nm-fp32.
    policies
        For `counting.estimate`: `input_policy`, `pool_policy`, `effective`, `ones`, `sums`, `still`.

    Returns
    -------
    EnergyReport
        Several named energies in picojoules per inference, with the counts behind them; `by_table` has each table's.

    Examples
    --------
    >>> sorted(td.energy(int8, frames).summary()["energy_pj"])
    ['ann', 'dense_in', 'event', 'full', 'rate']
    """
    check_options("energy", counting.estimate, policies)
    tables = choose(table, quantized=need_graph(graph).is_quantized)  # before anything is run
    batches = FrameBatches.of(graph, frames)
    parts = side_by_side([Run(graph=graph, runtime=runtime)], batches, probes="spikes", progress=lambda _: progress)
    spent = total_of(
        dataclasses.replace(
            counting.estimate(graph, found, part.frames(), table=tables, **policies),
            ranges=RangeTotals.of(graph, found.ranges, part.start),
        )
        for part, (found,) in parts
        if found is not None
    )
    tell_ranges(spent.ranges)
    return spent


def equality_expected(graph: Graph, frames: Frames | Source) -> bool:
    """Whether runtimes must agree in every bit: always for integers, for floats if weights and frames lie on the grid."""
    return need_graph(graph).is_quantized or frames_fit(graph, frames)


def known_labels(graph: Graph, frames: FrameBatches, labels: Any) -> np.ndarray | None:
    """Classes of all samples, as the caller or else the source knows them."""
    return labels_among(graph.shapes[graph.readout.name][0], frames, labels)


def labels_among(classes: int, frames: FrameBatches, labels: Any) -> np.ndarray | None:
    """As `known_labels`, of so many classes."""
    if labels is None:
        every = getattr(frames.source, "labels", None)
        labels = None if every is None else every[frames.start : frames.stop]
    if labels is None:
        return None
    return check_labels(labels, samples=len(frames), classes=classes)


def labels_of(labels: np.ndarray | None, part: FrameBatches, whole: FrameBatches) -> np.ndarray | None:
    """Those of a part of the samples."""
    return None if labels is None else labels[part.start - whole.start : part.stop - whole.start]
