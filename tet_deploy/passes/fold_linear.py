"""Fold a linear layer into the one before it, where no neuron stands between them, as at the end of many classifiers.

W <- W2 W1 ;  b <- W2 b1 + b2
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tet_deploy.errors import GraphError
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import Linear
from tet_deploy.ir.shapes import dense_macs
from tet_deploy.ir.spec import MERGED, NORM_FREE
from tet_deploy.passes.step import step


@step(requires=NORM_FREE, ensures=MERGED)
def fold_linear(graph: Graph) -> Graph:
    """Make one layer of each two linear layers that follow on another; the arithmetic is done in float64.

    A network without spikes would still have both, which `dense_macs` remembers.

    Raises
    ------
    GraphError
        The first of two feeds something else as well.
    """
    for second in graph.of_kind(Linear):
        first = graph[second.inputs[0]]
        if isinstance(first, Linear):
            if len(graph.consumers(first.name)) > 1:
                others = [node.name for node in graph.consumers(first.name) if node is not second]
                raise GraphError(
                    f"node {second.name!r}: cannot fold into {first.name!r}, whose output also feeds {', '.join(others)}. "
                    "Put a LIF between them."
                )
            macs = sum(dense_macs(node, graph.shapes[node.name]) for node in (first, second))
            return fold_linear(graph.replace({first.name: _folded(first, second, macs), second.name: None}))
    return graph


def _folded(first: Linear, second: Linear, macs: int) -> Linear:
    wide = second.weight.astype(np.float64)
    bias = np.zeros(len(wide)) if second.bias is None else second.bias.astype(np.float64)
    if first.bias is not None:
        bias = bias + wide @ first.bias.astype(np.float64)
    has_bias = first.bias is not None or second.bias is not None
    dtype = first.weight.dtype
    return dataclasses.replace(
        first,
        weight=(wide @ first.weight.astype(np.float64)).astype(dtype),
        bias=bias.astype(dtype) if has_bias else None,
        dense_macs=macs,
    )
