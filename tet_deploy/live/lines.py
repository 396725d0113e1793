r"""Events as text: one in a line, "t x y p" in whole numbers, t in microseconds and p 0 or 1, or -1 and 1.

Empty lines and lines that begin with # are passed over; anything else that is no event is refused, with its number.
"""

from __future__ import annotations

import re

import numpy as np

from tet_deploy.data.event_columns import WIDE_EVENT_DTYPE
from tet_deploy.errors import DataError, shown

_LONGEST = 200  # bytes of a line
_EVENT = re.compile(rb"^[ \t]*(-?\d{1,18})[ \t]+(-?\d{1,9})[ \t]+(-?\d{1,9})[ \t]+(-1|0|1)[ \t]*\r?$", re.MULTILINE)
_PASSED_OVER = re.compile(rb"^[ \t]*(?:#[^\n]*)?\r?$", re.MULTILINE)
_SECONDS = re.compile(rb"^\s*\d+\.\d+([ \t]+\d+){3}\s*$")


class EventLines:
    """Turns text that comes in pieces, cut anywhere, into events."""

    def __init__(self) -> None:
        self._rest, self._before = b"", 0

    def feed(self, piece: bytes) -> np.ndarray:
        """The events of the lines that this piece completes, WIDE_EVENT_DTYPE.

        Raises
        ------
        DataError
            A line that is no event.
        """
        lines, newline, self._rest = (self._rest + piece).rpartition(b"\n")
        if len(self._rest) > _LONGEST:
            raise self._refused(self._rest, self._before + lines.count(b"\n") + len(newline) + 1)
        return self._events(lines) if newline else np.empty(0, WIDE_EVENT_DTYPE)

    def end(self) -> tuple[np.ndarray, bool]:
        """The event of a last line without its end, and whether there was one that is cut off and therefore left out."""
        rest, self._rest = self._rest, b""
        if _EVENT.match(rest):
            return self._events(rest), False
        return np.empty(0, WIDE_EVENT_DTYPE), not _PASSED_OVER.match(rest)

    def _events(self, lines: bytes) -> np.ndarray:
        found, count = _EVENT.findall(lines), lines.count(b"\n") + 1
        if len(found) < count and len(found) + len(_PASSED_OVER.findall(lines)) < count:
            for number, line in enumerate(lines.split(b"\n"), start=self._before + 1):
                if not _EVENT.match(line) and not _PASSED_OVER.match(line):
                    raise self._refused(line, number)
        self._before += count
        events = np.empty(len(found), WIDE_EVENT_DTYPE)
        columns = np.array(found, dtype="S19").reshape(-1, 4).astype(np.int64)
        for name, column in zip("txyp", columns.T, strict=True):
            events[name] = column
        events["p"] = events["p"] > 0
        return events

    def _refused(self, line: bytes, number: int) -> DataError:
        way = "Bring it into this form."
        if _SECONDS.match(line):
            way = """Seconds become microseconds with awk '{printf "%d %d %d %d\\n", $1 * 1e6, $2, $3, $4}'."""
        text = line[:_LONGEST].decode(errors="backslashreplace").rstrip("\r")
        return DataError(
            f"line {number}: must be an event, 't x y p' in whole numbers, t in microseconds, p 0 or 1; got "
            f"{shown(text)}. {way}"
        )
