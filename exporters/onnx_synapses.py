"""Synaptic sums of a quantized network in ONNX: im2col and MatMulInteger, exact on every processor.

Values are channels-last, [T, B, H, W, C] or [T, B, N]: a convolution is then one matrix product over all steps and samples.

Messages are uint8. Signed ones (frames) travel as two parts along the channels, max(m, 0) and max(-m, 0), and meet the
weights +W and -W. Both operands then stay within 127: x86 processors without VNNI add pairs of products in saturating
16 bit, which 2 * 127 * 127 < 2^15 never reaches. Full-range uint8, as a zero point of 128 would need, can reach it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tet_deploy import dynamics
from tet_deploy.errors import GraphError
from tet_deploy.exporters.onnx_builder import FRAMES_TB, OnnxBuilder, own
from tet_deploy.ir.nodes import Conv, Linear, Node
from tet_deploy.ir.shapes import Shape
from tet_deploy.ir.values import Value, weighted_bounds
from tet_deploy.onnx_file import output_of
from tet_deploy.ranges import WRAPPED

LARGEST_OPERAND = 127
GATHERED_FROM = 64  # channels of a pixel; measured, see benchmarks/results/onnx_runtime.md
LARGEST_SUM = 2**31 - 1 - dynamics.STATE_LIMIT  # wrap24 adds 2^23 before it takes the remainder, in int32


@dataclass(frozen=True)
class Messages:
    """What a node sends: messages (uint8), in two parts where they are signed, or synaptic sums (int32).

    Where there is a `gain` int64 [C], the sums are the messages times it.
    """

    tensor: str
    parts: int = 1
    gain: np.ndarray | None = None


def synaptic_sums(
    node: Conv | Linear, x: Messages, sent: Value, shapes: tuple[Shape, Shape], build: OnnxBuilder, counted: bool
) -> Messages:
    """`dynamics.wrap24` of the weighted sums, int32 [T, B, H', W', O] or [T, B, K]; `shapes` are those of
    what comes in and goes out.

    Where they are to be `counted`, an output tells how many wrapped. `sent` are the bounds of the messages. No operand but
    the weights is negative, so that every partial sum keeps to the bounds of the whole one.
    """
    if isinstance(node, Linear):
        matrix = _weight_matrix(node, node.weight.T, x.parts)
        sums = _product(node, x.tensor, matrix, build)
    elif _is_gain(node) and x.parts == 1:
        need_within(node, "largest |weight|", int(np.abs(node.weight.astype(np.int64)).max()), LARGEST_OPERAND)
        return Messages(x.tensor, gain=node.weight[:, 0, 0, 0].astype(np.int64))
    else:
        (channels, height, width), shape = shapes
        matrix = _weight_matrix(node, node.weight.transpose(2, 3, 1, 0), x.parts)
        columns = _im2col(node, x.tensor, (height, width, x.parts * channels), shape, build)
        sums = _product(node, columns, matrix, build) if node.groups == 1 else _by_group(node, columns, matrix, shape, build)
    count = output_of(node.name, WRAPPED) if counted else None
    return _wrapped24(sums, _largest_sum(node, sent), count, node, shapes[1], build)


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


def _im2col(node: Conv, source: str, size: Shape, shape: Shape, build: OnnxBuilder) -> str:
    """[T, B, H, W, C] -> [T, B, H', W', kh*kw*C], the taps of the kernel side by side; `size` is (H, W, C).

    Pixels of many channels are gathered, one by one; of few, whose bytes are not worth a call, whole rows are sliced.
    """
    height, width, channels = size
    if any(node.padding):
        margins = build.integers([0, 0, *node.padding, 0] * 2)
        source = build.op("Pad", [source, margins, build.scalar(0, np.uint8)], own(node, "padded"))
        height, width = height + 2 * node.padding[0], width + 2 * node.padding[1]
    if channels < GATHERED_FROM or node.weight.shape[2:] == (1, 1):
        return _sliced(node, source, shape, build)
    taps = [
        stride * np.arange(steps)[:, None] + dilation * np.arange(kernel)
        for stride, steps, dilation, kernel in zip(node.stride, shape[1:], node.dilation, node.weight.shape[2:], strict=True)
    ]  # [H', kh] and [W', kw]: the rows and columns that a kernel meets
    rows = build.constant(own(node, "rows_met"), (width * taps[0])[:, None, :, None])
    columns = build.constant(own(node, "columns_met"), taps[1][None, :, None, :])
    met = build.op("Add", [rows, columns], own(node, "pixels_met"))
    pixels = build.op("Reshape", [source, build.integers([0, 0, height * width, channels])], own(node, "pixels"))
    gathered = build.op("Gather", [pixels, met], own(node, "gathered"), axis=2)
    size_of_all = math.prod(node.weight.shape[2:]) * channels
    return build.op("Reshape", [gathered, build.integers([0, 0, *shape[1:], size_of_all])], own(node, "columns"))


def _sliced(node: Conv, source: str, shape: Shape, build: OnnxBuilder) -> str:
    """Shifted along the width, side by side, and of that shifted along the height: fewer and longer pieces than all taps."""
    for axis, size in ((3, shape[2]), (2, shape[1])):
        taps, stride, dilation = node.weight.shape[axis], node.stride[axis - 2], node.dilation[axis - 2]
        shifted = []
        for tap in range(taps):
            window = [[tap * dilation], [tap * dilation + stride * (size - 1) + 1], [axis], [stride]]
            if window == [[0], [size], [axis], [1]] and taps == 1:
                shifted.append(source)
                continue
            operands = [source, *map(build.integers, window)]
            shifted.append(build.op("Slice", operands, own(node, f"tap{axis}_{tap}")))
        source = build.op("Concat", shifted, own(node, f"taps{axis}"), axis=-1) if taps > 1 else shifted[0]
    return source


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
