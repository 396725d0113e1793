"""Random networks and frames for tests of passes, exporters and runtimes; yours too.

The networks are small, differ in everything that a deployable network may differ in, branches, sums of sums, long skips, max
and folded average pools, leaky readouts, decays and biases at their limits included, and fire: about a tenth to a half of
their neurons at each step.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from tet_deploy import dynamics
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import (
    LIF,
    SOFT_RESETS,
    Add,
    Conv,
    CubaLIF,
    Flatten,
    Input,
    LeakyReadout,
    Linear,
    Node,
    Quantization,
    Readout,
    SoftResetLIF,
)
from tet_deploy.ir.shapes import conv_size, padded_macs

Rng = np.random.Generator
Draw = Callable[[tuple[int, ...], float], np.ndarray]  # (shape, largest magnitude) -> weights
LEAST_DECAY = 1 / dynamics.DECAY_ONE  # that a chip can have


def random_float_network(
    rng: Rng,
    *,
    encoding: str | None = None,
    layers: int | None = None,
    grid: int = 6,
    soft: bool = False,
    currents: bool = False,
) -> Graph:
    """A deployable float network with weights on multiples of 2^-grid, so that every partial sum is exact in float32.

    Parameters
    ----------
    encoding
        "analog", "events", or None to draw one.
    layers
        Number of spiking layers, one after the other; or None to draw a network with branches.
    soft
        Make most of its neurons such with soft reset.
    currents
        Give most of its other neurons a synaptic current.
    """
    graph = _Drawing(rng, encoding, lambda shape, bound: _dyadic(rng, shape, bound, grid), None, layers).network()
    if soft:
        graph = graph.replace({lif.name: _softened(lif, rng) for lif in graph.of_kind(LIF)})
    return graph.replace({lif.name: _with_current(lif, rng) for lif in graph.of_kind(LIF)}) if currents else graph


def random_quantized_network(
    rng: Rng,
    *,
    encoding: str | None = None,
    layers: int | None = None,
    wrap: bool = False,
    currents: bool = False,
) -> Graph:
    """A deployable quantized network.

    Parameters
    ----------
    encoding, layers
        As in `random_float_network`.
    wrap
        Draw thresholds, biases and messages so large that synaptic sums wrap and membrane potentials saturate.
    currents
        Give most of its neurons a synaptic current.
    """
    integers = "wrap" if wrap else "ordinary"
    graph = _Drawing(rng, encoding, lambda shape, bound: _int8(rng, shape), integers, layers).network()
    return graph.replace({lif.name: _with_current(lif, rng) for lif in graph.of_kind(LIF)}) if currents else graph


def random_frames(graph: Graph, rng: Rng, steps: int = 4, samples: int = 3) -> np.ndarray:
    """Frames [T, B, *shape], float32, that suit the network's input: counts, or signed multiples of 1/16."""
    shape = (steps, samples, *graph.input.shape)
    if graph.input.encoding == "events":
        return rng.poisson(0.4, shape).astype(np.float32)
    return (rng.integers(-32, 33, shape) / 16).astype(np.float32)


