"""How long the steps of a stream took."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from tet_deploy.errors import ArgumentError


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Percentiles of the time that a step took, each one that was measured, in milliseconds.

    Attributes
    ----------
    steps
        Of so many steps.
    p50, p90, p99
        No longer took 50, 90 and 99 % of them.
    longest
        The longest of all.
    """

    steps: int
    p50: float
    p90: float
    p99: float
    longest: float

    @classmethod
    def of(cls, seconds: Collection[float]) -> Latency:
        """Those of steps that took so many seconds each.

        Raises
        ------
        ArgumentError
            No step.
        """
        if not seconds:
            raise ArgumentError("latency: no step was taken yet. Call step(frame) first.")
        found = np.percentile(1e3 * np.array(list(seconds)), (50, 90, 99, 100), method="inverted_cdf")
        p50, p90, p99, longest = map(float, found)
        return cls(steps=len(seconds), p50=p50, p90=p90, p99=p99, longest=longest)

    def __str__(self) -> str:
        return f"p50 {self.p50:.3g}, p90 {self.p90:.3g}, p99 {self.p99:.3g}, longest {self.longest:.3g} ms a step"
