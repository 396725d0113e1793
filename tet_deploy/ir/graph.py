"""A network: nodes in topological order, verified when it is built."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TypeVar

import numpy as np

from tet_deploy.errors import GraphError, shown
from tet_deploy.ir.digest import digest
from tet_deploy.ir.names import check_name
from tet_deploy.ir.nodes import ON_CHIP, WEIGHTED, Input, Node, Output, Population, to_record
from tet_deploy.ir.shapes import Shape, output_shape
from tet_deploy.ir.table import graph_table, summary

N = TypeVar("N", bound=Node)


@dataclass(frozen=True, eq=False)
class Graph:
    """A network as a tuple of nodes, each after the nodes that feed it.

    Parameters
    ----------
    nodes
        One `Input`, one `Readout`, and whatever lies between.
    metadata
        Where the network came from and what was done to it, as strings, for people: no result depends on it, and it is not
        part of the digest.

    Raises
    ------
    GraphError
        A name that repeats or is not allowed (`ir.names`), an edge that points forward, shapes that do not match, a value
        that is NaN.
    """

    nodes: tuple[Node, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "nodes", tuple(self.nodes))
        object.__setattr__(self, "metadata", MappingProxyType(dict(self.metadata)))
        _check_metadata(self.metadata)
        shapes: dict[str, Shape] = {}
        for node in self.nodes:
            check_name(node.name)
            if node.name in shapes:
                raise GraphError(f"node {node.name!r}: names must be unique.")
            for source in node.inputs:
                if source not in shapes:
                    raise GraphError(f"node {node.name!r}: its input {shown(source)} must come before it in the graph.")
            _need_finite(node)
            shapes[node.name] = output_shape(node, tuple(shapes[source] for source in node.inputs))
        object.__setattr__(self, "_shapes", MappingProxyType(shapes))
        for what, kind in (("Input", Input), ("Readout", Output)):
            found = [node.name for node in self.nodes if isinstance(node, kind)]
            if len(found) != 1:
                raise GraphError(f"a network needs exactly one {what}; found {found or 'none'}.")
        _check_quantization(self)
        for node in self.nodes:
            if not isinstance(node, Output) and not self.consumers(node.name):
                raise GraphError(f"node {node.name!r}: nothing uses its output. Remove it or connect it.")

    def __repr__(self) -> str:
        return f"<Graph: {summary(self)}>"

    def __str__(self) -> str:
        return str(graph_table(self))

    def _repr_html_(self) -> str:
        return graph_table(self).html()

    def __getitem__(self, name: str) -> Node:
        try:
            return self._by_name[name]
        except KeyError:
            raise GraphError(f"no node is called {name!r}; there are {', '.join(self._by_name)}.") from None

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """Output shape of each node for one sample, (C, H, W) or (N,)."""
        shapes: Mapping[str, Shape] = self._shapes  # type: ignore[attr-defined]  # set in __post_init__
        return shapes

    @cached_property
    def _by_name(self) -> dict[str, Node]:
        return {node.name: node for node in self.nodes}

    @cached_property
    def _consumers(self) -> dict[str, tuple[Node, ...]]:
        users: dict[str, list[Node]] = {node.name: [] for node in self.nodes}
        for node in self.nodes:
            for source in dict.fromkeys(node.inputs):
                users[source].append(node)
        return {name: tuple(nodes) for name, nodes in users.items()}

    def consumers(self, name: str) -> tuple[Node, ...]:
        """Nodes that take the named node's output."""
        return self._consumers[name]

    def of_kind(self, kind: type[N]) -> tuple[N, ...]:
        """Nodes of one kind, in order."""
        return tuple(node for node in self.nodes if isinstance(node, kind))

    @property
    def input(self) -> Input:
        """The node that takes the frames."""
        return self.of_kind(Input)[0]

    @property
    def readout(self) -> Output:
        """The node that gives the result."""
        return self.of_kind(Output)[0]

    @property
    def is_quantized(self) -> bool:
        """Whether the arrays hold integers."""
        return self.readout.quantization is not None

    def replace(self, changes: Mapping[str, Node | None]) -> Graph:
        """A graph with some nodes exchanged, or removed where the value is None.

        A removed node must have one input: its consumers are connected to that instead.
        """
        bypass = {name: self[name].inputs[0] for name, node in changes.items() if node is None}

        def source(name: str) -> str:
            while name in bypass:
                name = bypass[name]
            return name

        nodes: list[Node] = []
        for old in self.nodes:
            node = changes.get(old.name, old)
            if node is not None:
                nodes.append(_rewired(node, tuple(source(name) for name in node.inputs)))
        return Graph(tuple(nodes), self.metadata)

    def with_metadata(self, **entries: str) -> Graph:
        """The same network with more metadata."""
        return Graph(self.nodes, {**self.metadata, **entries})

    def digest(self) -> str:
        """SHA-256 of what the network computes and costs, see `ir.digest`; the metadata has no part in it."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        return digest(self.nodes)


def chain(nodes: Iterable[Node], metadata: Mapping[str, str] | None = None) -> Graph:
    """A feed-forward graph: each node without inputs is fed by the one before it."""
    connected: list[Node] = []
    for node in nodes:
        if connected and not node.inputs:
            node = _rewired(node, (connected[-1].name,))
        connected.append(node)
    return Graph(tuple(connected), metadata or {})


def _rewired(node: N, inputs: tuple[str, ...]) -> N:
    return node if node.inputs == inputs else dataclasses.replace(node, inputs=inputs)


def _check_quantization(graph: Graph) -> None:
    """A network holds integers throughout or not at all; what a runtime would overlook is refused."""
    is_quantized = graph.is_quantized
    for node in graph.nodes:
        if not isinstance(node, (Input, *WEIGHTED, Population)):
            continue
        q, weight, bias = node.quantization, getattr(node, "weight", None), getattr(node, "bias", None)
        if (q is not None) != is_quantized:
            raise GraphError(f"node {node.name!r}: must be quantized like the readout, or not at all. Use td.quantize.")
        if q is None:
            if any(array is not None and array.dtype.kind != "f" for array in (weight, bias)):
                raise GraphError(f"node {node.name!r}: a float network holds floats, not integers. Convert its arrays.")
            if isinstance(node, Population) and bias is not None:
                raise GraphError(f"node {node.name!r}: a float network's bias belongs to the layer that feeds the node.")
        elif isinstance(node, WEIGHTED) and (bias is not None or weight is None or weight.dtype.kind != "i"):
            raise GraphError(f"node {node.name!r}: a quantized {node.kind} holds integer weights and no bias.")
        elif not (_is_positive(q.scale) and 2 <= q.bits <= 32 and 0 <= q.bias_exponent <= 31):
            raise GraphError(f"node {node.name!r}: needs a positive scale, 2..32 bits and a bias exponent 0..31; got {q}.")
        elif isinstance(q.scale, tuple) and not (
            isinstance(node, (*WEIGHTED, *ON_CHIP)) and len(q.scale) == graph.shapes[node.name][0]
        ):
            raise GraphError(
                f"node {node.name!r}: its scale must be one number, or one for each channel of neurons and their synapses; "
                f"got {len(q.scale)}."
            )
        elif isinstance(node, ON_CHIP) and (np.asarray(node.threshold) != np.rint(node.threshold)).any():
            raise GraphError(f"node {node.name!r}: a quantized threshold must be a whole number; got {node.threshold}.")
        elif isinstance(node, ON_CHIP) and node.comparison != ">":
            raise GraphError(
                f"node {node.name!r}: a quantized neuron fires above its threshold, '>'; got '>='. Use td.quantize."
            )
        elif bias is not None and bias.dtype.kind != "i":
            raise GraphError(f"node {node.name!r}: a quantized bias must hold integers; got {bias.dtype}.")


def _is_positive(scale: float | tuple[float, ...]) -> bool:
    return bool(np.isfinite(scale).all() and (np.asarray(scale) > 0).all() and np.size(scale) > 0)


def _need_finite(node: Node) -> None:
    plain, arrays = to_record(node)
    for name, array in arrays.items():
        if array.dtype.kind not in "fi" or array.dtype.itemsize > 8:
            raise GraphError(
                f"node {node.name!r}: {name} must hold floats or integers of 64 bit or less; got {array.dtype}."
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise GraphError(
                f"node {node.name!r}: {name} holds NaN or infinite values. "
                "Did training diverge? Retrain or restore a checkpoint."
            )
    for name, value in plain.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise GraphError(f"node {node.name!r}: {name} must be finite; got {value}.")


def _check_metadata(metadata: Mapping[str, str]) -> None:
    for text in (text for entry in metadata.items() for text in entry):
        if not isinstance(text, str):
            raise GraphError(
                f"metadata: must hold strings, for people to read; got {shown(text)}. Use str() or json.dumps()."
            )
        try:
            text.encode()
        except UnicodeEncodeError:
            raise GraphError(f"metadata: {shown(text)} holds half of a character, which no file can hold.") from None
