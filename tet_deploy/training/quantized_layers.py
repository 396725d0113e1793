"""The layers of a quantized network that trains: whole numbers forward, as `meaning.py` says, straight through backward."""

from __future__ import annotations

from functools import singledispatch

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tet_deploy import dynamics
from tet_deploy.errors import GraphError
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import (
    LIF,
    WEIGHTED,
    Add,
    Conv,
    CubaLIF,
    Flatten,
    Input,
    LeakyReadout,
    Linear,
    Node,
    Population,
    Readout,
)
from tet_deploy.nn.fixed_point_lif import UNIT, FixedPointNeuron, fixed_point_lif, wrap24
from tet_deploy.passes.fit import is_uniform, total_bias
from tet_deploy.units import real_bias

_EXACT = 2**24  # float32 holds all whole numbers up to here
_NEAR = 0.49  # how far a latent number may begin from the integer that it rounds to


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


def channels(values: object, axes: int) -> Tensor:
    """One number, or one a channel, that broadcasts against [C, ...] with that many axes."""
    found = torch.as_tensor(np.asarray(values, np.float64))
    return found.reshape(-1, *(1,) * (axes - 1)) if found.dim() else found


def _latent(exact: np.ndarray, integers: np.ndarray, limit: float) -> np.ndarray:
    """Real numbers that round to the integers, as near to the exact ones as that allows; clipped ones stay beyond."""
    low = np.where(integers <= -limit, -np.inf, integers - _NEAR)
    return np.asarray(np.clip(exact, low, np.where(integers >= limit, np.inf, integers + _NEAR)))


