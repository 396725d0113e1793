"""Fold batch norm into the layer before it (Deng et al., ICLR 2022, eq. 6).

W <- W * gamma / sigma ;  b <- beta + (b - mean) * gamma / sigma ;  sigma = sqrt(variance + epsilon)
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tet_deploy.errors import GraphError
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import WEIGHTED, BatchNorm, Conv, Input, Linear, Node
from tet_deploy.ir.normalization import normalizing
from tet_deploy.ir.spec import NORM_FREE, UNFOLDED
from tet_deploy.passes.step import step


@step(requires=UNFOLDED, ensures=NORM_FREE)
def fold_batch_norm(graph: Graph) -> Graph:
    """Remove every BatchNorm by scaling the convolution or linear layer that feeds it; one of frames goes into the Input.

    The arithmetic is done in float64 and stored in the layer's own dtype.

    Raises
    ------
    GraphError
        A batch norm that no convolution or linear layer feeds, or whose layer has other consumers.
    """
    changes: dict[str, Node | None] = {}
    for norm in graph.of_kind(BatchNorm):
        layer = graph[norm.inputs[0]]
        if isinstance(layer, Input) and graph.consumers(layer.name) == (norm,):
            changes[layer.name] = _normalizing(layer, norm)
            changes[norm.name] = None
            continue
        if not isinstance(layer, WEIGHTED):
            raise GraphError(
                f"node {norm.name!r}: batch norm folds into a Conv or Linear; it is fed by {layer.name!r}, a {layer.kind}. "
                "Move the batch norm directly behind its convolution and retrain."
            )
        if len(graph.consumers(layer.name)) > 1:
            others = [node.name for node in graph.consumers(layer.name) if node is not norm]
            raise GraphError(
                f"node {norm.name!r}: cannot fold into {layer.name!r}, whose output also feeds {', '.join(others)}. "
                "Give each consumer a convolution of its own."
            )
        changes[layer.name] = _folded(layer, norm)
        changes[norm.name] = None
    return graph.replace(changes) if changes else graph


def _normalizing(node: Input, norm: BatchNorm) -> Input:
    """Batch norm of frames: (x - mean) gain + beta = (x - (mean - beta / gain)) gain."""
    gain = norm.gamma.astype(np.float64) / np.sqrt(norm.variance.astype(np.float64) + norm.epsilon)
    if not gain.all():
        raise GraphError(
            f"node {norm.name!r}: gives the same for all frames in channel {int(np.argmin(np.abs(gain)))}, where its weight "
            "is 0. Train it, or take the channel out of the frames."
        )
    return normalizing(node, norm.mean.astype(np.float64) - norm.beta.astype(np.float64) / gain, 1 / gain)


def _folded(layer: Conv | Linear, norm: BatchNorm) -> Conv | Linear:
    wide = np.float64
    gain = norm.gamma.astype(wide) / np.sqrt(norm.variance.astype(wide) + norm.epsilon)  # [O]
    weight = layer.weight.astype(wide) * gain.reshape(-1, *(1,) * (layer.weight.ndim - 1))
    bias = np.zeros(len(gain)) if layer.bias is None else layer.bias.astype(wide)
    bias = norm.beta.astype(wide) + (bias - norm.mean.astype(wide)) * gain
    dtype = layer.weight.dtype
    return dataclasses.replace(layer, weight=weight.astype(dtype), bias=bias.astype(dtype))
