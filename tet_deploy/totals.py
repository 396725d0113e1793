"""Results of successive samples add up, so that no list of parts is kept."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable
from typing import TypeVar

_Result = TypeVar("_Result")


def plus(total: _Result | None, part: _Result) -> _Result:
    """The next total; None is the one before the first part."""
    return part if total is None else total_of((total, part))


def total_of(parts: Iterable[_Result]) -> _Result:
    """The total of one part or more."""
    total: _Result = functools.reduce(operator.add, parts)
    return total
