"""One recording of events to frames: T blocks of equal time, counted, at the resolution that the network takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tet_deploy.data.event_frames import to_frames
from tet_deploy.errors import ArgumentError, DataError

RESIZES = {"bin": "events", "area": "analog"}  # how -> encoding


@dataclass(frozen=True, kw_only=True)
class EventPipeline:
    """Recordings of one camera to frames [T, polarity, height, width].

    The blocks divide the recording's own time, from its first event to its last, as the paper says (appendix A.1, after
    Samadzadeh et al., 2020); counts accumulate.

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

    Raises
    ------
    ArgumentError
        A value out of range.
    """

    steps: int
    sensor_size: tuple[int, int]
    size: tuple[int, int] | None = None
    resize: str = "bin"

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
        """Count the events of one recording.

        Parameters
        ----------
        events
            Structured, with x, y, t, p (0 or 1); any order.
        name
            Of the recording, for the errors.

        Returns
        -------
        np.ndarray
            [T, 2, height, width], uint16 for counts or float32 for means.

        Raises
        ------
        DataError
            No event, one outside the camera, less time than blocks, or a pixel with more events than can be counted.
        MissingDependencyError
            tonic is not installed.
        """
        self._check(events, name)
        events = events if np.all(events["t"][1:] >= events["t"][:-1]) else events[np.argsort(events["t"], kind="stable")]
        placed = events.copy()
        placed["t"] -= events["t"][0]
        duration = int(placed["t"][-1]) + 1
        if duration < self.steps:
            raise DataError(f"{name}: lasts {duration} units of time, too little for {self.steps} blocks. Use fewer steps.")
        width, height = self.sensor_size
        if self.resize == "bin":
            height, width = self.frame_size
            placed["x"] = events["x"].astype(np.int64) * width // self.sensor_size[0]
            placed["y"] = events["y"].astype(np.int64) * height // self.sensor_size[1]
        frames = to_frames([placed], steps=self.steps, duration=duration, sensor_size=(width, height, 2))[:, 0]
        if frames.sum(dtype=np.float64) != len(events):  # tonic counts in 16 bits, which then wrapped around
            raise DataError(f"{name}: more than 32767 events of a pixel in a block. Remove hot pixels, or use more steps.")
        if self.encoding == "analog":
            rows, columns = _coverage(height, self.frame_size[0]), _coverage(width, self.frame_size[1])
            frames = rows @ frames @ columns.T
        return frames.astype(self.dtype)

    def _check(self, events: np.ndarray, name: str) -> None:
        if not len(events):
            raise DataError(f"{name}: holds no event. Record it again, or remove it.")
        for axis, size in zip("xy", self.sensor_size, strict=True):
            low, high = int(events[axis].min()), int(events[axis].max())
            if low < 0 or high >= size:
                raise DataError(
                    f"{name}: {axis} must lie in 0..{size - 1} on a camera of {self.sensor_size[0]} x {self.sensor_size[1]} "
                    f"pixels; found {low}..{high}. Give the camera's real size, or record it again."
                )


def _coverage(pixels: int, cells: int) -> np.ndarray:
    """Share of each new cell that each old pixel covers, float32 [cells, pixels]; rows sum to 1."""
    edges = np.arange(cells + 1) * (pixels / cells)
    left, right = edges[:-1, None], edges[1:, None]
    pixel = np.arange(pixels)
    overlap = np.clip(np.minimum(right, pixel + 1) - np.maximum(left, pixel), 0, None)
    return np.asarray((overlap / (right - left)).astype(np.float32))
