"""How large many differences are, in a form that adds up exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from tet_deploy import plain

_FINEST = 100  # squares are summed in units of 2^-100
_BELOW = 80  # squares below 2^-80 count as none


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Sizes of many differences: how many, the largest, and the sum of their squares in units of 2^-100."""

    count: int = 0
    largest: float = 0.0
    squares: int = 0

    @classmethod
    def of(cls, differences: np.ndarray) -> Spread:
        """That of an array of differences."""
        sizes = np.abs(np.asarray(differences, np.float64)).ravel()
        largest = float(sizes.max()) if sizes.size else 0.0
        return cls(count=sizes.size, largest=largest, squares=_sum_of_squares(sizes[sizes > 0]))

    @property
    def rms(self) -> float:
        """Root mean square."""
        return math.sqrt(self.squares / self.count) / 2 ** (_FINEST // 2) if self.count else 0.0

    def __add__(self, other: Spread) -> Spread:
        return Spread(
            count=self.count + other.count,
            largest=max(self.largest, other.largest),
            squares=self.squares + other.squares,
        )

    def to_state(self) -> dict[str, Any]:
        """In plain JSON values, without loss."""
        return {"count": self.count, "largest": self.largest, "squares": str(self.squares)}

    @classmethod
    def from_state(cls, state: Any, name: str) -> Spread:
        """What `to_state` gave; an ArtifactError of something else."""
        state = plain.mapping(state, name)
        squares = plain.text(state, "squares", name, most=200)
        if not (squares.isascii() and squares.isdigit()):
            raise plain.damaged(f"{name}.squares: must be a whole number")
        return cls(count=plain.count(state, "count", name), largest=plain.real(state, "largest", name), squares=int(squares))


def _sum_of_squares(sizes: np.ndarray) -> int:
    """Exact, whatever the order: each square is rounded by itself, to 20 bits."""
    mantissa, exponent = np.frexp(np.minimum(sizes, 2.0**60) ** 2)
    kept = exponent > -_BELOW
    places = exponent[kept].astype(np.int64) + _BELOW
    parts = np.bincount(places, weights=np.rint(mantissa[kept] * 2.0**20))  # whole numbers far below 2^53
    return sum(int(part) << place for place, part in enumerate(parts))
