"""From a file to a network, and to whatever runs it: the one place that reads the tables of what there is for each."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

from tet_deploy.arguments import check_named, nearest, whole
from tet_deploy.batches import FrameBatches, Source, recordings
from tet_deploy.contracts import Frames, Probes, Progress, Recording, Runtime, populations, probe_names
from tet_deploy.errors import ArgumentError, ArtifactError
from tet_deploy.exporters import EXPORTERS
from tet_deploy.file_kinds import FileKind, expected
from tet_deploy.files import check_writable, written_whole
from tet_deploy.importing import IMPORTERS
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.shapes import Shape
from tet_deploy.ir.spec import need_graph
from tet_deploy.runtimes import RUNTIMES, TORCH_MODEL
from tet_deploy.vectors import VECTORS_FILE, golden_vectors, vectors_path

_AT_ONCE = 2**25  # bytes of frames and of one runtime's recording that are held at a time


def export(
    graph: Graph,
    path: str | os.PathLike[str],
    *,
    to: str,
    vectors: int = 0,
    frames: Frames | Source | None = None,
    inputs: str = "given frames",
    **options: Any,
) -> Path:
    """Write a network in another tool's format.

    Parameters
    ----------
    graph
        A lowered network (ONNX, NIR), a quantized one (ONNX, Lava), or a traced one without batch norm (NIR).
    path
        File (ONNX, NIR) or folder (Lava) to write; nothing is left half-written.
    to
        "onnx", "lava" or "nir".
    vectors
        Number of inputs that are written with every spike, potential and readout that belongs to them: into a Lava bundle,
        whose `run.py --check` then proves that they come out, or beside the file, as net.onnx.vectors.npz.
    frames
        [T, B, *shape], or a source of them, of which the first are these inputs; by default they are random.
    inputs
        In words, what these frames are.
    options
        For ONNX `probes`: "none", "spikes" or "all", the outputs that the file offers besides the readout; `stream`,
        `ranges`, `opset`, `licence` and `classes`, see `exporters.to_onnx`. For Lava `period` and `encoder`,
        see `exporters.to_lava`.

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
    >>> td.export(int8, "net.onnx", to="onnx").name
    'net.onnx'
    """
    check_named("exporter", to, EXPORTERS)
    entry, path, what = EXPORTERS[to], Path(path), f"exporter {to!r}"
    if not whole("vectors", vectors, least=0):
        if frames is not None:
            raise ArgumentError("frames: are what vectors are made of. Say how many: vectors=4.")
        return Path(_made(what, entry.location, need_graph(graph), path, **options))
    if not entry.suffix:
        golden = golden_vectors(need_graph(graph), vectors, frames, inputs)
        return Path(_made(what, entry.location, graph, path, vectors=golden, **options))
    check_writable(vectors_path(path), VECTORS_FILE)
    golden = golden_vectors(need_graph(graph), vectors, frames, inputs)
    _made(what, entry.location, graph, path, **options)
    with written_whole(vectors_path(path), VECTORS_FILE) as temporary:
        temporary.write_bytes(golden)
    return path


def imported(path: str | os.PathLike[str], **options: Any) -> Any:
    """The link that a file of any kind that can be imported makes, with its network; see `links`.

    Raises
    ------
    ArtifactError
        A file that no importer takes, with what it is and what takes it.
    ArgumentError
        An option that the importer of this file does not take.
    """
    entry = next((entry for entry in IMPORTERS.values() if entry.kind.test(Path(path))), None)
    if entry is None:
        wanted = FileKind(" or ".join(entry.reads for entry in IMPORTERS.values()), "", lambda path: False)
        expected(path, wanted, f"Give {wanted.name}.")
        raise ArtifactError(f"{path}: must be {wanted.name}; it is nothing that is known. Give another file.")
    return _made(f"{path}, {entry.reads}", entry.location, Path(path), **options)


def runnable(graph: Graph) -> list[str]:
    """Names of the runtimes that can run a network, the reference first."""
    return [
        name
        for name, entry in RUNTIMES.items()
        if entry.form == "graph" or graph.is_quantized or not EXPORTERS[entry.form].quantized
    ]


@contextlib.contextmanager
def deployed(
    graph: Graph, runtime: Any, *, probes: Probes = "all", states: bool = False, **options: Any
) -> Iterator[Runtime]:
    """The network in the form that a runtime executes, exported to a temporary folder if need be.

    `runtime` is a name, or a torch model that runs in the network's place. `states` asks for a form that can be driven a
    step at a time. `options` go to the runtime: `dtype` (reference), `threads` and `micro_batch` (onnx), `stock`, `timeout`
    and `python` (lava).
    """
    if is_torch_model(runtime):
        yield torch_runtime(runtime, graph.input.shape, graph.input.encoding, **options)
        return
    check_named("runtime", runtime, RUNTIMES)
    location, form = RUNTIMES[runtime]
    make = partial(_made, f"runtime {runtime!r}", location, **options)
    if form == "graph":
        yield cast(Runtime, make(graph))
        return
    exporter = EXPORTERS[form]
    asked: dict[str, Any] = {"probes": probes, "states": states, "ranges": True}
    with tempfile.TemporaryDirectory(prefix="tet_deploy-") as folder:
        path = Path(folder) / f"network{exporter.suffix}"
        yield cast(Runtime, make(export(graph, path, to=form, **{k: v for k, v in asked.items() if k in exporter.options})))


def is_torch_model(value: Any) -> bool:
    """Whether a value is a torch.nn.Module; torch is not imported to find out."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)


