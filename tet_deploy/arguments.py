"""Numbers, switches and names that a caller gives: each is of the type that is meant, and no other that happens to work."""

from __future__ import annotations

import difflib
import operator
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tet_deploy.errors import ArgumentError, cut, shown


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


def nearest(word: object, known: Iterable[str], otherwise: str = "") -> str:
    """ " Did you mean 'conv1'?" of the known name that is nearest to a word, in any case; `otherwise` where none is near."""
    names = {name.lower(): name for name in known}
    found = difflib.get_close_matches(cut(word).lower(), names, n=1) if isinstance(word, str) else []
    return f" Did you mean {names[found[0]]!r}?" if found else otherwise


def check_named(what: str, name: object, table: Iterable[str]) -> None:
    """See that a table has an entry of that name.

    Raises
    ------
    ArgumentError
        It has none.
    """
    known = tuple(table)  # not in the table itself, as a name may be of any type
    if name not in known:
        raise ArgumentError(
            f"{what} {shown(name)}: there is none of that name.{nearest(name, known)} Use one of {', '.join(known)}."
        )


def check_keys(table: Mapping[str, Any], where: str, *, known: Iterable[str], needed: Iterable[str]) -> None:
    """Of a table that people write: no key but the known ones, and all that are needed.

    Raises
    ------
    ArgumentError
        Another key, or one that is missing.
    """
    known = list(known)
    for key in table:
        if key not in known:
            raise ArgumentError(f"{where}: unknown key {shown(key)}.{nearest(key, known)} The keys are {', '.join(known)}.")
    missing = [key for key in needed if key not in table]
    if missing:
        raise ArgumentError(f"{where}: {', '.join(missing)} is missing.")
