"""The synapses of a population in units of the float network, whichever form they have."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from tet_deploy.debugging.observed import Flow
from tet_deploy.ir.nodes import WEIGHTED, Conv, Input, Linear, Population
from tet_deploy.ir.parts import whole_name
from tet_deploy.meaning import over_time
from tet_deploy.units import real_bias, real_weight, weight_scale


@dataclass(frozen=True, kw_only=True, eq=False)
class Port:
    """One layer that ends in a population.

    Attributes
    ----------
    layer
        With weights and biases in units of the float network, float64; what quantization split is one again.
    sent
        What reaches it, [T, B, *shape], in the units that its source says.
    ratio
        Of those units to the ones that its weights are meant for: 1, where the two do not contradict each other.
    step
        Distance of two neighbouring weights; 0 in a float network.
    limit
        Largest magnitude of a weight; infinite in a float network.
    """

    layer: Conv | Linear
    sent: np.ndarray
    ratio: float
    step: np.ndarray
    limit: np.ndarray

    def sums(self, weight: np.ndarray, messages: np.ndarray) -> np.ndarray:
        """Weighted sums [T, B, *shape] in the geometry of this layer, without its bias."""
        return over_time(dataclasses.replace(self.layer, weight=weight, bias=None), [messages])


def ports(population: Population, flow: Flow) -> dict[str, Port] | None:
    """The layers that end in a population, by name; None where something other than layers does."""
    nodes = [flow.graph[name] for name in population.inputs]
    if not all(isinstance(node, WEIGHTED) for node in nodes):
        return None
    found: dict[str, Port] = {}
    for node in nodes:
        assert isinstance(node, WEIGHTED)
        name = whole_name(flow.graph, node.name)
        port = _port(node, population, flow)
        if name in found:
            whole = dataclasses.replace(port.layer, weight=found[name].layer.weight + port.layer.weight)
            port = dataclasses.replace(port, layer=whole, limit=found[name].limit + port.limit)
        found[name] = port
    return found


def _port(node: Conv | Linear, population: Population, flow: Flow) -> Port:
    sent = flow[node.inputs[0]].astype(np.float64)
    if node.quantization is None or population.quantization is None:
        bias = None if node.bias is None else node.bias.astype(np.float64)
        layer = dataclasses.replace(node, weight=node.weight.astype(np.float64), bias=bias)
        return Port(layer=layer, sent=sent, ratio=1.0, step=np.zeros(()), limit=np.full((), np.inf))
    scale = weight_scale(node)
    meant = np.asarray(population.quantization.scale, np.float64) / np.asarray(node.quantization.scale)
    unit_sent = _scale_of(node.inputs[0], flow)
    return Port(
        layer=dataclasses.replace(node, weight=real_weight(node), quantization=None),
        sent=sent / unit_sent,
        ratio=unit_sent / float(meant.flat[0]),  # alike in all channels
        step=1 / scale,
        limit=(2 ** (node.quantization.bits - 1) - 1) / scale,
    )


def _scale_of(source: str, flow: Flow) -> float:
    """Messages per unit of the float network that a sender sends."""
    node = flow.graph[source]
    while node.inputs and not isinstance(node, Population):
        node = flow.graph[node.inputs[0]]
    return node.quantization.one_scale if isinstance(node, Input) and node.quantization is not None else 1.0


def unlimited(population: Population, flow: Flow) -> np.ndarray:
    """Presynaptic sums of a quantized population that nothing wraps, int64 [T, B, *shape]."""
    total = np.zeros((), np.int64)
    for name in population.inputs:
        node = flow.graph[name]
        assert isinstance(node, WEIGHTED)
        total = total + over_time(dataclasses.replace(node, quantization=None), [flow[node.inputs[0]]]).astype(np.int64)
    return total


def bias(population: Population, found: dict[str, Port]) -> np.ndarray:
    """The bias of each channel in units of the float network, wherever it is kept."""
    if population.quantization is None:
        parts = [port.layer.bias for port in found.values() if port.layer.bias is not None]
        return np.asarray(np.sum(parts, axis=0)) if parts else np.zeros(())
    kept = real_bias(population)
    return np.zeros(()) if kept is None else kept
