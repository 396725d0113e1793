"""Frames of a network a few samples at a time, from an array or from a source that reads them when they are asked for."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from tet_deploy.contracts import (
    Frames,
    Probes,
    Progress,
    Recording,
    Runtime,
    check_frames,
    fitting,
    tell_other_steps,
)
from tet_deploy.errors import DataError, shown
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import Input
from tet_deploy.ir.normalization import normalized
from tet_deploy.ir.spec import need_graph
from tet_deploy.ir.values import Value, joined, value_of_frames
from tet_deploy.mapped import mapped_anew

Shape = tuple[int, ...]
_VALUES_AT_ONCE = 2**22


@runtime_checkable
class Source(Protocol):
    """Samples by number, read when they are asked for; a `data.FrameSource` is one.

    Attributes
    ----------
    steps, shape
        Number of time steps T, and shape of one frame.
    """

    @property
    def steps(self) -> int: ...

    @property
    def shape(self) -> Shape: ...

    def __len__(self) -> int: ...

    def batch(self, indices: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Frames [T, B, *shape] and, where they are known, labels int64 [B] of the samples named."""
        ...


@dataclass(frozen=True, eq=False)
class ArraySource:
    """Frames [T, B, *shape] that are there already, in memory or mapped from a file, and labels [B]."""

    frames: np.ndarray
    labels: np.ndarray | None = None

    @property
    def steps(self) -> int:
        return int(self.frames.shape[0])

    @property
    def shape(self) -> Shape:
        return tuple(self.frames.shape[2:])

    def __len__(self) -> int:
        return int(self.frames.shape[1])

    def batch(self, indices: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """See `Source`; a range of samples is a view, of an array in memory."""
        chosen = slice(indices.start, indices.stop) if isinstance(indices, range) else np.asarray(indices)
        frames = mapped_anew(self.frames) if isinstance(self.frames, np.memmap) else self.frames
        return frames[:, chosen], None if self.labels is None else self.labels[chosen]


@dataclass(frozen=True, eq=False)
class FrameBatches:
    """Samples start..stop-1 of a source, checked as a network's frames when they are read.

    Attributes
    ----------
    encoding
        What the network's Input says.
    normalizing
        The Input whose frames these are as it normalizes them; None for frames as they come.
    """

    source: Source
    encoding: str
    start: int
    stop: int
    normalizing: Input | None = None

    @classmethod
    def of(cls, graph: Graph, frames: Frames | Source | FrameBatches) -> FrameBatches:
        """Whatever a caller gave as frames of a network. An array is checked at once, a source when it is read.

        Raises
        ------
        ArgumentError, DataError
            No network, or frames that do not fit it.
        """
        if isinstance(frames, FrameBatches):
            return frames
        found = cls.fitting(need_graph(graph).input.shape, graph.input.encoding, frames)
        tell_other_steps(graph, found.steps, len(found))
        return found

    @classmethod
    def fitting(cls, shape: Sequence[int], encoding: str, frames: Frames | Source) -> FrameBatches:
        """Whatever a caller gave as frames of that shape and encoding; as `of`."""
        if isinstance(frames, np.memmap):
            frames = ArraySource(frames)
        if not isinstance(frames, Source):
            frames = ArraySource(check_frames(frames, shape, encoding))
        else:
            check_layout(frames, shape)
        return cls(frames, encoding, 0, len(frames))

    @property
    def steps(self) -> int:
        """Number of time steps T."""
        return self.source.steps

    @property
    def shape(self) -> Shape:
        """Shape of one frame, as the network takes it."""
        return _as_images(self.source.shape)

    def __len__(self) -> int:
        return self.stop - self.start

    def part(self, start: int, stop: int) -> FrameBatches:
        """Samples start..stop-1 of these, counted from the first of these."""
        return dataclasses.replace(self, start=self.start + start, stop=min(self.start + stop, self.stop))

    def behind(self, node: Input) -> FrameBatches:
        """The same as the network's input sends them on, see `ir.normalization`."""
        return self if node.mean is None else dataclasses.replace(self, normalizing=node)

    def frames(self) -> np.ndarray:
        """All of them, float32 [T, B, *shape]."""
        return self.read()[0]

    def read(self) -> tuple[np.ndarray, np.ndarray | None]:
        """All of them, float32 [T, B, *shape], and their labels where they are known.

        Raises
        ------
        DataError
            The source gives what does not fit the network, or no frames of so many samples.
        """
        frames, labels = self.source.batch(range(self.start, self.stop))
        checked = check_frames(frames, self.shape, self.encoding)
        if checked.shape[:2] != (self.steps, len(self)):
            raise DataError(
                f"frames: the source was asked for {self.steps} steps of {len(self)} samples; it gave {checked.shape[0]} of "
                f"{checked.shape[1]}."
            )
        return (checked if self.normalizing is None else normalized(self.normalizing, checked)), labels

    def values(self) -> Value:
        """What frames like these send: bounds, and the coarsest grid that they lie on."""
        size = max(1, _VALUES_AT_ONCE // (self.steps * math.prod(self.shape)))
        encoding = self.encoding if self.normalizing is None else "analog"
        return joined(value_of_frames(part.frames(), encoding) for part in self.batches(size))

    def batches(self, size: int) -> Iterator[FrameBatches]:
        """These samples, so many at a time."""
        for start in range(0, len(self), size):
            yield self.part(start, start + size)


def check_layout(source: Any, shape: Sequence[int]) -> None:
    """See that a source's frames are those of a network.

    Raises
    ------
    DataError
        No sample, or frames of another shape.
    """
    if not len(source) or source.steps < 1:
        raise DataError(f"frames: need at least one step and one sample; the source has {len(source)} samples.")
    if _as_images(source.shape) != tuple(shape):
        found = tuple(source.shape)
        way_out = fitting((source.steps, len(source), *found), shape)
        raise DataError(f"frames: the network takes frames {tuple(shape)}; the source gives {shown(found)}. {way_out}")


def _as_images(shape: Sequence[int]) -> Shape:
    """Lines [C, L] are images of height 1."""
    return (shape[0], 1, shape[1]) if len(shape) == 2 else tuple(shape)


@runtime_checkable
class OneGo(Protocol):
    """A runtime for which starting is dear: it takes all samples in one go, and tells of them a few at a time."""

    def recordings(
        self, frames: FrameBatches, *, size: int, probes: Probes = "all", progress: Progress | None = None
    ) -> Iterator[Recording]:
        """What it observes of so many samples at a time."""
        ...


def recordings(
    runner: Runtime, frames: FrameBatches, *, size: int, probes: Probes = "all", progress: Progress | None = None
) -> Iterator[Recording]:
    """What any runtime observes of so many samples at a time."""
    if isinstance(runner, OneGo):
        yield from runner.recordings(frames, size=size, probes=probes, progress=progress)
        return
    for part in frames.batches(size):
        yield runner.run(part.frames(), probes=probes, progress=progress and _within(progress, part, frames))


def _within(progress: Progress, part: FrameBatches, whole: FrameBatches) -> Progress:
    """Progress over samples of a part, told as progress over the whole."""
    before = part.start - whole.start
    return lambda done, total: progress(before + done, len(whole))
