"""Frames from a file as the signed integer messages that the chip gets. numpy only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


class Messages:
    """message = clip(round(y * scale), -limit, limit), samples back to back, each with zeros up to its period, then zeros.

    y = (frame - mean) / deviation, or the frame where the plan's input has no mean and no deviation.

    Parameters
    ----------
    path
        File of frames [T, B, *shape], the layout of torch, read a frame at a time.
    entry
        The plan's "input".
    period
        Steps that a sample takes, T or more.

    Attributes
    ----------
    clipped
        How many messages of the last frame were held at the limit.
    """

    def __init__(self, path: str, entry: Mapping[str, Any], period: int) -> None:
        self._frames = np.load(path, mmap_mode="r").view(np.ndarray)  # whose slices cost less
        self._scale, self._limit = np.float32(entry["scale"]), 2 ** (entry["bits"] - 1) - 1
        sides = (1,) * (self._frames.ndim - 3)
        self._normal = [
            np.array(entry[key], np.float32).reshape(-1, *sides) for key in ("mean", "deviation") if key in entry
        ]
        self._period = period
        self.clipped = 0

    def at(self, time: int) -> np.ndarray:
        """int32 messages in Lava's layout: frame k of sample n in step n*period + k + 1."""
        steps, samples, *shape = self._frames.shape
        sample, step = divmod(time - 1, self._period)
        self.clipped = 0
        if step >= steps or sample >= samples:  # a silent step, or the last samples are on their way through the layers
            return np.zeros(shape[::-1], np.int32)
        scaled = self._frames[step, sample].astype(np.float32)
        if self._normal:
            mean, deviation = self._normal
            scaled = (scaled - mean) / deviation
        scaled *= self._scale
        np.rint(scaled, out=scaled)
        if max(scaled.max(), -scaled.min()) > self._limit:
            self.clipped = int(np.count_nonzero(np.abs(scaled) > self._limit))
            np.clip(scaled, -self._limit, self._limit, out=scaled)
        return scaled.astype(np.int32).T  # [C, H, W] of torch becomes [W, H, C]; flat frames stay as they are
