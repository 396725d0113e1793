"""Each kind of NIR node as nodes of ours: a table of what it holds and how it is converted.

A field that is not listed is refused, as it may change what the node means. The shapes that NIR writes beside its nodes
(`input_shape`, an Output's `shape`) are inferences, and known to be wrong for some kernels: ours come from the Input alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tet_deploy.importing.nir import neurons
from tet_deploy.importing.nir.building import Building
from tet_deploy.importing.nir.fields import NirNode
from tet_deploy.ir.nodes import AvgPool, Conv, Flatten, Linear, Pair

_LARGEST_WINDOW = 2**20  # elements; of a sum pool, which becomes a kernel
_MOST_ONES = 2**24


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
    "IF": Kind(neurons.integrate_and_fire, ("r", "v_threshold"), ("v_reset",)),
    "CubaLIF": Kind(neurons.with_current, ("tau_syn", "tau_mem", "r", "v_leak", "v_threshold", "v_reset", "w_in")),
    "LIF": Kind(neurons.leaky, ("tau", "r", "v_leak", "v_threshold"), ("v_reset",)),
    "LI": Kind(neurons.leaky_integrator, ("tau", "r", "v_leak")),
    "I": Kind(neurons.integrator, ("r",)),
    "Threshold": Kind(neurons.without_memory, ("threshold",)),
}  # and Scale, see `scales`, and NIRGraph, see `structure`
REFUSED = {  # kind: the way out
    "CubaLI": "Leave the integrator out and average over time what the last layer sends: that is our readout.",
    "Delay": "Train without delays.",
}
