"""Links of the chain: whatever stands for a network somewhere between training and chip, and can be run or was recorded.

    a torch model, a checkpoint     run by torch; CHECKPOINT:traced and CHECKPOINT:folded, the graphs made from it
    a network, float or integers    run by the reference; NETWORK:onnx and NETWORK:lava, by another runtime
    an ONNX file, a Lava bundle     run by what executes it
    a recording                     of any of these, from `tet-deploy run --out`

Every link records spikes and membrane potentials of populations by the names of the traced network; `units` says how many of
its own units of potential make one of the float network, so that any two links can be compared.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

from tet_deploy.contracts import Probes, Recording, Runtime, populations
from tet_deploy.deployment import deployed, is_torch_model, runnable, torch_runtime, values_recorded
from tet_deploy.errors import ArgumentError, DataError, shown
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.shapes import Shape
from tet_deploy.links.recording_file import Origin, Recorded, StoredRecording
from tet_deploy.units import ByChannel, float_thresholds, in_float_units, units

Opens = Callable[[Probes], AbstractContextManager[Runtime]]
_RECORDED = ("none", "spikes", "all")  # what a link can record, the least first
TAKEN = (
    "Give a checkpoint, a network, an ONNX file, a Lava bundle or a recording; CHECKPOINT:traced or :folded; NETWORK:onnx "
    "or :lava."
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Link:
    """One link of the chain.

    Attributes
    ----------
    name
        For people: its path, or what it is.
    digest
        Of the network that it executes; two links with the same must agree in every value, if runtimes must.
    shape, encoding, classes
        Of one frame, what the frames are, and how many values the readout of a step has.
    populations
        Shape of each population that it can record.
    units
        Per population, and for "readout": recorded units per unit of the float network, one or one for each channel; 1 in
        float networks, 64 * scale in integers.
    thresholds
        Firing threshold of each population in units of the float network, as far as they are known.
    records
        "all", "spikes" or "none": what it can record besides the readout.
    graph
        The network, if it is at hand.
    metadata
        Where the network came from.
    opens
        Given probes, makes what runs it.
    samples
        How many there are of a recording; None for what can be run.
    precision
        Rounding unit of its float arithmetic.
    """

    name: str
    digest: str
    shape: Shape
    encoding: str
    classes: int
    populations: Mapping[str, Shape]
    units: Mapping[str, ByChannel]
    thresholds: Mapping[str, ByChannel]
    records: str = "all"
    graph: Graph | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    opens: Opens
    samples: int | None = None
    precision: float = 2.0**-24

    def deployed(self, probes: Probes) -> AbstractContextManager[Runtime]:
        """What runs it; see `deployment.Runnable`."""
        return self.opens(probes)

    def values(self, probes: Probes) -> int:
        """See `deployment.Runnable`."""
        return values_recorded(self.shape, self.populations, probes)

    def in_float_units(self, recording: Recording) -> Recording:
        """A recording of this link with potentials and readout in units of the float network, and this link's name."""
        return replace(in_float_units(recording, self.units), runtime=self.name)

    def origin(self) -> Origin:
        """What a recording of this link is of."""
        return Origin(
            digest=self.digest,
            shape=tuple(self.shape),
            encoding=self.encoding,
            units=dict(self.units),
            thresholds=dict(self.thresholds),
            metadata=dict(self.metadata),
        )


def open_link(thing: Any, *, shape: Shape | None = None, encoding: str | None = None) -> Link:
    """A link from an object or from a path.

    Parameters
    ----------
    thing
        A `Link`; a `Graph`; a torch model; a path, see the top of this module, with a form behind a colon.
    shape, encoding
        Of the frames, for a torch model, which does not say what it takes.

    Raises
    ------
    ArgumentError
        Something else, or a form that there is none of.
    ArtifactError
        A file that is none of these, or a damaged one.
    """
    if isinstance(thing, Link):
        return thing
    if isinstance(thing, Graph):
        return of_graph(thing)
    if is_torch_model(thing):
        if shape is None:
            raise ArgumentError("a torch model does not say what frames it takes. Compare it with something that does.")
        return of_model(thing, shape, encoding or "analog")
    if isinstance(thing, (str, os.PathLike)):
        from tet_deploy.links.opening import of_path

        return of_path(os.fspath(thing))
    raise ArgumentError(f"{type(thing).__name__}: must be a network, a torch model, or a path of a link. {TAKEN}")


