"""Tables as text that fit any width: words wrap, and where even the longest words do not fit side by side, rows turn into
lists. A number is never cut."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

_GAP = 2  # blanks between columns


@dataclass(frozen=True)
class Table:
    """A title and rows of cells; the first column and those named in `text` hold words, the others numbers.

    Examples
    --------
    >>> print(Table("Spikes", ("layer", "spikes"), [("lif1", 12)]).fit(80))
    layer  spikes
    ─────────────
    lif1       12
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    text: Sequence[str] = ()

    def fit(self, width: int) -> str:
        """The table without its title in lines of at most `width` characters, save where one word is longer."""
        cells = self._cells()
        widths = self._widths(cells, width)
        return "\n".join(self._grid(cells, widths) if widths else self._lists(cells, width))

    def html(self) -> str:
        """The table with its title as HTML, for notebooks."""
        head = "".join(f"<th>{escape(column)}</th>" for column in self.columns)
        body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in self._cells())
        return f"<table><caption>{escape(self.title)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def __str__(self) -> str:
        return f"{self.title}\n\n{self.fit(100)}"

    def _repr_html_(self) -> str:
        return self.html()

    def _cells(self) -> list[list[str]]:
        return [["" if cell is None else str(cell) for cell in row] for row in self.rows]

    def _is_text(self, index: int) -> bool:
        return index == 0 or self.columns[index] in self.text

    def _widths(self, cells: list[list[str]], width: int) -> list[int] | None:
        """Width of each column: the longest word at least; numbers get what is left before words do. None: no room."""
        texts = [[column, *(row[index] for row in cells)] for index, column in enumerate(self.columns)]
        widths = [max(len(word) for text in column for word in (text.split() or [""])) for column in texts]
        room = width - sum(widths) - _GAP * (len(widths) - 1)
        if room < 0:
            return None
        for index in sorted(range(len(widths)), key=self._is_text):
            more = min(max(len(text) for text in texts[index]) - widths[index], room)
            widths[index] += more
            room -= more
        return widths

    def _grid(self, cells: list[list[str]], widths: list[int]) -> Iterator[str]:
        yield from self._row(self.columns, widths)
        yield "─" * (sum(widths) + _GAP * (len(widths) - 1))
        for row in cells:
            yield from self._row(row, widths)

    def _row(self, cells: Sequence[str], widths: list[int]) -> Iterator[str]:
        parts = [wrapped(cell, width) for cell, width in zip(cells, widths, strict=True)]
        for line in range(max(map(len, parts))):
            words = [part[line] if line < len(part) else "" for part in parts]
            aligned = (
                word.ljust(width) if self._is_text(index) else word.rjust(width)
                for index, (word, width) in enumerate(zip(words, widths, strict=True))
            )
            yield (" " * _GAP).join(aligned).rstrip()

    def _lists(self, cells: list[list[str]], width: int) -> Iterator[str]:
        """Each row as a list of names and values, one below the other where they do not fit side by side."""
        names = max(map(len, self.columns)) + _GAP
        longest = max((len(word) for row in cells for cell in row for word in cell.split()), default=0)
        indent = names if names + longest <= width else _GAP if _GAP + longest <= width else 0
        for number, row in enumerate(cells):
            yield from ("",) if number else ()
            for name, cell in zip(self.columns, row, strict=True):
                if cell:
                    first, *more = wrapped(cell, width - indent)
                    if indent == names:
                        yield name.ljust(names) + first
                    else:
                        yield from (*wrapped(name, width), " " * indent + first)
                    yield from (" " * indent + line for line in more)


def wrapped(text: str, width: int) -> list[str]:
    """Lines of whole words; a word that is longer than the width has a line of its own."""
    return textwrap.wrap(text, max(width, 1), break_long_words=False, break_on_hyphens=False) or [""]
