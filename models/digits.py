"""The two small networks of the demo; they learn handwritten digits on a CPU in seconds."""

from __future__ import annotations

from collections.abc import Sequence

from tet_deploy.models.notation import from_notation
from tet_deploy.nn import TimeMajor


def digits(shape: Sequence[int] = (1, 8, 8), classes: int = 10, width: float = 1.0) -> TimeMajor:
    """8C3-16C3-AP2-32C3-AP2-FC, for 8x8 images shown at every step."""
    return from_notation("8C3-16C3-AP2-32C3-AP2-FC", shape, classes, width=width)


def event_digits(shape: Sequence[int] = (2, 20, 20), classes: int = 10, width: float = 1.0) -> TimeMajor:
    """8C3-AP2-16C3-AP2-32C3-FC, for event counts of a 20x20 camera with two polarities."""
    return from_notation("8C3-AP2-16C3-AP2-32C3-FC", shape, classes, width=width)
