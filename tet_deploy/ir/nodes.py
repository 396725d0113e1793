"""The kinds of node that a network is made of.

A node is a frozen value: its parameters, its name and the names of the nodes that feed it (the edges live on the
consumer). Time is not a node: a graph runs for any number of steps. The shapes below are those of one sample in one step;
arrays that cross functions are time-major, `[T, B, C, H, W]`.

A quantized network uses the same kinds: its arrays then hold integers, and `quantization` says what they stand for.
Following Loihi, the bias of a quantized network belongs to the population (LIF or Readout), not to the synapses.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tet_deploy.errors import GraphError

Pair = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """What the integers of a node stand for.

    Input      message   = clip(round(x * scale), -limit, limit)     limit = 2^(bits-1) - 1
    Conv/Linear mantissa = clip(round(W * scale), -limit, limit)
    LIF        threshold = round(Vth * scale) ; bias << bias_exponent = round(b * scale * 64)
    Readout    (a << 6) + (bias << bias_exponent) = 64 * scale * O(t)

    Attributes
    ----------
    scale
        Integer units per unit of the float network.
    bits
        Width of the signed integers of this node's own array (messages, weights, threshold).
    bias_exponent
        Left shift of the bias mantissa, 0..7.
    """

    scale: float
    bits: int = 8
    bias_exponent: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Node:
    """Common to all kinds: a unique name, and the names of the nodes that feed it."""

    name: str
    inputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                frozen = np.ascontiguousarray(value).view()
                frozen.flags.writeable = False
                object.__setattr__(self, field.name, frozen)
            elif isinstance(value, list):
                object.__setattr__(self, field.name, tuple(value))

    @property
    def kind(self) -> str:
        """Name of the node's kind as it is written to files."""
        return type(self).__name__


@dataclass(frozen=True, kw_only=True, eq=False)
class Input(Node):
    """Frames of the given shape, one each step.

    `encoding` is "analog" (images: any real value) or "events" (event counts: whole numbers, mostly zero).
    """

    shape: tuple[int, ...]
    encoding: str = "analog"
    quantization: Quantization | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Conv(Node):
    """y[o] = bias[o] + sum_i weight[o, i] * x[i]  (cross-correlation as in torch, zero padding).

    weight [O, I/groups, kh, kw] ; bias [O] or None ; x [I, H, W] ; y [O, H', W'].
    """

    weight: np.ndarray
    bias: np.ndarray | None = None
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    quantization: Quantization | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Linear(Node):
    """y = weight @ x + bias.  weight [K, N] ; bias [K] or None ; x [N] ; y [K]."""

    weight: np.ndarray
    bias: np.ndarray | None = None
    quantization: Quantization | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class BatchNorm(Node):
    """y = gamma * (x - mean) / sqrt(variance + epsilon) + beta, per channel, with the running statistics."""

    mean: np.ndarray
    variance: np.ndarray
    gamma: np.ndarray
    beta: np.ndarray
    epsilon: float


@dataclass(frozen=True, kw_only=True, eq=False)
class AvgPool(Node):
    """y = mean of x over windows of `kernel`, moved by `stride`; no padding, incomplete windows dropped."""

    kernel: Pair
    stride: Pair


@dataclass(frozen=True, kw_only=True, eq=False)
class Flatten(Node):
    """[C, H, W] -> [C*H*W], channels slowest, as in torch."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Add(Node):
    """y = the sum of its inputs, all of one shape."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Delay(Node):
    """y(t) = x(t - steps), zero before."""

    steps: int


@dataclass(frozen=True, kw_only=True, eq=False)
class LIF(Node):
    """u = decay * v + I ; spike = u > threshold ; v = 0 where it spikes, u elsewhere.  v(0) = 0.

    An integrate-and-fire neuron has decay 1. `bias` [C] is used by quantized networks only; the float network keeps it
    on the layer that feeds the population.
    """

    decay: float = 0.5
    threshold: float = 1.0
    reset: str = "zero"
    bias: np.ndarray | None = None
    quantization: Quantization | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Readout(Node):
    """The network's output: the presynaptic input of the last layer at each step; the decision is its mean over time.

    `bias` [K] is used by quantized networks only.
    """

    bias: np.ndarray | None = None
    quantization: Quantization | None = None


WEIGHTED = (Conv, Linear)
KINDS: dict[str, type[Node]] = {
    kind.__name__: kind for kind in (Input, Conv, Linear, BatchNorm, AvgPool, Flatten, Add, Delay, LIF, Readout)
}


def to_record(node: Node) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Split a node into plain JSON values and its arrays."""
    plain: dict[str, Any] = {"kind": node.kind}
    arrays: dict[str, np.ndarray] = {}
    for field in dataclasses.fields(node):
        value = getattr(node, field.name)
        if isinstance(value, np.ndarray):
            arrays[field.name] = value
        elif isinstance(value, Quantization):
            plain[field.name] = dataclasses.asdict(value)
        elif value is not None:
            plain[field.name] = list(value) if isinstance(value, tuple) else value
    return plain, arrays


def from_record(plain: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Node:
    """Build a node from what `to_record` returned.

    Raises
    ------
    GraphError
        An unknown kind or field, or a value of the wrong type.
    """
    name, kind = plain.get("name"), plain.get("kind")
    cls = KINDS.get(kind) if isinstance(kind, str) else None
    if cls is None or not isinstance(name, str):
        raise GraphError(f"node {name!r}: kind must be one of {', '.join(KINDS)}; got {kind!r}.")
    known = {field.name: str(field.type) for field in dataclasses.fields(cls)}
    values: dict[str, Any] = {}
    for key, value in [*plain.items(), *arrays.items()]:
        if key == "kind":
            continue
        if key not in known:
            raise GraphError(f"node {name!r}: a {kind} has no field {key!r}. Was the file written by a newer version?")
        values[key] = _typed(name, key, known[key], value)
    try:
        return cls(**values)
    except TypeError as error:
        raise GraphError(f"node {name!r}: the file lacks a field of a {kind}: {error}.") from error


def _typed(name: str, key: str, annotation: str, value: Any) -> Any:
    """Check one field against its annotation; JSON lists become tuples."""
    if annotation.startswith("np.ndarray"):
        good = isinstance(value, np.ndarray)
    elif annotation.startswith("Quantization"):
        return _quantization(name, value)
    elif annotation == "tuple[str, ...]":
        value, good = _tuple_of(value, str)
    elif annotation in ("Pair", "tuple[int, ...]"):
        value, good = _tuple_of(value, int)
        good = good and (annotation != "Pair" or len(value) == 2)
    elif annotation == "float":
        good = isinstance(value, (int, float)) and not isinstance(value, bool)
    else:
        good = type(value).__name__ == annotation
    if not good:
        raise GraphError(f"node {name!r}: field {key!r} must be of type {annotation}; got {type(value).__name__}.")
    return value


def _tuple_of(value: Any, item: type) -> tuple[Any, bool]:
    if not isinstance(value, (list, tuple)):
        return value, False
    return tuple(value), all(type(entry) is item for entry in value)


def _quantization(name: str, value: Any) -> Quantization:
    fields = {"scale": (int, float), "bits": (int,), "bias_exponent": (int,)}
    if (
        not isinstance(value, dict)
        or set(value) != set(fields)
        or not all(type(value[key]) in kinds for key, kinds in fields.items())
    ):
        raise GraphError(f"node {name!r}: quantization must hold {', '.join(fields)} as numbers; got {value!r:.80}.")
    return Quantization(**value)
