"""A quantized network that trains: its forward pass is the integer reference's, its gradients go straight through.

Each weight has a latent real number, in units of the integer that it rounds to, and so has each bias. Scales, thresholds
and bias exponents stay those that `td.quantize` chose; the network begins with exactly its integers. Identities stay as
they are: they are no weights of the model. Where a pool was folded into a convolution, each of the wider kernel's weights
trains.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import singledispatch

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tet_deploy import dynamics
from tet_deploy.contracts import Recording
from tet_deploy.errors import GraphError
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import LIF, WEIGHTED, Add, Conv, Flatten, Input, Linear, Node, Population, Readout
from tet_deploy.ir.spec import DEPLOYABLE, check
from tet_deploy.ir.values import values
from tet_deploy.nn.fixed_point_lif import UNIT, FixedPointNeuron, fixed_point_lif, wrap24
from tet_deploy.passes.calibrate import is_uniform, total_bias

_EXACT = 2**24  # float32 holds all whole numbers up to here
_NEAR = 0.49  # how far a latent number may begin from the integer that it rounds to


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
            layer = _layer(node, quantized, network, sent[node.inputs[0]].magnitude if node.inputs else 0.0)
            self.layers.append(layer)
            self._layer[node.name] = layer

    def forward(self, frames: Tensor) -> Tensor:
        """Readouts of frames of real numbers, see `dynamics.to_messages`."""
        with torch.autocast(frames.device.type, enabled=False):  # bfloat16 holds no sum of integers
            *_, (_, readout) = self._walk(frames)
        if not self.training:
            return readout
        assert self.quantized.readout.quantization is not None
        in_units: Tensor = readout / (UNIT * _channels(self.quantized.readout.quantization.scale, 1).to(readout))
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
            sent[node.name] = layer(inputs, len(frames)) if isinstance(layer, _Population) else layer(*inputs)
            yield node, sent[node.name]

    def graph(self) -> Graph:
        """The quantized network with the integers of now; its metadata are of `quantized`, see `finetuning.summarized`."""
        changed: dict[str, Node | None] = {}
        for node in self.quantized:
            layer = self._layer[node.name]
            if isinstance(node, WEIGHTED) and isinstance(layer, _Synapses):
                changed[node.name] = dataclasses.replace(node, weight=_whole(layer.integers(), node.weight))
            elif isinstance(node, Population) and isinstance(layer, _Population) and node.bias is not None:
                changed[node.name] = dataclasses.replace(node, bias=_whole(layer.integers(), node.bias))
        return self.quantized.replace(changed)

    @torch.no_grad()
    def record(self, frames: Tensor) -> tuple[Recording, dict[str, int]]:
        """What a runtime records of frames [T, B, *shape], and of each population the largest presynaptic sum."""
        spikes, potentials, largest, sums = {}, {}, {}, {}
        for node, sent in self._walk(frames):
            layer = self._layer[node.name]
            if isinstance(layer, _Synapses):
                sums[node.name] = sent
            elif isinstance(layer, _Population):
                total = layer.total([sums.pop(name) for name in node.inputs])
                largest[node.name] = int(total.abs().max())
                if isinstance(layer, _Neurons):
                    spikes[node.name] = sent.byte().cpu().numpy()
                    potentials[node.name] = layer.potentials(total, len(frames)).int().cpu().numpy()
        readout = sent.long().cpu().numpy()
        return Recording(spikes=spikes, potentials=potentials, readout=readout, runtime="torch"), largest

    def clipped(self, population: str) -> float:
        """Share of the weights into a population that are held at the largest integer."""
        layers = [self._layer[name] for name in self.quantized[population].inputs]
        synapses = [layer for layer in layers if isinstance(layer, _Synapses)]
        return sum(layer.clipped() for layer in synapses) / sum(layer.weight.numel() for layer in synapses)


def _check_pair(quantized: Graph, network: Graph) -> None:
    """See that the quantized network has each node of the float one, with its shape."""

    def sizes(graph: Graph) -> dict[str, tuple[tuple[int, ...], ...]]:
        return {node.name: (graph.shapes[node.name], np.shape(getattr(node, "weight", ()))) for node in graph}

    found = sizes(quantized)
    for name, size in sizes(network).items():
        if found.get(name) != size:
            raise GraphError(f"node {name!r}: the quantized network was not made of this float one: it has no such node.")


class _Rounded(torch.autograd.Function):
    """clip(round(x), -limit, limit); its gradient is x's, also where it clips, so that a weight can come back."""

    @staticmethod
    def forward(ctx: object, x: Tensor, limit: float) -> Tensor:
        return x.round().clamp(-limit, limit)

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


