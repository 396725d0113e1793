"""What flows on each edge of a graph: its kind, its bounds for any input, its scale and its grid.

Passes, exporters, counting and certificates ask here; none of them works such a fact out for itself. Bounds hold for every
element of the edge at every step, whatever the frames are within their declared range, and for every partial sum on the way
to it: a sum's terms lie on both sides of zero, so that whatever part of them has been added so far lies between the sum of
all negative ones and that of all positive ones.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import singledispatch
from types import MappingProxyType

import numpy as np

from tet_deploy import dynamics
from tet_deploy.errors import GraphError
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import Add, AvgPool, BatchNorm, Conv, Flatten, Input, LeakyReadout, Linear, Node, Readout, Spiking

ANALOG, EVENTS, SPIKE, GRADED, POOLED, SUM = "analog", "events", "spike", "graded", "pooled", "sum"
KINDS = {
    ANALOG: "frames of real numbers",
    EVENTS: "frames that count events",
    SPIKE: "0 or 1, from a population",
    GRADED: "a sum of spikes, a whole number from 0 to the number of its sources",
    POOLED: "an average over spikes",
    SUM: "a weighted sum: what synapses send to a population",
}
FINEST = 120  # fraction bits; float32 holds 2^-126 without denormals


@dataclass(frozen=True, kw_only=True)
class Value:
    """What flows on one edge.

    Attributes
    ----------
    kind
        One of `KINDS`.
    least, greatest
        Bounds of every element and of every partial sum; least <= 0 <= greatest. Infinite where nothing is known.
    fraction_bits
        Every element is a multiple of 2^-fraction_bits; None where no such grid is known.
    scale
        Integer units per unit of the float network, or those of each channel; 1 for spikes and in float networks.
    """

    kind: str
    least: float
    greatest: float
    fraction_bits: int | None
    scale: float | tuple[float, ...] = 1.0

    @property
    def magnitude(self) -> float:
        """The largest absolute value."""
        return max(-self.least, self.greatest)

    @property
    def is_binary(self) -> bool:
        """Whether only 0 and 1 can flow."""
        return self.kind == SPIKE


SPIKES = Value(kind=SPIKE, least=0.0, greatest=1.0, fraction_bits=0)


def values(graph: Graph, frames: Value | None = None) -> Mapping[str, Value]:
    """What each node sends, by its name.

    Parameters
    ----------
    graph
        Any network: traced or deployable, float or quantized.
    frames
        What the network's input sends, where more is known than its encoding says (see `value_of_frames`); quantized
        networks clip their frames and need none.

    Raises
    ------
    GraphError
        A kind of node that has no rule here.
    """
    found: dict[str, Value] = {}
    for node in graph:
        if isinstance(node, Input) and node.quantization is None and frames is not None:
            found[node.name] = frames
        else:
            found[node.name] = sent_by(node, *(found[source] for source in node.inputs))
    return MappingProxyType(found)


def sent_by(node: Node, *sources: Value) -> Value:
    """What one node sends, fed by these."""
    return _value(node, *sources)


def value_of_frames(frames: np.ndarray, encoding: str) -> Value:
    """What frames like these send: bounds and the coarsest grid that they lie on."""
    return Value(
        kind=EVENTS if encoding == "events" else ANALOG,
        least=min(0.0, float(frames.min())),
        greatest=max(0.0, float(frames.max())),
        fraction_bits=fraction_bits(frames),
    )


def joined(parts: Iterable[Value]) -> Value:
    """What an edge carries that carries each of these at some time."""
    parts = list(parts)
    grids = [part.fraction_bits for part in parts]
    return dataclasses.replace(
        parts[0],
        least=min(part.least for part in parts),
        greatest=max(part.greatest for part in parts),
        fraction_bits=None if None in grids else max(bits for bits in grids if bits is not None),
    )


def total(ports: Sequence[Value]) -> Value:
    """The sum of what several edges carry: a population's presynaptic input, or an addition."""
    grids = [port.fraction_bits for port in ports]
    return Value(
        kind=GRADED if all(port.kind in (SPIKE, GRADED) for port in ports) else SUM,
        least=sum(port.least for port in ports),
        greatest=sum(port.greatest for port in ports),
        fraction_bits=None if None in grids else max(bits for bits in grids if bits is not None),
        scale=ports[0].scale,
    )


def fraction_bits(array: np.ndarray, most: int = FINEST) -> int | None:
    """Smallest k >= 0 such that all values are multiples of 2^-k; None if it exceeds `most`."""
    wide = np.asarray(array, np.float64)
    mantissa, exponent = np.frexp(wide[wide != 0])  # |mantissa| in [1/2, 1)
    if not mantissa.size:
        return 0
    odd = np.abs(np.ldexp(mantissa, 53)).astype(np.int64)
    lowest = np.frexp((odd & -odd).astype(np.float64))[1] - 1  # position of the last bit that is set
    bits = max(0, int((53 - lowest - exponent).max()))
    return bits if bits <= most else None


