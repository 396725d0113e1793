"""From a NIR file to a network."""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tet_deploy import file_kinds
from tet_deploy.errors import ArgumentError, GraphError, cut, shown
from tet_deploy.importing.nir.building import Building
from tet_deploy.importing.nir.fields import NirNode
from tet_deploy.importing.nir.hdf5 import read_hdf5
from tet_deploy.importing.nir.kinds import convert
from tet_deploy.importing.nir.marks import check_source, written_by
from tet_deploy.importing.nir.neurons import AT_ONCE
from tet_deploy.importing.nir.scales import fold_scales
from tet_deploy.importing.nir.sources import SOURCES
from tet_deploy.importing.nir.structure import NirNetwork, read_structure
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import SOFT_RESETS, Flatten, Input, Readout
from tet_deploy.ir.shapes import Shape

OURS = "tet_deploy"
RESETS = ("zero", AT_ONCE, *SOFT_RESETS)
_AXES = {"Affine": 1, "Linear": 1, "Conv1d": 2, "Conv2d": 3, "SumPool2d": 3, "AvgPool2d": 3}  # of a sample that each takes


def load_nir(
    path: str | os.PathLike[str],
    source: str | None = None,
    reset: str | None = None,
    dt: float | None = None,
    encoding: str | None = None,
) -> Graph:
    """Read a network from a NIR file, as the framework that wrote it runs it.

    NIR says of a neuron tau, r and thresholds, and not how these make a step; each framework writes other numbers for the
    same neuron. What cannot be told from the file has to be said here, and what has no exact form is refused by its name.

    Parameters
    ----------
    path
        A file of NIR 0.1 to 1.0, read by h5py.
    source
        Who wrote it: "spikingjelly", "snntorch", "norse", "rockpool", "tet_deploy", or "nir" for Euler's steps of `dt`.
        Needed where the network has LIF or IF neurons; files of tet_deploy say it themselves.
    reset
        What a spike does to the potential, where the file lost it: "zero", or "subtract", which takes the threshold from it
        as the source's neurons do by default (snnTorch's a step later). Of `SoftResetLIF`'s others "subtract-twice" is
        snnTorch's with reset_delay=False. "zero" of a synaptic current is a step later in snnTorch, too, and "zero-at-once"
        its reset_delay=False.
    dt
        Seconds of a step, where they are neither in the file's metadata, which must not say otherwise, nor what `source`
        takes by default.
    encoding
        What the frames are: "analog", or "events", counts of them. By default what the file's metadata say, as those of our
        own files do, or analog.

    Returns
    -------
    Graph
        A traced network, with the file's names: `td.lower` comes next. Its readout is what reaches the output; where that is
        spikes, their mean over time decides. Samples of a Conv1d, [C, L], are [C, 1, L] here.

    Raises
    ------
    ArgumentError
        Something has to be said, or what was said is none of what there is.
    GraphError
        A node, an edge or a number that has no exact form here, or a `source` or `dt` that the file contradicts, with the
        way out.
    ArtifactError
        No HDF5 file, a damaged one, or one that is not safe to read.
    MissingDependencyError
        h5py is not installed.

    Examples
    --------
    >>> graph = td.load_nir("net.nir", source="spikingjelly")  # doctest: +SKIP
    """
    _check_arguments(source, reset, dt)
    path = file_kinds.expected(path, file_kinds.HDF5, "Give a NIR file; the exporters of most frameworks write one.")
    tree: Any = read_hdf5(path)
    try:
        network = fold_scales(read_structure(tree))
        marks = written_by(network, tree["node"].get("metadata"))
        if source is None and marks is not None and marks[0] == OURS:
            source = OURS
        if source is not None:
            check_source(source, network, marks)
        building = Building(
            source=None if source is None else SOURCES[source],
            reset=reset,
            dt=_step(network, tree, dt),
            taken=set(network.nodes),
        )
        _build(building, network, encoding or _encoding(tree))
        about = {"imported_from": f"NIR {cut(network.version) or 'of no version'}{f' of {source}' if source else ''}"}
        return Graph(tuple(building.nodes), about)
    except (GraphError, ArgumentError) as error:
        raise type(error)(f"{path}: {error}") from error


def exported_digest(path: Path) -> str | None:
    """Digest of the network that tet_deploy wrote to a NIR file; None of a file that does not say it.

    Raises
    ------
    ArtifactError, MissingDependencyError
        See `load_nir`.
    """
    tree: Any = read_hdf5(path)
    metadata = tree["node"].get("metadata")
    digest = metadata.get("graph_digest") if isinstance(metadata, dict) else None
    return digest if isinstance(digest, str) else None


