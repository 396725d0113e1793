"""Showing a sample for longer than it lasts."""

from __future__ import annotations

import numpy as np


def longer(frames: np.ndarray, steps: int) -> np.ndarray:
    """Frames [T, N, ...] over again until there are so many steps: a still image stays, a recording is played again."""
    return frames[np.arange(steps) % len(frames)]
