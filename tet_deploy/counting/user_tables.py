"""Energy tables of one's own, in TOML: in form what `tables` holds, and as there every price says where it was read.

    name = "28nm-fp16"
    description = "16-bit floating point arithmetic in 28 nm CMOS"
    unit = "pJ"                      # of every energy below: fJ, pJ, nJ or uJ

    [addition]
    energy = 0.11
    source = "Our synthesis report of 3 May, typical corner, 0.9 V"

    [mac]
    energy = 0.6
    source = "..."
    secondary = true                 # seen only in works that quote the original

and so on for element_addition, neuron_update, leak_multiplication and spike; dense_mac, weight_access, potential_access and
static_step may be left out. `estimate = true` marks prices that were not measured.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from tet_deploy.arguments import check_keys
from tet_deploy.counting.tables import OPERATIONS, OPTIONAL, TABLES, EnergyTable, Price
from tet_deploy.errors import ArgumentError, ArtifactError, MissingDependencyError, first_line, shown
from tet_deploy.files import regular_file

UNITS = {"fJ": Fraction(1, 1000), "pJ": Fraction(1), "nJ": Fraction(1000), "uJ": Fraction(1000**2)}
_WAY_OUT = "An energy table is a TOML file; docs/energy.md has an example."
_LARGEST_BYTES = 2**20
_MOST_LETTERS = 60  # of a name, which heads columns


def read_table(path: str | os.PathLike[str]) -> EnergyTable:
    """Read a table of one's own.

    Raises
    ------
    ArtifactError
        A file that cannot be read or is not TOML.
    ArgumentError
        An unknown key (the nearest known one is named), a missing one, a price without a source, a unit that is none, or an
        energy that is negative or no finite number.

    Examples
    --------
    >>> read_table("my.toml").addition.source  # doctest: +SKIP
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        try:
            import tomli as tomllib
        except ImportError as error:
            raise MissingDependencyError(
                "energy tables in TOML need tomli in Python 3.10. Run: pip install tomli"
            ) from error
    file = regular_file(path, _WAY_OUT, largest=_LARGEST_BYTES)
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8-sig"))  # Windows puts a mark first
    except (OSError, ValueError, RecursionError) as error:  # not text, not TOML, or an integer longer than Python reads
        raise ArtifactError(f"energy table {file}: is not TOML ({first_line(error)}). {_WAY_OUT}") from error
    return table_of(values, f"energy table {file}")


def table_of(values: Mapping[str, Any], where: str) -> EnergyTable:
    """A table from the values of its file; `where` begins each message, see `read_table` for the errors."""
    needed = ["name", "description", "unit", *(name for name in OPERATIONS if name not in OPTIONAL)]
    check_keys(values, where, known=[*needed, *OPTIONAL, "estimate"], needed=needed)
    name, description, unit = (_text(values, key, where) for key in ("name", "description", "unit"))
    if len(name) > _MOST_LETTERS or "," in name or not name[0].isalnum():  # spreadsheets compute what begins with = + - @
        raise ArgumentError(
            f"{where}: name must begin with a letter or digit, and have at most {_MOST_LETTERS} and no comma; "
            f"got {shown(name)}."
        )
    if name in (*TABLES, "all"):
        raise ArgumentError(f"{where}: the name {name!r} is taken by a table of tet_deploy. Choose another.")
    if unit not in UNITS:
        raise ArgumentError(f"{where}: unit must be one of {', '.join(UNITS)}; got {shown(unit)}.")
    found = {key: _price(values[key], UNITS[unit], f"{where}, {key}") for key in OPERATIONS if key in values}
    prices: dict[str, Any] = dict.fromkeys(OPTIONAL) | found
    return EnergyTable(name=name, description=description, estimate=_flag(values, "estimate", where), **prices)


def _price(value: Any, unit: Fraction, where: str) -> Price:
    if not isinstance(value, dict):
        raise ArgumentError(f"{where}: must be a table with energy and source; got {shown(value)}.")
    check_keys(value, where, known=("energy", "source", "secondary"), needed=("energy", "source"))
    energy, source = value["energy"], _text(value, "source", where)
    if type(energy) not in (int, float) or not math.isfinite(energy):
        raise ArgumentError(f"{where}: energy must be a finite number; got {shown(energy)}.")
    secondary = _flag(value, "secondary", where)
    try:
        exact = energy if unit == 1 else float(Fraction(str(energy)) * unit)
        return Price(picojoules=exact, source=source, secondary=secondary)
    except (ArgumentError, OverflowError) as error:
        raise ArgumentError(f"{where}: energy {shown(energy)}: {error}") from None  # the same error, with its place


def _text(values: Mapping[str, Any], key: str, where: str) -> str:
    value = values[key]
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ArgumentError(f"{where}: {key} must be words on one line; got {shown(value)}.")
    return value


def _flag(values: Mapping[str, Any], key: str, where: str) -> bool:
    value = values.get(key, False)
    if not isinstance(value, bool):
        raise ArgumentError(f"{where}: {key} must be true or false; got {shown(value)}.")
    return value
