"""Numbers as people read them."""

from __future__ import annotations

import math

_PREFIXES = ((1e12, "J"), (1e9, "mJ"), (1e6, "µJ"), (1e3, "nJ"), (1.0, "pJ"))


def energy_unit(largest: float) -> tuple[float, str]:
    """Picojoules per unit, and the unit, in which the largest of some energies reads well."""
    return next(((size, unit) for size, unit in _PREFIXES if largest >= size), _PREFIXES[-1])


def energy_text(picojoules: float) -> str:
    """An energy with its unit, e.g. '12.3 nJ'."""
    size, unit = energy_unit(picojoules)
    return f"{significant(picojoules / size)} {unit}"


def significant(value: float, digits: int = 3) -> str:
    """A number with three significant digits, never in exponent form, thousands separated."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    power = int(f"{value:.{digits - 1}e}".partition("e")[2])  # of ten, once it is rounded: 9.999 becomes 10.0
    decimals = max(digits - 1 - power, 0)
    return f"{value:,.{decimals}f}"


def percent(share: float) -> str:
    """A share as '98.3 %'."""
    return f"{100 * share:.1f} %"
