"""One recording of events to frames: T blocks of equal time, counted, at the resolution that the network takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tet_deploy.data.event_clock import in_order
from tet_deploy.data.event_columns import EventStream, as_events
from tet_deploy.data.event_frames import to_frames
from tet_deploy.data.repairs import tell
from tet_deploy.errors import ArgumentError, DataError

RESIZES = {"bin": "events", "area": "analog"}  # how -> encoding
_SHARED = 4  # events a tick, on average, that show a clock's coarseness


@dataclass(frozen=True, kw_only=True)
class EventPipeline:
    """Recordings of one camera to frames [T, polarity, height, width].

    The blocks divide the recording's own time, from its first event to its last, as the paper says (appendix A.1, after
    Samadzadeh et al., 2020); counts accumulate. An event at t is in block floor((t - first) T / (last - first)), the last
    one in block T - 1: the same in any unit of time.

    Attributes
    ----------
    steps
        Number of blocks T.
    sensor_size
        Width and height of the camera, in pixels.
    size
        Height and width of the frames, at most the camera's; None keeps the camera's.
    resize
        "bin": pixel x goes to pixel floor(x * width / camera's width), and likewise y, as in tonic's Downsample. Every
        event is counted once and counts stay whole, so the network is deployed with events as its input.
        "area": the mean count of the pixels under each new pixel, in the shares that it covers. Smooth, but no longer
        whole: the input is analog.
    sort_jumps
        Sort the events of recordings whose clock seems to have been set back, instead of refusing them; see in_order.

    Raises
    ------
    ArgumentError
        A value out of range.
    """

    VERSION: ClassVar[int] = 2  # of what is read and counted: other frames of the same files and settings raise it

    steps: int
    sensor_size: tuple[int, int]
    size: tuple[int, int] | None = None
    resize: str = "bin"
    sort_jumps: bool = False

    def __post_init__(self) -> None:
        width, height = self.sensor_size
        if self.resize not in RESIZES:
            raise ArgumentError(f"resize {self.resize!r}: must be one of {', '.join(RESIZES)}.")
        if self.steps < 1:
            raise ArgumentError(f"steps: must be at least 1; got {self.steps}.")
        if not (1 <= self.frame_size[0] <= height and 1 <= self.frame_size[1] <= width):
            raise ArgumentError(f"size {self.size}: must lie between (1, 1) and the camera's ({height}, {width}).")

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of the frames."""
        return self.size or (self.sensor_size[1], self.sensor_size[0])

    @property
    def encoding(self) -> str:
        """What the network's Input says of such frames."""
        return "events" if self.size is None else RESIZES[self.resize]

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Of the frames: counts of events are small."""
        return np.dtype(np.uint16 if self.encoding == "events" else np.float32)

    def __call__(self, events: np.ndarray, name: str) -> np.ndarray:
        """Count the events of one recording; what had to be sorted or repaired is told as a DataWarning.

        Parameters
        ----------
        events
            Structured, with x, y, t, p; any order.
        name
            Of the recording, for the errors.

        Returns
        -------
        np.ndarray
            [T, 2, height, width], uint16 for counts or float32 for means.

        Raises
        ------
        DataError
            As `count`.
        """
        stream = as_events(name, events)
        frames, repairs = self.count(stream, name)
        tell(name, {**stream.repairs, **repairs})
        return frames

    def count(self, stream: EventStream, name: str) -> tuple[np.ndarray, dict[str, int]]:
        """Frames of one recording, and what had to be sorted or repaired.

        Raises
        ------
        DataError
            No event, one outside the camera, a clock that was set back or ticks too seldom, or a pixel with more events than
            can be counted.
        """
        self._check(stream, name)
        events, repairs = in_order(name, stream.events, sort_jumps=self.sort_jumps)
        placed = events.copy()
        placed["t"] -= events["t"][0]
        duration = int(placed["t"][-1])
        self._check_clock(placed["t"], name)
        width, height = self.sensor_size
        if self.resize == "bin":
            height, width = self.frame_size
            placed["x"] = events["x"] * width // self.sensor_size[0]
            placed["y"] = events["y"] * height // self.sensor_size[1]
        frames = to_frames([placed], steps=self.steps, duration=max(1, duration), sensor_size=(width, height, 2))[:, 0]
        if self.encoding == "analog":
            rows, columns = _coverage(height, self.frame_size[0]), _coverage(width, self.frame_size[1])
            frames = rows @ frames @ columns.T
        elif frames.max() > np.iinfo(np.uint16).max:
            raise DataError(f"{name}: more than 65535 events of a pixel in a block. Remove hot pixels, or use more steps.")
        return frames.astype(self.dtype), repairs

    def _check(self, stream: EventStream, name: str) -> None:
        events, (width, height) = stream.events, self.sensor_size
        if not len(events):
            raise DataError(f"{name}: holds no event. Record it again, or remove it.")
        low, high = ({axis: int(found(events[axis])) for axis in "xy"} for found in (np.min, np.max))
        for axis, size in zip("xy", self.sensor_size, strict=True):
            if low[axis] < 0 or high[axis] >= size:
                raise DataError(
                    f"{name}: {axis} must lie in 0..{size - 1} on a camera of {width} x {height} pixels; "
                    f"found {low[axis]}..{high[axis]}. {self._advice(stream, low, high)}"
                )

    def _check_clock(self, t: np.ndarray, name: str) -> None:
        """That there are as many ticks as blocks; of a few events that share none, their divisor is not yet a tick."""
        tick = max(1, int(np.gcd.reduce(t)))
        ticks = int(t[-1]) // tick + 1
        if ticks < self.steps and (tick == 1 or len(t) >= _SHARED * ticks):
            raise DataError(
                f"{name}: its clock ticks {ticks} times from first to last event, too seldom for {self.steps} blocks. "
                "Use fewer steps."
            )

    def _advice(self, stream: EventStream, low: dict[str, int], high: dict[str, int]) -> str:
        """What to do where events lie outside of the camera, by how they do."""
        width, height = self.sensor_size
        if stream.sensor_size and stream.sensor_size != self.sensor_size:
            return f"The file says {stream.sensor_size[0]} x {stream.sensor_size[1]}: give sensor_size={stream.sensor_size}."
        if min(low.values()) >= 1 and high["x"] <= width and high["y"] <= height:
            return "Its pixels seem to be counted from 1: subtract 1 from x and y."
        if min(low.values()) >= 0 and high["x"] < height and high["y"] < width:
            return (
                f"x and y seem to be exchanged, in the file or in sensor_size=(width, height); it fits ({height}, {width})."
            )
        if min(low.values()) < 0 or max(high.values()) in (2**8 - 1, 2**16 - 1, 2**32 - 1):
            return "Pixels before the first one were counted, with or without their sign: shift the events, or remove these."
        return "Give the camera's real size, or record it again."


def _coverage(pixels: int, cells: int) -> np.ndarray:
    """Share of each new cell that each old pixel covers, float32 [cells, pixels]; rows sum to 1."""
    edges = np.arange(cells + 1) * (pixels / cells)
    left, right = edges[:-1, None], edges[1:, None]
    pixel = np.arange(pixels)
    overlap = np.clip(np.minimum(right, pixel + 1) - np.maximum(left, pixel), 0, None)
    return np.asarray((overlap / (right - left)).astype(np.float32))
