"""How often two links decide rightly on the same samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tet_deploy import plain
from tet_deploy.intervals import paired_difference, wilson


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """How many samples were decided rightly: by both links, by only one of them, by neither."""

    both: int
    only_first: int
    only_second: int
    neither: int

    @classmethod
    def of(cls, first: np.ndarray, second: np.ndarray, labels: np.ndarray) -> Accuracy:
        """That of decisions [B]."""
        right, too = first == labels, second == labels
        counts = (right & too, right & ~too, ~right & too, ~right & ~too)
        return cls(**dict(zip(_COUNTS, (int(np.count_nonzero(mask)) for mask in counts), strict=True)))

    @property
    def samples(self) -> int:
        """How many samples."""
        return self.both + self.only_first + self.only_second + self.neither

    @property
    def first(self) -> float:
        """Share that the first link decided rightly."""
        return (self.both + self.only_first) / self.samples

    @property
    def second(self) -> float:
        """Share that the second decided rightly."""
        return (self.both + self.only_second) / self.samples

    @property
    def loss(self) -> float:
        """Accuracy of the first minus that of the second."""
        return self.first - self.second

    def intervals(self) -> dict[str, tuple[float, float]]:
        """95 % intervals of "first", "second" and "difference", the second minus the first; see `intervals`."""
        return {
            "first": wilson(self.both + self.only_first, self.samples),
            "second": wilson(self.both + self.only_second, self.samples),
            "difference": paired_difference(self.both, self.only_first, self.only_second, self.neither),
        }

    def __add__(self, other: Accuracy) -> Accuracy:
        return Accuracy(**{name: getattr(self, name) + getattr(other, name) for name in _COUNTS})

    @classmethod
    def from_state(cls, state: Any) -> Accuracy:
        """The accuracy of which `state` is `dataclasses.asdict`, as JSON keeps it; an ArtifactError of something else."""
        state = plain.mapping(state, "accuracy")
        return cls(**{name: plain.count(state, name, "accuracy") for name in _COUNTS})


_COUNTS = ("both", "only_first", "only_second", "neither")
