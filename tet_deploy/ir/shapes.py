"""The shape that each kind of node gives, and how many synapses leave each of its inputs.

Shapes are those of one sample in one step: (C, H, W) or (N,).
"""

from __future__ import annotations

from functools import singledispatch

import numpy as np

from tet_deploy.errors import GraphError, shown
from tet_deploy.ir.nodes import (
    CURRENT_RESETS,
    LIF,
    SOFT_RESETS,
    Add,
    AvgPool,
    BatchNorm,
    Conv,
    CubaLIF,
    Flatten,
    Input,
    LeakyReadout,
    Linear,
    Node,
    Population,
    Readout,
    SoftResetLIF,
)

Shape = tuple[int, ...]
LARGEST_ACTIVATION = 2**28  # elements of one sample in one step; a file that asks for more is broken or hostile
LARGEST_MACS = 2**53  # float64 holds all smaller counts


def output_shape(node: Node, inputs: tuple[Shape, ...]) -> Shape:
    """Shape of the node's output for one sample, after checking its parameters against the shapes that reach it.

    Raises
    ------
    GraphError
        The parameters do not fit the inputs, or the output would be empty or too large.
    """
    least = 0 if isinstance(node, Input) else 2 if isinstance(node, Add) else 1
    sums = isinstance(node, (Add, Population))
    if len(inputs) < least or (len(inputs) > least and not sums):
        number = f"at least {least}" if sums else str(least)
        raise GraphError(f"node {node.name!r}: a {node.kind} takes {number} inputs; got {len(inputs)}.")
    if sums and len(set(inputs)) != 1:
        raise GraphError(
            f"node {node.name!r}: what a {node.kind} sums must have one shape; got {' and '.join(map(str, inputs))}."
        )
    shape = _shape(node, *inputs)
    elements = 1
    for size in shape:
        elements *= size
    if not shape or min(shape) < 1 or elements > LARGEST_ACTIVATION:
        raise GraphError(
            f"node {node.name!r}: its output must have between 1 and {LARGEST_ACTIVATION} elements; its shape would be "
            f"{shape}. Check kernel, stride and padding against the input shape {inputs[0] if inputs else ''}."
        )
    return shape


@singledispatch
def _shape(node: Node, *inputs: Shape) -> Shape:
    raise GraphError(f"node {node.name!r}: no shape rule for kind {node.kind}.")


@_shape.register
def _(node: Input) -> Shape:
    if node.encoding not in ("analog", "events"):
        raise GraphError(f"node {node.name!r}: encoding must be 'analog' or 'events'; got {node.encoding!r}.")
    if (node.mean is None) != (node.deviation is None):
        raise GraphError(f"node {node.name!r}: must have mean and deviation, or neither.")
    if node.mean is not None and node.deviation is not None and node.shape:
        for field in ("mean", "deviation"):
            _need_vector(node, field, getattr(node, field), node.shape[0])
        if not (np.isfinite(node.mean) & np.isfinite(node.deviation) & (node.deviation != 0)).all():
            raise GraphError(f"node {node.name!r}: mean must be finite, and deviation finite and not 0.")
    return node.shape


@_shape.register
def _(node: Conv, x: Shape) -> Shape:
    _need_rank(node, x, 3)
    if node.weight.ndim != 4:
        raise GraphError(f"node {node.name!r}: weight must be [O, I/groups, kh, kw]; got shape {node.weight.shape}.")
    out_channels, in_per_group, *kernel = node.weight.shape
    if node.groups < 1 or in_per_group * node.groups != x[0] or out_channels % node.groups:
        raise GraphError(
            f"node {node.name!r}: weight {node.weight.shape} with {node.groups} groups takes "
            f"{in_per_group * max(node.groups, 1)} channels; its input {node.inputs[0]!r} has {x[0]}."
        )
    _need_steps(node, *node.stride, *node.dilation)
    _need_macs(node)
    if min(node.padding) < 0:
        raise GraphError(f"node {node.name!r}: padding must be >= 0; got {node.padding}.")
    if x[0] * (x[1] + 2 * node.padding[0]) * (x[2] + 2 * node.padding[1]) > LARGEST_ACTIVATION:
        raise GraphError(f"node {node.name!r}: its padded input exceeds {LARGEST_ACTIVATION} elements; see {node.padding=}.")
    _need_vector(node, "bias", node.bias, out_channels)
    height, width = (conv_size(x[i + 1], kernel[i], node.stride[i], node.padding[i], node.dilation[i]) for i in (0, 1))
    return (out_channels, height, width)


