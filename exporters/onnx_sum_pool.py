"""Pools that were folded into layers of integers, before these again: fewer products, smaller kernels, the same sums."""

from __future__ import annotations

import math

from onnx import TensorProto

from tet_deploy.exporters.onnx_builder import OnnxBuilder, own
from tet_deploy.exporters.onnx_synapses import LARGEST_OPERAND
from tet_deploy.ir.nodes import Conv, Linear, Pair
from tet_deploy.ir.shapes import Shape
from tet_deploy.ir.unfold_pooling import Layer, unfold_sum_pool
from tet_deploy.ir.values import Value, total


def unfolded(layer: Layer, sent: Value, shape: Shape) -> tuple[Pair, Layer, Value]:
    """The windows before a layer, the layer behind them, and what they send: (1, 1) and the same where that is no message.

    `sent` are the bounds of what the windows add up, and `shape` is its [C, H, W].
    """
    windows, found = unfold_sum_pool(layer, shape)
    pooled = total([sent] * math.prod(windows))
    if found is layer or pooled.least < 0 or pooled.greatest > LARGEST_OPERAND:
        return (1, 1), layer, sent
    return windows, found, pooled


def pooled_shape(shape: Shape, windows: Pair) -> Shape:
    """[C, H, W] behind the windows."""
    channels, height, width = shape
    return (channels, height // windows[0], width // windows[1])


def sum_pool(node: Conv | Linear, source: str, shape: Shape, windows: Pair, build: OnnxBuilder, *, in_floats: bool) -> str:
    """The sums over windows whose sides are powers of two, uint8: of two by two, and of those again.

    `source` is uint8 [T, B, H, W, C], or float32 [T, B, C, H, W] where convolutions are `in_floats`; `shape` is [C, H, W].
    """
    first = 3 if in_floats else 2
    (_, height, width), (high, wide), level = shape, windows, 0
    while (high, wide) != (1, 1):
        down, right = min(high, 2), min(wide, 2)
        height, width, high, wide = height // down, width // right, high // down, wide // right
        parts = []
        for top in range(down):
            for left in range(right):
                window = [[top, left], [down * height, right * width], [first, first + 1], [down, right]]
                name = own(node, f"window{level}_{top}{left}")
                part = build.op("Slice", [source, *map(build.integers, window)], name)
                if not level and not in_floats:  # ONNX Runtime adds no uint8
                    part = build.op("Cast", [part], f"{name}_int32", to=TensorProto.INT32)
                parts.append(part)
        source, level = build.added(parts, own(node, f"pooled{level}")), level + 1
    return build.op("Cast", [source], own(node, "pooled"), to=TensorProto.UINT8)
