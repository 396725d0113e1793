"""Random networks and frames for tests of passes, exporters and runtimes; yours too.

The networks are small, differ in everything that a deployable network may differ in, and fire: about a tenth to a half of
their neurons at each step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from tet_deploy.ir.graph import Graph, chain
from tet_deploy.ir.nodes import LIF, Conv, Flatten, Input, Linear, Node, Quantization, Readout
from tet_deploy.ir.shapes import conv_size

Rng = np.random.Generator
Draw = Callable[[tuple[int, ...], float], np.ndarray]  # (shape, largest magnitude) -> weights


def random_float_network(rng: Rng, *, encoding: str | None = None, layers: int | None = None, grid: int = 6) -> Graph:
    """A deployable float network with weights on multiples of 2^-grid, so that every partial sum is exact in float32."""
    return _network(rng, encoding, layers, lambda shape, bound: _dyadic(rng, shape, bound, grid), None)


def random_quantized_network(
    rng: Rng, *, encoding: str | None = None, layers: int | None = None, wrap: bool = False
) -> Graph:
    """A deployable quantized network.

    Parameters
    ----------
    encoding
        "analog", "events", or None to draw one.
    layers
        Number of spiking layers, or None to draw 1 to 3.
    wrap
        Draw thresholds, biases and messages so large that synaptic sums wrap and membrane potentials saturate.
    """
    return _network(rng, encoding, layers, lambda shape, bound: _int8(rng, shape), "wrap" if wrap else "ordinary")


def random_frames(graph: Graph, rng: Rng, steps: int = 4, samples: int = 3) -> np.ndarray:
    """Frames [T, B, *shape], float32, that suit the network's input: counts, or signed multiples of 1/16."""
    shape = (steps, samples, *graph.input.shape)
    if graph.input.encoding == "events":
        return rng.poisson(0.4, shape).astype(np.float32)
    return (rng.integers(-32, 33, shape) / 16).astype(np.float32)


def _network(rng: Rng, encoding: str | None, layers: int | None, draw: Draw, integers: str | None) -> Graph:
    encoding = encoding or str(rng.choice(["analog", "events"]))
    shape: tuple[int, ...] = (int(rng.integers(1, 4)), int(rng.integers(5, 10)), int(rng.integers(5, 10)))
    scale = 1.0 if encoding == "events" else (60.0 if integers == "wrap" else float(rng.choice([8.0, 16.0])))
    nodes: list[Node] = [Input(name="input", shape=shape, encoding=encoding, quantization=_units(integers, scale))]
    for index in range(layers or int(rng.integers(1, 4))):
        conv = _random_conv(rng, f"layer{index}.conv", shape, draw, biased=integers is None)
        if conv is None:
            break
        shape = _conv_shape(conv, shape)
        lif = _random_lif(rng, f"layer{index}.lif", shape[0], fan_in=conv.weight[0].size, integers=integers)
        nodes += [dataclasses.replace(conv, quantization=_units(integers, 100.0)), lif]
    size, classes = int(np.prod(shape)), int(rng.integers(2, 11))
    weight = draw((classes, size), 1.0)
    linear_bias = draw((classes,), 1.0) if integers is None else None
    bias = None if integers is None else rng.integers(-4000, 4000, classes).astype(np.int32)
    nodes += [
        Flatten(name="flatten"),
        Linear(name="fc", weight=weight, bias=linear_bias, quantization=_units(integers, 16.0)),
        Readout(name="readout", bias=bias, quantization=_units(integers, 16.0)),
    ]
    return chain(nodes)


def _units(integers: str | None, scale: float) -> Quantization | None:
    return None if integers is None else Quantization(scale=scale)


def _random_conv(rng: Rng, name: str, shape: tuple[int, ...], draw: Draw, biased: bool) -> Conv | None:
    channels, height, width = shape
    kernel = (int(rng.integers(1, min(4, height + 1))), int(rng.integers(1, min(4, width + 1))))
    groups = int(rng.choice([g for g in range(1, channels + 1) if channels % g == 0]))
    out_channels = groups * int(rng.integers(1, 4))
    conv = Conv(
        name=name,
        weight=draw((out_channels, channels // groups, *kernel), 0.7),
        bias=draw((out_channels,), 0.3) if biased else None,
        stride=(int(rng.integers(1, 3)), int(rng.integers(1, 3))),
        padding=(int(rng.integers(0, kernel[0])), int(rng.integers(0, kernel[1]))),
        dilation=(int(rng.integers(1, 3)), int(rng.integers(1, 3))),
        groups=groups,
    )
    return conv if min(_conv_shape(conv, shape)) > 0 else None


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
