"""What a traced and what a deployable graph may contain; checked at the seams between the stages."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

from tet_deploy.errors import ArgumentError, GraphError
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import (
    WEIGHTED,
    Add,
    AvgPool,
    BatchNorm,
    Conv,
    Flatten,
    Input,
    Linear,
    Node,
    Output,
    Population,
    Spiking,
)

_SENDERS = (Spiking, Add, Input)


@dataclass(frozen=True)
class Spec:
    """Kinds that a stage accepts, and what may feed each of them, seen through any Flatten.

    `own_synapses`: each Conv and Linear must feed one population and nothing else.
    `quantized`: whether the network must hold integers, or must not; None where either will do.
    """

    name: str
    kinds: tuple[type[Node], ...]
    sources: dict[type[Node], tuple[type[Node], ...]]
    remedy: str
    own_synapses: bool = False
    quantized: bool | None = None


TRACED = Spec(
    name="traced",
    kinds=(Input, Conv, Linear, BatchNorm, AvgPool, Flatten, Add, Spiking, Output),
    sources={},
    remedy="Use a supported layer.",
)
UNFOLDED = replace(TRACED, quantized=False)
NORM_FREE = Spec(
    name="norm-free",
    kinds=tuple(kind for kind in TRACED.kinds if kind is not BatchNorm),
    sources={},
    remedy="Lower the network first: td.lower(graph).",
    quantized=False,
)
POOL_FREE = replace(NORM_FREE, name="pool-free", kinds=tuple(kind for kind in NORM_FREE.kinds if kind is not AvgPool))
MERGED = replace(NORM_FREE, name="merged", sources={Linear: (Input, Conv, AvgPool, Add, Spiking)})  # none behind another
SYNAPTIC = replace(NORM_FREE, name="synaptic", sources={Population: WEIGHTED})
DEPLOYABLE = Spec(
    name="deployable",
    kinds=(Input, Conv, Linear, Flatten, Add, Spiking, Output),
    sources={Conv: _SENDERS, Linear: _SENDERS, Flatten: _SENDERS, Add: (Spiking, Add), Population: WEIGHTED},
    remedy="Lower the network first: td.lower(graph).",
    own_synapses=True,
)
FLOAT = replace(DEPLOYABLE, quantized=False)
INTEGER = replace(DEPLOYABLE, name="quantized", quantized=True)


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
    if need_graph(graph).is_quantized and spec.quantized is False:
        raise GraphError("the network is quantized already. Take the float network instead.")
    if spec.quantized and not graph.is_quantized:
        raise GraphError("the network is not quantized. Quantize it first: td.quantize(graph, frames).")
    for node in graph:
        if not isinstance(node, spec.kinds):
            raise GraphError(f"node {node.name!r}: a {node.kind} may not stand in a {spec.name} network. {spec.remedy}")
        allowed = next((kinds for kind, kinds in spec.sources.items() if isinstance(node, kind)), None)
        for name in node.inputs:
            source = graph[name] if isinstance(node, Population) else behind_flatten(graph, name)
            if allowed and not isinstance(source, allowed):
                raise GraphError(
                    f"node {node.name!r}: a {node.kind} of a {spec.name} network must be fed by "
                    f"{' or '.join(kind.__name__ for kind in allowed)}; {name!r} is a {source.kind}. "
                    f"{'Change the layers there.' if isinstance(source, spec.kinds) else spec.remedy}"
                )
        if spec.own_synapses and isinstance(node, WEIGHTED) and len(graph.consumers(node.name)) > 1:
            users = ", ".join(user.name for user in graph.consumers(node.name))
            raise GraphError(f"node {node.name!r}: must feed one population; it feeds {users}. {spec.remedy}")
    return graph


def behind_flatten(graph: Graph, name: str) -> Node:
    """The node of that name, or what feeds it where it is a Flatten."""
    node = graph[name]
    return behind_flatten(graph, node.inputs[0]) if isinstance(node, Flatten) else node
