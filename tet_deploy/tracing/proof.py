"""Proof that a traced graph computes what the model does, node by node.

Each node is fed what the layer before it gave in the model, and must give what its own layer gave there. Neurons, whose
values there are seeded, are fed currents that lie close to their threshold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from tet_deploy.errors import GraphError
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import LEAKY, LeakyReadout, Node
from tet_deploy.ir.shapes import Shape
from tet_deploy.meaning import over_time
from tet_deploy.node_agreement import Difference, node_difference
from tet_deploy.tracing import stimuli
from tet_deploy.tracing.capture import SAMPLES
from tet_deploy.tracing.layers import spikes

_PIXELS = 64  # that each weight is seen to meet, where a layer has as many; comparing more of large frames proves no more


def prove(graph: Graph, given: Mapping[str, np.ndarray], neurons: Mapping[str, nn.Module], *, lines: bool = False) -> None:
    """Compare each node with the layer that it stands for.

    Parameters
    ----------
    graph
        As traced.
    given
        By name of a node, what its layer gave in the model in float64, [T, B, ...]. What is missing (a layer may become two
        nodes) is computed.
    neurons
        By name of a node, the neurons that gave seeded spikes.
    lines
        Whether they take samples [C, L] for those of (C, 1, L).

    Raises
    ------
    GraphError
        Names the first node that differs by more than float rounding, and by how much.
    """
    values = dict(given)
    for node in graph:
        if not node.inputs:
            continue
        shape = graph.shapes[node.name]
        if node.name in neurons:
            difference = _neurons_difference(node, neurons[node.name], shape, lines)
        else:
            within_layer = node.name not in values
            part = _part(shape, all_steps=within_layer or isinstance(node, (*LEAKY, LeakyReadout)))
            inputs = [values[source][part] for source in node.inputs]
            if within_layer:
                values[node.name] = over_time(node, inputs)
                continue
            difference = node_difference(node, inputs, values[node.name][part])
        if difference is not None:
            raise GraphError(
                f"node {node.name!r}: its layer {difference}. Something changes what the layer computes, such as a "
                "hook that writes into its values or a class that was patched: remove it."
            )


def _neurons_difference(node: Node, layer: nn.Module, shape: Shape, lines: bool) -> Difference | None:
    assert isinstance(node, LEAKY), node
    currents = stimuli.currents(node, shape)
    given = currents[:, :, :, 0] if lines and len(shape) == 3 else currents
    return node_difference(node, [currents], spikes(layer, torch.from_numpy(given)).numpy().reshape(currents.shape))


def _part(shape: Shape, *, all_steps: bool) -> tuple[slice, slice]:
    """Steps and samples that are enough to compare: where frames are large, a few."""
    samples = math.ceil(_PIXELS / math.prod(shape[1:]))
    return slice(None if all_steps or samples >= SAMPLES else 1), slice(samples)
