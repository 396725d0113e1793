"""The integer convolution of Lava's Conv process, as matrix products. numpy only.

a[x, y, o] = wrap24( sum_{i, j, c} input[x*sx - px + i*dx, y*sy - py + j*dy, c] * weight[o, kx-1-i, ky-1-j, c] )

Lava convolves in the mathematical sense (flipped kernel), channels last. Products in float32 are exact while all sums stay
below 2^24, those in float64 below 2^53, in whatever order BLAS adds.
"""

from __future__ import annotations

from functools import reduce
from math import gcd

import numpy as np

Pair = tuple[int, int]
_EXACT_IN_FLOAT32 = 2**24
_FEW_PLACES = 64  # where BLAS spends its time on sorting the weights, less so if they come first
_LARGEST_SUM = 2**23  # 24 bit signed: sums from here on wrap


def wrap24(a: np.ndarray) -> np.ndarray:
    """Reduce to 24 bit two's complement."""
    return (a + _LARGEST_SUM) % (2 * _LARGEST_SUM) - _LARGEST_SUM


class Convolution:
    """One layer's convolution, prepared once and called at each step.

    Parameters
    ----------
    weight
        Integers [O, kx, ky, I/groups] in Lava's layout.
    input_shape
        (X, Y, I).
    stride, padding, dilation, groups
        As in Lava's Conv.

    Attributes
    ----------
    wrapped
        How many sums of the last call wrapped.
    """

    def __init__(
        self, weight: np.ndarray, input_shape: tuple[int, int, int], stride: Pair, padding: Pair, dilation: Pair, groups: int
    ) -> None:
        sizes, channels = input_shape[:2], input_shape[2]
        kernel: Pair = weight.shape[1:3]
        extent = [dilation[i] * (kernel[i] - 1) + 1 for i in (0, 1)]
        outputs = tuple((sizes[i] + 2 * padding[i] - extent[i]) // stride[i] + 1 for i in (0, 1))
        self.wrapped = 0
        self._zeros = np.zeros((*outputs, weight.shape[0]), np.int32)
        self._largest_weight_sum = int(np.abs(weight.astype(np.int64)).sum(axis=(1, 2, 3)).max())
        self._pool = folded_pool(weight, sizes, stride, padding, dilation)
        (pool_x, pool_y), (padding_x, padding_y) = self._pool, padding
        taps = weight[:, ::pool_x, ::pool_y, :][:, ::-1, ::-1, :]
        self._matrices = [part.reshape(len(part), -1).T for part in np.split(taps, groups)]
        self._geometry = (
            taps.shape[1:3],
            (stride[0] // pool_x, stride[1] // pool_y),
            dilation,
            (sizes[0] // pool_x, sizes[1] // pool_y, channels),
            (padding_x // pool_x, padding_y // pool_y),
        )
        self._workspaces: dict[type, _Workspace] = {}
        geometry_is_plain = kernel == stride == dilation == (1, 1) and padding == (0, 0)
        self._gain = _gain(weight, groups) if geometry_is_plain and len(weight) == channels else None

    def __call__(self, data: np.ndarray) -> np.ndarray:
        """Synaptic sums int32 [X', Y', O] of spikes (booleans) or graded messages (integers) [X, Y, I]."""
        self.wrapped = 0
        if not data.any():
            return self._zeros
        if self._gain is not None:
            return self._wrapped24(data * self._gain)
        largest_message = 1 if data.dtype == bool else int(np.abs(data).max())
        largest_sum = self._largest_weight_sum * largest_message
        dtype = np.float32 if largest_sum < _EXACT_IN_FLOAT32 else np.float64
        if dtype not in self._workspaces:
            self._workspaces[dtype] = _Workspace(dtype, self._matrices, *self._geometry)
        sums = self._workspaces[dtype].multiply(_pooled(data.astype(dtype), *self._pool)).reshape(self._zeros.shape)
        if largest_sum < _LARGEST_SUM:
            return sums.astype(np.int32)
        return self._wrapped24(sums.astype(np.int64))

    def _wrapped24(self, sums: np.ndarray) -> np.ndarray:
        wrapped = wrap24(sums)
        self.wrapped = int(np.count_nonzero(wrapped != sums))
        return wrapped.astype(np.int32)


def _gain(weight: np.ndarray, groups: int) -> np.ndarray | None:
    """What a 1 x 1 kernel multiplies each channel by, int64 [C], where it mixes none; else None."""
    matrix = weight[:, 0, 0, :].astype(np.int64)
    if groups == len(matrix):
        return np.asarray(matrix[:, 0])
    if groups > 1:
        return None
    return np.asarray(matrix.diagonal()) if np.array_equal(matrix, np.diag(matrix.diagonal())) else None


class _Workspace:
    """Padded input, the windows into it and the weight matrices, in one float type."""

    def __init__(
        self,
        dtype: type,
        matrices: list[np.ndarray],
        kernel: Pair,
        stride: Pair,
        dilation: Pair,
        shape: tuple[int, int, int],
        padding: Pair,
    ) -> None:
        (size_x, size_y, channels), (pad_x, pad_y) = shape, padding
        padded: np.ndarray = np.zeros((size_x + 2 * pad_x, size_y + 2 * pad_y, channels), dtype)
        self._inside = padded[pad_x : pad_x + size_x, pad_y : pad_y + size_y]
        extent = tuple(dilation[i] * (kernel[i] - 1) + 1 for i in (0, 1))
        windows = np.lib.stride_tricks.sliding_window_view(padded, extent, axis=(0, 1))
        windows = windows[:: stride[0], :: stride[1], :, :: dilation[0], :: dilation[1]].transpose(0, 1, 3, 4, 2)
        self._windows = np.split(windows, len(matrices), axis=-1)  # [X', Y', kx, ky, I/groups] each
        few = windows.shape[0] * windows.shape[1] <= _FEW_PLACES
        self._matrices: list[np.ndarray] = [
            np.ascontiguousarray(matrix.T, dtype).T if few else np.ascontiguousarray(matrix, dtype) for matrix in matrices
        ]
        self._few = few

    def multiply(self, data: np.ndarray) -> np.ndarray:
        """Sums [X'*Y', O] for inputs [X, Y, I]."""
        self._inside[...] = data
        products = [
            (matrix.T @ windows.reshape(-1, len(matrix)).T).T if self._few else windows.reshape(-1, len(matrix)) @ matrix
            for windows, matrix in zip(self._windows, self._matrices, strict=True)
        ]
        return products[0] if len(products) == 1 else np.concatenate(products, axis=1)


def folded_pool(weight: np.ndarray, sizes: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Pair:
    """The average pool that is folded into a kernel, (1, 1) for none.

    It repeats every tap k x k times: the inputs can be added up first, and multiplied less.
    """
    x, y = (_repeats(weight, i, (sizes[i], stride[i], padding[i]), dilation[i]) for i in (0, 1))
    return x, y


def _repeats(weight: np.ndarray, axis: int, geometry: tuple[int, int, int], dilation: int) -> int:
    """How many neighbouring taps along one kernel axis are equal throughout, as a folded pool makes them; 1 for none."""
    size = weight.shape[1 + axis]
    if dilation == 1:
        common = gcd(size, *geometry)
        for count in range(common, 1, -1):
            if common % count == 0:
                once = weight.take(range(0, size, count), axis=1 + axis)
                if np.array_equal(weight, once.repeat(count, axis=1 + axis)):
                    return count
    return 1


def _pooled(data: np.ndarray, count_x: int, count_y: int) -> np.ndarray:
    """Sums over blocks of count_x x count_y inputs; slices add up several times faster than np.sum over two axes."""
    for axis, count in ((0, count_x), (1, count_y)):
        if count > 1:
            moved = data.swapaxes(0, axis)
            data = reduce(np.add, [moved[i::count] for i in range(count)]).swapaxes(0, axis)
    return data