def conv_size(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """Output size of a convolution along one axis; below 1 when the kernel does not fit."""
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


@_shape.register
def _(node: Linear, x: Shape) -> Shape:
    _need_rank(node, x, 1)
    if node.weight.ndim != 2 or node.weight.shape[1] != x[0]:
        raise GraphError(
            f"node {node.name!r}: weight must be [K, {x[0]}] to fit its input {node.inputs[0]!r}; got {node.weight.shape}."
        )
    _need_macs(node)
    _need_vector(node, "bias", node.bias, node.weight.shape[0])
    return (node.weight.shape[0],)


@_shape.register
def _(node: BatchNorm, x: Shape) -> Shape:
    for field in ("mean", "variance", "gamma", "beta"):
        _need_vector(node, field, getattr(node, field), x[0])
    if np.min(node.variance) + node.epsilon <= 0:
        raise GraphError(f"node {node.name!r}: variance + epsilon must be positive; got {np.min(node.variance)}.")
    return x


@_shape.register
def _(node: AvgPool, x: Shape) -> Shape:
    _need_rank(node, x, 3)
    _need_steps(node, *node.kernel, *node.stride)
    height, width = (conv_size(x[i + 1], node.kernel[i], node.stride[i], 0, 1) for i in (0, 1))
    return (x[0], height, width)


@_shape.register
def _(node: Flatten, x: Shape) -> Shape:
    return (int(np.prod(x, dtype=np.int64)),)


@_shape.register
def _(node: Add, *inputs: Shape) -> Shape:
    return inputs[0]


@_shape.register(LIF)
@_shape.register(SoftResetLIF)
@_shape.register(CubaLIF)
def _(node: LIF | SoftResetLIF | CubaLIF, x: Shape, *others: Shape) -> Shape:
    thresholds = np.asarray(node.threshold, np.float64)
    decays = np.asarray(node.decay, np.float64)
    if not ((decays >= 0) & (decays <= 1)).all() or not (np.isfinite(thresholds) & (thresholds > 0)).all():
        raise GraphError(
            f"node {node.name!r}: decay must lie in [0, 1] and threshold be positive; got {node.decay} and {node.threshold}."
        )
    for field, values in (("decay", node.decay), ("threshold", node.threshold)):
        if isinstance(values, np.ndarray):
            _need_vector(node, field, values, x[0])
    _need_reset(node)
    if node.comparison not in (">", ">="):
        raise GraphError(f"node {node.name!r}: comparison must be '>' or '>='; got {node.comparison!r}.")
    _need_vector(node, "bias", node.bias, x[0])
    return x


@_shape.register(Readout)
@_shape.register(LeakyReadout)
def _(node: Readout | LeakyReadout, x: Shape, *others: Shape) -> Shape:
    if isinstance(node, LeakyReadout) and not 0 <= node.decay <= 1:
        raise GraphError(f"node {node.name!r}: decay must lie in [0, 1]; got {node.decay}.")
    _need_rank(node, x, 1)
    _need_vector(node, "bias", node.bias, x[0])
    return x


def _need_reset(node: LIF | SoftResetLIF | CubaLIF) -> None:
    if isinstance(node, CubaLIF) and not 0 <= node.current_decay <= 1:
        raise GraphError(f"node {node.name!r}: current_decay must lie in [0, 1]; got {node.current_decay}.")
    if isinstance(node, CubaLIF) and node.reset not in CURRENT_RESETS:
        allowed = " or ".join(map(repr, CURRENT_RESETS))
        raise GraphError(f"node {node.name!r}: reset must be {allowed}; got {node.reset!r}. Retrain with one of them.")
    if isinstance(node, CubaLIF) and node.quantization is not None and node.reset != "zero":
        raise GraphError(
            f"node {node.name!r}: a CubaLIF of reset {node.reset!r} has no integers, as no chip has it. Use the float "
            "network."
        )
    if isinstance(node, LIF) and node.reset != "zero":
        way_out = "Make it a SoftResetLIF" if node.reset in SOFT_RESETS else "Retrain with reset='zero'"
        raise GraphError(f"node {node.name!r}: reset must be 'zero'; got {node.reset!r}. {way_out}.")
    if isinstance(node, SoftResetLIF) and node.quantization is not None:
        raise GraphError(f"node {node.name!r}: a SoftResetLIF has no integers, as no chip has it. Use the float network.")
    if isinstance(node, SoftResetLIF) and node.reset not in SOFT_RESETS:
        way_out = "Make it a LIF" if node.reset == "zero" else "Say which"
        allowed = ", ".join(map(repr, SOFT_RESETS))
        raise GraphError(f"node {node.name!r}: reset must be one of {allowed}; got {node.reset!r}. {way_out}.")


def _need_rank(node: Node, x: Shape, rank: int) -> None:
    if len(x) != rank:
        layout = "[C, H, W]" if rank == 3 else "[N]"
        hint = " Put a Flatten before it." if rank == 1 else ""
        raise GraphError(f"node {node.name!r}: a {node.kind} takes {layout}; its input {node.inputs[0]!r} gives {x}.{hint}")


def _need_vector(node: Node, field: str, value: np.ndarray | None, length: int) -> None:
    if value is not None and value.shape != (length,):
        raise GraphError(f"node {node.name!r}: {field} must have shape ({length},); got {value.shape}.")


def _need_steps(node: Node, *values: int) -> None:
    if not 1 <= min(values) <= max(values) <= LARGEST_ACTIVATION:
        what = "kernel and stride" if isinstance(node, AvgPool) else "stride and dilation"
        raise GraphError(
            f"node {node.name!r}: {what} must lie in 1..{LARGEST_ACTIVATION}; got {', '.join(map(shown, values))}."
        )


def _need_macs(node: Conv | Linear) -> None:
    if not 0 <= (node.dense_macs or 0) <= LARGEST_MACS:
        raise GraphError(f"node {node.name!r}: dense_macs must lie in 0..{LARGEST_MACS}; got {shown(node.dense_macs)}.")


def padded_macs(node: Conv | Linear, y: Shape) -> int:
    """Multiply-accumulates of a dense pass as the literature counts them: outputs x weights per output, border included."""
    macs = int(node.weight.size) // int(node.weight.shape[0])
    for size in y:
        macs *= size
    return macs


def dense_macs(node: Conv | Linear, y: Shape) -> int:
    """`padded_macs` of what a network without spikes would have in the node's place."""
    return padded_macs(node, y) if node.dense_macs is None else node.dense_macs


def fan_out(node: Conv | Linear, x: Shape) -> np.ndarray:
    """Number of synapses that leave each input element, borders excluded; integers, no channel dependence.

    F[y, x] = (O / groups) * fy[y] * fx[x]  with  fy[i] = #{(o, k) : o*stride - padding + k*dilation = i}.

    Returns
    -------
    np.ndarray
        int64, broadcasts against the input: [1, H, W] for a Conv, [1] for a Linear.
    """
    if isinstance(node, Linear):
        return np.array([node.weight.shape[0]], dtype=np.int64)
    out_channels, _, *kernel = node.weight.shape
    fy, fx = (_axis_fan_out(x[i + 1], kernel[i], node.stride[i], node.padding[i], node.dilation[i]) for i in (0, 1))
    result: np.ndarray = (out_channels // node.groups) * fy[None, :, None] * fx[None, None, :]
    return result


def _axis_fan_out(size: int, kernel: int, stride: int, padding: int, dilation: int) -> np.ndarray:
    starts = np.arange(conv_size(size, kernel, stride, padding, dilation)) * stride - padding
    count = np.zeros(size, np.int64)
    for k in range(kernel):
        reached = starts + k * dilation  # each output reaches another element with this tap
        count[reached[(reached >= 0) & (reached < size)]] += 1
    return count
