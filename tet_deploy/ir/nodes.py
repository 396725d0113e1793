"""The kinds of node that a network is made of.

A node is a frozen value: its parameters, its name and the names of the nodes that feed it (the edges live on the
consumer). Time is not a node: a graph runs for any number of steps. The shapes below are those of one sample in one step;
arrays that cross functions are time-major, `[T, B, C, H, W]`.

A quantized network uses the same kinds: its arrays then hold integers, and `quantization` says what they stand for.
Following Loihi, the bias of a quantized network belongs to the population (neurons or readout), not to the synapses.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tet_deploy.errors import GraphError, shown
from tet_deploy.ir.fields import read_field
from tet_deploy.reprs import short_repr

Pair = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """What the integers of a node stand for.

    Input      message   = clip(round(y * scale), -limit, limit)     limit = 2^(bits-1) - 1
    Conv/Linear mantissa = clip(round(W * scale), -limit, limit)
    LIF        threshold = round(Vth * scale) ; bias << bias_exponent = round(b * scale * 64)
    Readout    (a << 6) + (bias << bias_exponent) = 64 * scale * O(t)

    Attributes
    ----------
    scale
        Integer units per unit of the float network; of neurons and their synapses there may be one for each channel, as a
        hard reset does not care what a neuron's potential is measured in.
    bits
        Width of the signed integers of this node's own array (messages, weights, threshold).
    bias_exponent
        Left shift of the bias mantissa, 0..7.
    """

    scale: float | tuple[float, ...]
    bits: int = 8
    bias_exponent: int = 0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = read_field(str(field.type), getattr(self, field.name), f"quantization: {field.name}")
            object.__setattr__(self, field.name, value)

    @property
    def one_scale(self) -> float:
        """The scale where it is one number, as that of an input or a readout always is."""
        assert not isinstance(self.scale, tuple)
        return self.scale


@dataclass(frozen=True, kw_only=True, eq=False)
class Node:
    """Common to all kinds: a unique name, and the names of the nodes that feed it.

    Raises
    ------
    GraphError
        A field of the wrong type. numpy's numbers and lists are taken; arrays become read-only copies.
    """

    name: str
    inputs: tuple[str, ...] = ()

    def __init_subclass__(cls) -> None:
        cls.__repr__ = short_repr  # type: ignore[method-assign]  # dataclass would write one that prints the arrays

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = read_field(str(field.type), getattr(self, field.name), f"node {shown(self.name)}: {field.name}")
            object.__setattr__(self, field.name, value)

    @property
    def kind(self) -> str:
        """Name of the node's kind as it is written to files."""
        return type(self).__name__


@dataclass(frozen=True, kw_only=True, eq=False)
class Input(Node):
    """Frames x of the given shape, one each step.  y = (x - mean) / deviation, or x without them: see `normalization.py`.

    `encoding` is "analog" (images: any real value) or "events" (event counts: whole numbers, mostly zero). `mean` and
    `deviation` are [C] both or None both.
    """

    shape: tuple[int, ...]
    encoding: str = "analog"
    mean: np.ndarray | None = None
    deviation: np.ndarray | None = None
    quantization: Quantization | None = None

    @property
    def sends_counts(self) -> bool:
        """Whether event counts go on as they come."""
        return self.encoding == "events" and self.mean is None


@dataclass(frozen=True, kw_only=True, eq=False)
class Conv(Node):
    """y[o] = bias[o] + sum_i weight[o, i] * x[i]  (cross-correlation as in torch, zero padding).

    weight [O, I/groups, kh, kw] ; bias [O] or None ; x [I, H, W] ; y [O, H', W'].

    `dense_macs` are the multiply-accumulates of what stands here in a network without spikes, where they are not the node's
    own: those of the small kernel where an average pool was folded into it, none where the node sums spikes for a max pool.
    """

    weight: np.ndarray
    bias: np.ndarray | None = None
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    dense_macs: int | None = None
    quantization: Quantization | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Linear(Node):
    """y = weight @ x + bias.  weight [K, N] ; bias [K] or None ; x [N] ; y [K].  `dense_macs`: see `Conv`."""

    weight: np.ndarray
    bias: np.ndarray | None = None
    dense_macs: int | None = None
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
    """y = the sum of its inputs, all of one shape; in a deployable network spikes, whose sums travel as whole numbers."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Population(Node):
    """Common to all that synapses end in: the presynaptic input I is the sum of what its inputs send.

    `bias` [C] is used by quantized networks only; the float network keeps it on the synapses. What a kind makes of I stands
    in `dynamics.py`.
    """

    bias: np.ndarray | None = None
    quantization: Quantization | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Spiking(Population):
    """Common to all kinds of neuron: a population that sends spikes, 0 or 1."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LIF(Spiking):
    """u = decay * v + I ; spike = u > threshold ; v = 0 where it spikes, u elsewhere.  v(0) = 0.

    An integrate-and-fire neuron has decay 1. `decay` and `threshold` are one number each, or an array [C], one for each
    channel. `comparison` is ">" or ">=", as the network was trained; the integers of a chip know ">" alone.
    """

    decay: float | np.ndarray = 0.5
    threshold: float | np.ndarray = 1.0
    reset: str = "zero"
    comparison: str = ">"


