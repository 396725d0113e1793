"""The neurons of Lava's LIFReset in its fixed point, in few passes over int32 memory. numpy only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np

_ONE = 4096  # decays are 12 bit: state * (4096 - decay) / 4096
_HALF = 2048
_STATE_LIMIT = 2**23  # u and v are 24 bit
_LOWEST = -(_STATE_LIMIT - 1)
_FRACTION_BITS = 6
CURRENT_LIVES_ONE_STEP = _ONE - 1  # du


class Population(NamedTuple):
    """Neurons that are alike but for their channels.

    Attributes
    ----------
    shape
        In Lava's layout: channels last.
    threshold, dv, du
        Mantissa of the threshold and 12-bit decays of potential and current; numbers, or arrays [C].
    bias, bias_exponent
        Mantissa, a number or an array [C] that is stored in 16 bit, and how far it is shifted.
    offset
        Both states are 0 before the steps whose number, divided by the period, leaves it.
    """

    shape: tuple[int, ...]
    threshold: int | np.ndarray
    dv: int | np.ndarray
    du: int | np.ndarray = CURRENT_LIVES_ONE_STEP
    bias: int | np.ndarray = 0
    bias_exponent: int = 0
    offset: int = 0


class Neurons:
    """Populations of leaky integrate-and-fire neurons, one behind the other, as small ones cost little together.

    u = truncate(u * (4095 - du) / 4096) + (a << 6), wrapped once into 24 bit
    v = clip(truncate(v * (4096 - dv) / 4096) + u + bias, -(2^23 - 1), 2^23 - 1)
    spike = v > threshold << 6 ; v = 0 where it spikes

    Parameters
    ----------
    populations
        What they are.
    period
        Steps from one reset to the next.

    Attributes
    ----------
    u, v
        For each population its int32 synaptic current and membrane potential after the last step.
    wrapped, saturated
        For each, how many currents of the last step wrapped, and how many potentials were held at the lower limit.
    """

    def __init__(self, populations: Sequence[Population], period: int) -> None:
        self._shapes = [each.shape for each in populations]
        bounds = [0, *accumulate(map(math.prod, self._shapes))]
        self._parts = [slice(start, stop) for start, stop in pairwise(bounds)]
        self._resets = [(each.offset % period, part) for each, part in zip(populations, self._parts, strict=True)]
        self._period = period
        size = bounds[-1]
        self._u, self._v, self._scratch = (np.zeros(size, np.int32) for _ in range(3))
        self._limit = np.left_shift(self._joined([each.threshold for each in populations], np.int32), _FRACTION_BITS) + 1
        biases = [np.left_shift(np.asarray(p.bias).astype(np.int16).astype(np.int32), p.bias_exponent) for p in populations]
        bias = self._joined(biases, np.int32)
        self._bias = bias if bias.any() else None
        self._dv = self._joined([each.dv for each in populations], np.int64)
        self._du = self._joined([each.du for each in populations], np.int64) + 1
        self.u, self.v = self._split(self._u), self._split(self._v)
        self.wrapped = self.saturated = [0] * len(populations)

    def step(self, time: int, sums: Sequence[Sequence[np.ndarray]]) -> list[np.ndarray]:
        """One step of Lava's time.

        Parameters
        ----------
        time
            Its number, from 1.
        sums
            For each population what its ports send, int32 of its shape.

        Returns
        -------
        list
            For each population which neurons spike; booleans that no later step changes.
        """
        for offset, part in self._resets:
            if time % self._period == offset:
                self._u[part] = 0
                self._v[part] = 0
        self._take(sums)
        self._wrap()
        v = self._v
        self._decay(v, self._dv)
        v += self._u
        if self._bias is not None:
            v += self._bias
        self.saturated = self._none
        if v.min() < _LOWEST:
            self.saturated = self._counted(v < _LOWEST)
            np.maximum(v, _LOWEST, out=v)  # at the upper limit every neuron spikes, which leaves 0
        below = np.subtract(v, self._limit, out=self._scratch)
        below >>= 31  # all bits where it does not spike, none where it does: several times faster than a mask
        v &= below
        return self._split(below == 0)

    def _take(self, sums: Sequence[Sequence[np.ndarray]]) -> None:
        """Add what arrives to what is left of the current."""
        nothing_is_left = self._du.ndim == 0 and self._du == _ONE
        if not nothing_is_left:
            self._decay(self._u, self._du)
        for u, ports in zip(self.u, sums, strict=True):
            others = iter(ports)
            if nothing_is_left:
                np.left_shift(next(others), _FRACTION_BITS, out=u)
            for port in others:
                u += np.left_shift(port, _FRACTION_BITS)

    def _wrap(self) -> None:
        u = self._u
        self.wrapped = self._none
        if u.max() > _STATE_LIMIT or u.min() <= -_STATE_LIMIT:
            high, low = u > _STATE_LIMIT, u <= -_STATE_LIMIT
            self.wrapped = self._counted(high | low)
            u[high] -= 2 * _STATE_LIMIT
            u[low] += 2 * _STATE_LIMIT

    def _decay(self, state: np.ndarray, decay: np.ndarray) -> None:
        """Multiply a state by (4096 - decay) / 4096, truncating toward zero."""
        if decay.ndim:
            self._scale(state, decay)
        elif decay == _ONE:
            state[...] = 0
        elif decay == _HALF:
            state -= np.right_shift(state, 31, out=self._scratch)  # 1 more where negative
            state >>= 1
        elif decay:
            self._scale(state, decay)

    def _scale(self, state: np.ndarray, decay: np.ndarray) -> None:
        """In double, which holds the product of 32 and 12 bits; turned into a whole number it is truncated."""
        np.copyto(state, np.multiply(state, (_ONE - decay) / _ONE), casting="unsafe")

    @property
    def _none(self) -> list[int]:
        return [0] * len(self._parts)

    def _counted(self, which: np.ndarray) -> list[int]:
        return [int(np.count_nonzero(which[part])) for part in self._parts]

    def _split(self, values: np.ndarray) -> list[np.ndarray]:
        return [values[part].reshape(shape) for part, shape in zip(self._parts, self._shapes, strict=True)]

    def _joined(self, values: Sequence[int | np.ndarray], dtype: type) -> np.ndarray:
        """One number where all are that, otherwise one for each neuron."""
        arrays = [np.asarray(value, dtype) for value in values]
        if all(array.ndim == 0 and array == arrays[0] for array in arrays):
            return arrays[0]
        return np.concatenate(
            [np.broadcast_to(array, shape).reshape(-1) for array, shape in zip(arrays, self._shapes, strict=True)]
        )
