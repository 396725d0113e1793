"""Where live events come from: a recording that is played again, or a file descriptor that lines come through."""

from __future__ import annotations

import os
import select
from typing import Protocol

import numpy as np

from tet_deploy.data.event_columns import WIDE_EVENT_DTYPE
from tet_deploy.errors import ArtifactError
from tet_deploy.live.lines import EventLines
from tet_deploy.live.notes import Notes

_AT_ONCE = 2**16  # events of a recording, bytes of a pipe
NOTHING = np.empty(0, WIDE_EVENT_DTYPE)


class EventSource(Protocol):
    """Gives events in the order in which they come."""

    def read(self, timeout: float | None) -> np.ndarray | None:
        """Those that are there, none if nothing came within so many seconds, and None at the end; without a limit waits."""
        ...


class Replay:
    """The events of a recording, in order of time; whoever reads them keeps the time."""

    def __init__(self, events: np.ndarray) -> None:
        self._events, self._next = events, 0

    def read(self, timeout: float | None) -> np.ndarray | None:
        """See `EventSource`."""
        part = self._events[self._next : self._next + _AT_ONCE]
        self._next += len(part)
        return part if len(part) else None


class Pipe:
    """Lines of events, see `lines`, from a file descriptor: a pipe, a terminal, a socket, a file."""

    def __init__(self, descriptor: int, notes: Notes) -> None:
        self._descriptor, self._lines, self._notes, self._ended = descriptor, EventLines(), notes, False

    def read(self, timeout: float | None) -> np.ndarray | None:
        """See `EventSource`.

        Raises
        ------
        ArtifactError
            It cannot be read.
        DataError
            A line that is no event.
        """
        if self._ended:
            return None
        try:
            if not select.select([self._descriptor], [], [], timeout)[0]:
                return NOTHING
            piece = os.read(self._descriptor, _AT_ONCE)
        except OSError as error:
            raise ArtifactError(f"standard input: cannot be read ({error.strerror}). Pipe events into it.") from error
        if piece:
            return self._lines.feed(piece)
        self._ended = True
        events, cut = self._lines.end()
        if cut:
            self._notes.add("last lines cut off, left out")
        return events