@singledispatch
def _value(node: Node, *sources: Value) -> Value:
    raise GraphError(f"node {node.name!r}: nothing is known of what a {node.kind} sends.")


@_value.register
def _(node: Input) -> Value:
    events = node.sends_counts
    kind = EVENTS if events else ANALOG
    if node.quantization is None:
        return Value(kind=kind, least=0.0 if events else -math.inf, greatest=math.inf, fraction_bits=0 if events else None)
    limit = float(dynamics.largest_message(node.quantization))
    return Value(kind=kind, least=0.0 if events else -limit, greatest=limit, fraction_bits=0, scale=node.quantization.scale)


@_value.register(Conv)
@_value.register(Linear)
def _(node: Conv | Linear, x: Value) -> Value:
    least, greatest = weighted_bounds(node.weight, x)
    if node.quantization is not None:
        if not -dynamics.STATE_LIMIT <= least.min() <= greatest.max() < dynamics.STATE_LIMIT:  # it may wrap
            least, greatest = np.array([-dynamics.STATE_LIMIT]), np.array([dynamics.STATE_LIMIT - 1])
        return _sum_value(least, greatest, 0, _times(node.quantization.scale, x.scale))
    grids = [fraction_bits(node.weight), x.fraction_bits]
    finest = None if None in grids else sum(bits for bits in grids if bits is not None)
    if node.bias is not None:
        wide, bits = node.bias.astype(np.float64), fraction_bits(node.bias)
        least, greatest = least + np.minimum(wide, 0), greatest + np.maximum(wide, 0)
        finest = None if finest is None or bits is None else max(finest, bits)
    return _sum_value(least, greatest, finest, 1.0)


def weighted_bounds(weight: np.ndarray, x: Value) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of the weighted sums of each output channel and of all their partial sums, float64 [O] each.

    greatest = x.greatest * sum of the positive weights - x.least * sum of the magnitudes of the negative ones
    """
    rows = weight.reshape(len(weight), -1).astype(np.float64)
    positive, negative = np.maximum(rows, 0).sum(axis=1), np.maximum(-rows, 0).sum(axis=1)
    greatest = _product(positive, x.greatest) + _product(negative, -x.least)
    return -(_product(negative, x.greatest) + _product(positive, -x.least)), greatest


def _product(sums: np.ndarray, bound: float) -> np.ndarray:
    return np.where(sums == 0, 0.0, bound) if math.isinf(bound) else sums * bound  # weights of 0 pass nothing on


def _times(scale: float | tuple[float, ...], factor: float | tuple[float, ...]) -> float | tuple[float, ...]:
    product = np.asarray(scale) * np.asarray(factor)
    return float(product) if product.ndim == 0 else tuple(product.tolist())


def _sum_value(least: np.ndarray, greatest: np.ndarray, bits: int | None, scale: float | tuple[float, ...]) -> Value:
    return Value(kind=SUM, least=float(least.min()), greatest=float(greatest.max()), fraction_bits=bits, scale=scale)


@_value.register
def _(node: BatchNorm, x: Value) -> Value:
    gain = node.gamma.astype(np.float64) / np.sqrt(node.variance.astype(np.float64) + node.epsilon)
    shift = node.beta.astype(np.float64) - node.mean.astype(np.float64) * gain
    least, greatest = weighted_bounds(gain[:, None], x)
    return _sum_value(least + np.minimum(shift, 0), greatest + np.maximum(shift, 0), None, x.scale)


@_value.register
def _(node: AvgPool, x: Value) -> Value:
    window = math.prod(node.kernel)
    divides = x.fraction_bits is not None and window & (window - 1) == 0
    bits = x.fraction_bits + window.bit_length() - 1 if divides and x.fraction_bits is not None else None
    return dataclasses.replace(x, kind=POOLED if x.kind in (SPIKE, GRADED) else x.kind, fraction_bits=bits)


@_value.register
def _(node: Flatten, x: Value) -> Value:
    return x


@_value.register
def _(node: Add, *sources: Value) -> Value:
    return total(sources)


@_value.register
def _(node: Spiking, *ports: Value) -> Value:
    return SPIKES


@_value.register
def _(node: Readout, *ports: Value) -> Value:
    if node.quantization is None:
        return total(ports)
    summed, unit = total(ports), 2.0**dynamics.FRACTION_BITS
    bias = np.zeros(1) if node.bias is None else node.bias.astype(np.float64)
    least, greatest = summed.least * unit + min(0.0, bias.min()), summed.greatest * unit + max(0.0, bias.max())
    return dataclasses.replace(
        summed, kind=SUM, least=float(least), greatest=float(greatest), scale=_times(summed.scale, unit)
    )


@_value.register
def _(node: LeakyReadout, *ports: Value) -> Value:
    """Nothing bounds what adds up over steps of any number."""
    scale = 1.0 if node.quantization is None else _times(node.quantization.scale, 2.0**dynamics.FRACTION_BITS)
    whole = None if node.quantization is None else 0
    return Value(kind=SUM, least=-math.inf, greatest=math.inf, fraction_bits=whole, scale=scale)
