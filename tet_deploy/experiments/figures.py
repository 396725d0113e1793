"""The look of the figures, and how they are saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tet_deploy.files import Kind, head, written_whole
from tet_deploy.reporting.figures import STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = {"sdt": "#c2571a", "tet": "#2463c9", "switch": "#1f9676"}
GREY = "#6b7280"
_CREATOR = "tet_deploy"
FIGURE = Kind("a figure of tet_deploy", lambda path: f"<dc:title>{_CREATOR}</dc:title>".encode() in head(path))

_STYLE = STYLE | {"grid.color": "#e5e7eb"}


def save_figure(draw: Callable[[Figure], None], path: Path, size: tuple[float, float]) -> None:
    """Draw a figure of so many inches and write it as SVG, on white; the same figure gives the same bytes.

    Raises
    ------
    ArtifactError
        The file cannot be written, or lies there and is no such figure.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": path.stem}):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        with written_whole(path, FIGURE) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None, "Creator": _CREATOR})


def band(ax: Axes, x: Sequence[float] | np.ndarray, summary: dict[str, Any], scale: float, **line: Any) -> None:
    """A line through the means of `over_seeds`, and a band of one spread around it."""
    mean, spread = scale * np.asarray(summary["mean"]), scale * np.asarray(summary["std"])
    ax.plot(x, mean, **line)
    ax.fill_between(x, mean - spread, mean + spread, color=line["color"], alpha=0.15, linewidth=0)


def categories(
    figure: Figure, panels: Mapping[str, Mapping[str, Sequence[dict[str, Any]]]], names: Sequence[str]
) -> list[Axes]:
    """Test accuracy with its spread for named cases, a line for each loss; one panel after the other, from left to right.

    Parameters
    ----------
    panels
        Title -> loss -> summaries of shares, one for each name.
    """
    axes = list(figure.subplots(1, len(panels), squeeze=False)[0])
    for ax, (title, lines) in zip(axes, panels.items(), strict=True):
        for index, (loss, summaries) in enumerate(lines.items()):
            mean, spread = (100 * np.array([summary[key] for summary in summaries]) for key in ("mean", "std"))
            x = np.arange(len(names)) + 0.12 * (index - 0.5)  # side by side, so that no whisker hides another
            ax.errorbar(x, mean, spread, fmt="o-", capsize=3, linewidth=1, color=COLORS[loss], label=loss.upper())
        ax.set_xticks(range(len(names)), list(names))
        ax.set_title(title, fontsize=9.5)
    axes[0].set_ylabel("test accuracy (%)")
    axes[0].legend()
    return axes
