"""Write a float network as a NIR file; `nir_nodes` says what its nodes are. Sums have no node: edges that meet are added."""

from __future__ import annotations

import io
import itertools
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tet_deploy._version import __version__
from tet_deploy.errors import GraphError, MissingDependencyError, TetDeployWarning, warn
from tet_deploy.exporters.nir_nodes import DT, Grids, fields, multiple, on_no_grid, output
from tet_deploy.files import Kind, head, written_whole
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.names import LONGEST_NAME
from tet_deploy.ir.nodes import LIF, LeakyReadout
from tet_deploy.ir.spec import TRACED, check
from tet_deploy.ir.values import ANALOG, Value, values

try:
    import h5py  # type: ignore[import-untyped]  # it ships no type information
except ModuleNotFoundError as error:
    raise MissingDependencyError(
        "exporting to NIR needs the package h5py. Install it: pip install 'tet-deploy[nir]'."
    ) from error

NIR_VERSION = "1.0.8"  # the first with v_reset is 1.0.6
_PRODUCER = "producer"  # the name of the file's attribute, which stands in its first bytes
_WHOLE = Value(kind=ANALOG, least=-np.inf, greatest=np.inf, fraction_bits=0)  # finer ones keep a threshold on their grid

NIR_FILE = Kind(
    "a NIR file of tet_deploy",
    lambda path: (start := head(path, 2048)).startswith(b"\x89HDF") and b"producer\0" in start and b"\0tet_deploy " in start,
)


def to_nir(graph: Graph, path: str | os.PathLike[str]) -> Path:
    """Write a float network, lowered or traced, to a NIR file, whole or not at all.

    Parameters
    ----------
    graph
        The network, without batch norm.
    path
        The file to write.

    Returns
    -------
    Path
        The file, equal byte for byte for equal networks. `td.load_nir(path)` reads it.

    Raises
    ------
    GraphError
        The network is quantized, or holds a node that has no exact form in NIR.
    ArtifactError
        The folder does not exist or cannot be written, or another kind of file lies there.

    Warns
    -----
    TetDeployWarning
        Weights lie on no grid, as a traced network's: readers that fire at the threshold may spike otherwise.

    Examples
    --------
    >>> to_nir(graph, "net.nir").name
    'net.nir'
    """
    check(graph, TRACED)
    if graph.is_quantized:
        raise GraphError(
            "a quantized network has no NIR form, as a chip's neurons truncate and NIR's do not. Export the float network "
            "that it was quantized from."
        )
    about = {"dt": DT, "encoding": graph.input.encoding, "graph_digest": graph.digest()}
    grids = values(graph, _WHOLE)
    network = _network(graph, grids)
    loose = [node.name for node in graph.of_kind(LIF) if on_no_grid(node, grids)]
    if loose:
        warn(
            f"node {loose[0]!r}: its inputs lie on no grid that float32 holds. Nobody knows which potentials meet "
            f"the threshold, and readers that fire at it, as SpikingJelly's neurons do, may spike otherwise; so in "
            f"{len(loose)} of {len(graph.of_kind(LIF))} populations. Export what td.lower(graph, frames) gives.",
            TetDeployWarning,
        )
    content = {"type": "NIRGraph", "nodes": network.nodes, "edges": network.edges, "metadata": about}
    with written_whole(path, NIR_FILE) as temporary:
        temporary.write_bytes(_hdf5({"version": NIR_VERSION, "node": content}))
    return Path(path)


def _hdf5(content: Mapping[str, Any]) -> memoryview:
    """A file's bytes; made in memory, as the HDF5 library crashes where a disk is full."""
    made = io.BytesIO()
    with h5py.File(made, "w") as file:
        file.attrs[_PRODUCER] = np.bytes_(f"tet_deploy {__version__}")
        _write(file, content)
    return made.getbuffer()


def _write(group: Any, content: Mapping[str, Any]) -> None:
    """Groups of groups and arrays, without times."""
    for name, value in content.items():
        if isinstance(value, dict):
            _write(group.create_group(name), value)
        else:
            text = h5py.string_dtype() if isinstance(value, (str, list)) else None
            group.create_dataset(name, data=np.array(value, object) if text else value, dtype=text, track_times=False)


@dataclass
class _Network:
    graph: Graph
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)

    def connect(self, sources: Counter[str], name: str) -> None:
        """Edges from all sources; one that counts several times, or one of several at an output, goes through a layer."""
        is_output = len(sources) > 1 and self.nodes.get(name, {}).get("type") == "Output"
        if is_output:  # most readers do not add there
            summed = self.add(name, ".sum", multiple(1, self.graph.shapes[name]))
            self.edges.append((summed, name))
            name = summed
        for source, count in sources.items():
            if count > 1:
                times = self.add(name, ".times", multiple(count, self.graph.shapes[source]))
                self.edges.append((source, times))
                source = times
            self.edges.append((source, name))

    def add(self, user: str, what: str, content: dict[str, Any]) -> str:
        """Append a node that serves another one; its name, like that one's."""
        taken = {_in_torch(other) for other in (*self.nodes, *(node.name for node in self.graph))}
        stem = user[: LONGEST_NAME - 20] + what
        name = next(
            free
            for free in itertools.chain([stem], map(f"{stem}_{{}}".format, itertools.count(2)))
            if _in_torch(free) not in taken
        )
        self.nodes[name] = content
        return name


def _network(graph: Graph, grids: Grids) -> _Network:
    """Nodes by their names, and edges between them, of which none stands twice."""
    _check_names(graph)
    network = _Network(graph)
    sends: dict[str, Counter[str]] = {}  # node -> the nodes whose sum it sends
    for node in graph:
        sources: Counter[str] = sum((sends[name] for name in node.inputs), Counter())
        found = fields(node, graph, grids)
        if not found:  # a sum
            sends[node.name] = sources
            continue
        sends[node.name] = Counter([node.name])
        network.nodes[node.name] = found
        network.connect(sources, node.name)
        if isinstance(node, LeakyReadout):
            name = network.add(node.name, ".output", output(graph.shapes[node.name]))
            network.edges.append((node.name, name))
    return network


def _check_names(graph: Graph) -> None:
    known: dict[str, str] = {}
    for node in graph:
        other = known.setdefault(_in_torch(node.name), node.name)
        if other != node.name:
            raise GraphError(
                f"node {node.name!r}: must differ from {other!r} in more than a dot, as the frameworks that read NIR files "
                "write _ for it. Rename one of them."
            )


def _in_torch(name: str) -> str:
    """What nirtorch calls a node."""
    return name.replace(".", "_")
