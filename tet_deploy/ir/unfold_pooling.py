"""Find a pool that `passes.fold_pooling` folded into a layer: four times fewer products for windows of 2 x 2.

Windows whose sides are powers of two are found, as their mean, and weight * k^2, lose no bit: where every sum of products is
exact in float32, as in a network on a grid, the result is the same to the last bit. Elsewhere it differs as any other order
of the same sum does. Of integers the sum over a window is exact too.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TypeVar

import numpy as np

from tet_deploy.ir.nodes import Conv, Linear, Pair
from tet_deploy.ir.shapes import Shape

Layer = TypeVar("Layer", bound=Conv | Linear)


def unfold_pooling(layer: Layer, shape: Shape) -> tuple[Pair, Layer]:
    """The windows of the average pool in front of a layer, which tile its input, and the layer behind it.

    Parameters
    ----------
    layer
        One with float weights.
    shape
        Of its input, [C, H, W]; of a linear layer, in front of the flatten.

    Returns
    -------
    windows, layer
        (1, 1) and the very same layer where there is no pool.
    """
    windows, found = unfold_sum_pool(layer, shape)
    weight, taps = found.weight, found.weight.dtype.type(math.prod(windows))
    if found is layer or np.abs(weight).max() > min(np.finfo(weight.dtype).max, np.finfo(np.float32).max) / taps:
        return (1, 1), layer
    return windows, dataclasses.replace(found, weight=weight * taps)


def unfold_sum_pool(layer: Layer, shape: Shape) -> tuple[Pair, Layer]:
    """`unfold_pooling` for a pool that sums, and a layer with weights of any type: they stay as they are."""
    weight = layer.weight if isinstance(layer, Conv) else layer.weight.reshape(-1, *shape)
    windows = _window(layer, weight, shape, 0), _window(layer, weight, shape, 1)
    if windows == (1, 1):
        return windows, layer
    weight = weight[..., :: windows[0], :: windows[1]]
    if isinstance(layer, Linear):
        return windows, dataclasses.replace(layer, weight=weight.reshape(len(weight), -1))
    (down, right), (high, wide) = layer.stride, windows
    padding = layer.padding[0] // high, layer.padding[1] // wide
    return windows, dataclasses.replace(layer, weight=weight, stride=(down // high, right // wide), padding=padding)


def _window(layer: Conv | Linear, weight: np.ndarray, shape: Shape, axis: int) -> int:
    """The largest power of two over which the weights are equal along an axis, and which divides all that it must."""
    common = int(weight.shape[2 + axis])
    if isinstance(layer, Conv):
        if layer.dilation[axis] != 1:
            return 1
        # without padding, a rest at the border is under no window either way
        common = math.gcd(common, layer.stride[axis], layer.padding[axis], shape[1 + axis] if layer.padding[axis] else 0)
    window: int = common & -common
    while window > 1 and not _repeats(weight, window, 2 + axis):
        window //= 2
    return window


def _repeats(weight: np.ndarray, times: int, axis: int) -> bool:
    first = weight.take(range(0, weight.shape[axis], times), axis)
    return np.array_equal(np.repeat(first, times, axis), weight)
