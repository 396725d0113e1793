"""Files that processes fill step by step, so that memory stays small and nothing need be read back from Lava. numpy only."""

from __future__ import annotations

import numpy as np


class Record:
    """An existing .npy file [T, B, ...] for what a process makes of each frame.

    Parameters
    ----------
    path
        The file.
    latency
        Steps until the process comes to the first frame: frame n*T + k is its business in Lava step n*T + k + 1 + latency.
    """

    def __init__(self, path: str, latency: int) -> None:
        self._array = np.load(path, mmap_mode="r+")
        self._latency = latency
        self._steps, self._samples = self._array.shape[:2]

    def write(self, time_step: int, data: np.ndarray | int) -> None:
        """Store the data of a Lava step at [k, n]; what comes while the pipeline fills and empties is dropped."""
        sample, step = divmod(time_step - 1 - self._latency, self._steps)
        if 0 <= sample < self._samples:
            self._array[step, sample] = data


def optional_record(where: dict[str, object] | None) -> Record | None:
    """The record that a process's parameters ask for; None where they ask for none."""
    return None if where is None else Record(**where)  # type: ignore[arg-type]  # what network.py has written
