"""Frames from a file as the signed integer messages that the chip gets. numpy only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


class Messages:
    """message = clip(round(y * scale), -limit, limit), samples back to back, then zeros.

    y = (frame - mean) / deviation, or the frame where the plan's input has no mean and no deviation.

    Parameters
    ----------
    path
        File of frames [T, B, *shape], the layout of torch, read a frame at a time.
    entry
        The plan's "input".

    Attributes
    ----------
    clipped
        How many messages of the last frame were held at the limit.
    """

    def __init__(self, path: str, entry: Mapping[str, Any]) -> None:
        self._frames = np.load(path, mmap_mode="r")
        self._scale, self._limit = np.float32(entry["scale"]), 2 ** (entry["bits"] - 1) - 1
        sides = (1,) * (self._frames.ndim - 3)
        self._mean, self._deviation = (
            np.array(entry.get(key, rest), np.float32).reshape(-1, *sides) for key, rest in (("mean", 0), ("deviation", 1))
        )
        self.clipped = 0

    def at(self, time: int) -> np.ndarray:
        """int32 messages in Lava's layout: frame n*T + k in step n*T + k + 1."""
        steps, samples, *shape = self._frames.shape
        sample, step = divmod(time - 1, steps)
        self.clipped = 0
        if sample >= samples:  # the last samples are still on their way through the layers
            return np.zeros(shape[::-1], np.int32)
        y = (self._frames[step, sample].astype(np.float32) - self._mean) / self._deviation
        scaled = np.rint(y * self._scale)
        self.clipped = int(np.count_nonzero(np.abs(scaled) > self._limit))
        # [C, H, W] of torch becomes [W, H, C]; flat frames stay as they are
        return np.clip(scaled, -self._limit, self._limit).astype(np.int32).T
