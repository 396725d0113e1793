"""Synaptic sums of a quantized network in ONNX: im2col and MatMulInteger, exact on every processor.

Values are channels-last, [T, B, H, W, C] or [T, B, N]: a convolution is then one matrix product over all steps and samples.

Messages are uint8. Signed ones (frames) travel as two parts along the channels, max(m, 0) and max(-m, 0), and meet the
weights +W and -W. Both operands then stay within 127: x86 processors without VNNI add pairs of products in saturating
16 bit, which 2 * 127 * 127 < 2^15 never reaches. Full-range uint8, as a zero point of 128 would need, can reach it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from tet_deploy import dynamics
from tet_deploy.errors import GraphError
from tet_deploy.exporters.onnx_builder import FRAMES_TB, OnnxBuilder, own
from tet_deploy.ir.nodes import Conv, Linear, Node
from tet_deploy.ir.shapes import Shape
from tet_deploy.ir.values import Value, weighted_bounds
from tet_deploy.onnx_file import output_of
from tet_deploy.ranges import WRAPPED

LARGEST_OPERAND = 127
LARGEST_SUM = 2**31 - 1 - dynamics.STATE_LIMIT  # wrap24 adds 2^23 before it takes the remainder, in int32


@dataclass(frozen=True)
class Messages:
    """The tensor that a node sends: messages (uint8), in two parts where they are signed, or synaptic sums (int32)."""

    tensor: str
    parts: int = 1


def synaptic_sums(
    node: Conv | Linear, x: Messages, sent: Value, shape: Shape, build: OnnxBuilder, counted: bool
) -> Messages:
    """`dynamics.wrap24` of the weighted sums, int32 [T, B, H', W', O] or [T, B, K]; `shape` is the node's output shape.

    Where they are to be `counted`, an output tells how many wrapped. `sent` are the bounds of the messages. No operand but
    the weights is negative, so that every partial sum keeps to the bounds of the whole one.
    """
    if isinstance(node, Linear):
        matrix = _weight_matrix(node, node.weight.T, x.parts)
        sums = _product(node, x.tensor, matrix, build)
    elif _is_gain(node) and x.parts == 1:
        need_within(node, "largest |weight|", int(np.abs(node.weight.astype(np.int64)).max()), LARGEST_OPERAND)
        wide = build.op("Cast", [x.tensor], own(node, "wide"), to=TensorProto.INT32)
        gain = build.constant(own(node, "gain"), node.weight[:, 0, 0, 0].astype(np.int32))
        sums = build.op("Mul", [wide, gain], own(node, "sums"))
    else:
        matrix = _weight_matrix(node, node.weight.transpose(2, 3, 1, 0), x.parts)
        columns = _im2col(node, x.tensor, shape, build)
        sums = _product(node, columns, matrix, build) if node.groups == 1 else _by_group(node, columns, matrix, shape, build)
    count = output_of(node.name, WRAPPED) if counted else None
    return _wrapped24(sums, _largest_sum(node, sent), count, node, shape, build)


def _is_gain(node: Conv) -> bool:
    """Whether a convolution only multiplies each channel by a number, as identities do."""
    plain = node.weight.shape[2:] == node.stride == (1, 1) and node.padding == (0, 0)
    return plain and node.weight.shape[:2] == (node.groups, 1)


def need_within(node: Node, what: str, found: int, limit: int) -> None:
    """Refuse integers outside 0..limit.

    Raises
    ------
    GraphError
        Names the node, what was found and the limit.
    """
    if not 0 <= found <= limit:
        raise GraphError(f"node {node.name!r}: {what} must lie in 0..{limit}; got {found}. Quantize the network again.")


def _im2col(node: Conv, source: str, shape: Shape, build: OnnxBuilder) -> str:
    """[T, B, H, W, parts*I] -> [T, B, H', W', kh*kw*parts*I]: one slice for each tap of the kernel, side by side."""
    _, height, width = shape
    if any(node.padding):
        margins = [0, 0, *node.padding, 0]
        source = build.op("Pad", [source, build.integers(margins * 2), build.scalar(0, np.uint8)], own(node, "padded"))
    axes, strides = build.integers([2, 3]), build.integers(node.stride)
    taps = []
    for i, j in np.ndindex(*node.weight.shape[2:]):
        start = (i * node.dilation[0], j * node.dilation[1])
        end = (start[0] + node.stride[0] * (height - 1) + 1, start[1] + node.stride[1] * (width - 1) + 1)
        window = [build.integers(start), build.integers(end), axes, strides]
        taps.append(build.op("Slice", [source, *window], own(node, f"tap_{i}_{j}")))
    return build.op("Concat", taps, own(node, "columns"), axis=-1)


def _weight_matrix(node: Conv | Linear, weight: np.ndarray, parts: int) -> np.ndarray:
    """[..., I, O] -> int8 [...*parts*I, O]; signed messages meet +W and -W."""
    wide = weight.astype(np.int64)
    need_within(node, "largest |weight|", int(np.abs(wide).max()), LARGEST_OPERAND)
    signed = (wide,) if parts == 1 else (wide, -wide)
    return np.stack(signed, axis=-3).reshape(-1, weight.shape[-1]).astype(np.int8)


def _product(node: Conv | Linear, rows: str, matrix: np.ndarray, build: OnnxBuilder) -> str:
    return build.op("MatMulInteger", [rows, build.constant(own(node, "weight"), matrix)], own(node, "sums"))


def _by_group(node: Conv, columns: str, matrix: np.ndarray, shape: Shape, build: OnnxBuilder) -> str:
    """One matrix product per group: [G, T*B*H'*W', K] x [G, K, O/G]."""
    groups, in_per_group = node.groups, node.weight.shape[1]
    out_channels, height, width = shape
    size = len(matrix)  # K = kh*kw*parts*I/G
    by_group = build.integers([-1, size // in_per_group, groups, in_per_group])
    split = build.op("Reshape", [columns, by_group], own(node, "split"))
    apart = build.op("Transpose", [split], own(node, "apart"), perm=[2, 0, 1, 3])
    rows = build.op("Reshape", [apart, build.integers([groups, -1, size])], own(node, "rows"))
    weight = build.constant(own(node, "weight"), matrix.reshape(size, groups, -1).transpose(1, 0, 2))
    products = build.op("MatMulInteger", [rows, weight], own(node, "products"))
    joined = build.op("Transpose", [products], own(node, "joined"), perm=[1, 0, 2])
    target = build.op("Concat", [FRAMES_TB, build.integers([height, width, out_channels])], own(node, "shape"), axis=0)
    return build.op("Reshape", [joined, target], own(node, "sums"))


def _largest_sum(node: Conv | Linear, sent: Value) -> int:
    """Bound of |sum| over all inputs, and of every partial sum on the way to it."""
    least, greatest = weighted_bounds(node.weight, sent)
    largest = int(max(-least.min(), greatest.max()))
    need_within(node, "largest possible synaptic sum", largest, LARGEST_SUM)
    return largest


def _wrapped24(
    sums: str, largest: int, count: str | None, node: Conv | Linear, shape: Shape, build: OnnxBuilder
) -> Messages:
    """`dynamics.wrap24`, left out where no input can make a sum leave 24 bit."""
    if largest < dynamics.STATE_LIMIT:
        return Messages(sums)

    def wrap() -> str:
        half = build.scalar(dynamics.STATE_LIMIT, np.int32)
        lifted = build.op("Add", [sums, half], own(node, "lifted"))
        remainder = build.op("Mod", [lifted, build.scalar(2 * dynamics.STATE_LIMIT, np.int32)], own(node, "remainder"))
        return build.op("Sub", [remainder, half], own(node, "wrapped"))

    inside = (-dynamics.STATE_LIMIT, dynamics.STATE_LIMIT - 1)
    return Messages(wrap() if count is None else build.wrapped(sums, inside, wrap, count, len(shape)))
