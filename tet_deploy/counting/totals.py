"""Spike traffic summed over samples; totals of any parts of a data set add up to those of the whole, exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from tet_deploy.counting.traffic import PER_EVENT, PER_STEP, Traffic
from tet_deploy.errors import DataError
from tet_deploy.reprs import short_repr

LARGEST = 2**60  # of a column over all layers, steps and samples: a few of them still add up in int64


@dataclass(frozen=True, kw_only=True, eq=False)
class Totals:
    """Counts of every synaptic layer, population and skip connection, as `Traffic` has them, over all samples.

    Attributes
    ----------
    samples
        How many there were.
    per_event
        int64 [L, T] for each name in `PER_EVENT`, summed over samples.
    per_step
        int64 [L] for each name in `PER_STEP`: the same in every step of every sample.
    input_sum
        Fractions [L, T]: of a synaptic layer's input over its elements and over samples.
    """

    layers: tuple[str, ...]
    kinds: tuple[str, ...]
    input_fed: np.ndarray
    samples: int
    per_event: Mapping[str, np.ndarray]
    per_step: Mapping[str, np.ndarray]
    input_sum: np.ndarray
    input_size: np.ndarray
    static_input: bool
    __repr__ = short_repr

    def __post_init__(self) -> None:
        most = [counts.sum(dtype=np.float64) for counts in self.per_event.values()]
        most += [counts.sum(dtype=np.float64) * self.samples * self.steps for counts in self.per_step.values()]
        if max(most) > LARGEST:
            raise DataError("energy: each column of counts must add up to at most 2^60. Count fewer samples together.")

    @classmethod
    def of(cls, traffic: Traffic) -> Totals:
        """Those of the traffic of some samples."""
        exact = np.frompyfunc(Fraction, 1, 1)(traffic.input_sum)  # floats are fractions, and fractions add up exactly
        return cls(
            layers=traffic.layers,
            kinds=traffic.kinds,
            input_fed=traffic.input_fed,
            samples=int(traffic.input_sum.shape[2]),
            per_event={name: counts.sum(axis=2) for name, counts in traffic.per_event.items()},
            per_step=traffic.per_step,
            input_sum=exact.sum(axis=2),
            input_size=traffic.input_size,
            static_input=traffic.static_input,
        )

    @property
    def steps(self) -> int:
        """Number of time steps T."""
        return int(self.input_sum.shape[1])

    @property
    def input_mean(self) -> np.ndarray:
        """Mean over samples and over the elements of a synaptic layer's input, float64 [L, T]."""
        sizes = [max(int(size), 1) * self.samples for size in self.input_size]
        rows = [[float(total / size) for total in row] for row, size in zip(self.input_sum, sizes, strict=True)]
        return np.array(rows, dtype=np.float64)

    def of_kind(self, *kinds: str) -> np.ndarray:
        """bool [L, 1]: rows of these kinds."""
        return np.array([kind in kinds for kind in self.kinds])[:, None]

    def __getitem__(self, column: str) -> np.ndarray:
        """int64 [L, T], summed over samples."""
        if column in self.per_event:
            return self.per_event[column]
        return np.repeat(self.per_step[column][:, None] * self.samples, self.steps, axis=1)

    def __add__(self, other: Totals) -> Totals:
        if not self._of_one_network(other):
            raise DataError("energy: only counts of one network and one number of steps can be joined. Keep them apart.")
        return Totals(
            layers=self.layers,
            kinds=self.kinds,
            input_fed=self.input_fed,
            samples=self.samples + other.samples,
            per_event={name: self.per_event[name] + other.per_event[name] for name in PER_EVENT},
            per_step=self.per_step,
            input_sum=self.input_sum + other.input_sum,
            input_size=self.input_size,
            static_input=self.static_input and other.static_input,
        )

    def _of_one_network(self, other: Totals) -> bool:
        """Whether all that the network alone decides is the same."""
        same = (self.layers, self.kinds, self.steps) == (other.layers, other.kinds, other.steps)
        same = same and all(np.array_equal(self.per_step[name], other.per_step[name]) for name in PER_STEP)
        sizes = np.array_equal(self.input_size, other.input_size)
        return same and sizes and np.array_equal(self.input_fed, other.input_fed)
