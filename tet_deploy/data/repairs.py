"""What reading had to leave out, sort or repair: counted, told in one line, and kept for the program."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import NamedTuple

from tet_deploy.errors import DataWarning


class Repair(NamedTuple):
    """How often one thing was done: to how many events, records or files; in how many recordings, if in any; an example."""

    total: int
    recordings: int
    example: str


def add(total: dict[str, Repair], found: Mapping[str, int], name: str) -> None:
    """Count what was found in one more recording."""
    for what, count in found.items():
        before = total.get(what, Repair(0, 0, name))
        total[what] = Repair(before.total + count, before.recordings + 1, before.example)


def tell(name: str, repairs: Mapping[str, int] | Mapping[str, Repair], *, depth: int = 3) -> None:
    """Warn in one line of the call so many frames up, if there is anything to tell; of many processes, the first does."""
    if repairs and os.environ.get("RANK", "0") == "0":
        warnings.warn(f"{name}: {'; '.join(_text(*item) for item in repairs.items())}.", DataWarning, stacklevel=depth)


def _text(what: str, repair: int | Repair) -> str:
    if not isinstance(repair, Repair):
        return f"{what}: {repair}"
    where = f" in {repair.recordings} of its recordings" if repair.recordings else ""
    return f"{what}: {repair.total}{where}, such as {repair.example}"
