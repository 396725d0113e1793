"""Export, run, compare, count, report: the one place that knows exporters and runtimes."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from tet_deploy import counting, reporting, validation
from tet_deploy.contracts import Frames, Probes, Progress, Recording, Runtime, network_frames, populations
from tet_deploy.counting import EnergyReport, EnergyTable
from tet_deploy.data.frames import check_labels
from tet_deploy.errors import ArgumentError
from tet_deploy.exporters import EXPORTERS
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.spec import DEPLOYABLE, check, need_graph
from tet_deploy.passes.snap_to_grid import frames_fit
from tet_deploy.runtimes import RUNTIMES
from tet_deploy.validation import Agreement

OFF_GRID = (
    "The frames lie off the network's grid, where float runtimes may differ by rounding; "
    "td.snap_frames(graph, frames) puts them on it."
)
_RECORDING_BYTES = 2**31


def export(graph: Graph, path: str | os.PathLike[str], *, to: str, **options: Any) -> Path:
    """Write a deployable network in another tool's format.

    Parameters
    ----------
    graph
        A lowered network (ONNX), or a quantized one (ONNX, Lava).
    path
        File (ONNX) or folder (Lava) to write; nothing is left half-written.
    to
        "onnx" or "lava".
    options
        For ONNX `probes`: "none", "spikes" or "all", the outputs that the file offers besides the readout.

    Returns
    -------
    Path
        What was written.

    Raises
    ------
    ArgumentError
        No format of that name, or an option that it does not take.
    GraphError
        Something in the network cannot be mapped exactly.
    ArtifactError
        The path cannot be written, or something stands there that is no earlier export.

    Examples
    --------
    >>> td.export(int8, "out/net.onnx", to="onnx")  # doctest: +SKIP
    """
    _check_named("exporter", to, EXPORTERS)
    return Path(_made(f"exporter {to!r}", EXPORTERS[to], check(graph, DEPLOYABLE), Path(path), **options))


@contextlib.contextmanager
def deployed(graph: Graph, runtime: str, *, probes: Probes = "all", **options: Any) -> Iterator[Runtime]:
    """The network in the form that a runtime executes, exported to a temporary folder if need be.

    `options` go to the runtime: `dtype` (reference), `threads` and `micro_batch` (onnx), `stock`, `timeout` and `python`
    (lava).
    """
    _check_named("runtime", runtime, RUNTIMES)
    location, form = RUNTIMES[runtime]
    make = partial(_made, f"runtime {runtime!r}", location, **options)
    if form == "graph":
        yield cast(Runtime, make(graph))
        return
    with tempfile.TemporaryDirectory(prefix="tet_deploy-") as folder:
        path = Path(folder) / ("network.onnx" if form == "onnx" else "bundle")
        extra = {"probes": probes} if form == "onnx" else {}
        yield cast(Runtime, make(export(graph, path, to=form, **extra)))


def run(
    graph: Graph,
    frames: Frames,
    *,
    runtime: str = "reference",
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
        [T, B, C, H, W], or [T, B, N] for a network without convolutions.
    runtime
        "reference", "onnx" or "lava".
    probes
        "all" (spikes and membrane potentials of every LIF), "spikes", "none", or names of LIF nodes.
    progress
        Called as progress(done, total).
    options
        For the runtime, see `deployed`.

    Returns
    -------
    Recording
        Spikes, potentials and readout, time first.

    Examples
    --------
    >>> recording = td.run(int8, frames, runtime="onnx")  # doctest: +SKIP
    >>> recording.decisions  # doctest: +SKIP
    """
    return _run(graph, network_frames(graph, frames), runtime, probes, progress, **options)


def _run(
    graph: Graph, frames: np.ndarray, runtime: str, probes: Probes, progress: Progress | None, **options: Any
) -> Recording:
    with deployed(graph, runtime, probes=probes, **options) as runner:
        return runner.run(frames, probes=probes, progress=progress)


def validate(
    graph: Graph,
    frames: Frames,
    *,
    runtimes: Sequence[str] = ("reference", "onnx", "lava"),
    probes: Probes = "all",
    samples: Mapping[str, int] | None = None,
    progress: Callable[[str], Progress | None] | None = None,
) -> dict[str, Agreement]:
    """Compare runtimes value by value: spikes, membrane potentials and readout at every step.

    Parameters
    ----------
    graph, frames
        As in `run`.
    runtimes
        The first is the one that the others are compared with.
    samples
        Per runtime, the number of leading samples to compare; all by default.
    progress
        Given a runtime's name, returns its progress callback.

    Returns
    -------
    dict
        Per runtime but the first, its `Agreement`; see `equality_expected` for when anything but equality is a fault.
    """
    if isinstance(runtimes, str) or len(runtimes) < 2 or len(set(runtimes)) < len(runtimes):
        raise ArgumentError(f"runtimes: need two or more different ones to compare, as a list; got {runtimes!r}.")
    reference, *others = runtimes
    frames = network_frames(graph, frames)
    expected = _run(graph, frames, reference, probes, progress and progress(reference))
    return {
        name: compare(
            graph, expected, frames, runtime=name, samples=(samples or {}).get(name), probes=probes, progress=progress
        )
        for name in others
    }


