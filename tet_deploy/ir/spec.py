"""What a traced and what a deployable graph may contain; checked at the seams between the stages."""

from __future__ import annotations

from dataclasses import dataclass

from tet_deploy.errors import GraphError
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


def check(graph: Graph, spec: Spec) -> Graph:
    """Return the graph if it meets the spec.

    Raises
    ------
    GraphError
        Names the first node that breaks a rule.
    """
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
