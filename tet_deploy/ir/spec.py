"""What a traced and what a deployable graph may contain; checked at the seams between the stages."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from tet_deploy.errors import ArgumentError, GraphError
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import LIF, WEIGHTED, Add, AvgPool, BatchNorm, Conv, Delay, Flatten, Input, Linear, Node, Readout

_SPIKING_SOURCES = (LIF, Input, Flatten, Delay)


@dataclass(frozen=True)
class Spec:
    """Kinds that a stage accepts, and what may feed each of them."""

    name: str
    kinds: tuple[type[Node], ...]
    sources: dict[type[Node], tuple[type[Node], ...]]
    remedy: str


TRACED = Spec(
    name="traced",
    kinds=(Input, Conv, Linear, BatchNorm, AvgPool, Flatten, Add, LIF, Readout),
    sources={},
    remedy="Use a supported layer.",
)
DEPLOYABLE = Spec(
    name="deployable",
    kinds=(Input, Conv, Linear, Flatten, Delay, LIF, Readout),
    sources={
        Conv: _SPIKING_SOURCES,
        Linear: _SPIKING_SOURCES,
        Flatten: _SPIKING_SOURCES,
        Delay: _SPIKING_SOURCES,
        LIF: WEIGHTED,
        Readout: WEIGHTED,
    },
    remedy="Lower the network first: td.lower(graph).",
)


def need_graph(graph: Any) -> Graph:
    """Return the graph if it is one.

    Raises
    ------
    ArgumentError
        A model, a path or anything else stands in its place; the message says how to make a graph of it.
    """
    if isinstance(graph, Graph):
        return graph
    way_out = "Make one with td.trace, or read one with td.load."
    if isinstance(graph, (str, os.PathLike)):
        way_out = f"Read it first: td.load({os.fspath(graph)!r:.200})."
    elif hasattr(graph, "state_dict"):  # a torch model
        way_out = "Trace it first: td.lower(td.trace(model, input_shape=(C, H, W)), frames)."
    raise ArgumentError(f"graph: must be a network, a tet_deploy.Graph; got {type(graph).__name__}. {way_out}")


def check(graph: Graph, spec: Spec) -> Graph:
    """Return the graph if it meets the spec.

    Raises
    ------
    ArgumentError
        It is no graph.
    GraphError
        Names the first node that breaks a rule.
    """
    need_graph(graph)
    for node in graph:
        if not isinstance(node, spec.kinds):
            hint = spec.remedy
            if isinstance(node, Add):
                hint = "Residual connections cannot be deployed yet; feed-forward networks can."
            raise GraphError(f"node {node.name!r}: a {node.kind} may not stand in a {spec.name} network. {hint}")
        for source in node.inputs:
            allowed = spec.sources.get(type(node))
            if allowed and not isinstance(graph[source], allowed):
                raise GraphError(
                    f"node {node.name!r}: a {node.kind} of a {spec.name} network must be fed by "
                    f"{' or '.join(kind.__name__ for kind in allowed)}; {source!r} is a {graph[source].kind}. "
                    f"{'Change the layers there.' if isinstance(graph[source], spec.kinds) else spec.remedy}"
                )
    return graph
