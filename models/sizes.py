"""What every network takes: the shape of a frame, the number of classes, and a factor on its channels."""

from __future__ import annotations

from collections.abc import Sequence

from tet_deploy.errors import ArgumentError


def checked(shape: Sequence[int], classes: int, width: float) -> tuple[int, int, int]:
    """(C, H, W) of one frame.

    Raises
    ------
    ArgumentError
        Another number of sizes, a size or a number of classes below 1, or a width that is not positive.
    """
    if len(shape) != 3 or min(shape) < 1 or classes < 1 or not width > 0:
        raise ArgumentError(
            "a network needs a frame shape (C, H, W), at least one class and a positive width; "
            f"got {tuple(shape)}, {classes} and {width}."
        )
    channels, height, width_px = shape
    return channels, height, width_px


def scaled(channels: int, width: float) -> int:
    """Channels times width, rounded, at least 1."""
    return max(1, round(channels * width))
