"""An energy report as LaTeX for a paper: tables with booktabs' rules, whose captions say what the numbers rest on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from tet_deploy.counting.as_table import energy_table, layer_table, rate_table, summary_table
from tet_deploy.counting.export import notes
from tet_deploy.counting.model import EnergyReport
from tet_deploy.counting.tables import EnergyTable
from tet_deploy.files import Kind, begins_with, written_whole
from tet_deploy.layout import Table

_FIRST = "% Energy per inference, written by tet_deploy; needs \\usepackage{booktabs}\n"
LATEX = Kind("LaTeX tables that tet_deploy wrote", begins_with(_FIRST.encode()))
_DIGITS = 16  # of a digest, enough to tell networks apart
_SPECIAL = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "±": r"$\pm$",
    "\u00d7": r"$\times$",
    "µ": r"$\mu$",
    "μ": r"$\mu$",
}


def latex(report: EnergyReport, samples: str = "") -> str:
    """The tables as text; `samples` says of which samples.

    Examples
    --------
    >>> latex(report).splitlines()[0]  # doctest: +SKIP
    """
    named = energy_table(report, samples)
    words = Table("", named.columns[:-1], [row[:-1] for row in named.rows])
    network = f"Network {report.digest[:_DIGITS]}, spikes of the runtime {report.runtime}."
    policies = "; ".join(f"{name.replace('_', ' ')} {value}" for name, value in vars(report.policies).items())
    prices = [_prices(priced.table) for priced in report.by_table]
    caption = f"{named.title}. Conventions: {policies}. {network} {' '.join(prices)}"
    of = f"{samples or f'{report.samples:,} samples'}. {network}"
    others = {"default": summary_table(report), "rates": rate_table(report), "layers": layer_table(report)}
    rests = "".join(f"% {note}\n" for note in notes(report))
    found = [_table(words, caption, "energy")]
    found += [_table(each, f"{each.title}; {of}", f"energy-{label}") for label, each in others.items() if each]
    return f"{_FIRST}{rests}{''.join(found)}"


def write_latex(report: EnergyReport, path: str | os.PathLike[str], samples: str = "") -> Path:
    """Write `latex`, also over other such tables.

    Raises
    ------
    ArtifactError
        The file cannot be written, or another kind of file lies there.
    """
    with written_whole(path, LATEX) as temporary:
        temporary.write_text(latex(report, samples), encoding="utf-8")
    return Path(path)


def escaped(text: str) -> str:
    """Text that LaTeX prints as it is; a character that pdfTeX's fonts may lack is named by its number."""
    return "".join(_SPECIAL.get(sign) or (sign if " " <= sign <= "~" else f"(U+{ord(sign):04X})") for sign in text)


def _table(table: Table, caption: str, label: str) -> str:
    kinds = "".join("l" if index == 0 or column in table.text else "r" for index, column in enumerate(table.columns))
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escaped(caption)}}}",
        rf"\label{{tab:{label}}}",
        rf"\begin{{tabular}}{{{kinds}}}",
        r"\toprule",
        _cells(table.columns),
        r"\midrule",
        *map(_cells, table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n\n"


def _cells(row: Sequence[object]) -> str:
    return " & ".join(escaped("" if cell is None else str(cell)) for cell in row) + r" \\"


def _prices(table: EnergyTable) -> str:
    """What an operation costs, and where the prices of synapses and of the dense pass were read."""
    prices = {name: price for name, price in table.prices.items() if price.picojoules}
    sources = dict.fromkeys(price.source for price in prices.values())
    said = ", ".join(f"{name.replace('_', ' ')} {price.picojoules}" for name, price in prices.items())
    return f"{table.label} is {table.description}; in pJ: {said}. Sources: {'; '.join(sources)}."
