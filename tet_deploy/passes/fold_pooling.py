"""Fold average pooling into the layer behind it, so that only binary spikes travel.

A window of k x k moved by s, followed by a convolution (taps d apart, stride r, padding p), is one convolution: tap t of
the convolution becomes k x k taps of weight/k^2 that start at t*d*s, with stride r*s and padding p*s. The same holds for a
linear layer behind a flatten: each weight is spread over its window.

With padding this is exact only where the padded border and the border of the pooled map fall together: the windows
must neither overlap nor leave a rest (k = s, H and W divisible by k). Without padding it always is.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tet_deploy.errors import GraphError
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import AvgPool, Conv, Flatten, Linear, Node
from tet_deploy.ir.shapes import Shape, dense_macs


def fold_pooling(graph: Graph) -> Graph:
    """Remove every AvgPool by widening the kernels of its consumers.

    Raises
    ------
    GraphError
        A pool whose consumers are not convolutions (or linear layers behind a flatten), or whose folding would change
        what is computed at the border.
    """
    while pools := graph.of_kind(AvgPool):
        graph = _fold_one(graph, pools[-1])  # the last first: a pool behind a pool then meets a widened convolution
    return graph


def _fold_one(graph: Graph, pool: AvgPool) -> Graph:
    changes: dict[str, Node | None] = {pool.name: None}
    shape = graph.shapes[pool.inputs[0]]
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


def _cannot_fold(pool: AvgPool, consumer: Node) -> GraphError:
    return GraphError(
        f"node {pool.name!r}: average pooling folds into a Conv, or a Linear behind a Flatten; {consumer.name!r} is a "
        f"{consumer.kind}. Put a convolution (or Flatten and Linear) behind the pool."
    )


def _widened_conv(conv: Conv, pool: AvgPool, shape: Shape) -> Conv:
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
    share = conv.weight / conv.weight.dtype.type(pool.kernel[0] * pool.kernel[1])
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


def _spread_linear(linear: Linear, pool: AvgPool, shape: Shape, pooled: Shape) -> Linear:
    share = (linear.weight / linear.weight.dtype.type(pool.kernel[0] * pool.kernel[1])).reshape(-1, *pooled)
    weight = np.zeros((len(share), *shape), linear.weight.dtype)
    for i in range(pooled[1]):
        for j in range(pooled[2]):
            top, left = i * pool.stride[0], j * pool.stride[1]
            weight[:, :, top : top + pool.kernel[0], left : left + pool.kernel[1]] += share[:, :, i, j, None, None]
    return dataclasses.replace(linear, weight=weight.reshape(len(weight), -1))
