"""Frames in time: from a source of events, paced by a clock, or as fast as they are taken.

In real time a frame is closed when it is over by our clock and an event of a later frame has come, or as much time again has
passed. As fast as possible, it is closed when an event of a later frame has come. The stretch of time that the first event
begins ends with a whole window of empty frames (silence), where the events' clock goes back by more than a window, or with
the input; the next event begins the next stretch, at once.

In real time, whoever takes frames may be too slow for them. Of the frames that then wait, all but the newest are dropped, or
they are merged into one.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator

import numpy as np

from tet_deploy.live.bins import Bin, EventBins
from tet_deploy.live.notes import Notes
from tet_deploy.live.sources import EventSource

LATE = ("drop", "merge")
_AHEAD = 2  # frames that are read before their time
_READS = 64  # at once, so that no flood of events keeps frames from being shown


class LiveFrames:
    """Iterates over frames; None stands where a stretch of time ends.

    Parameters
    ----------
    source
        Of events.
    length
        Microseconds of a frame.
    window
        Frames of a decision.
    sensor_size, size
        Width and height of the camera; height and width of the frames. Pixel x goes to floor(x * width / camera's width).
    late
        "drop" or "merge".
    fast
        As fast as frames are taken, not in real time.
    notes
        Where what goes wrong is counted.
    """

    def __init__(
        self,
        source: EventSource,
        *,
        length: int,
        window: int,
        sensor_size: tuple[int, int],
        size: tuple[int, int],
        late: str = "drop",
        fast: bool = False,
        notes: Notes,
    ) -> None:
        self._source, self._length, self._window, self._notes = source, length, window, notes
        self._sensor, self._size, self._merge, self._fast = sensor_size, size, late == "merge", fast
        self._bins: EventBins | None = None
        self._begun = 0.0  # when the stretch did, by our clock
        self._waiting: deque[tuple[str, np.ndarray]] = deque()  # why a stretch begins, and its first events
        self._ended = False
        self.events = 0

    def __iter__(self) -> Iterator[Bin | None]:
        while True:
            if self._bins is None:
                if not self._begin():
                    return
                continue
            if not self._fast:
                self._catch_up(self._bins)
            closed = self._closed(self._bins)
            yield from self._in_time(closed)
            why = self._over(self._bins)
            if why == "silence":
                seconds = self._window * self._length * 1e-6
                self._notes.add("silences", example=f"no event for {seconds:g} s, a whole window; the next one begins anew")
            if why:
                yield None
                self._bins = None
            elif not closed:
                self._read(self._bins)

    def _begin(self) -> bool:
        """Begin a stretch with the first event that comes; False where none does."""
        while not self._waiting:
            events = self._taken(None)
            if events is None:
                return False
            if len(events):
                self._waiting.append(("", events))
        _, events = self._waiting.popleft()
        self._bins = EventBins(int(events["t"][0]), length=self._length, size=self._size)
        self._begun = time.monotonic()
        self._add(self._bins, events)
        return True

    def _catch_up(self, bins: EventBins) -> None:
        """Take what has come already, while a frame was taken, before any is closed without it."""
        for _ in range(_READS):
            if self._complete or (bins.seen >= bins.end + _AHEAD * self._length and self._wait(bins) > 0):
                return
            events = self._taken(0.0)
            if events is None or not len(events):
                return
            self._add(bins, events)

    def _read(self, bins: EventBins) -> None:
        """Wait for events, no longer than until the next frame may be closed."""
        if self._fast:
            timeout = None
        else:
            timeout = max(0.0, self._wait(bins))
            if self._complete or bins.seen >= bins.end + _AHEAD * self._length:
                time.sleep(timeout)
                return
        events = self._taken(timeout)
        if events is not None and len(events):
            self._add(bins, events)

    def _taken(self, timeout: float | None) -> np.ndarray | None:
        """Events of the source that lie on the sensor, at the pixels of the frames."""
        events = self._source.read(timeout)
        if events is None:
            self._ended = True
            return None
        self.events += len(events)
        (width, height), (rows, columns) = self._sensor, self._size
        outside = (events["x"] < 0) | (events["x"] >= width) | (events["y"] < 0) | (events["y"] >= height)
        if outside.any():
            first = events[outside][0]
            example = f"({first['x']}, {first['y']}) is none of {width} x {height} pixels"
            self._notes.add("events outside of the sensor, left out", int(outside.sum()), example)
            events = events[~outside]
        placed = events.copy()
        placed["x"], placed["y"] = events["x"] * columns // width, events["y"] * rows // height
        return placed

    def _add(self, bins: EventBins, events: np.ndarray) -> None:
        """Count what belongs to this stretch; what does not waits for its turn."""
        at, why = bins.breaks(events["t"], self._window)
        late = bins.add(events[:at], merge=self._merge)
        self._notes.add(f"late events, {'merged into the next frame' if self._merge else 'dropped'}", late)
        if not why:
            return
        if why == "back":
            fall = int(events["t"][:at].max(initial=bins.seen)) - int(events["t"][at])
            self._notes.add(
                "times that the clock was set back", example=f"by {fall:,} microseconds; what follows begins anew"
            )
        self._waiting.append((why, events[at:]))

    @property
    def _complete(self) -> bool:
        """Whether all events of this stretch have come."""
        return self._ended or bool(self._waiting)

    def _closed(self, bins: EventBins) -> list[Bin]:
        """The frames that are over."""
        found = []
        while not self._over(bins) and self._may_close(bins):
            found.append(bins.close())
            if self._fast:
                break
        return found

    def _may_close(self, bins: EventBins) -> bool:
        return (self._complete or bins.seen >= bins.end) if self._fast else self._wait(bins) <= 0

    def _wait(self, bins: EventBins) -> float:
        """Seconds until the next frame may be closed."""
        over = self._begun + (bins.end - bins.start) * 1e-6
        patience = 0 if self._complete or bins.seen >= bins.end else self._length * 1e-6
        return over + patience - time.monotonic()

    def _over(self, bins: EventBins) -> str:
        """Why a stretch has come to its end: "silence", "cut", or "" where it has not."""
        if bins.empty >= self._window:
            return "silence"
        before_silence = bool(self._waiting) and self._waiting[0][0] == "silence"
        return "cut" if self._complete and not bins.pending and not before_silence else ""

    def _in_time(self, closed: list[Bin]) -> list[Bin]:
        """One frame of those that wait."""
        if len(closed) < 2:
            return closed
        if self._merge:
            self._notes.add("frames merged into the next, as they waited", len(closed) - 1)
            whole = closed[0]
            for later in closed[1:]:
                whole = whole.merged(later)
            return [whole]
        self._notes.add("frames dropped, as they waited", len(closed) - 1)
        self._notes.add("events in dropped frames", sum(each.events for each in closed[:-1]))
        return closed[-1:]
