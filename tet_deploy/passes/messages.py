"""The integers that a node sends on the calibration frames, kept outside of memory where they are many."""

from __future__ import annotations

import copy
import tempfile

import numpy as np

_IN_MEMORY = 2**26  # bytes a node; beyond, a temporary file without a name holds them


class _Unnamed(tempfile.SpooledTemporaryFile[bytes]):
    """Closes itself when its last reader is gone; Python's own warns then."""

    def __del__(self) -> None:
        self.close()


class Messages:
    """Integers [T, B, *shape], written and read some samples at a time.

    Parameters
    ----------
    steps, shape
        Number of time steps T, and shape of what is sent at one of them.
    dtype
        In which they are kept.
    """

    def __init__(self, steps: int, shape: tuple[int, ...], dtype: type = np.uint8) -> None:
        self.steps, self.shape, self.dtype = steps, tuple(shape), np.dtype(dtype)
        self.samples = 0
        self._file = _Unnamed(_IN_MEMORY)
        self._bytes = steps * int(np.prod(shape, dtype=np.int64)) * self.dtype.itemsize  # of one sample

    def append(self, messages: np.ndarray) -> None:
        """Add samples [T, B, *shape] behind those that are there."""
        self._file.seek(self.samples * self._bytes)
        self._file.write(np.ascontiguousarray(messages.swapaxes(0, 1).astype(self.dtype, copy=False)).data)
        self.samples += messages.shape[1]

    def read(self, start: int, stop: int) -> np.ndarray:
        """Samples start..stop-1, or as many of them as there are: [T, B, *shape]."""
        stop = min(stop, self.samples)
        self._file.seek(start * self._bytes)
        flat = np.frombuffer(self._file.read((stop - start) * self._bytes), self.dtype)
        return flat.reshape(stop - start, self.steps, *self.shape).swapaxes(0, 1)

    def reshaped(self, shape: tuple[int, ...]) -> Messages:
        """The same integers under another shape of what is sent at one step."""
        other = copy.copy(self)
        other.shape = tuple(shape)
        return other