def compare(
    graph: Graph,
    expected: Recording,
    frames: Frames,
    *,
    runtime: str,
    samples: int | None = None,
    probes: Probes = "all",
    progress: Callable[[str], Progress | None] | None = None,
) -> Agreement:
    """Run one runtime and compare it with a recording that exists already."""
    count = expected.samples if samples is None else min(samples, expected.samples)
    found = _run(graph, frames[:, :count], runtime, probes, progress and progress(runtime))
    return validation.compare(expected.sample(0, count), found, validation.thresholds(graph))


def energy(
    graph: Graph,
    frames: Frames,
    *,
    table: str | EnergyTable | Sequence[str | EnergyTable] | None = None,
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
        Name of an energy table, see `counting.TABLES`, or several. By default that of the network's own number format
        (45nm-int8 for a quantized network), and beside it the TET paper's, 45nm-fp32.
    policies
        For `counting.estimate`: `input_policy`, `pool_policy`, `effective`.

    Returns
    -------
    EnergyReport
        Several named energies in picojoules per inference, with the counts behind them; `by_table` has each table's.

    Examples
    --------
    >>> td.energy(int8, frames).summary()["energy_pj"]  # doctest: +SKIP
    """
    _check_options("energy", counting.estimate, policies)
    frames = network_frames(graph, frames)
    recording = _run(graph, frames, runtime, "spikes", progress)
    return counting.estimate(graph, recording, frames, table=table, **policies)


def report(
    graph: Graph,
    frames: Frames,
    labels: Any = None,
    *,
    samples: str = "",
    path: str | os.PathLike[str] = "report.html",
    runtimes: Sequence[str] = ("reference", "onnx"),
    table: str | EnergyTable | Sequence[str | EnergyTable] | None = None,
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
    frames = network_frames(graph, frames)
    if labels is not None:
        labels = check_labels(labels, samples=frames.shape[1], classes=graph.shapes[graph.readout.name][0])
    reference, *others = runtimes
    recording = _run(graph, frames, reference, "all", progress and progress(reference))
    agreements = {name: compare(graph, recording, frames, runtime=name, progress=progress) for name in others}
    reason = "" if equality_expected(graph, frames) else f". {OFF_GRID}"
    by_step = [] if labels is None else list(np.mean(recording.decisions_by_step == labels, axis=1))
    data = reporting.ReportData(
        title=f"tet_deploy: {graph.metadata.get('model', 'network')}",
        provenance={"network": graph.digest(), **{k: v for k, v in graph.metadata.items() if not v.startswith("{")}},
        samples=samples or f"{recording.samples:,} samples",
        accuracy={reference: float(by_step[-1])} if by_step else {},
        accuracy_by_step={reference: by_step} if by_step else {},
        firing_rates=reporting.firing_rates(recording),
        mismatches={name: agreement.counts() for name, agreement in agreements.items()},
        divergences={name: f"{agreement.first}{reason}" for name, agreement in agreements.items() if agreement.first},
        energy=counting.estimate(graph, recording, frames, table=table),
        energy_accuracy_by_step=by_step,
        sample=reporting.SampleView.of(recording, frames, 0, None if labels is None else int(labels[0])),
        graph=graph,
    )
    return reporting.write_report(data, Path(path))


def affordable_samples(graph: Graph, steps: int) -> int:
    """How many samples of so many steps can be recorded with all probes in two gigabytes; `report` keeps all at once."""
    values = sum(math.prod(graph.shapes[name]) for name in populations(need_graph(graph)))
    return max(1, _RECORDING_BYTES // max(1, steps * values * 5))  # a byte of spike and four of potential each


def equality_expected(graph: Graph, frames: Frames) -> bool:
    """Whether runtimes must agree in every bit: always for integers, for floats if weights and frames lie on the grid."""
    return need_graph(graph).is_quantized or frames_fit(graph, frames)


def _made(what: str, location: str, *arguments: Any, **options: Any) -> Any:
    """What the function or class at "module:name" makes of its arguments; it is imported on use."""
    module, _, name = location.partition(":")
    make: Callable[..., Any] = getattr(importlib.import_module(module), name)
    _check_options(what, make, options)
    return make(*arguments, **options)


def _check_named(what: str, name: str, table: Mapping[str, Any]) -> None:
    if name not in tuple(table):  # not in the table itself, as a name may be of any type
        raise ArgumentError(f"{what} {name!r}: there is none of that name. Use one of {', '.join(table)}.")


def _check_options(what: str, make: Callable[..., Any], options: Mapping[str, Any]) -> None:
    known = [
        name for name, parameter in inspect.signature(make).parameters.items() if parameter.default is not parameter.empty
    ]
    for option in options:
        if option not in known:
            raise ArgumentError(f"{what}: has no option {option!r}; it takes {', '.join(known) or 'none'}.")
