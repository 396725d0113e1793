"""What an experiment found: numbers with their spread over seeds, tables and a figure, and how they are written."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tet_deploy._version import __version__
from tet_deploy.errors import ArtifactError
from tet_deploy.experiments.figures import FIGURE, save_figure
from tet_deploy.files import Kind, begins_with, check_writable, written_whole
from tet_deploy.layout import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OUTCOME = Kind("an experiment's outcome", begins_with(b'{\n "experiment": '))
PLUS_MINUS = "\N{PLUS-MINUS SIGN}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What one experiment found.

    Attributes
    ----------
    claim
        What the paper says, with its place.
    values
        All numbers as JSON values; those over seeds as `over_seeds` gives them.
    tables
        The same for people.
    draw
        Draws the figure.
    size
        Of the figure: width and height in inches.
    """

    claim: str
    values: dict[str, Any]
    tables: list[Table]
    draw: Callable[[Figure], None]
    size: tuple[float, float] = (6.4, 3.4)


def over_seeds(values: Sequence[Any] | np.ndarray) -> dict[str, Any]:
    """Mean, spread and the single values of a number, or of an array of numbers, one for each seed.

    Parameters
    ----------
    values
        [seeds, ...].

    Returns
    -------
    dict
        `mean`, `std` (the sample standard deviation, 0 for one seed) and `by_seed`, each a number or nested lists.
    """
    array = np.asarray(values, dtype=np.float64)
    spread = array.std(axis=0, ddof=1) if len(array) > 1 else np.zeros(array.shape[1:])
    return {"mean": array.mean(axis=0).tolist(), "std": spread.tolist(), "by_seed": array.tolist()}


def paired(first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray) -> dict[str, Any]:
    """`over_seeds` of first - second, and in how many seeds the first is larger."""
    difference = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    return {**over_seeds(difference), "larger_in": int((difference > 0).sum()), "of": len(difference)}


def number(summary: Mapping[str, Any], digits: int = 3) -> str:
    """Mean and spread, as text."""
    return f"{summary['mean']:.{digits}f}{PLUS_MINUS}{summary['std']:.{digits}f}"


def percent(summary: Mapping[str, Any], digits: int = 1) -> str:
    """Mean and spread of a share, in percent."""
    return number({key: 100 * summary[key] for key in ("mean", "std")}, digits)


def points(summary: Mapping[str, Any]) -> str:
    """A difference of shares, in percentage points."""
    mean = round(100 * summary["mean"], 1) + 0.0  # no minus before a zero
    return f"{mean:+.1f}{PLUS_MINUS}{100 * summary['std']:.1f}"


def seeds_larger(summary: Mapping[str, Any]) -> str:
    """In how many seeds a `paired` difference is positive."""
    return f"{summary['larger_in']} of {summary['of']}"


def at_index(summary: Mapping[str, Any], index: int) -> dict[str, float]:
    """Mean and spread of one element of an array over seeds."""
    return {key: summary[key][index] for key in ("mean", "std")}


def make_folder(folder: Path, name: str) -> None:
    """Make the folder of an experiment, if need be, and see that its files can be written there.

    Raises
    ------
    ArtifactError
        It cannot be made, or not be written to; or another's file bears the name of one that will be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArtifactError(f"{folder}: cannot be made ({error.strerror}). Choose another folder with --out.") from error
    check_writable(folder / f"{name}.json", OUTCOME)
    check_writable(folder / f"{name}.svg", FIGURE)


def write_outcome(outcome: Outcome, name: str, folder: Path, **about: Any) -> None:
    """Write NAME.json, which begins with what is said `about` the run, and NAME.svg; also over earlier ones.

    Raises
    ------
    ArtifactError
        A file cannot be written, or lies there and is not an experiment's.
    """
    values = {"experiment": name, "paper": outcome.claim, "tet_deploy": __version__, **about, **outcome.values}
    with written_whole(folder / f"{name}.json", OUTCOME) as temporary:
        temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    save_figure(outcome.draw, folder / f"{name}.svg", outcome.size)