class _Drawing:
    """A network that grows: its nodes, and who sends spikes, sums of spikes or frames of which shape."""

    def __init__(self, rng: Rng, encoding: str | None, draw: Draw, integers: str | None, layers: int | None) -> None:
        self.rng, self.draw, self.integers, self.layers = rng, draw, integers, layers
        encoding = encoding or str(rng.choice(["analog", "events"]))
        shape = (int(rng.integers(1, 4)), int(rng.integers(5, 10)), int(rng.integers(5, 10)))
        scale = 1.0 if encoding == "events" else (60.0 if integers == "wrap" else float(rng.choice([8.0, 16.0])))
        self.nodes: list[Node] = [Input(name="input", shape=shape, encoding=encoding, quantization=self._units(scale))]
        self.senders: dict[str, tuple[int, ...]] = {"input": shape}

    @property
    def is_chain(self) -> bool:
        """Whether the network is layers one after the other, and no more."""
        return self.layers is not None

    def network(self) -> Graph:
        """A chain, or a few layers of one to four branches, with max pools and sums of what was sent before."""
        depth = self.layers or int(self.rng.choice([1, 2, 2, 3, 3, 5]))
        for index in range(depth):
            if not self._add_layer(f"layer{index}", branches=1 if self.is_chain else int(self.rng.choice([1, 1, 2, 3, 4]))):
                break
            if not self.is_chain:
                self._add_more(index)
        return self._finished()

    def _add_more(self, index: int) -> None:
        if self.rng.random() < 0.2:
            self._add_max_pool(f"pool{index}")
        for name in (f"sum{index}", f"more{index}"):
            if self.rng.random() < 0.3:
                self._add_sum(name)

    def _add_layer(self, name: str, branches: int) -> bool:
        """A population behind one or more of the senders, the latest first; False where nothing fits any more."""
        known = list(self.senders)
        source = known[-1] if branches == 1 or self.rng.random() < 0.7 else str(self.rng.choice(known))
        first = self._conv(f"{name}.conv", source)
        if first is None:
            return False
        shape, ports = _conv_shape(first, self.senders[source]), [first]
        for index in range(1, branches):
            port = self._branch(f"{name}.branch{index}", shape)
            ports += [] if port is None else [port]
        fan_in = sum(port.weight[0].size for port in ports)
        lif = _random_lif(self.rng, f"{name}.lif", shape[0], fan_in=fan_in, integers=self.integers)
        self.nodes += [*ports, dataclasses.replace(lif, inputs=tuple(port.name for port in ports))]
        self.senders[lif.name] = shape
        return True

    def _branch(self, name: str, shape: tuple[int, ...]) -> Conv | None:
        """A synapse node from any sender to that shape: an identity or a convolution, with whatever stride it takes."""
        source = str(self.rng.choice(list(self.senders)))
        if self.senders[source] == shape and self.rng.random() < 0.5:
            unit = 1 if self.integers is None else int(self.rng.integers(20, 128))
            return self._depthwise(name, source, unit, dense_macs=0)
        for _ in range(20):
            conv = self._conv(name, source, out_channels=shape[0])
            if conv is not None and _conv_shape(conv, self.senders[source]) == shape:
                return conv
        return None

    def _depthwise(self, name: str, source: str, unit: int, kernel: tuple[int, int] = (1, 1), **geometry: Any) -> Conv:
        """Each channel by itself, all weights equal: an identity, or the sums of a pool."""
        channels = self.senders[source][0]
        weight = np.full((channels, 1, *kernel), unit, np.float32 if self.integers is None else np.int8)
        units = self._units(float(unit))
        return Conv(name=name, inputs=(source,), weight=weight, groups=channels, quantization=units, **geometry)

    def _add_max_pool(self, name: str) -> None:
        """The latest spikes' windows, as tracing makes them: their sums, and neurons that any spike makes fire."""
        rng, source = self.rng, list(self.senders)[-1]
        kernel = self._pair(1, (min(3, self.senders[source][1]), min(3, self.senders[source][2])))
        stride = kernel if rng.random() < 0.5 else self._pair(1, (2, 2))
        padding = self._pair(0, (kernel[0] // 2, kernel[1] // 2))
        unit, half = (1, 0.5) if self.integers is None else (127, 64)
        total = self._depthwise(f"{name}.sum", source, unit, kernel, stride=stride, padding=padding, dense_macs=0)
        self.nodes += [total, LIF(name=name, inputs=(total.name,), threshold=half, quantization=self._units(127.0))]
        self.senders[name] = _conv_shape(total, self.senders[source])

    def _add_sum(self, name: str) -> None:
        """A sum of the latest spikes and of others, or sums, of the same shape, where there are any."""
        last = list(self.senders)[-1]
        alike = [sender for sender, shape in self.senders.items() if shape == self.senders[last] and sender != "input"]
        if len(alike) == 1:
            self._add_layer_like(f"{name}.twin", last)
            alike.append(f"{name}.twin.lif")
        count = int(self.rng.integers(2, min(4, len(alike)) + 1))
        others = [str(other) for other in self.rng.choice(alike[:-1], count - 1, replace=False)]
        self.nodes.append(Add(name=name, inputs=(*others, alike[-1])))
        self.senders[name] = self.senders[last]

    def _add_layer_like(self, name: str, source: str) -> None:
        """A population of the same shape behind one sender."""
        shape = self.senders[source]
        conv = self._conv_that_keeps_the_shape(f"{name}.conv", source)
        lif = _random_lif(self.rng, f"{name}.lif", shape[0], fan_in=conv.weight[0].size, integers=self.integers)
        self.nodes += [conv, dataclasses.replace(lif, inputs=(conv.name,))]
        self.senders[lif.name] = shape

    def _finished(self) -> Graph:
        """The network, with a readout of everything that nobody takes yet."""
        used = {name for node in self.nodes for name in node.inputs}
        classes, ends = int(self.rng.integers(2, 11)), [name for name in self.senders if name not in used]
        ports: list[str] = []
        for index, end in enumerate(ends):
            mark = f"_{index + 1}" if index else ""
            self.nodes.append(Flatten(name=f"flatten{mark}", inputs=(end,)))
            weight = self.draw((classes, int(np.prod(self.senders[end]))), 1.0)
            bias = self.draw((classes,), 1.0) if self.integers is None else None
            fc = Linear(
                name=f"fc{mark}", inputs=(f"flatten{mark}",), weight=weight, bias=bias, quantization=self._units(16.0)
            )
            self.nodes.append(fc)
            ports.append(fc.name)
        bias = None if self.integers is None else self.rng.integers(-4000, 4000, classes).astype(np.int32)
        fields: dict[str, Any] = {"inputs": tuple(ports), "bias": bias, "quantization": self._units(16.0)}
        decay = {4: 0.75, 7: 1.0, 10: LEAST_DECAY}.get(classes)
        readout = Readout if decay is None else partial(LeakyReadout, decay=decay)
        return Graph((*self.nodes, readout(name="readout", **fields)))

    def _units(self, scale: float) -> Quantization | None:
        return None if self.integers is None else Quantization(scale=scale)

    def _conv(self, name: str, source: str, out_channels: int | None = None) -> Conv | None:
        """A convolution, grouped, strided, dilated and padded at random; None where its output would be empty.

        Outside chains, some have an average pool folded into them and some keep the shape, so that skips fit.
        """
        rng, (channels, height, width) = self.rng, self.senders[source]
        if not self.is_chain and out_channels in (None, channels) and rng.random() < 0.3:
            return self._conv_that_keeps_the_shape(name, source)
        pool = self._pair(1, (min(3, height), min(3, width))) if not self.is_chain and rng.random() < 0.2 else (1, 1)
        kernel = self._pair(1, (min(3, height // pool[0]), min(3, width // pool[1])))
        padding = self._pair(0, (kernel[0] - 1, kernel[1] - 1))
        groups = int(rng.choice([g for g in range(1, channels + 1) if channels % g == 0 and not (out_channels or 0) % g]))
        out_channels = out_channels or groups * int(rng.integers(1, 4))
        weight = self.draw((out_channels, channels // groups, *kernel), 0.7 / math.sqrt(math.prod(pool)))
        stride = self._pair(1, (2, 2))
        conv = Conv(
            name=name,
            inputs=(source,),
            weight=weight.repeat(pool[0], axis=2).repeat(pool[1], axis=3),
            bias=self.draw((out_channels,), 0.3) if self.integers is None else None,
            stride=(stride[0] * pool[0], stride[1] * pool[1]),
            padding=(0 if height % pool[0] else padding[0] * pool[0], 0 if width % pool[1] else padding[1] * pool[1]),
            dilation=self._pair(1, (2, 2)) if pool == (1, 1) else (1, 1),
            groups=groups,
            quantization=self._units(100.0),
        )
        shape = _conv_shape(conv, self.senders[source])
        if min(shape) < 1:
            return None
        dense = None if pool == (1, 1) else padded_macs(conv, shape) // math.prod(pool)
        return dataclasses.replace(conv, dense_macs=dense)

    def _pair(self, least: int, greatest: tuple[int, int]) -> tuple[int, int]:
        return int(self.rng.integers(least, greatest[0] + 1)), int(self.rng.integers(least, greatest[1] + 1))

    def _conv_that_keeps_the_shape(self, name: str, source: str) -> Conv:
        channels = self.senders[source][0]
        weight = self.draw((channels, channels, 3, 3), 0.7)
        return Conv(name=name, inputs=(source,), weight=weight, padding=(1, 1), quantization=self._units(100.0))


def _conv_shape(conv: Conv, shape: tuple[int, ...]) -> tuple[int, ...]:
    sizes = (
        conv_size(shape[i + 1], conv.weight.shape[2 + i], conv.stride[i], conv.padding[i], conv.dilation[i]) for i in (0, 1)
    )
    return (conv.weight.shape[0], *sizes)


def _random_lif(rng: Rng, name: str, channels: int, fan_in: int, integers: str | None) -> LIF:
    """Decay, threshold and bias at random, or at the limits of the chip."""
    if integers is None:
        decay = float(rng.choice([0.5, 0.5, 1.0, 0.75, 1 / 64]))  # few bits, so that a few steps are exact too
        kind = int(rng.integers(8))
        threshold = _by_channel((0.5, 1.0)[kind >> 2], channels, 1 + (kind >> 1 & 1))
        return LIF(
            name=name,
            decay=_decays(decay, channels, several=kind == 5),
            threshold=threshold,
            comparison=(">", ">=")[kind & 1],
        )
    decay = float(rng.choice([0.5, 0.5, 1.0, 0.75, LEAST_DECAY, 1 - LEAST_DECAY]))
    largest, threshold = dynamics.LARGEST_BIAS_MANTISSA, int(rng.integers(20, 60 + 8 * fan_in))
    mantissas, exponent = rng.integers(-500, 1500, channels), int(rng.integers(0, 3))
    if integers == "wrap":
        mantissas, exponent, threshold = rng.integers(-largest, largest + 1, channels), 7, int(2 ** rng.uniform(0, 17))
    elif rng.random() < 0.15:
        mantissas, exponent = rng.choice([-largest, -1, 0, 1, largest], channels), int(rng.choice([0, 7]))
    thresholds = _by_channel(threshold, channels, 1 + threshold % 3)
    scale = tuple(map(float, thresholds)) if isinstance(thresholds, np.ndarray) else float(threshold)
    return LIF(
        name=name,
        decay=_decays(decay, channels, several=int(threshold) % 4 == 1),
        threshold=thresholds,
        bias=mantissas.astype(np.int16),
        quantization=Quantization(scale=scale, bits=17, bias_exponent=exponent),
    )


def _decays(decay: float, channels: int, several: bool) -> float | np.ndarray:
    """That of all channels, or of every other one; the rest have 1/4."""
    if not several or channels == 1 or decay == 1:
        return decay
    return np.where(np.arange(channels) % 2, 0.25, decay)


def _softened(lif: LIF, rng: Rng) -> LIF | SoftResetLIF:
    """The same neuron with one of the soft resets, or as it is."""
    fields = {field.name: getattr(lif, field.name) for field in dataclasses.fields(lif)}
    reset = str(rng.choice(["zero", *SOFT_RESETS]))
    fields["decay"] = float(np.max(lif.decay))
    return lif if reset == "zero" else SoftResetLIF(**fields | {"reset": reset})


def _with_current(lif: LIF, rng: Rng) -> LIF | CubaLIF:
    """The same neuron with a synaptic current, of few bits where it is of floats, or as it is."""
    fields = {field.name: getattr(lif, field.name) for field in dataclasses.fields(lif) if field.name != "reset"}
    fields["decay"] = float(np.max(lif.decay))
    decay = float(rng.choice([0.0, 0.25, 0.5, 0.5, 1.0] if lif.quantization is None else [0.0, 0.5, 0.5, 0.75, 0.9]))
    return lif if rng.random() < 0.2 else CubaLIF(**fields, current_decay=decay)


def _by_channel(threshold: float, channels: int, classes: int) -> float | np.ndarray:
    """The threshold in so many classes of channels, each half of the one before."""
    if min(classes, channels) == 1:
        return threshold
    halved = threshold / 2.0 ** (np.arange(channels) % classes)
    return np.ceil(halved).astype(np.int32) if isinstance(threshold, int) else halved.astype(np.float32)


def _dyadic(rng: Rng, shape: tuple[int, ...], bound: float, grid: int) -> np.ndarray:
    limit = int(bound * 2**grid)
    return np.asarray(rng.integers(-limit, limit + 1, shape) / 2**grid, dtype=np.float32)


def _int8(rng: Rng, shape: tuple[int, ...]) -> np.ndarray:
    return rng.integers(-127, 128, shape).astype(np.int8)