def open_links(a: Any, b: Any, *, shape: Shape | None = None, encoding: str | None = None) -> tuple[Link, Link]:
    """Two links that can be compared; a torch model takes the frames of the other.

    Raises
    ------
    ArgumentError, ArtifactError
        See `open_link`.
    DataError
        They take different frames, or decide between different numbers of classes.
    """
    if is_torch_model(a) and not is_torch_model(b):
        first, second = reversed(open_links(b, a))
    else:
        first = open_link(a, shape=shape, encoding=encoding)
        second = open_link(b, shape=first.shape, encoding=first.encoding)
    for what in ("shape", "encoding", "classes"):
        if getattr(first, what) != getattr(second, what):
            raise DataError(
                f"{first.name} and {second.name}: must be of one network; their {what} differ: {getattr(first, what)} and "
                f"{getattr(second, what)}. Compare links of the same chain."
            )
    return first, second if second.name != first.name else replace(second, name=f"{second.name} (2)")


def fast_runtime() -> str:
    """The fastest runtime that is installed and runs every lowered network."""
    return "onnx" if importlib.util.find_spec("onnxruntime") else "reference"


def common_probes(links: tuple[Link, ...]) -> str:
    """What all of these links can record."""
    return min((link.records for link in links), key=_RECORDED.index)


def of_graph(graph: Graph, runtime: str = "reference", *, name: str | None = None) -> Link:
    """A network on one of the runtimes."""
    if runtime not in runnable(graph):
        raise ArgumentError(f"runtime {shown(runtime)}: does not run this network. Use one of {', '.join(runnable(graph))}.")
    kind = "integer" if graph.is_quantized else "float"
    return Link(
        name=name or f"{kind} network on {runtime}",
        digest=graph.digest(),
        shape=tuple(graph.input.shape),
        encoding=graph.input.encoding,
        classes=graph.shapes[graph.readout.name][0],
        populations={name: graph.shapes[name] for name in populations(graph)},
        units=units(graph),
        thresholds=float_thresholds(graph),
        graph=graph,
        metadata=dict(graph.metadata),
        opens=lambda probes: deployed(graph, runtime, probes=probes),
    )


def of_model(
    model: Any, shape: Shape, encoding: str, *, name: str = "torch", metadata: Mapping[str, str] | None = None
) -> Link:
    """A torch model, run by torch; its graph is the one that tracing proves equal."""
    runtime = torch_runtime(model, shape, encoding)
    traced: Graph = runtime.graph  # type: ignore[attr-defined]  # a TorchRuntime's
    link = of_graph(traced, name=name)
    return replace(
        link,
        digest=f"torch {link.digest}",
        metadata=metadata or link.metadata,
        opens=at_hand(runtime),
        precision=runtime.precision,  # type: ignore[attr-defined]  # as above
    )


def of_recording(stored: StoredRecording, name: str = "recording", *, first: int = 0) -> Link:
    """What was recorded, from this sample of its source on; it is not run again, and refuses frames other than its own."""
    recording, origin = stored.recording, stored.origin
    recorded = {**recording.spikes, **recording.potentials}
    return Link(
        name=name,
        digest=origin.digest,
        shape=origin.shape,
        encoding=origin.encoding,
        classes=recording.readout.shape[2],
        populations={each: array.shape[2:] for each, array in recorded.items()},
        units=origin.units,
        thresholds=origin.thresholds,
        records="all" if recording.potentials else "spikes" if recording.spikes else "none",
        metadata=origin.metadata,
        opens=at_hand(Recorded(stored, name, first)),
        samples=recording.samples,
    )


def at_hand(runtime: Runtime) -> Opens:
    return lambda probes: contextlib.nullcontext(runtime)
