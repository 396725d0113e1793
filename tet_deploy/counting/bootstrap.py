"""How sure the mean energy of an inference is: a percentile bootstrap over the samples.

B samples are drawn from the B counted ones, with replacement, 1,000 times, from the seed 0; the interval holds the middle
95 % of the means. It is of the draw of samples, not of the prices.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tet_deploy.counting.energies import ADDITIONS, MACS, price_of
from tet_deploy.counting.model import EnergyReport

CONFIDENCE = 0.95
RESAMPLES = 1000
SEED = 0
_AT_ONCE = 2**22  # numbers drawn


def intervals(report: EnergyReport) -> dict[str, Any]:
    """The interval of the mean of the default energy by each table, in picojoules; None where one sample was counted."""
    means = resampled(report.operations) if report.samples > 1 else None
    found = {}
    for priced in report.by_table:
        found[priced.table.name] = None if means is None else _interval(priced, means)
    return {
        "method": "percentile bootstrap of the mean over samples",
        "confidence": CONFIDENCE,
        "resamples": RESAMPLES,
        "seed": SEED,
        "energy": report.default,
        "tables": found,
    }


def resampled(operations: np.ndarray) -> np.ndarray:
    """Sums over samples drawn with replacement, int64 [RESAMPLES, 2], of operations as `EnergyReport` has them."""
    rng, often = np.random.default_rng(SEED), operations[:, 2]
    samples = int(often.sum())
    at_once = max(_AT_ONCE // len(often), 1)
    sizes = (min(at_once, RESAMPLES - start) for start in range(0, RESAMPLES, at_once))
    return np.concatenate([rng.multinomial(samples, often / samples, size) @ operations[:, :2] for size in sizes])


def _interval(report: EnergyReport, sums: np.ndarray) -> list[float]:
    """Prices of the drawn sums, beside what every sample spends alike."""
    terms, _ = report.terms(report.default)
    prices = np.array([float(price_of(terms, part)) for part in (MACS, ADDITIONS)])
    means = sums @ prices / report.samples + float(report.alike_each_step() * report.steps)
    tail = (1 - CONFIDENCE) / 2
    return [float(bound) for bound in np.quantile(means, (tail, 1 - tail))]
