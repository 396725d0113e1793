"""Random changes of training samples, and the normalisation of images. Needs numpy only."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tet_deploy.arguments import flag, nearest, whole
from tet_deploy.errors import ArgumentError


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Flip, roll and crop; one draw for all time steps and channels of a sample.

    Attributes
    ----------
    flip
        Mirror left and right, in half of the cases.
    roll
        Roll by up to this many pixels up or down and left or right; what leaves on one side enters on the other
        (Li et al., "Neuromorphic data augmentation", 2022; the paper: "random roll within 5 pixels").
    crop_padding
        Add this many pixels of zeros on all sides, then cut out a window of the old size (the usual CIFAR crop).
    resized_crop
        Of image files only: cut out a window of random size and shape, see image_folder.

    Raises
    ------
    ArgumentError
        A value of the wrong type, or pixels below zero.
    """

    flip: bool = False
    roll: int = 0
    crop_padding: int = 0
    resized_crop: bool = False

    def __post_init__(self) -> None:
        for name in ("flip", "resized_crop"):
            flag(f"augmentation {name}", getattr(self, name))
        for name in ("roll", "crop_padding"):
            whole(f"augmentation {name}, in pixels", getattr(self, name), least=0)

    def __call__(self, frames: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Change frames [..., H, W], of any type."""
        height, width = frames.shape[-2:]
        if self.flip and generator.random() < 0.5:
            frames = frames[..., ::-1]
        if self.roll:
            down, right = generator.integers(-self.roll, self.roll + 1, 2)
            frames = np.roll(frames, (int(down), int(right)), axis=(-2, -1))
        if self.crop_padding:
            top, left = generator.integers(0, 2 * self.crop_padding + 1, 2)
            around = [(0, 0)] * (frames.ndim - 2) + [(self.crop_padding, self.crop_padding)] * 2
            frames = np.pad(frames, around)[..., top : top + height, left : left + width]
        return frames


def augmentation_for(name: str, wanted: Mapping[str, Any] | None, *, without: Mapping[str, str]) -> Augmentation:
    """What a data set is asked for, such as {"flip": True, "roll": 5}.

    Parameters
    ----------
    name
        Of the data set, for the errors.
    wanted
        Fields of Augmentation; None for none.
    without
        Fields that do not suit this data set, and why.

    Raises
    ------
    ArgumentError
        An unknown field, a value out of range, or a change that does not suit.
    """
    known = [field.name for field in dataclasses.fields(Augmentation)]
    for key in wanted or {}:
        if key not in known:
            hint = nearest(key, known, f" There are {', '.join(known)}.")
            raise ArgumentError(f"augmentation: there is no {key!r}.{hint}")
    chosen = Augmentation(**(wanted or {}))
    for key, reason in without.items():
        if getattr(chosen, key):
            raise ArgumentError(f"data {name!r}: cannot be augmented by {key}: {reason}. Leave it out.")
    return chosen


@dataclass(frozen=True)
class Normalisation:
    """From bytes to real numbers: (x / 255 - mean) / deviation, each of one value a channel."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def __call__(self, images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Normalise images uint8 [..., C, H, W]; float32."""
        mean = np.array(self.mean, dtype=np.float32)[:, None, None]
        deviation = np.array(self.deviation, dtype=np.float32)[:, None, None]
        return np.asarray((images.astype(np.float32) / np.float32(255) - mean) / deviation)