def _check_arguments(source: Any, reset: Any, dt: Any) -> None:
    for name, value, known in (("source", source, tuple(SOURCES)), ("reset", reset, RESETS)):
        if value is not None and value not in known:
            raise ArgumentError(f"{name}: must be one of {', '.join(map(repr, known))}; got {shown(value)}.")
    is_number = isinstance(dt, numbers.Real) and not isinstance(dt, bool)
    if dt is not None and not (is_number and 0 < dt < math.inf):
        raise ArgumentError(f"dt: must be the seconds of a step, such as 1e-4; got {shown(dt)}.")


def _build(building: Building, network: NirNetwork, encoding: str) -> None:
    sends: dict[str, str] = {}  # NIR node -> the node of ours that sends what it sends
    for name, node in network.nodes.items():
        if node is network.input:
            shape = _sample(building, network)
            building.has_lines = len(shape) == 2
            sends[name] = building.add(
                Input(name=name, shape=(shape[0], 1, shape[1]) if building.has_lines else shape, encoding=encoding)
            )
            continue
        _check_last(building, node, [(source, sends[source]) for source in network.sources[name]])
        x = building.sum_of(tuple(sends[source] for source in network.sources[name]), name)
        if network.users[name]:
            sends[name] = convert(building, node, x)
        else:  # the Output
            node.check((), ("shape",))
            if building.readout is not None:
                continue
            if len(building.shapes[x]) > 1:
                x = building.add(Flatten(name=building.new_name(f"{name}.flatten"), inputs=(x,)))
            building.add(Readout(name=name, inputs=(x,)))


def _check_last(building: Building, node: NirNode, sources: list[tuple[str, str]]) -> None:
    """See that an integrator feeds the Output, if need be that of a nested graph, and nothing else."""
    readout = building.readout
    if readout in [sender for _, sender in sources] and (len(sources) > 1 or node.kind not in ("Input", "Output")):
        raise node.refused(
            f"it is fed by the integrator {readout!r}, which may stand last only, before the Output",
            "Leave the integrator out, or train with neurons that spike there.",
        )


def _sample(building: Building, network: NirNetwork) -> Shape:
    """The shape of one sample, without the axes of batch and time that some exporters write."""
    node = network.input
    node.check(("shape",))
    said = node.wholes("shape")
    axes = next((_AXES[user.kind] for user in _behind(network, node) if user.kind in _AXES), min(len(said), 3))
    batched = building.source is not None and building.source.batched
    if not 1 <= axes <= len(said) or (axes < len(said) and not batched) or min(said) < 1:
        raise node.refused(
            f"its shape is {said}; the layer behind it takes samples of {axes} axes, each of at least 1",
            "Export the network with one sample, without an axis of batch or time, or say the source that wrote the file.",
        )
    return said[-axes:]


def _behind(network: NirNetwork, node: NirNode) -> Iterator[NirNode]:
    """What takes the frames as they are: consumers, seen through what keeps their shape."""
    waiting, seen = [node], {node.name}
    for current in waiting:  # it grows
        for user in (network.nodes[name] for name in network.users[current.name]):
            yield user
            if user.kind not in (*_AXES, "Flatten") and user.name not in seen:
                seen.add(user.name)
                waiting.append(user)


def _encoding(tree: Any) -> str:
    """What the graph's metadata say that frames are; analog where they do not."""
    metadata = tree["node"].get("metadata")
    return "events" if isinstance(metadata, dict) and metadata.get("encoding") == "events" else "analog"


def _step(network: NirNetwork, tree: Any, dt: float | None) -> float | None:
    """The dt that was said; the file's own metadata must not say another."""
    own = _said(network, tree)
    if dt is None:
        return own
    said = _seconds(np.asarray(dt))
    if own is not None and own != said:
        raise GraphError(f"dt = {said:g} seconds were said, and its metadata say {own:g}. Say that, or nothing.")
    return said


def _said(network: NirNetwork, tree: Any) -> float | None:
    """The dt that the file's own metadata give, of the graph or of its neurons."""
    places = [tree["node"], *(node.fields for node in network.nodes.values())]
    metadata = [place["metadata"] for place in places if isinstance(place.get("metadata"), dict)]
    found = [np.asarray(about["dt"]) for about in metadata if "dt" in about]
    values = {_seconds(dt) if dt.size == 1 and dt.dtype.kind in "fiu" else math.nan for dt in found}
    if not values:
        return None
    if len(values) > 1 or not all(0 < dt < math.inf for dt in values):
        raise GraphError(f"its metadata must give one dt, in seconds; got {shown(sorted(values))}. Say dt.")
    return values.pop()


def _seconds(dt: np.ndarray) -> float:
    """A step, as its digits say it: 0.0001 also where float32 holds it."""
    return float(str(dt.reshape(-1)[0]))
