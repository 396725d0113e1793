"""Decisions as events come: each window of frames is a sample, which a stream of the network is shown a frame at a time.

A window begins with the first frame that holds an event, so that silence is no sample, and ends with its last frame, with an
early decision, or where the events are cut short.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tet_deploy.latency import Latency
from tet_deploy.live.bins import Bin
from tet_deploy.live.frames import LiveFrames
from tet_deploy.live.notes import Notes
from tet_deploy.stream import Stream
from tet_deploy.wording import number_of

FULL, EARLY, CUT = "all steps", "early", "cut short"


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What one window was taken for.

    Attributes
    ----------
    decision
        The class.
    margin
        Lead of its mean readout before the next class's.
    steps
        Frames that were shown.
    start, end
        Their time by the events' clock, in microseconds.
    events
        How many they held.
    why
        "all steps", "early", or "cut short": the events ended before, their clock was set back, or frames were dropped
        or merged.
    """

    decision: int
    margin: float
    steps: int
    start: int
    end: int
    events: int
    why: str

    def __str__(self) -> str:
        return (
            f"{self.start * 1e-6:.6f} s to {self.end * 1e-6:.6f} s: class {self.decision}, {self.why} ({self.steps}), "
            f"{self.events:,} events, lead {self.margin:.4g}"
        )


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a live run did.

    Attributes
    ----------
    ended
        Why: the input ended, it was interrupted, the reader of the output left.
    events, frames, decisions
        How many came, were shown, and were made.
    counts
        What else happened, in words, and how often.
    latency
        Of a step; None where there was none.
    """

    ended: str
    events: int
    frames: int
    decisions: int
    counts: Mapping[str, int] = field(default_factory=dict)
    latency: Latency | None = None

    def as_dict(self) -> dict[str, Any]:
        """In plain JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        mean = f", {self.frames / self.decisions:.2f} frames each" if self.decisions else ""
        seen = f"{number_of('event', self.events)}, {number_of('frame', self.frames)} shown"
        parts = [f"{self.ended}: {seen}, {number_of('decision', self.decisions)}{mean}"]
        parts += [f"{what}: {count:,}" for what, count in self.counts.items()]
        return "; ".join(parts + ([] if self.latency is None else [str(self.latency)]))


class Live:
    """Iterates over the decisions of a stream on frames as they come.

    Parameters
    ----------
    stream
        One stream, with the rule that it stops by.
    frames
        `LiveFrames`; any others, with None where a stretch ends, will do.
    steps
        Frames of a whole window.
    """

    def __init__(self, stream: Stream, frames: LiveFrames | Iterable[Bin | None], steps: int) -> None:
        self._stream, self._frames, self._steps = stream, frames, steps
        self._shown: list[tuple[int, int, int]] = []  # start, end, events
        self.frames = self.decisions = 0

    def __iter__(self) -> Iterator[Decision]:
        for frame in self._frames:
            if frame is None:
                if self._shown:
                    yield self._decided(CUT)
            elif frame.events or self._shown:
                self._stream.step(frame.counts)
                self._shown.append((frame.start, frame.end, frame.events))
                self.frames += 1
                if self._stream.stopped[0]:
                    yield self._decided(FULL if len(self._shown) == self._steps else EARLY)

    def _decided(self, why: str) -> Decision:
        found = Decision(
            decision=int(self._stream.decisions[0]),
            margin=float(self._stream.margins[0]),
            steps=len(self._shown),
            start=self._shown[0][0],
            end=self._shown[-1][1],
            events=sum(events for _, _, events in self._shown),
            why=why,
        )
        self._shown = []
        self._stream.reset()
        self.decisions += 1
        return found

    def summary(self, ended: str, events: int, notes: Notes) -> Summary:
        """What was done so far."""
        return Summary(
            ended=ended,
            events=events,
            frames=self.frames,
            decisions=self.decisions,
            counts=dict(notes.counts),
            latency=self._stream.latency if self.frames else None,
        )
