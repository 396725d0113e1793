"""Fig. 4B of any networks: accuracy over the energy spent, for stops after each step and for early stops."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tet_deploy.counting import WORDS
from tet_deploy.energy_curve import Course
from tet_deploy.errors import DataError
from tet_deploy.experiments.figures import COLORS, FIGURE, GREY, save_figure
from tet_deploy.files import check_writable
from tet_deploy.reporting.figures import need

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PALETTE = (COLORS["tet"], COLORS["sdt"], COLORS["switch"], GREY)


def check_figure(path: Path) -> None:
    """See before long work that a figure can be drawn and written there."""
    need("matplotlib")
    check_writable(path, FIGURE)


def save_curves(courses: Mapping[str, Course], path: Path) -> None:
    """Draw the curves of networks by their names, energies by their first table, as SVG.

    Raises
    ------
    ArtifactError
        The file cannot be written, or lies there and is no such figure.
    DataError
        Networks whose energies are of other tables or conventions.
    """
    kinds = {(each.report.table.name, each.report.default) for each in courses.values()}
    if len(kinds) > 1:
        raise DataError("curves: are priced by other tables or conventions. Say which with --table and --policy.")
    (table, default), *_ = kinds
    save_figure(lambda figure: _draw(figure, courses, table, WORDS[default]), path, (6.4, 3.6))


def _draw(figure: Figure, courses: Mapping[str, Course], table: str, words: str) -> None:
    ax = figure.subplots()
    for index, (name, course) in enumerate(courses.items()):
        color = _PALETTE[index % len(_PALETTE)]
        for points, style, label in ((course.by_step(), "o-", name), (course.early(), "x--", f"{name}, early stop")):
            energy = [point.picojoules[table] / 1000 for point in points]
            accuracy = [100 * point.accuracy for point in points]
            ax.plot(energy, accuracy, style, color=color, markersize=4, linewidth=1, label=label)
    ax.set_xlim(left=0)
    ax.set(xlabel=f"energy per inference (nJ, {table}), {words}", ylabel="accuracy (%)")
    ax.legend(loc="lower right")
