"""Events to frames of equal time, one after another: frame k counts what happens in start + [k, k + 1) length.

What comes when its frame is closed already is late: dropped, or merged, that is, counted in the next frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_MANY = 2**20  # events of a frame that wait to be counted


@dataclass(frozen=True, kw_only=True, eq=False)
class Bin:
    """One frame.

    Attributes
    ----------
    start, end
        Its time, in microseconds of the events' clock.
    counts
        float32 [2, H, W]: events by polarity, row and column.
    events
        How many.
    """

    start: int
    end: int
    counts: np.ndarray
    events: int

    def merged(self, later: Bin) -> Bin:
        """One frame of both times."""
        return Bin(start=self.start, end=later.end, counts=self.counts + later.counts, events=self.events + later.events)


class EventBins:
    """The frames of one stretch of time, open until they are closed in order.

    Parameters
    ----------
    start
        Time of the first event.
    length
        Microseconds of a frame.
    size
        (height, width).
    """

    def __init__(self, start: int, *, length: int, size: tuple[int, int]) -> None:
        self.start, self.length, self.next = start, length, 0
        self._shape = (2, *size)
        self._open: dict[int, list[np.ndarray]] = {}  # of each frame its events' places in the array ...
        self._counts: dict[int, np.ndarray] = {}  # ... and the counts of those that were too many to keep
        self.last = -1  # frame of the latest event
        self.seen = start  # its time

    @property
    def end(self) -> int:
        """Time at which the next frame ends."""
        return self.start + (self.next + 1) * self.length

    @property
    def pending(self) -> bool:
        """Whether events wait in frames that are not closed."""
        return bool(self._open or self._counts)

    @property
    def empty(self) -> int:
        """How many frames were closed behind that of the latest event."""
        return self.next - self.last - 1

    def add(self, events: np.ndarray, *, merge: bool) -> int:
        """Count events of this stretch in their frames; returns how many were late, which are merged or dropped."""
        frame = (events["t"] - self.start) // self.length
        late = frame < self.next
        if merge:
            frame = np.maximum(frame, self.next)
        else:
            frame, events = frame[~late], events[~late]
        pixel = np.ravel_multi_index((events["p"].astype(np.int64), events["y"], events["x"]), self._shape)
        order = np.argsort(frame, kind="stable")
        numbers, starts = np.unique(frame[order], return_index=True)
        for number, pixels in zip(numbers.tolist(), np.split(pixel[order], starts[1:]), strict=False):
            waiting = self._open.setdefault(number, [])
            waiting.append(pixels)
            if sum(map(len, waiting)) > _MANY:
                self._counts[number] = self._counted(number)
        if len(frame):
            self.last, self.seen = max(self.last, int(frame.max())), max(self.seen, int(events["t"].max()))
        return int(np.count_nonzero(late))

    def close(self) -> Bin:
        """The next frame; what comes for it from now on is late."""
        end = self.end
        counts = self._counted(self.next)
        self.next += 1
        return Bin(
            start=end - self.length,
            end=end,
            counts=counts.reshape(self._shape).astype(np.float32),
            events=int(counts.sum()),
        )

    def _counted(self, number: int) -> np.ndarray:
        pixels = np.concatenate(self._open.pop(number, [np.empty(0, np.int64)]))
        return np.bincount(pixels, minlength=int(np.prod(self._shape))) + self._counts.pop(number, 0)

    def breaks(self, t: np.ndarray, window: int) -> tuple[int, str]:
        """Index of the first event that no longer belongs to this stretch, and why: `len(t)` and "" where all do.

        After `window` empty frames it is "silence"; where time falls by more than so many frames, "back".
        """
        before = np.maximum.accumulate(np.concatenate([[self.seen], t]))[:-1]
        frame, reached = (t - self.start) // self.length, (before - self.start) // self.length
        found = np.flatnonzero((frame - reached > window) | (reached - frame > window))
        if not found.size:
            return len(t), ""
        at = int(found[0])
        return at, "silence" if frame[at] > reached[at] else "back"