def torch_runtime(model: Any, shape: Sequence[int], encoding: str, **options: Any) -> Runtime:
    """The runtime that a torch model is by itself, on frames of that shape and encoding."""
    return cast(Runtime, _made("a torch model", TORCH_MODEL, model, shape, encoding, **options))


class Runnable(Protocol):
    """What `side_by_side` runs: a network on a runtime, or a link of the chain."""

    @property
    def name(self) -> str:
        """Name for people."""
        ...

    def deployed(self, probes: Probes) -> AbstractContextManager[Runtime]:
        """A runtime that can record what the probes ask for."""
        ...

    def values(self, probes: Probes) -> int:
        """Bytes of one frame of one sample, and of what is recorded of it."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """One network on one runtime, a name or a torch model, with the runtime's options."""

    graph: Graph
    runtime: Any = "reference"
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The runtime's."""
        return str(self.runtime) if isinstance(self.runtime, str) else "torch"

    def deployed(self, probes: Probes) -> AbstractContextManager[Runtime]:
        """See `Runnable`."""
        return deployed(self.graph, self.runtime, probes=probes, **self.options)

    def values(self, probes: Probes) -> int:
        """See `Runnable`."""
        shapes = need_graph(self.graph).shapes
        return values_recorded(self.graph.input.shape, {name: shapes[name] for name in populations(self.graph)}, probes)


def side_by_side(
    runs: Sequence[Runnable],
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
        Given a run's name, returns its progress callback.
    """
    size = max(1, _AT_ONCE // (frames.steps * max(run.values(probes) for run in runs)))
    counts = [len(frames)] * len(runs) if counts is None else counts
    with contextlib.ExitStack() as stack:
        streams = []
        for run, count in zip(runs, counts, strict=True):
            runner = stack.enter_context(run.deployed(probes))
            told = progress and progress(run.name)
            streams.append(recordings(runner, frames.part(0, count), size=size, probes=probes, progress=told))
        for part in frames.batches(size):
            yield part, [next(stream, None) for stream in streams]


def values_recorded(frame: Shape, shapes: Mapping[str, Shape], probes: Probes) -> int:
    """Bytes of one frame and of what is recorded of it, where the populations have these shapes."""
    names, sizes = probe_names(tuple(shapes), probes), {name: math.prod(shape) for name, shape in shapes.items()}
    return 4 * math.prod(frame) + sum(sizes[n] for n in names.spikes) + 4 * sum(sizes[n] for n in names.potentials)


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
            there_are = f"it takes {', '.join(known) or 'none'}.{nearest(option, known)}"
            raise ArgumentError(f"{what}: has no option {option!r}; {there_are}")


def _made(what: str, location: str, *arguments: Any, **options: Any) -> Any:
    """What the function or class at "module:name" makes of its arguments; it is imported on use."""
    module, _, name = location.partition(":")
    make: Callable[..., Any] = getattr(importlib.import_module(module), name)
    check_options(what, make, options)
    return make(*arguments, **options)
