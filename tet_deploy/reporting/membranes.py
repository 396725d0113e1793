"""How near to their threshold the neurons are: a histogram for each population, which adds up over samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tet_deploy.contracts import Recording
from tet_deploy.reprs import short_repr
from tet_deploy.units import ByChannel, along

EDGES = np.round(np.arange(-4, 1.01, 0.1), 1)  # in thresholds; what lies beyond is in the first and the last bin


@dataclass(frozen=True, kw_only=True, eq=False)
class Membrane:
    """The potentials of one population, in units of its threshold, of neurons in steps in which they did not fire.

    Attributes
    ----------
    counts
        int64: how many lie between two `EDGES` each.
    least, greatest
        Of all of them; infinity and -infinity where there are none.
    """

    counts: np.ndarray
    least: float
    greatest: float
    __repr__ = short_repr

    def __add__(self, other: Membrane) -> Membrane:
        """Those of both runs' samples."""
        return Membrane(
            counts=self.counts + other.counts,
            least=min(self.least, other.least),
            greatest=max(self.greatest, other.greatest),
        )

    def to_dict(self) -> dict[str, Any]:
        """In plain JSON values."""
        seen = int(self.counts.sum()) > 0
        return {
            "least": self.least if seen else None,
            "greatest": self.greatest if seen else None,
            "counts": self.counts.tolist(),
        }


def membranes(recording: Recording, thresholds: Mapping[str, ByChannel]) -> dict[str, Membrane]:
    """Of each population that was probed and has a threshold above 0, in the units of its potentials."""
    return {
        name: _membrane(recording.potentials[name], recording.spikes[name], thresholds[name])
        for name in recording.potentials
        if name in thresholds and name in recording.spikes and np.min(thresholds[name]) > 0
    }


def added(total: Mapping[str, Membrane], part: Mapping[str, Membrane]) -> dict[str, Membrane]:
    """Those of all samples so far and of the next ones."""
    return {name: total[name] + found if name in total else found for name, found in part.items()}


def _membrane(potentials: np.ndarray, spikes: np.ndarray, threshold: ByChannel) -> Membrane:
    counts, least, greatest = np.zeros(len(EDGES) - 1, dtype=np.int64), np.inf, -np.inf
    for v, fired in zip(potentials, spikes, strict=True):  # a step at a time: the quotient takes room
        silent = (v[None] / along(threshold, v.ndim + 1))[0][fired == 0]
        counts += np.histogram(np.clip(silent, EDGES[0], EDGES[-1]), EDGES)[0]
        least, greatest = float(silent.min(initial=least)), float(silent.max(initial=greatest))
    return Membrane(counts=counts, least=least, greatest=greatest)