class InputLayer(nn.Module):
    """Frames to messages; a still image, whose steps share their memory, once."""

    scale: Tensor
    mean: Tensor | None
    deviation: Tensor | None

    def __init__(self, node: Input) -> None:
        super().__init__()
        assert node.quantization is not None
        self.limit = dynamics.largest_message(node.quantization)
        sides = (1,) * (len(node.shape) - 1)
        for name, array in (("mean", node.mean), ("deviation", node.deviation)):
            values = None if array is None else torch.tensor(array, dtype=torch.float32).reshape(-1, *sides)
            self.register_buffer(name, values, persistent=False)
        self.register_buffer("scale", torch.tensor(node.quantization.scale, dtype=torch.float32), persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        frames = frames[:1] if frames.stride(0) == 0 else frames
        frames = frames.float()
        if self.mean is not None and self.deviation is not None:
            frames = (frames - self.mean) / self.deviation
        return (frames * self.scale).round().clamp(-self.limit, self.limit)


class Sum(nn.Module):
    """Spikes, or sums of them, to their sum."""

    def forward(self, *terms: Tensor) -> Tensor:
        return torch.stack(terms).sum(dim=0)


class Synapses(nn.Module):
    """Weighted sums in whole numbers; in float64 where float32 might round them."""

    def __init__(self, node: Conv | Linear, network: Graph, magnitude: float, trained: bool) -> None:
        super().__init__()
        assert node.quantization is not None
        self.node, self.limit = node, 2 ** (node.quantization.bits - 1) - 1
        integers = node.weight.astype(np.float64)
        if trained:
            layer = network[node.name]
            assert isinstance(layer, WEIGHTED)
            scale = np.asarray(channels(node.quantization.scale, node.weight.ndim))
            latent = _latent(layer.weight.astype(np.float64) * scale, integers, self.limit)
            self.weight = nn.Parameter(torch.tensor(latent, dtype=torch.float32))
        else:
            self.register_buffer("weight", torch.tensor(integers, dtype=torch.float32))
        largest = self.limit if trained else np.abs(integers).max()
        self.bound = float(largest) * node.weight[0].size * magnitude

    def integers(self) -> Tensor:
        return _rounded(self.weight, self.limit)

    def clipped(self) -> int:
        """Number of weights that are clipped."""
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
        # channels-last is faster, but torch 2.13 then writes outside its memory for some kernels of 1x1: see nn.sequence
        layout = torch.contiguous_format if weight.shape[2:] == (1, 1) else torch.channels_last
        x, weight = x.contiguous(memory_format=layout), weight.contiguous(memory_format=layout)
        with torch.backends.cudnn.flags(enabled=False):  # cuDNN may choose a method that rounds
            return functional.conv2d(x, weight, None, node.stride, node.padding, node.dilation, groups=node.groups)


class PopulationLayer(nn.Module):
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

    def clipped(self) -> float:
        """Share of the biases that are clipped."""
        if self.bias is None:
            return 0.0
        beyond = (self.bias.detach() * self.unit).round().abs() > self.limit
        return float(beyond.double().mean())

    def added(self) -> Tensor | None:
        """The bias in 64ths of a weight mantissa, broadcasting against [C, ...]."""
        integers = self.integers()
        return None if integers is None else (integers * (UNIT / self.unit)).reshape(-1, *(1,) * (self.axes - 1))

    def total(self, ports: list[Tensor]) -> Tensor:
        if len(ports) > 1 and len(ports) * dynamics.STATE_LIMIT > _EXACT:
            ports = [port.double() for port in ports]
        total: Tensor = sum(ports[1:], start=ports[0])
        return total


class Neurons(PopulationLayer):
    """Sums to spikes."""

    decay_v: Tensor
    threshold: Tensor
    scale: Tensor

    def __init__(self, node: LIF | CubaLIF, shape: tuple[int, ...], bias: np.ndarray | None) -> None:
        super().__init__(node, shape, bias, dynamics.LARGEST_BIAS_MANTISSA)
        assert node.quantization is not None
        self.register_buffer("threshold", channels(node.threshold, self.axes), persistent=False)
        self.register_buffer("scale", channels(node.quantization.scale, self.axes), persistent=False)
        self.register_buffer("decay_v", channels(dynamics.decay_v(node), self.axes), persistent=False)
        self.decay_u = dynamics.decay_u(node)

    def _run(self, total: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        neuron = FixedPointNeuron(self.decay_v, self.threshold, self.scale, self.decay_u)
        return fixed_point_lif(total.expand(steps, *total.shape[1:]), self.added(), neuron)

    def forward(self, ports: list[Tensor], steps: int) -> Tensor:
        return self._run(self.total(ports), steps)[0]

    def potentials(self, total: Tensor, steps: int) -> Tensor:
        spikes, potentials = self._run(total, steps)
        return potentials * (1 - spikes)


class ReadoutLayer(PopulationLayer):
    """Sums to readouts: 64 times the sum, and the bias; a leaky one adds that to what its last step left."""

    def __init__(self, node: Readout | LeakyReadout, shape: tuple[int, ...], bias: np.ndarray | None) -> None:
        super().__init__(node, shape, bias, float(np.iinfo(np.int32).max))
        self.kept = 1 - int(dynamics.decay_v(node)) / dynamics.DECAY_ONE if isinstance(node, LeakyReadout) else None

    def forward(self, ports: list[Tensor], steps: int) -> Tensor:
        sent, bias = self.total(ports).double() * UNIT, self.added()
        sent = sent if bias is None else sent + bias
        sent = sent.expand(steps, *sent.shape[1:])
        return sent if self.kept is None else _integrated(sent, self.kept)


def _integrated(arriving: Tensor, kept: float) -> Tensor:
    """v = truncate(v * kept) + x over time; its gradient is that without the truncation."""
    v, found = torch.zeros_like(arriving[0]), []
    for x in arriving:
        left = v * kept
        v = left + (left.trunc() - left).detach() + x
        found.append(v)
    return torch.stack(found)


@singledispatch
def layer_of(node: Node, quantized: Graph, network: Graph, magnitude: float) -> nn.Module:
    """The layer of a node of a quantized network that was made of a float one; its messages are at most `magnitude`.

    Raises
    ------
    GraphError
        A kind of node that cannot be trained in integers.
    """
    raise GraphError(f"node {node.name!r}: a {node.kind} cannot be trained in integers.")


@layer_of.register
def _(node: Input, quantized: Graph, network: Graph, magnitude: float) -> nn.Module:
    return InputLayer(node)


@layer_of.register
def _(node: Flatten, quantized: Graph, network: Graph, magnitude: float) -> nn.Module:
    return nn.Flatten(2)


@layer_of.register
def _(node: Add, quantized: Graph, network: Graph, magnitude: float) -> nn.Module:
    return Sum()


@layer_of.register(Conv)
@layer_of.register(Linear)
def _(node: Conv | Linear, quantized: Graph, network: Graph, magnitude: float) -> nn.Module:
    (population,) = quantized.consumers(node.name)
    layer = next((each for each in network if each.name == node.name), None)  # a further part of an identity has none
    trained = isinstance(layer, WEIGHTED) and not (len(population.inputs) > 1 and is_uniform(layer))
    return Synapses(node, network, magnitude, trained)


@layer_of.register(LIF)
@layer_of.register(CubaLIF)
def _(node: LIF | CubaLIF, quantized: Graph, network: Graph, magnitude: float) -> nn.Module:
    return Neurons(node, quantized.shapes[node.name], _float_bias(node, network))


@layer_of.register(Readout)
@layer_of.register(LeakyReadout)
def _(node: Readout | LeakyReadout, quantized: Graph, network: Graph, magnitude: float) -> nn.Module:
    return ReadoutLayer(node, quantized.shapes[node.name], _float_bias(node, network))


def _float_bias(node: Population, network: Graph) -> np.ndarray | None:
    """What the float network's synapses into a population add to it; behind a current, what its integers do."""
    if isinstance(node, CubaLIF):
        return real_bias(node)
    return total_bias([layer for name in network[node.name].inputs if isinstance(layer := network[name], WEIGHTED)])
