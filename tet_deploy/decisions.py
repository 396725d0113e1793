"""What a run decided, and how often rightly; results of successive samples add up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tet_deploy import plain
from tet_deploy.contracts import Recording
from tet_deploy.errors import DataError
from tet_deploy.range_totals import RangeTotals
from tet_deploy.reprs import short_repr


def confusion(labels: np.ndarray, decisions: np.ndarray, classes: int) -> np.ndarray:
    """How many samples of each class were decided as which: int64 [true class, decision]."""
    return np.bincount(labels * classes + decisions, minlength=classes * classes).reshape(classes, classes)


@dataclass(frozen=True, kw_only=True, eq=False)
class Decisions:
    """The classes that one runtime decided on.

    Attributes
    ----------
    runtime
        Its name.
    steps
        Number of time steps T.
    decisions
        int64 [B]: class of each sample after the last step.
    correct
        int64 [T]: samples that were decided rightly if the run ended after step 1..T; None where no labels are known.
    ranges
        How many values left the chip's range.
    """

    runtime: str
    steps: int
    decisions: np.ndarray
    correct: np.ndarray | None = None
    ranges: RangeTotals = field(default_factory=RangeTotals)
    __repr__ = short_repr

    @classmethod
    def of(cls, recording: Recording, labels: np.ndarray | None, ranges: RangeTotals | None = None) -> Decisions:
        """Those of a recording whose samples have these labels, int64 [B], and whose values left their range like that."""
        by_step = recording.decisions_by_step
        correct = None if labels is None else np.count_nonzero(by_step == labels, axis=1)
        return cls(
            runtime=recording.runtime,
            steps=recording.steps,
            decisions=by_step[-1],
            correct=correct,
            ranges=ranges or RangeTotals(),
        )

    @property
    def samples(self) -> int:
        """Number of samples B."""
        return len(self.decisions)

    @property
    def accuracy_by_step(self) -> list[float]:
        """Share of right decisions if the run ended after step 1..T, in [0, 1]; empty where no labels are known."""
        return [] if self.correct is None else [int(count) / self.samples for count in self.correct]

    @property
    def accuracy(self) -> float | None:
        """Share of right decisions, in [0, 1]."""
        return self.accuracy_by_step[-1] if self.correct is not None else None

    def __add__(self, other: Decisions) -> Decisions:
        """Those of this run's samples followed by the other's."""
        like = (self.runtime, self.steps, self.correct is None) == (other.runtime, other.steps, other.correct is None)
        if not like:
            raise DataError("decisions: only those of one runtime and number of steps can be joined. Keep them apart.")
        return Decisions(
            runtime=self.runtime,
            steps=self.steps,
            decisions=np.concatenate([self.decisions, other.decisions]),
            correct=None if self.correct is None or other.correct is None else self.correct + other.correct,
            ranges=self.ranges + other.ranges,
        )

    def to_state(self) -> dict[str, Any]:
        """In plain JSON values, without loss."""
        correct = None if self.correct is None else self.correct.tolist()
        return {
            "runtime": self.runtime,
            "steps": self.steps,
            "decisions": self.decisions.tolist(),
            "correct": correct,
            "ranges": self.ranges.to_state(),
        }

    @classmethod
    def from_state(cls, state: Any) -> Decisions:
        """What `to_state` gave.

        Raises
        ------
        ArtifactError
            Something else.
        """
        state = plain.mapping(state, "decisions")
        steps, samples = plain.count(state, "steps", least=1), len(plain.counts(state, "decisions"))
        correct = None if plain.get(state, "correct") is None else plain.counts(state, "correct", length=steps)
        if correct is not None and (correct > samples).any():
            raise plain.damaged(f"correct: more than the {samples} samples")
        return cls(
            runtime=plain.text(state, "runtime"),
            steps=steps,
            decisions=plain.counts(state, "decisions"),
            correct=correct,
            ranges=RangeTotals.from_state(plain.get(state, "ranges")),
        )
