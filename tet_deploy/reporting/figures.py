"""From a matplotlib figure to an SVG that lives inside the page: its colours follow the page, its text stays text."""

from __future__ import annotations

import importlib
import io
import itertools
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterable
from html import escape
from typing import TYPE_CHECKING, Any

from tet_deploy.errors import MissingDependencyError

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

_HOVER = "hover: "  # begins the id of what is told under the pointer
_WIDE = frozenset("MWmw@%ЖМФШЩЫЮжмфшщыю")

# Drawn with these colours, which the SVG then exchanges for the page's variables, so that a dark page has light text.
INK, QUIET, LINE = "#010101", "#020202", "#030303"
SERIES = ("#0a0101", "#0a0202", "#0a0303", "#0a0404")
_VARIABLES = {INK: "--ink", QUIET: "--quiet", LINE: "--line"} | {color: f"--c{i + 1}" for i, color in enumerate(SERIES)}

STYLE: dict[Any, Any] = {  # of every figure, whatever its colours
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}
_STYLE = STYLE | {
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": QUIET,
    "grid.color": LINE,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": QUIET,
    "ytick.labelcolor": QUIET,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


def render(name: str, alt: str, draw: Callable[[Figure], None], height: float, width: float = 4.9) -> str:
    """Draw a figure of so many inches and return it as inline SVG.

    Parameters
    ----------
    name
        Prefix of all ids inside, so that several figures can share a page.
    alt
        What the figure shows, for those who cannot see it.

    Raises
    ------
    MissingDependencyError
        matplotlib is not installed.
    """
    need("matplotlib")
    import matplotlib
    from matplotlib.figure import Figure

    text = io.StringIO()
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure)
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # the page's fonts are the reader's
        figure.savefig(text, format="svg", metadata={"Date": None})
    return _inline(text.getvalue(), name, alt)


def hover(artists: Iterable[Artist], texts: Iterable[str]) -> None:
    """Say a text under the pointer, for each of some artists."""
    for artist, text in zip(artists, texts, strict=True):
        artist.set_gid(_HOVER + text)


def plain_label(text: str) -> str:
    """A text that matplotlib does not read as a formula."""
    return text.replace("$", r"\$")


def short(text: str, most: int) -> str:
    """A text with room for at most so many letters; of a longer one the middle is left out: names differ at the ends."""
    if sum(map(_room, text)) <= most:
        return text
    head, tail = _begin(text, (most - 1) // 2), _begin(text[::-1], most - 1 - (most - 1) // 2)
    return f"{head}…{tail[::-1]}"


def _room(sign: str) -> int:
    """How many letters wide: two of East Asian scripts, and the widest of others."""
    return 2 if sign in _WIDE or unicodedata.east_asian_width(sign) in "WF" else 1


def _begin(text: str, most: int) -> str:
    ends = itertools.accumulate(map(_room, text))
    return "".join(sign for sign, end in zip(text, ends, strict=True) if end <= most)


def need(*libraries: str) -> None:
    """See that the libraries which figures and pages need are installed.

    Raises
    ------
    MissingDependencyError
        Names the first that is not, and the extra that brings it.
    """
    for library in libraries:
        try:
            importlib.import_module(library)
        except ImportError as error:
            raise MissingDependencyError(
                f"figures and reports need {library}, which is not installed. Run: pip install 'tet-deploy[report]'"
            ) from error


def _inline(svg: str, name: str, alt: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(rf'<g id="{_HOVER}([^"]*)">', r"<g><title>\1</title>", svg)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = svg.replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)  # the family is the page's
    for color, variable in _VARIABLES.items():
        svg = svg.replace(color, f"var({variable})")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(alt)}" ', 1)
