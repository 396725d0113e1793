"""Values that another program may have written, read from JSON: each is what it must be, or an error names it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from tet_deploy.errors import ArtifactError, shown

_LARGEST = 2**62  # counts must stay int64 when a few of them are added


def damaged(what: str) -> ArtifactError:
    """The error that says what is wrong with a file of results, and the way out."""
    return ArtifactError(f"{what.removesuffix('.')}. The file is damaged; do the work again.")


def mapping(value: Any, name: str) -> dict[str, Any]:
    """An object.

    Raises
    ------
    ArtifactError
        Something else; so for all functions here.
    """
    if not isinstance(value, dict):
        raise _wrong(name, "an object", value)
    return value


def get(state: Mapping[str, Any], key: str, name: str = "") -> Any:
    """The value of a key that must be there."""
    if key not in state:
        raise damaged(f"{_join(name, key)}: is missing")
    return state[key]


def text(state: Mapping[str, Any], key: str, name: str = "", most: int = 10_000) -> str:
    """A string of that key."""
    value = get(state, key, name)
    if not isinstance(value, str) or len(value) > most:
        raise _wrong(_join(name, key), f"a string of at most {most} characters", value)
    return value


def texts(state: Mapping[str, Any], key: str, name: str = "") -> list[str]:
    """A list of short strings."""
    value = get(state, key, name)
    if not isinstance(value, list) or not all(isinstance(entry, str) and len(entry) < 1000 for entry in value):
        raise _wrong(_join(name, key), "a list of strings", value)
    return value


def count(state: Mapping[str, Any], key: str, name: str = "", least: int = 0) -> int:
    """A whole number of that key, at least 0."""
    value = get(state, key, name)
    if type(value) is not int or not least <= value <= _LARGEST:
        raise _wrong(_join(name, key), f"a whole number of at least {least}", value)
    return value


def flag(state: Mapping[str, Any], key: str, name: str = "") -> bool:
    """True or False."""
    value = get(state, key, name)
    if type(value) is not bool:
        raise _wrong(_join(name, key), "true or false", value)
    return value


def real(state: Mapping[str, Any], key: str, name: str = "") -> float:
    """A finite number of that key."""
    value = get(state, key, name)
    if type(value) not in (int, float) or not math.isfinite(value):
        raise _wrong(_join(name, key), "a number", value)
    return float(value)


def reals(state: Mapping[str, Any], key: str, name: str = "") -> np.ndarray:
    """float64 [N], finite numbers, at least one."""
    value = get(state, key, name)
    right = isinstance(value, list) and value and all(type(x) in (int, float) and math.isfinite(x) for x in value)
    if not right:
        raise _wrong(_join(name, key), "a list of numbers", value)
    return np.array(value, dtype=np.float64)


def real_or_none(state: Mapping[str, Any], key: str, name: str = "") -> float | None:
    """A finite number of that key, or None."""
    return None if get(state, key, name) is None else real(state, key, name)


def entries(state: Mapping[str, Any], key: str, name: str = "", length: int | None = None) -> list[Any]:
    """A list of that key, of whatever."""
    value = get(state, key, name)
    if not isinstance(value, list) or (length is not None and len(value) != length):
        raise _wrong(_join(name, key), "a list" if length is None else f"a list of {length}", value)
    return value


def grid(state: Mapping[str, Any], key: str, rows: int, columns: int, name: str = "") -> np.ndarray:
    """int64 [rows, columns], at least one row, whole numbers of at least 0."""
    found = entries(state, key, name, length=rows)
    return np.stack([counts({key: row}, key, name, length=columns) for row in found])


def counts(state: Mapping[str, Any], key: str, name: str = "", length: int | None = None) -> np.ndarray:
    """int64 [length], whole numbers of at least 0."""
    value = get(state, key, name)
    right = isinstance(value, list) and all(type(entry) is int and 0 <= entry <= _LARGEST for entry in value)
    if not right or (length is not None and len(value) != length):
        raise _wrong(_join(name, key), f"{'' if length is None else f'{length} '}whole numbers of at least 0", value)
    return np.array(value, dtype=np.int64)


def _join(name: str, key: str) -> str:
    key = key if key.isprintable() and len(key) < 100 else shown(key)  # another program's, maybe
    return f"{name}.{key}" if name else key


def _wrong(name: str, expected: str, value: Any) -> ArtifactError:
    return damaged(f"{name}: must be {expected}; found {shown(value)}")
