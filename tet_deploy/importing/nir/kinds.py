"""Each kind of NIR node as nodes of ours: a table of what it holds and how it is converted.

A field that is not listed is refused, as it may change what the node means. The shapes that NIR writes beside its nodes
(`input_shape`, an Output's `shape`) are inferences, and known to be wrong for some kernels: ours come from the Input alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from tet_deploy.errors import ArgumentError
from tet_deploy.importing.nir.fields import NirNode
from tet_deploy.importing.nir.sources import SOURCES, Source
from tet_deploy.ir.nodes import LIF, Add, AvgPool, Conv, CubaLIF, Flatten, Linear, Node, Pair, SoftResetLIF
from tet_deploy.ir.shapes import Shape, output_shape

_LARGEST_WINDOW = 2**20  # elements; of a sum pool, which becomes a kernel
_MOST_ONES = 2**24


@dataclass
class Building:
    """The nodes so far, and what was said about the file."""

    source: Source | None
    reset: str | None
    dt: float | None
    nodes: list[Node] = field(default_factory=list)
    shapes: dict[str, Shape] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)  # names of the file's own nodes
    has_lines: bool = False  # samples are [C, L] in the file, [C, 1, L] here

    def add(self, node: Node) -> str:
        """Append a node that fits; its name."""
        self.shapes[node.name] = output_shape(node, tuple(self.shapes[name] for name in node.inputs))
        self.nodes.append(node)
        return node.name

    def sum_of(self, names: tuple[str, ...], user: str) -> str:
        """One node that sends what these send together."""
        return names[0] if len(names) == 1 else self.add(Add(name=self.new_name(f"{user}.sum"), inputs=names))

    def new_name(self, name: str) -> str:
        """That name, or one like it that no node has."""
        number, free = 1, name
        while free in self.taken:
            number += 1
            free = f"{name}_{number}"
        self.taken.add(free)
        return free

    def shape_in_file(self, name: str) -> Shape:
        """What the file calls the shape of what a node of ours sends."""
        shape = self.shapes[name]
        return (shape[0], shape[2]) if self.has_lines and len(shape) == 3 else shape


class Kind(NamedTuple):
    """Fields that a node of this kind has or may have, and what makes nodes of ours of it."""

    convert: Callable[[Building, NirNode, str], str]
    needs: tuple[str, ...] = ()
    knows: tuple[str, ...] = ()


def convert(building: Building, node: NirNode, x: str) -> str:
    """Append what a NIR node computes of what `x` sends; the name of the node that sends the result.

    Raises
    ------
    GraphError
        A kind that has no exact form here, or that is unknown; a field that is missing, unknown or wrong.
    ArgumentError
        The file does not say something that the caller has to.
    """
    if node.kind in REFUSED:
        raise node.refused(f"{node.kind} has no exact form here", REFUSED[node.kind])
    if node.kind not in KINDS:
        raise node.refused(f"its type {node.kind!r:.100} is none that is known", f"Use {', '.join(KINDS)}.")
    node.check(KINDS[node.kind].needs, KINDS[node.kind].knows)
    return KINDS[node.kind].convert(building, node, x)


def _passed(building: Building, node: NirNode, x: str) -> str:
    """The Input or Output of a nested graph."""
    return x


def _linear(building: Building, node: NirNode, x: str) -> str:
    return building.add(Linear(name=node.name, inputs=(x,), weight=node.array("weight"), bias=_bias(node)))


def _conv2d(building: Building, node: NirNode, x: str) -> str:
    weight = node.array("weight")
    if weight.ndim != 4:
        raise node.refused(f"weight must be [O, I/groups, kh, kw]; got shape {weight.shape}")
    return _conv(building, node, x, weight, 2)


def _conv1d(building: Building, node: NirNode, x: str) -> str:
    """A convolution of height 1."""
    weight = node.array("weight")
    if weight.ndim != 3 or not building.has_lines:
        raise node.refused(
            f"a Conv1d needs samples [C, L] and a weight [O, I/groups, k]; they are {building.shapes[x]} and {weight.shape}"
        )
    return _conv(building, node, x, weight[:, :, None], 1)


def _conv(building: Building, node: NirNode, x: str, weight: np.ndarray, axes: int) -> str:
    stride, dilation = (node.wholes(name, axes) for name in ("stride", "dilation"))
    kernel = weight.shape[-axes:]
    return building.add(
        Conv(
            name=node.name,
            inputs=(x,),
            weight=weight,
            bias=_bias(node),
            stride=_pair(stride, 1),
            padding=_pair(_padding(node, kernel, stride, dilation), 0),
            dilation=_pair(dilation, 1),
            groups=node.whole("groups"),
        )
    )


def _pair(values: tuple[int, ...], missing: int) -> Pair:
    return values[0] if len(values) > 1 else missing, values[-1]


def _padding(node: NirNode, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]) -> tuple[int, ...]:
    said = node.fields["padding"]
    if isinstance(said, list) and len(said) == 1 and len(said[0]) == 1:
        said = said[0][0]
    if not isinstance(said, str):
        return node.wholes("padding", len(kernel))
    if said == "valid":
        return (0,) * len(kernel)
    both = tuple(step * (size - 1) for size, step in zip(kernel, dilation, strict=True))
    if said != "same" or set(stride) != {1} or any(amount % 2 for amount in both):
        raise node.refused(
            f"padding must be numbers, 'valid', or 'same' with stride 1 and kernels of an odd size; got {said!r:.100}, "
            f"stride {stride}, kernel {kernel}",
            "Export it with the padding in numbers.",
        )
    return tuple(amount // 2 for amount in both)


def _bias(node: NirNode) -> np.ndarray | None:
    """None where it is zero throughout, which exporters write for a layer without one."""
    if "bias" not in node:
        return None
    bias = node.array("bias")
    return bias if bias.any() else None


def _avg_pool(building: Building, node: NirNode, x: str) -> str:
    kernel, stride = (_pair(node.wholes(name, 2), 1) for name in ("kernel_size", "stride"))
    if any(node.wholes("padding", 2)):
        raise node.refused("an average pool must not be padded", "Crop or resize what it pools.")
    return building.add(AvgPool(name=node.name, inputs=(x,), kernel=kernel, stride=stride))


def _sum_pool(building: Building, node: NirNode, x: str) -> str:
    """A depthwise convolution of ones, which costs a network without spikes no multiply-accumulate."""
    kernel, stride, padding = (_pair(node.wholes(name, 2), 1) for name in ("kernel_size", "stride", "padding"))
    channels = building.shapes[x][0]
    if min(kernel) < 1 or math.prod(kernel) > min(_LARGEST_WINDOW, _MOST_ONES // channels):
        raise node.refused(f"its windows must have 1 to {_LARGEST_WINDOW} elements; got {kernel} for {channels} channels")
    return building.add(
        Conv(
            name=node.name,
            inputs=(x,),
            weight=np.ones((channels, 1, *kernel), np.float32),
            stride=stride,
            padding=padding,
            groups=channels,
            dense_macs=0,
        )
    )


def _flatten(building: Building, node: NirNode, x: str) -> str:
    """All axes of a sample to one; where the file counts axes of batch and time, so do start_dim and end_dim."""
    shape = building.shape_in_file(x)
    extra = 1 if building.source is not None and building.source.batched and node.whole("start_dim") > 0 else 0
    if "input_type" in node and isinstance(node.fields["input_type"], np.ndarray):
        said = node.wholes("input_type")
        extra = len(said) - len(shape)
        if extra < 0 or said[extra:] != shape:
            raise node.refused(f"input_type says that it flattens {said}; a sample there has the shape {shape}")
    axes = len(shape) + extra
    first, last = (dim + axes if dim < 0 else dim for dim in (node.whole("start_dim"), node.whole("end_dim")))
    if not 0 <= first <= extra or last != axes - 1:
        raise node.refused(
            f"start_dim {node.whole('start_dim')} and end_dim {node.whole('end_dim')} must flatten a whole sample, of shape "
            f"{shape}",
            "Flatten from the first axis behind the batch to the last.",
        )
    return x if len(building.shapes[x]) == 1 else building.add(Flatten(name=node.name, inputs=(x,)))


def _lif(building: Building, node: NirNode, x: str) -> str:
    source = _source(building, node)
    reset = _reset(building, node, source)
    shape = building.shape_in_file(x)
    tau, r = (_positive(node, name, shape) for name in ("tau", "r"))
    dt = source.dt if building.dt is None else building.dt
    decay, gain = source.leak(node, tau, r, dt)
    if not 0 <= decay <= 1:
        raise node.refused(
            f"tau = {tau:g} and dt = {dt:g} give a decay of {decay:g} a step, which must lie in [0, 1]",
            "Say the dt of the network, or the source that wrote the file.",
        )
    rest = node.constant("v_leak", shape)
    if rest != _reset_potential(node, shape):
        raise node.refused(
            f"v_leak = {rest:g} and v_reset = {_reset_potential(node, shape):g} must be one potential, at which it rests",
            "Train with neurons that reset to where they rest.",
        )
    if rest and reset != "zero":
        raise node.refused(f"v_leak = {rest:g} must be 0 where a spike subtracts the threshold", "Train with a rest of 0.")
    return _neuron(building, node, x, source, reset, decay, gain)


def _cuba_lif(building: Building, node: NirNode, x: str) -> str:
    """As SpikingJelly writes it: tau = dt / (1 - decay), w_in = tau_syn / dt, r = tau_mem / dt; nothing is scaled."""
    source = _source(building, node)
    if not source.has_currents:
        raise node.refused(
            f"how a CubaLIF of source {source.name!r} makes a step is not in the file, or has no form here",
            "Train with neurons without a synaptic current, such as LIF.",
        )
    if _reset(building, node, source) != "zero":
        raise node.refused(
            "neurons with a synaptic current must reset to 0 to come in", "Train with such, or without the current."
        )
    shape = building.shape_in_file(x)
    dt = source.dt if building.dt is None else building.dt
    current, gain = source.leak(node, _positive(node, "tau_syn", shape), _positive(node, "w_in", shape), dt)
    decay, more = source.leak(node, _positive(node, "tau_mem", shape), _positive(node, "r", shape), dt)
    rests = {name: node.constant(name, shape) for name in ("v_leak", "v_reset")}
    if (gain, more) != (1.0, 1.0) or any(rests.values()) or not (0 <= decay <= 1 and 0 <= current <= 1):
        raise node.refused(
            f"w_in and r must be tau_syn/dt and tau_mem/dt, and v_leak and v_reset 0; with dt = {dt:g} input is scaled by "
            f"{gain:g} and {more:g}, and they are {rests['v_leak']:g} and {rests['v_reset']:g}",
            "Say the dt of the network.",
        )
    return building.add(
        CubaLIF(
            name=node.name,
            inputs=(x,),
            current_decay=current,
            decay=decay,
            threshold=_float32(node, node.by_channel("v_threshold", shape)),
            comparison=source.comparison,
        )
    )


def _if(building: Building, node: NirNode, x: str) -> str:
    source = _source(building, node)
    reset = _reset(building, node, source)
    if source.integrate is None:
        raise node.refused(f"source {source.name!r} writes no IF neurons", "Say the source that wrote the file.")
    r = _positive(node, "r", building.shape_in_file(x))
    gain = source.integrate(node, r, source.dt if building.dt is None else building.dt)
    return _neuron(building, node, x, source, reset, 1.0, gain)


def _threshold(building: Building, node: NirNode, x: str) -> str:
    """z = 1 where x > threshold: a neuron that remembers nothing."""
    threshold = node.by_channel("threshold", building.shape_in_file(x))
    return building.add(LIF(name=node.name, inputs=(x,), decay=0.0, threshold=_float32(node, threshold)))


def _neuron(building: Building, node: NirNode, x: str, source: Source, reset: str, decay: float, gain: float) -> str:
    shape = building.shape_in_file(x)
    rest = _reset_potential(node, shape)
    if rest and reset != "zero":
        raise node.refused(
            f"v_reset = {rest:g} says that its neurons do not subtract their threshold", "Say reset='zero', or nothing."
        )
    if rest and not source.rests_at_reset:
        raise node.refused(
            f"v_reset = {rest:g} must be 0, as its first potential is not said", "Train with neurons that reset to 0."
        )
    threshold = _float32(node, (node.by_channel("v_threshold", shape) - rest) / gain if gain else math.inf)
    if source.says_neurons:
        if reset != "zero":
            raise node.refused("the neurons of this file reset to 0, as its metadata say", "Say reset='zero', or nothing.")
        return building.add(_as_said(node, x, shape, decay, threshold))
    kind = LIF if reset == "zero" else SoftResetLIF
    return building.add(
        kind(
            name=node.name,
            inputs=(x,),
            decay=decay,
            threshold=threshold,
            reset=reset,
            comparison=source.comparison,
        )
    )


def _as_said(node: NirNode, x: str, shape: Shape, decay: float, threshold: float | np.ndarray) -> LIF:
    """The neuron of which our exporter made these constants: they are off by the rounding that it allows other readers."""
    metadata = node.fields.get("metadata")
    about = NirNode(node.name, node.kind, metadata if isinstance(metadata, dict) else {})
    if about.fields.get("comparison") not in (">", ">="):
        raise node.refused(
            "its metadata must say '>' or '>=', as tet_deploy writes them", "Say the source that wrote the file."
        )
    said = LIF(
        name=node.name,
        inputs=(x,),
        decay=about.constant("decay", shape),
        threshold=about.by_channel("threshold", shape),
        comparison=about.fields["comparison"],
    )
    if abs(said.decay - decay) > 1e-9 or np.max(np.abs(said.threshold / threshold - 1)) > 1e-6:
        raise node.refused(
            f"its constants give a decay of {decay:g} and a threshold from {np.min(threshold):g}, and its metadata say "
            f"{said.decay:g} and {np.min(said.threshold):g}",
            "If it was edited, say source='nir', which reads the constants.",
        )
    return said


def _float32(node: NirNode, threshold: float | np.ndarray) -> float | np.ndarray:
    with np.errstate(over="ignore"):
        narrow = np.asarray(threshold, np.float32)
    if not ((narrow > 1e-30) & (narrow < np.inf)).all():
        raise node.refused(
            f"its threshold, of what a step adds to the potential, must be positive and finite; it is {np.min(threshold):g}",
            "Check v_threshold, r and tau, or say the source that wrote the file.",
        )
    return narrow if narrow.ndim else float(narrow)


def _source(building: Building, node: NirNode) -> Source:
    if building.source is None:
        tell = "; ".join(f"'{source.name}' ({source.tell})" for source in SOURCES.values())
        raise ArgumentError(
            f"node {node.name!r}: the constants of a {node.kind} depend on who wrote the file. Say source=, one of\n{tell}."
        )
    return building.source


def _reset(building: Building, node: NirNode, source: Source) -> str:
    """What a spike does to the potential: "zero", or one of `SOFT_RESETS`."""
    how = building.reset or ("zero" if source.reset == "file" and "v_reset" in node else None)
    if source.reset == "subtract" and how != "zero":
        raise node.refused(
            "Rockpool's neurons subtract their threshold and may spike several times a step, which has no form here",
            "reset='zero' reads them as neurons that reset to 0: compare its spikes with the framework's.",
        )
    if how == "subtract" and source.name == "spikingjelly" and "v_reset" in node:
        raise node.refused(
            "SpikingJelly writes no neurons that subtract their threshold, and the file says what they reset to",
            "Say reset='zero', or nothing.",
        )
    if how is None:
        why = "writes the same file for each kind of reset" if source.reset is None else "up to 1.0.5 does not write it"
        who = source.name if source.reset is None else "NIR"
        raise ArgumentError(
            f"node {node.name!r}: how it resets is not in the file, as {who} {why}. Say reset='zero' or reset='subtract', "
            f"as the network was trained.{' The default of snnTorch is subtract.' if source.reset is None else ''}"
        )
    return source.subtract if how == "subtract" else how


def _reset_potential(node: NirNode, shape: Shape) -> float:
    return node.constant("v_reset", shape) if "v_reset" in node else 0.0


def _positive(node: NirNode, name: str, shape: Shape) -> float:
    found = node.constant(name, shape)
    if found <= 0:
        raise node.refused(f"{name} must be positive; got {found:g}")
    return found


_CONV = ("weight", "stride", "padding", "dilation", "groups")
_POOL = ("kernel_size", "stride", "padding")
KINDS = {
    "Input": Kind(_passed, knows=("shape",)),
    "Output": Kind(_passed, knows=("shape",)),
    "Affine": Kind(_linear, ("weight", "bias")),
    "Linear": Kind(_linear, ("weight",)),
    "Conv1d": Kind(_conv1d, _CONV, ("bias", "input_shape")),
    "Conv2d": Kind(_conv2d, _CONV, ("bias", "input_shape")),
    "SumPool2d": Kind(_sum_pool, _POOL),
    "AvgPool2d": Kind(_avg_pool, _POOL),
    "Flatten": Kind(_flatten, ("start_dim", "end_dim")),
    "IF": Kind(_if, ("r", "v_threshold"), ("v_reset",)),
    "CubaLIF": Kind(_cuba_lif, ("tau_syn", "tau_mem", "r", "v_leak", "v_threshold", "v_reset", "w_in")),
    "LIF": Kind(_lif, ("tau", "r", "v_leak", "v_threshold"), ("v_reset",)),
    "Threshold": Kind(_threshold, ("threshold",)),
}  # and Scale, see `scales`, and NIRGraph, see `structure`
REFUSED = {  # kind: the way out
    "CubaLI": "Leave the integrator out and average over time what the last layer sends: that is our readout.",
    "LI": "Leave the integrator out and average over time what the last layer sends: that is our readout.",
    "I": "Leave the integrator out and average over time what the last layer sends: that is our readout.",
    "Delay": "Train without delays.",
}
