"""The report as one HTML file that needs nothing else, with its numbers beside it as JSON and CSV."""

from __future__ import annotations

import json
import os
from importlib.resources import files
from pathlib import Path

from tet_deploy._version import __version__
from tet_deploy.counting.export import LAYERS, write_csv
from tet_deploy.errors import ArtifactError
from tet_deploy.files import Kind, begins_with, check_writable, head, written_whole
from tet_deploy.reporting.called import called
from tet_deploy.reporting.contents import contents, mismatched
from tet_deploy.reporting.data import ReportData
from tet_deploy.reporting.figures import need
from tet_deploy.reporting.units import percent, significant

SHORT = 20  # characters of a name that stand on one line where a page is wide
# Pages and numbers of version 0.1 are known by their titles.
_GENERATOR, _TITLE = b'<meta name="generator" content="tet_deploy">', b"<title>tet_deploy: "
PAGE = Kind("a report of tet_deploy", lambda path: any(mark in head(path) for mark in (_GENERATOR, _TITLE)))
NUMBERS = Kind("the numbers of a report", begins_with(b'{\n "tet_deploy": ', b'{\n "title": "tet_deploy: '))


def check_report_path(path: str | os.PathLike[str]) -> Path:
    """See before long work that a report can be written.

    Raises
    ------
    MissingDependencyError
        matplotlib or jinja2 is not installed.
    ArtifactError
        The name does not end in .html, the folder cannot be written to, or something else lies there, or where its numbers
        will.
    """
    need("matplotlib", "jinja2")
    path = Path(path)
    if path.suffix not in (".html", ".htm"):
        raise ArtifactError(f"{path}: a report's name must end in .html; its .json and .csv get the same name.")
    for suffix, kind in ((path.suffix, PAGE), (".json", NUMBERS), (".csv", LAYERS)):
        check_writable(path.with_suffix(suffix), kind)
    return path


def write_report(data: ReportData, path: str | os.PathLike[str]) -> Path:
    """Write the HTML page, and beside it its numbers as JSON (same name) and its layers as CSV.

    Each file is there whole or not at all; those of an earlier report are replaced.

    Parameters
    ----------
    data
        What to show; sections that are empty are left out.
    path
        The HTML file, e.g. 'out/report.html'.

    Returns
    -------
    Path
        The HTML file.

    Raises
    ------
    MissingDependencyError, ArtifactError
        See `check_report_path`.
    DataError
        Parts of the data do not fit each other.

    Examples
    --------
    >>> write_report(ReportData(title="My network", accuracy={"trained": 0.98}), "report.html")  # doctest: +SKIP
    """
    path = check_report_path(path)
    page = render_page(data)
    numbers = json.dumps({"tet_deploy": __version__, **data.to_dict()}, indent=1) + "\n"
    for target, text, kind in ((path.with_suffix(".json"), numbers, NUMBERS), (path, page, PAGE)):
        with written_whole(target, kind) as temporary:
            temporary.write_text(text, encoding="utf-8")
    if data.energy:
        write_csv(data.energy, path.with_suffix(".csv"))
    return path


def _tall(figure: str) -> bool:
    """Whether a figure is much higher than it is wide, so that a reader may not want to scroll past all of it."""
    width, height = map(float, figure.partition('viewBox="0 0 ')[2].partition('"')[0].split())
    return height > 2.5 * width


def render_page(data: ReportData) -> str:
    """The HTML of the page."""
    need("jinja2")
    import jinja2
    from markupsafe import Markup, escape

    folder = files("tet_deploy.reporting").joinpath("template")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: folder.joinpath(name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "significant": significant,
        "mismatched": mismatched,
        "breakable": lambda name: Markup('<span class="whole">{}</span>' if len(name) <= SHORT else "{}").format(
            Markup(str(escape(name)).replace(".", ".<wbr>"))
        ),
        "called": called,
        "tall": _tall,
        "sentence": lambda text: text[:1].upper() + text[1:],
        "grouped": lambda number: f"{number:,}",
    }
    return environment.get_template("page.html.j2").render(data=data, **contents(data))
