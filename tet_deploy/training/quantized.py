"""A quantized network that trains: its forward pass is the integer reference's, its gradients go straight through.

Each weight has a latent real number, in units of the integer that it rounds to, and so has each bias. Scales, thresholds
and bias exponents stay those that `td.quantize` chose; the network begins with exactly its integers. Identities stay as
they are: they are no weights of the model. Where a pool was folded into a convolution, each of the wider kernel's weights
trains.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from tet_deploy.contracts import Recording
from tet_deploy.errors import GraphError
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import WEIGHTED, Node, Population
from tet_deploy.ir.spec import DEPLOYABLE, check
from tet_deploy.ir.values import values
from tet_deploy.nn.fixed_point_lif import UNIT
from tet_deploy.passes.calibrate import largest_sum
from tet_deploy.training.quantized_layers import Neurons, PopulationLayer, Synapses, channels, layer_of


class QuantizedNetwork(nn.Module):
    """A quantized network with latent real weights, time-major: frames [T, B, *shape] to readouts [T, B, K].

    In training mode the readout is in units of the float network, for the loss; in eval mode it is the whole numbers that
    every runtime gives.

    Parameters
    ----------
    quantized
        What `td.quantize` made of `network`: where training begins, and the scales that stay.
    network
        The deployable float network.

    Raises
    ------
    GraphError
        A network that is not deployable, or not the one that was quantized; or a node that cannot be trained in integers.
    """

    def __init__(self, quantized: Graph, network: Graph) -> None:
        super().__init__()
        if not check(quantized, DEPLOYABLE).is_quantized or check(network, DEPLOYABLE).is_quantized:
            raise GraphError("fine-tuning: needs a quantized network, and the float network that it was made of.")
        _check_pair(quantized, network)
        self.quantized = quantized
        sent = values(quantized)
        self.layers = nn.ModuleList()
        self._layer: dict[str, nn.Module] = {}
        for node in quantized:
            layer = layer_of(node, quantized, network, sent[node.inputs[0]].magnitude if node.inputs else 0.0)
            self.layers.append(layer)
            self._layer[node.name] = layer
        if self.graph().digest() != quantized.digest():
            raise GraphError("fine-tuning: the network holds integers beyond its bits. Quantize the float network again.")

    def forward(self, frames: Tensor) -> Tensor:
        """Readouts of frames of real numbers, see `dynamics.to_messages`."""
        with torch.autocast(frames.device.type, enabled=False):  # bfloat16 holds no sum of integers
            *_, (_, readout) = self._walk(frames)
        if not self.training:
            return readout
        assert self.quantized.readout.quantization is not None
        in_units: Tensor = readout / (UNIT * channels(self.quantized.readout.quantization.scale, 1).to(readout))
        return in_units

    def _walk(self, frames: Tensor) -> Iterator[tuple[Node, Tensor]]:
        """Each node with what it sends, [T, B, ...], or [1, B, ...] where that is the same at every step."""
        sent: dict[str, Tensor] = {}
        waiting = {node.name: len(self.quantized.consumers(node.name)) for node in self.quantized}
        for node in self.quantized:
            inputs = [sent[name] for name in node.inputs] or [frames]
            for name in dict.fromkeys(node.inputs):
                waiting[name] -= 1
                if not waiting[name]:
                    del sent[name]
            layer = self._layer[node.name]
            sent[node.name] = layer(inputs, len(frames)) if isinstance(layer, PopulationLayer) else layer(*inputs)
            yield node, sent[node.name]

    def graph(self) -> Graph:
        """The quantized network with the integers of now; its metadata are of `quantized`, see `finetuning.summarized`."""
        changed: dict[str, Node | None] = {}
        for node in self.quantized:
            layer = self._layer[node.name]
            if isinstance(node, WEIGHTED) and isinstance(layer, Synapses):
                changed[node.name] = dataclasses.replace(node, weight=_whole(layer.integers(), node.weight))
            elif isinstance(node, Population) and isinstance(layer, PopulationLayer) and node.bias is not None:
                changed[node.name] = dataclasses.replace(node, bias=_whole(layer.integers(), node.bias))
        return self.quantized.replace(changed)

    @torch.no_grad()
    def record(self, frames: Tensor) -> tuple[Recording, dict[str, int]]:
        """What a runtime records of frames [T, B, *shape], and of each population what `quantize` calls its largest sum."""
        spikes, potentials, largest, sums = {}, {}, {}, {}
        for node, sent in self._walk(frames):
            layer = self._layer[node.name]
            if isinstance(layer, Synapses):
                sums[node.name] = sent
            elif isinstance(layer, PopulationLayer):
                total = layer.total([sums.pop(name) for name in node.inputs])
                over_time = total.expand(len(frames), *total.shape[1:])
                largest[node.name] = largest_sum(layer.node, over_time.long().cpu().numpy())
                if isinstance(layer, Neurons):
                    spikes[node.name] = sent.byte().cpu().numpy()
                    potentials[node.name] = layer.potentials(total, len(frames)).int().cpu().numpy()
        readout = sent.long().cpu().numpy()
        return Recording(spikes=spikes, potentials=potentials, readout=readout, runtime="torch"), largest

    def clipped_weights(self, population: str) -> float:
        """Share of the weights into a population that are held at the largest integer."""
        layers = [self._layer[name] for name in self.quantized[population].inputs]
        synapses = [layer for layer in layers if isinstance(layer, Synapses)]
        return sum(layer.clipped() for layer in synapses) / sum(layer.weight.numel() for layer in synapses)

    def clipped_biases(self, population: str) -> float:
        """Share of its biases that are held at the largest integer."""
        layer = self._layer[population]
        assert isinstance(layer, PopulationLayer)
        return layer.clipped()


def _check_pair(quantized: Graph, network: Graph) -> None:
    """See that the quantized network has each node of the float one, with its shape."""

    def sizes(graph: Graph) -> dict[str, tuple[tuple[int, ...], ...]]:
        return {node.name: (graph.shapes[node.name], np.shape(getattr(node, "weight", ()))) for node in graph}

    found = sizes(quantized)
    for name, size in sizes(network).items():
        if found.get(name) != size:
            raise GraphError(f"node {name!r}: the quantized network was not made of this float one: it has no such node.")


def _whole(integers: Tensor | None, like: np.ndarray) -> np.ndarray:
    assert integers is not None
    return np.asarray(integers.detach().cpu().numpy().astype(like.dtype))
