"""Numbers and switches that a caller gives: each is of the type that is meant, and no other that happens to work."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from tet_deploy.errors import ArgumentError, shown


def whole(name: str, value: Any, *, least: int = 1, greatest: int | None = None, instead: str = "") -> int:
    """A whole number within bounds: Python's, numpy's or torch's own, but no float and neither True nor False.

    Raises
    ------
    ArgumentError
        Something else; `instead` says what else it may be.
    """
    try:
        found = None if isinstance(value, (bool, np.bool_, np.ndarray)) else operator.index(value)
    except (TypeError, ValueError, RuntimeError):  # torch's tensors of floats, or of several numbers
        found = None
    if found is None or found < least or (greatest is not None and found > greatest):
        bounds = f"of at least {least}" if greatest is None else f"within {least}..{greatest}"
        raise ArgumentError(f"{name}: must be a whole number {bounds}{instead}; got {shown(value)}.")
    return found


def flag(name: str, value: Any) -> bool:
    """True or False.

    Raises
    ------
    ArgumentError
        Something else, such as a text, which would count as True.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise ArgumentError(f"{name}: must be True or False; got {shown(value)}.")
    return bool(value)
