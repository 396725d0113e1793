"""Random networks and frames for tests of passes, exporters and runtimes; yours too.

The networks are small, differ in everything that a deployable network may differ in, branches, sums of spikes and long skips
included, and fire: about a tenth to a half of their neurons at each step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import LIF, Add, Conv, Flatten, Input, Linear, Node, Quantization, Readout
from tet_deploy.ir.shapes import conv_size

Rng = np.random.Generator
Draw = Callable[[tuple[int, ...], float], np.ndarray]  # (shape, largest magnitude) -> weights


def random_float_network(rng: Rng, *, encoding: str | None = None, layers: int | None = None, grid: int = 6) -> Graph:
    """A deployable float network with weights on multiples of 2^-grid, so that every partial sum is exact in float32.

    Parameters
    ----------
    encoding
        "analog", "events", or None to draw one.
    layers
        Number of spiking layers, one after the other; or None to draw a network with branches.
    """
    return _Drawing(rng, encoding, lambda shape, bound: _dyadic(rng, shape, bound, grid), None).network(layers)


def random_quantized_network(
    rng: Rng, *, encoding: str | None = None, layers: int | None = None, wrap: bool = False
) -> Graph:
    """A deployable quantized network.

    Parameters
    ----------
    encoding, layers
        As in `random_float_network`.
    wrap
        Draw thresholds, biases and messages so large that synaptic sums wrap and membrane potentials saturate.
    """
    return _Drawing(rng, encoding, lambda shape, bound: _int8(rng, shape), "wrap" if wrap else "ordinary").network(layers)


def random_frames(graph: Graph, rng: Rng, steps: int = 4, samples: int = 3) -> np.ndarray:
    """Frames [T, B, *shape], float32, that suit the network's input: counts, or signed multiples of 1/16."""
    shape = (steps, samples, *graph.input.shape)
    if graph.input.encoding == "events":
        return rng.poisson(0.4, shape).astype(np.float32)
    return (rng.integers(-32, 33, shape) / 16).astype(np.float32)


class _Drawing:
    """A network that grows: its nodes, and who sends spikes, sums of spikes or frames of which shape."""

    def __init__(self, rng: Rng, encoding: str | None, draw: Draw, integers: str | None) -> None:
        self.rng, self.draw, self.integers = rng, draw, integers
        encoding = encoding or str(rng.choice(["analog", "events"]))
        shape = (int(rng.integers(1, 4)), int(rng.integers(5, 10)), int(rng.integers(5, 10)))
        scale = 1.0 if encoding == "events" else (60.0 if integers == "wrap" else float(rng.choice([8.0, 16.0])))
        self.nodes: list[Node] = [Input(name="input", shape=shape, encoding=encoding, quantization=self._units(scale))]
        self.senders: dict[str, tuple[int, ...]] = {"input": shape}

    def network(self, layers: int | None) -> Graph:
        """Layers in a chain; where their number is None, populations with one to four branches and sums of spikes too."""
        for index in range(layers or int(self.rng.integers(1, 4))):
            if not self._add_layer(f"layer{index}", branches=1 if layers else int(self.rng.choice([1, 1, 2, 3, 4]))):
                break
            if layers is None and self.rng.random() < 0.4:
                self._add_sum(f"sum{index}")
        return self._finished()

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
            ones = np.ones((shape[0], 1, 1, 1), np.float32 if self.integers is None else np.int8)
            weight = ones if self.integers is None else ones * np.int8(self.rng.integers(20, 128))
            return Conv(name=name, inputs=(source,), weight=weight, groups=shape[0], quantization=self._units(100.0))
        for _ in range(20):
            conv = self._conv(name, source, out_channels=shape[0])
            if conv is not None and _conv_shape(conv, self.senders[source]) == shape:
                return conv
        return None

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
        conv = Conv(
            name=f"{name}.conv",
            inputs=(source,),
            weight=self.draw((shape[0], shape[0], 3, 3), 0.7),
            padding=(1, 1),
            quantization=self._units(100.0),
        )
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
        readout = Readout(name="readout", inputs=tuple(ports), bias=bias, quantization=self._units(16.0))
        return Graph((*self.nodes, readout))

    def _units(self, scale: float) -> Quantization | None:
        return None if self.integers is None else Quantization(scale=scale)

    def _conv(self, name: str, source: str, out_channels: int | None = None) -> Conv | None:
        """A convolution, grouped, strided, dilated and padded at random; None where its output would be empty."""
        rng, (channels, height, width) = self.rng, self.senders[source]
        kernel = (int(rng.integers(1, min(4, height + 1))), int(rng.integers(1, min(4, width + 1))))
        groups = int(rng.choice([g for g in range(1, channels + 1) if channels % g == 0 and not (out_channels or 0) % g]))
        out_channels = out_channels or groups * int(rng.integers(1, 4))
        conv = Conv(
            name=name,
            inputs=(source,),
            weight=self.draw((out_channels, channels // groups, *kernel), 0.7),
            bias=self.draw((out_channels,), 0.3) if self.integers is None else None,
            stride=(int(rng.integers(1, 3)), int(rng.integers(1, 3))),
            padding=(int(rng.integers(0, kernel[0])), int(rng.integers(0, kernel[1]))),
            dilation=(int(rng.integers(1, 3)), int(rng.integers(1, 3))),
            groups=groups,
            quantization=self._units(100.0),
        )
        return conv if min(_conv_shape(conv, self.senders[source])) > 0 else None


def _conv_shape(conv: Conv, shape: tuple[int, ...]) -> tuple[int, ...]:
    sizes = (
        conv_size(shape[i + 1], conv.weight.shape[2 + i], conv.stride[i], conv.padding[i], conv.dilation[i]) for i in (0, 1)
    )
    return (conv.weight.shape[0], *sizes)


def _random_lif(rng: Rng, name: str, channels: int, fan_in: int, integers: str | None) -> LIF:
    decay = float(rng.choice([0.5, 0.5, 1.0, 0.75]))
    if integers is None:
        return LIF(name=name, decay=decay, threshold=float(rng.choice([0.5, 1.0])))
    if integers == "wrap":
        mantissas, exponent, threshold = rng.integers(-4095, 4096, channels), 7, int(2 ** rng.uniform(0, 17))
    else:
        mantissas, exponent = rng.integers(-500, 1500, channels), int(rng.integers(0, 3))
        threshold = int(rng.integers(20, 60 + 8 * fan_in))
    return LIF(
        name=name,
        decay=decay,
        threshold=threshold,
        bias=mantissas.astype(np.int16),
        quantization=Quantization(scale=float(threshold), bits=17, bias_exponent=exponent),
    )


def _dyadic(rng: Rng, shape: tuple[int, ...], bound: float, grid: int) -> np.ndarray:
    limit = int(bound * 2**grid)
    return np.asarray(rng.integers(-limit, limit + 1, shape) / 2**grid, dtype=np.float32)


def _int8(rng: Rng, shape: tuple[int, ...]) -> np.ndarray:
    return rng.integers(-127, 128, shape).astype(np.int8)
