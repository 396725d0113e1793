"""Split the channels of a population into a few classes, each with a scale and so a threshold of its own.

Spikes are 0 or 1, so the layers behind notice nothing; a Loihi core holds eight configurations of thresholds (nengo-loihi
1.1, `discretize.py`). Channels whose weights are much larger than the others', as folding a batch norm makes them, then no
longer decide how coarse all are.

Channels do not see each other, so the deviation of each is known at every scale that was tried on all of them. Greedily, the
scale is added that lowers their mean most, each channel keeping the best of those chosen; then each class is moved to finer
scales around its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tet_deploy.passes.fit import Fit
from tet_deploy.units import ByChannel, by_channel

MOST_CLASSES = 8
_WORTH = 0.1  # share of the deviation that each class, and the split as a whole, must save
_FINER = (2.0**0.5, 2.0**0.25)


@dataclass(frozen=True, eq=False)
class Candidate:
    """Integers that were tried: the deviation of each channel [C] that they make, and the share of what differs."""

    fit: Fit
    errors: np.ndarray
    differing: float

    @property
    def deviation(self) -> float:
        """That of the population."""
        return float(self.errors.mean())

    @property
    def cost(self) -> float:
        """By which candidates are ranked: several classes must be worth it."""
        return self.deviation * (1 + _WORTH) if isinstance(self.fit.scale, tuple) else self.deviation


class Judge(Protocol):
    """Whoever tries scales."""

    def try_scale(self, scale: ByChannel) -> list[Candidate]:
        """What the population is at this scale, or at one for each channel; empty where it does not fit."""


def try_classes(judge: Judge, known: Sequence[Candidate], most: int) -> None:
    """Let a judge try up to so many scales together, chosen by what is known of one scale for all."""
    if not known:
        return
    mantissas, exponents = np.frexp(np.stack([candidate.errors for candidate in known]))
    errors = np.ldexp(np.round(mantissas, 6), exponents)  # the last bits of sums of floats depend on their order
    chosen = [int(errors.mean(axis=1).argmin())]
    while len(chosen) < most:
        least = errors[chosen].min(axis=0)
        saved = np.maximum(least - errors, 0).mean(axis=1)
        if saved.max() <= _WORTH * least.mean():
            break
        chosen.append(int(saved.argmax()))
    if len(chosen) == 1:
        return
    class_of = errors[chosen].argmin(axis=0)  # [C]
    scales = np.array([known[index].fit.scale for index in chosen])
    best = _tried(judge, scales[class_of])
    for factor in _FINER:
        for moved in (scales / factor, scales * factor):
            errors_moved = _tried(judge, moved[class_of])
            better = [errors_moved[class_of == k].sum() < best[class_of == k].sum() for k in range(len(scales))]
            scales = np.where(better, moved, scales)
            best = np.where(np.array(better)[class_of], errors_moved, best)
        best = _tried(judge, scales[class_of])


def _tried(judge: Judge, scale: np.ndarray) -> np.ndarray:
    """Deviations [C] at these scales; infinite where nothing fits."""
    found = judge.try_scale(by_channel(scale))
    return min(found, key=lambda candidate: candidate.deviation).errors if found else np.full(len(scale), np.inf)
