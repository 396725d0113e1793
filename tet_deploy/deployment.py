"""From a network to whatever runs it: the one place that reads the tables of exporters and runtimes."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

from tet_deploy.batches import FrameBatches, recordings
from tet_deploy.contracts import Probes, Progress, Recording, Runtime, populations, probe_names
from tet_deploy.errors import ArgumentError
from tet_deploy.exporters import EXPORTERS
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.spec import DEPLOYABLE, check, need_graph
from tet_deploy.runtimes import RUNTIMES

_AT_ONCE = 2**25  # bytes of frames and of one runtime's recording that are held at a time


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
        For ONNX `probes`: "none", "spikes" or "all", the outputs that the file offers besides the readout; and `states`.

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
    check_named("exporter", to, EXPORTERS)
    return Path(_made(f"exporter {to!r}", EXPORTERS[to].location, check(graph, DEPLOYABLE), Path(path), **options))


def runnable(graph: Graph) -> list[str]:
    """Names of the runtimes that can run a network, the reference first."""
    return [
        name
        for name, entry in RUNTIMES.items()
        if entry.form == "graph" or graph.is_quantized or not EXPORTERS[entry.form].quantized
    ]


@contextlib.contextmanager
def deployed(
    graph: Graph, runtime: str, *, probes: Probes = "all", states: bool = False, **options: Any
) -> Iterator[Runtime]:
    """The network in the form that a runtime executes, exported to a temporary folder if need be.

    `states` asks for a form that can be driven a step at a time. `options` go to the runtime: `dtype` (reference), `threads`
    and `micro_batch` (onnx), `stock`, `timeout` and `python` (lava).
    """
    check_named("runtime", runtime, RUNTIMES)
    location, form = RUNTIMES[runtime]
    make = partial(_made, f"runtime {runtime!r}", location, **options)
    if form == "graph":
        yield cast(Runtime, make(graph))
        return
    exporter = EXPORTERS[form]
    asked = {"probes": probes, "states": states}
    with tempfile.TemporaryDirectory(prefix="tet_deploy-") as folder:
        path = Path(folder) / f"network{exporter.suffix}"
        yield cast(Runtime, make(export(graph, path, to=form, **{k: v for k, v in asked.items() if k in exporter.options})))


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """One network on one runtime, with the runtime's options."""

    graph: Graph
    runtime: str = "reference"
    options: Mapping[str, Any] = field(default_factory=dict)


def side_by_side(
    runs: Sequence[Run],
    frames: FrameBatches,
    *,
    probes: Probes = "all",
    counts: Sequence[int] | None = None,
    progress: Callable[[str], Progress | None] | None = None,
) -> Iterator[tuple[FrameBatches, list[Recording | None]]]:
    """Run several networks or runtimes over the same samples, as many at a time as memory allows.

    Parameters
    ----------
    counts
        For each run the number of leading samples that it sees; all by default. Behind them its recording is None.
    progress
        Given a runtime's name, returns its progress callback.
    """
    size = min(samples_at_once(run.graph, frames, probes) for run in runs)
    counts = [len(frames)] * len(runs) if counts is None else counts
    with contextlib.ExitStack() as stack:
        streams = []
        for run, count in zip(runs, counts, strict=True):
            runner = stack.enter_context(deployed(run.graph, run.runtime, probes=probes, **run.options))
            told = progress and progress(run.runtime)
            streams.append(recordings(runner, frames.part(0, count), size=size, probes=probes, progress=told))
        for part in frames.batches(size):
            yield part, [next(stream, None) for stream in streams]


def samples_at_once(graph: Graph, frames: FrameBatches, probes: Probes) -> int:
    """How many samples are run at a time, so that frames and what is recorded of them fit 32 MB."""
    names = probe_names(populations(graph), probes)
    sizes = {name: math.prod(shape) for name, shape in need_graph(graph).shapes.items()}
    values = 4 * sizes[graph.input.name] + sum(sizes[name] for name in names.spikes)
    return max(1, _AT_ONCE // (frames.steps * (values + 4 * sum(sizes[name] for name in names.potentials))))


def check_named(what: str, name: str, table: Mapping[str, Any]) -> None:
    """See that a table has an entry of that name.

    Raises
    ------
    ArgumentError
        It has none.
    """
    if name not in tuple(table):  # not in the table itself, as a name may be of any type
        raise ArgumentError(f"{what} {name!r}: there is none of that name. Use one of {', '.join(table)}.")


def check_options(what: str, make: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """See that a function or class takes options of these names.

    Raises
    ------
    ArgumentError
        It does not.
    """
    known = [
        name for name, parameter in inspect.signature(make).parameters.items() if parameter.default is not parameter.empty
    ]
    for option in options:
        if option not in known:
            raise ArgumentError(f"{what}: has no option {option!r}; it takes {', '.join(known) or 'none'}.")


def _made(what: str, location: str, *arguments: Any, **options: Any) -> Any:
    """What the function or class at "module:name" makes of its arguments; it is imported on use."""
    module, _, name = location.partition(":")
    make: Callable[..., Any] = getattr(importlib.import_module(module), name)
    check_options(what, make, options)
    return make(*arguments, **options)
