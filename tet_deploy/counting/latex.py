"""An energy report as LaTeX for a paper: tables with booktabs' rules, whose captions say what the numbers rest on."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from tet_deploy.counting.as_table import energy_table, inferences, layer_table, rate_table, summary_table
from tet_deploy.counting.export import notes
from tet_deploy.counting.latex_text import escaped
from tet_deploy.counting.model import EnergyReport
from tet_deploy.counting.tables import EnergyTable
from tet_deploy.files import Kind, begins_with, written_whole
from tet_deploy.layout import Table

_FIRST = "% Energy per inference, written by tet_deploy; needs "
LATEX = Kind("LaTeX tables that tet_deploy wrote", begins_with(_FIRST.encode()))
_DIGITS = 16  # of a digest, enough to tell networks apart
_ROWS = 40  # that a page has room for
_NO_WIDER = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{"  # than the text


def latex(report: EnergyReport, samples: str = "", label: str = "energy") -> str:
    """The tables as text; `samples` says of which samples, and labels begin with tab:`label`.

    Examples
    --------
    >>> latex(report).splitlines()[0]  # doctest: +SKIP
    """
    policies = "; ".join(f"{name.replace('_', ' ')} {value}" for name, value in vars(report.policies).items())
    network = f"Network {report.digest[:_DIGITS]}, spikes of the runtime {report.runtime}."
    rests = f"Conventions: {policies}. {network}"
    named = _with_deviations(energy_table(report, samples))
    prices = " ".join(_prices(priced.table) for priced in report.by_table)
    of = inferences(report, samples)
    elsewhere = rf"Prices and their sources: Table~\ref{{tab:{label}}}."
    others = {"default": summary_table(report), "rates": rate_table(report), "layers": layer_table(report)}
    found = [*_tables(named, escaped(f"{named.title}. {rests} {prices}"), label)]
    for name, each in others.items():
        if each:
            found += _tables(each, f"{escaped(f'{each.title}; {of}. {rests}')} {elsewhere}", f"{label}-{name}")
    comments = "".join(f"% {note}\n" for note in notes(report))
    return f"{_FIRST}\\usepackage{{booktabs,graphicx}}\n{comments}{''.join(found)}"


def write_latex(report: EnergyReport, path: str | os.PathLike[str], samples: str = "") -> Path:
    r"""Write `latex`, also over other such tables; labels begin with the name of the file.

    Parameters
    ----------
    samples
        Of which samples, for the captions: "all 360 test samples". By default their number.

    Raises
    ------
    ArtifactError
        The file cannot be written, or another kind of file lies there.

    Examples
    --------
    >>> write_latex(report, "energy.tex", "all test samples")  # \input{energy}, \ref{tab:energy}  # doctest: +SKIP
    """
    label = re.sub(r"[^A-Za-z0-9]+", "-", Path(path).stem).strip("-") or "energy"
    with written_whole(path, LATEX) as temporary:
        temporary.write_text(latex(report, samples, label), encoding="utf-8")
    return Path(path)


def _with_deviations(table: Table) -> Table:
    """A mean and its deviation in one cell, without the last column, which notes have too."""

    def cells(row: Sequence[object]) -> list[str]:
        return [f"{mean} ± {std}" if std else f"{mean}" for mean, std in zip(row[1:-1:2], row[2::2], strict=True)]

    return Table(table.title, (table.columns[0], *table.columns[1:-1:2]), [(row[0], *cells(row)) for row in table.rows])


def _tables(table: Table, caption: str, label: str) -> Iterator[str]:
    """One, and more where its rows fill more than a page. They span both columns of a page that has two."""
    kinds = "".join("l" if index == 0 or column in table.text else "r" for index, column in enumerate(table.columns))
    for start in range(0, len(table.rows), _ROWS):
        lines = [
            r"\begin{table*}",
            r"\centering",
            rf"\caption[{{{escaped(table.title)}}}]{{{caption}{' Continued.' if start else ''}}}",
            rf"\label{{tab:{label}{f'-from-{start + 1}' if start else ''}}}",
            r"\medskip",
            f"{_NO_WIDER}%",
            rf"\begin{{tabular}}{{{kinds}}}",
            r"\toprule",
            _cells(table.columns),
            r"\midrule",
            *map(_cells, table.rows[start : start + _ROWS]),
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table*}",
        ]
        yield "\n".join(lines) + "\n\n"


def _cells(row: Sequence[object]) -> str:
    return " & ".join(escaped("" if cell is None else str(cell)) for cell in row) + r" \\"


def _prices(table: EnergyTable) -> str:
    """What an operation costs, and where the prices of synapses and of the dense pass were read."""
    prices = {name: price for name, price in table.prices.items() if price.picojoules}
    sources = dict.fromkeys(price.source for price in prices.values())
    said = ", ".join(f"{name.replace('_', ' ')} {price.picojoules}" for name, price in prices.items())
    return f"{table.label} is {table.description}; in pJ: {said}. Sources: {'; '.join(sources)}."