def _rounded(x: Tensor, limit: float) -> Tensor:
    integers: Tensor = _Rounded.apply(x, limit)  # type: ignore[no-untyped-call]  # torch's own
    return integers


def _whole(integers: Tensor | None, like: np.ndarray) -> np.ndarray:
    assert integers is not None
    return np.asarray(integers.detach().cpu().numpy().astype(like.dtype))


def _channels(values: object, axes: int) -> Tensor:
    """One number, or one a channel, that broadcasts against [C, ...] with that many axes."""
    found = torch.as_tensor(np.asarray(values, np.float64))
    return found.reshape(-1, *(1,) * (axes - 1)) if found.dim() else found


def _latent(exact: np.ndarray, integers: np.ndarray, limit: float) -> np.ndarray:
    """Real numbers that round to the integers, as near to the exact ones as that allows; clipped ones stay beyond."""
    low = np.where(integers <= -limit, -np.inf, integers - _NEAR)
    return np.asarray(np.clip(exact, low, np.where(integers >= limit, np.inf, integers + _NEAR)))


class _Input(nn.Module):
    """Frames to messages; a still image, whose steps share their memory, once."""

    scale: Tensor

    def __init__(self, node: Input) -> None:
        super().__init__()
        assert node.quantization is not None
        self.limit = dynamics.largest_message(node.quantization)
        self.register_buffer("scale", torch.tensor(node.quantization.scale, dtype=torch.float32), persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        frames = frames[:1] if frames.stride(0) == 0 else frames
        return (frames.float() * self.scale).round().clamp(-self.limit, self.limit)


class _Sum(nn.Module):
    def forward(self, *terms: Tensor) -> Tensor:
        return torch.stack(terms).sum(dim=0)


class _Synapses(nn.Module):
    """Weighted sums in whole numbers; in float64 where float32 might round them."""

    def __init__(self, node: Conv | Linear, network: Graph, magnitude: float, trained: bool) -> None:
        super().__init__()
        assert node.quantization is not None
        self.node, self.limit = node, 2 ** (node.quantization.bits - 1) - 1
        integers = node.weight.astype(np.float64)
        if trained:
            layer = network[node.name]
            assert isinstance(layer, WEIGHTED)
            scale = np.asarray(_channels(node.quantization.scale, node.weight.ndim))
            latent = _latent(layer.weight.astype(np.float64) * scale, integers, self.limit)
            self.weight = nn.Parameter(torch.tensor(latent, dtype=torch.float32))
        else:
            self.register_buffer("weight", torch.tensor(integers, dtype=torch.float32))
        largest = self.limit if trained else np.abs(integers).max()
        self.bound = float(largest) * node.weight[0].size * magnitude

    def integers(self) -> Tensor:
        return _rounded(self.weight, self.limit)

    def clipped(self) -> int:
        return int((self.weight.detach().round().abs() > self.limit).sum())

    def forward(self, x: Tensor) -> Tensor:
        dtype = torch.float64 if self.bound >= _EXACT else torch.float32
        merged = self._sums(x.flatten(0, 1).to(dtype), self.integers().to(dtype))
        sums = torch.unflatten(merged, 0, x.shape[:2])
        return wrap24(sums) if self.bound >= dynamics.STATE_LIMIT else sums

    def _sums(self, x: Tensor, weight: Tensor) -> Tensor:
        node = self.node
        if isinstance(node, Linear):
            return functional.linear(x, weight)
        if weight.shape[2:] != (1, 1):  # faster; torch 2.13 writes outside its memory for some of 1x1, see nn.sequence
            x, weight = (each.contiguous(memory_format=torch.channels_last) for each in (x, weight))
        with torch.backends.cudnn.flags(enabled=False):  # cuDNN may choose a method that rounds
            return functional.conv2d(x, weight, None, node.stride, node.padding, node.dilation, groups=node.groups)


class _Population(nn.Module):
    """Common to neurons and readout: the sum of the ports, and a bias."""

    def __init__(self, node: Population, shape: tuple[int, ...], bias: np.ndarray | None, limit: float) -> None:
        super().__init__()
        assert node.quantization is not None
        self.node, self.limit, self.axes = node, limit, len(shape)
        self.unit = UNIT / 2**node.quantization.bias_exponent  # bias mantissas in one weight mantissa
        if node.bias is None:
            self.bias = None
            return
        exact = np.zeros(1) if bias is None else bias * np.asarray(node.quantization.scale)
        latent = _latent(exact * self.unit, node.bias.astype(np.float64), limit) / self.unit
        self.bias = nn.Parameter(torch.tensor(latent, dtype=torch.float64))

    def integers(self) -> Tensor | None:
        return None if self.bias is None else _rounded(self.bias * self.unit, self.limit)

    def added(self) -> Tensor | None:
        """The bias in 64ths of a weight mantissa, broadcasting against [C, ...]."""
        integers = self.integers()
        return None if integers is None else (integers * (UNIT / self.unit)).reshape(-1, *(1,) * (self.axes - 1))

    def total(self, ports: list[Tensor]) -> Tensor:
        if len(ports) > 1 and len(ports) * dynamics.STATE_LIMIT > _EXACT:
            ports = [port.double() for port in ports]
        total: Tensor = sum(ports[1:], start=ports[0])
        return total


class _Neurons(_Population):
    threshold: Tensor
    scale: Tensor

    def __init__(self, node: LIF, shape: tuple[int, ...], bias: np.ndarray | None) -> None:
        super().__init__(node, shape, bias, dynamics.LARGEST_BIAS_MANTISSA)
        assert node.quantization is not None
        self.register_buffer("threshold", _channels(node.threshold, self.axes), persistent=False)
        self.register_buffer("scale", _channels(node.quantization.scale, self.axes), persistent=False)
        self.decay_v = dynamics.decay_v(node)

    def _run(self, total: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        neuron = FixedPointNeuron(self.decay_v, self.threshold, self.scale)
        return fixed_point_lif(total.expand(steps, *total.shape[1:]), self.added(), neuron)

    def forward(self, ports: list[Tensor], steps: int) -> Tensor:
        return self._run(self.total(ports), steps)[0]

    def potentials(self, total: Tensor, steps: int) -> Tensor:
        spikes, potentials = self._run(total, steps)
        return potentials * (1 - spikes)


class _Readout(_Population):
    def __init__(self, node: Readout, shape: tuple[int, ...], bias: np.ndarray | None) -> None:
        super().__init__(node, shape, bias, float(np.iinfo(np.int32).max))

    def forward(self, ports: list[Tensor], steps: int) -> Tensor:
        sent, bias = self.total(ports).double() * UNIT, self.added()
        sent = sent if bias is None else sent + bias
        return sent.expand(steps, *sent.shape[1:])


@singledispatch
def _layer(node: Node, quantized: Graph, network: Graph, magnitude: float) -> nn.Module:
    raise GraphError(f"node {node.name!r}: a {node.kind} cannot be trained in integers.")


@_layer.register
def _(node: Input, quantized: Graph, network: Graph, magnitude: float) -> nn.Module:
    return _Input(node)


@_layer.register
def _(node: Flatten, quantized: Graph, network: Graph, magnitude: float) -> nn.Module:
    return nn.Flatten(2)


@_layer.register
def _(node: Add, quantized: Graph, network: Graph, magnitude: float) -> nn.Module:
    return _Sum()


@_layer.register(Conv)
@_layer.register(Linear)
def _(node: Conv | Linear, quantized: Graph, network: Graph, magnitude: float) -> nn.Module:
    (population,) = quantized.consumers(node.name)
    layer = next((each for each in network if each.name == node.name), None)  # a further part of an identity has none
    trained = isinstance(layer, WEIGHTED) and not (len(population.inputs) > 1 and is_uniform(layer))
    return _Synapses(node, network, magnitude, trained)


@_layer.register
def _(node: LIF, quantized: Graph, network: Graph, magnitude: float) -> nn.Module:
    return _Neurons(node, quantized.shapes[node.name], _float_bias(node, network))


@_layer.register
def _(node: Readout, quantized: Graph, network: Graph, magnitude: float) -> nn.Module:
    return _Readout(node, quantized.shapes[node.name], _float_bias(node, network))


def _float_bias(node: Population, network: Graph) -> np.ndarray | None:
    """What the float network's synapses into a population add to it."""
    return total_bias([layer for name in network[node.name].inputs if isinstance(layer := network[name], WEIGHTED)])
