"""Fold average pooling into the layer behind it, so that only binary spikes travel.

A window of k x k moved by s, followed by a convolution (taps d apart, stride r, padding p), is one convolution: tap t of
the convolution becomes k x k taps of weight/k^2 that start at t*d*s, with stride r*s and padding p*s. The same holds for a
linear layer behind a flatten: each weight is spread over its window.

With padding this is exact only where the padded border and the border of the pooled map fall together: the windows
must neither overlap nor leave a rest (k = s, H and W divisible by k). Without padding it always is.

A sum pool, a depthwise convolution of ones, is folded in the same way without the division, where layers are behind it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from tet_deploy.errors import GraphError
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import AvgPool, Conv, Flatten, Linear, Node, Pair
from tet_deploy.ir.shapes import Shape, dense_macs
from tet_deploy.ir.spec import NORM_FREE, POOL_FREE
from tet_deploy.passes.step import step


@dataclass(frozen=True)
class _Pool:
    """A pooling node: what it takes, its windows, and what their sums are divided by."""

    name: str
    source: str
    kernel: Pair
    stride: Pair
    divisor: int


@step(requires=NORM_FREE, ensures=POOL_FREE)
def fold_pooling(graph: Graph) -> Graph:
    """Remove every AvgPool, and every sum pool in front of layers, by widening the kernels of its consumers.

    Raises
    ------
    GraphError
        A pool whose consumers are not convolutions (or linear layers behind a flatten), or whose folding would change
        what is computed at the border.
    """
    while pools := [pool for node in graph if (pool := _pool(graph, node))]:
        graph = _fold_one(graph, pools[-1])  # the last first: a pool behind a pool then meets a widened convolution
    return graph


def _pool(graph: Graph, node: Node) -> _Pool | None:
    if isinstance(node, AvgPool):
        return _Pool(node.name, node.inputs[0], node.kernel, node.stride, node.kernel[0] * node.kernel[1])
    if isinstance(node, Conv) and _sums(node) and all(_takes(graph, user) for user in graph.consumers(node.name)):
        return _Pool(node.name, node.inputs[0], (node.weight.shape[2], node.weight.shape[3]), node.stride, 1)
    return None


def _sums(node: Conv) -> bool:
    """Whether it is a sum pool: it stands for no layer of a network without spikes."""
    plain = node.dense_macs == 0 and node.bias is None and node.padding == (0, 0) and node.dilation == (1, 1)
    return plain and node.quantization is None and node.groups == len(node.weight) and bool((node.weight == 1).all())


def _takes(graph: Graph, user: Node) -> bool:
    """Whether pooling folds into a node: a convolution, or a linear layer behind a flatten."""
    behind = graph.consumers(user.name) if isinstance(user, Flatten) else (user,)
    return all(isinstance(node, Linear if isinstance(user, Flatten) else Conv) for node in behind)


def _fold_one(graph: Graph, pool: _Pool) -> Graph:
    changes: dict[str, Node | None] = {pool.name: None}
    shape = graph.shapes[pool.source]
    for consumer in graph.consumers(pool.name):
        if isinstance(consumer, Conv):
            changes[consumer.name] = _counted_as(consumer, graph, _widened_conv(consumer, pool, shape))
        elif isinstance(consumer, Flatten):
            for linear in graph.consumers(consumer.name):
                if not isinstance(linear, Linear):
                    raise _cannot_fold(pool, linear)
                changes[linear.name] = _counted_as(
                    linear, graph, _spread_linear(linear, pool, shape, graph.shapes[pool.name])
                )
        else:
            raise _cannot_fold(pool, consumer)
    return graph.replace(changes)


def _counted_as(layer: Conv | Linear, graph: Graph, folded: Conv | Linear) -> Conv | Linear:
    """What the layer cost before folding is kept: a network without spikes would not have the wider kernel."""
    return dataclasses.replace(folded, dense_macs=dense_macs(layer, graph.shapes[layer.name]))


def _cannot_fold(pool: _Pool, consumer: Node) -> GraphError:
    return GraphError(
        f"node {pool.name!r}: average pooling folds into a Conv, or a Linear behind a Flatten; {consumer.name!r} is a "
        f"{consumer.kind}. Put a convolution (or Flatten and Linear) behind the pool."
    )


def _widened_conv(conv: Conv, pool: _Pool, shape: Shape) -> Conv:
    for axis, name in ((0, "height"), (1, "width")):
        size, k, s = shape[axis + 1], pool.kernel[axis], pool.stride[axis]
        if conv.padding[axis] and (k != s or size % k):
            raise GraphError(
                f"node {pool.name!r}: folding into {conv.name!r}, with padding {conv.padding[axis]}, needs windows that tile"
                f" the {name}; it is {size}, the window {k}, its stride {s}. Resize the input, or use padding 0."
            )
    out_channels, in_per_group, *kernel = conv.weight.shape
    span = [(kernel[i] - 1) * conv.dilation[i] * pool.stride[i] + pool.kernel[i] for i in (0, 1)]
    weight = np.zeros((out_channels, in_per_group, *span), conv.weight.dtype)
    share = conv.weight / conv.weight.dtype.type(pool.divisor)
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            top, left = i * conv.dilation[0] * pool.stride[0], j * conv.dilation[1] * pool.stride[1]
            weight[:, :, top : top + pool.kernel[0], left : left + pool.kernel[1]] += share[:, :, i, j, None, None]
    return dataclasses.replace(
        conv,
        weight=weight,
        stride=(conv.stride[0] * pool.stride[0], conv.stride[1] * pool.stride[1]),
        padding=(conv.padding[0] * pool.stride[0], conv.padding[1] * pool.stride[1]),
        dilation=(1, 1),
    )


def _spread_linear(linear: Linear, pool: _Pool, shape: Shape, pooled: Shape) -> Linear:
    share = (linear.weight / linear.weight.dtype.type(pool.divisor)).reshape(-1, *pooled)
    weight = np.zeros((len(share), *shape), linear.weight.dtype)
    for i in range(pooled[1]):
        for j in range(pooled[2]):
            top, left = i * pool.stride[0], j * pool.stride[1]
            weight[:, :, top : top + pool.kernel[0], left : left + pool.kernel[1]] += share[:, :, i, j, None, None]
    return dataclasses.replace(linear, weight=weight.reshape(len(weight), -1))
