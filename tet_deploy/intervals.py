"""Confidence intervals of accuracies, and of the difference of two on the same samples."""

from __future__ import annotations

import math

_Z95 = 1.959963984540054  # 97.5 % quantile of the normal distribution


def wilson(count: int, of: int) -> tuple[float, float]:
    """95 % score interval of a proportion (Wilson, JASA 22, 1927, p. 209), from 0 for none and to 1 for all."""
    p, spread = count / of, _Z95 * _Z95 / of
    middle, half = p + spread / 2, _Z95 * math.sqrt(p * (1 - p) / of + spread / (4 * of))
    low, high = (middle - half) / (1 + spread), (middle + half) / (1 + spread)
    return max(0.0, low) if count else 0.0, min(1.0, high) if count < of else 1.0  # rounding would be beside the ends


def paired_difference(both: int, only_first: int, only_second: int, neither: int) -> tuple[float, float]:
    """95 % interval of second minus first proportion, counted on the same samples.

    Newcombe, Statistics in Medicine 17 (1998), p. 2635, method 10: the score intervals of both, and their correlation.

    Parameters
    ----------
    both, only_first, only_second, neither
        Samples that both, only one or neither decided rightly.
    """
    of = both + only_first + only_second + neither
    first, second = both + only_first, both + only_second
    (low1, high1), (low2, high2) = wilson(first, of), wilson(second, of)
    p1, p2 = first / of, second / of
    margins = first * (of - first) * second * (of - second)
    excess = float(both * neither - only_first * only_second)
    if excess > 0:
        excess = max(excess - of / 2, 0.0)
    phi = excess / math.sqrt(margins) if margins else 0.0
    down = _joined(p2 - low2, high1 - p1, phi)
    up = _joined(high2 - p2, p1 - low1, phi)
    return max(-1.0, p2 - p1 - down), min(1.0, p2 - p1 + up)


def _joined(one: float, other: float, phi: float) -> float:
    return math.sqrt(max(0.0, one * one - 2 * phi * one * other + other * other))


def least_count(of: int, proportion: float, level: float) -> int:
    """The least count that so many draws reach with no more than this probability, where each counts with `proportion`.

    One that is reached shows, at that level, that the true proportion is no less (exact one-sided binomial test); `of` + 1
    where no count does.
    """
    reached, k = 0.0, of + 1
    while k > 0:
        ways = math.lgamma(of + 1) - math.lgamma(k) - math.lgamma(of - k + 2)
        reached += math.exp(ways + (k - 1) * math.log(proportion) + (of - k + 1) * math.log1p(-proportion))
        if reached > level:
            break
        k -= 1
    return k