@dataclass(frozen=True, kw_only=True, eq=False)
class SoftResetLIF(Spiking):
    """w = decay * v + I ; spike = w > threshold ; v = w - threshold where it spikes, w elsewhere.  v(0) = 0.

    What lies above the threshold is kept, which no chip's neuron does: such a network runs in floats. `reset` says when the
    threshold is subtracted; u is what is compared with it, v what a step leaves and a recording shows:

        "subtract"          u = w                             v = u - threshold where it spikes
        "subtract-delayed"  u = w - threshold where v > it    v = u: the threshold goes a step later
        "subtract-twice"    u = w - threshold where v > it    v = w - threshold where it spikes: what was left above it
                                                              has to reach twice as far to fire again

    The first is SpikingJelly's with v_reset=None, the second snnTorch's default, the third its reset_delay=False. The other
    fields are those of `LIF`, with one decay.
    """

    decay: float = 0.5
    threshold: float | np.ndarray = 1.0
    reset: str = "subtract"
    comparison: str = ">"


@dataclass(frozen=True, kw_only=True, eq=False)
class CubaLIF(Spiking):
    """c = current_decay * c + I ; u = decay * v + c ; spike = u > threshold ; v = 0 where it spikes, u elsewhere.

    c(0) = v(0) = 0. Its input flows into a synaptic current, which a spike leaves as it is. With `reset` "zero-delayed" the
    potential is 0 one step later, whatever flows in, and that step is silent; it runs in floats alone:

        u = 0 where v > threshold, decay * v + c elsewhere ; spike = u > threshold ; v = u

    "zero" is SpikingJelly's, and snnTorch's with reset_delay=False; "zero-delayed" is snnTorch's as it comes. The other
    fields are those of `LIF`. The bias of a quantized one is added to u, as a chip does.
    """

    current_decay: float = 0.5
    decay: float = 0.5
    threshold: float | np.ndarray = 1.0
    reset: str = "zero"
    comparison: str = ">"


@dataclass(frozen=True, kw_only=True, eq=False)
class Output(Population):
    """Common to all kinds of readout: a number for each class at each step; the decision is the largest mean over time.

    Of classes that tie, the first is taken.
    """


@dataclass(frozen=True, kw_only=True, eq=False)
class Readout(Output):
    """The presynaptic input of each class. Fed by neurons it counts their spikes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LeakyReadout(Output):
    """v = decay * v + I, which it sends: a leaky integrator that never fires.  v(0) = 0.

    Of a quantized network the host keeps v, in whole numbers that no width limits, and with a chip's decay of 12 bit.
    """

    decay: float = 0.5


WEIGHTED = (Conv, Linear)
LEAKY = (LIF, SoftResetLIF, CubaLIF)  # neurons that compare a decaying potential with a threshold
ON_CHIP = (LIF, CubaLIF)  # those that a Loihi core has, in integers
SOFT_RESETS = ("subtract", "subtract-delayed", "subtract-twice")  # of a SoftResetLIF
CURRENT_RESETS = ("zero", "zero-delayed")  # of a CubaLIF
_UNSAID = {"comparison": ">"}  # fields that files and digests know only where they differ from what went without saying
_LATER: dict[type[Node], Mapping[str, str]] = {LIF: _UNSAID, SoftResetLIF: _UNSAID, CubaLIF: {**_UNSAID, "reset": "zero"}}
_NEWER = "A newer version may have written the file: update tet_deploy."
KINDS: dict[str, type[Node]] = {
    kind.__name__: kind
    for kind in (
        *(Input, Conv, Linear, BatchNorm, AvgPool, Flatten, Add),
        *(LIF, SoftResetLIF, CubaLIF, Readout, LeakyReadout),
    )
}


def to_record(node: Node) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Split a node into plain JSON values and its arrays."""
    plain: dict[str, Any] = {"kind": node.kind}
    arrays: dict[str, np.ndarray] = {}
    unsaid = _LATER.get(type(node), {})
    for field in dataclasses.fields(node):
        value = getattr(node, field.name)
        if isinstance(value, np.ndarray):
            arrays[field.name] = value
        elif isinstance(value, Quantization):
            plain[field.name] = dataclasses.asdict(value)
        elif value is not None and unsaid.get(field.name) != value:
            plain[field.name] = list(value) if isinstance(value, tuple) else value
    return plain, arrays


def from_record(plain: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Node:
    """Build a node from what `to_record` returned.

    Raises
    ------
    GraphError
        An unknown kind or field, a missing one, or a value of the wrong type.
    """
    name, kind = plain.get("name"), plain.get("kind")
    cls = KINDS.get(kind) if isinstance(kind, str) else None
    if cls is None:
        raise GraphError(f"node {shown(name)}: kind must be one of those known here; got {shown(kind)}. {_NEWER}")
    values = {key: value for key, value in {**plain, **arrays}.items() if key != "kind"}
    try:
        _check_fields(cls, values)
        if "quantization" in values:
            values["quantization"] = _quantization(values["quantization"])
    except GraphError as error:
        raise GraphError(f"node {shown(name)}: {error}") from None
    return cls(**values)


def _quantization(values: Any) -> Quantization:
    if not isinstance(values, dict):
        raise GraphError(f"quantization must hold its fields; got {shown(values)}.")
    _check_fields(Quantization, values)
    return Quantization(**values)


def _check_fields(cls: type[Node] | type[Quantization], values: Mapping[str, Any]) -> None:
    fields = dataclasses.fields(cls)
    unknown = [key for key in values if key not in [field.name for field in fields]]
    if unknown:
        raise GraphError(f"{cls.__name__} has no field {shown(unknown[0])}. {_NEWER}")
    missing = [field.name for field in fields if field.default is dataclasses.MISSING and field.name not in values]
    if missing:
        raise GraphError(f"{cls.__name__} lacks its field {missing[0]!r}. Write the file again.")
