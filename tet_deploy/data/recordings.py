"""Recordings of events on disk to a data set: split, pipeline, cache and augmentation put together."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tet_deploy.contracts import Progress
from tet_deploy.data.augmentation import Augmentation
from tet_deploy.data.event_columns import EventStream
from tet_deploy.data.event_pipeline import EventPipeline
from tet_deploy.data.frame_cache import cached_frames
from tet_deploy.data.repairs import Repair, add, tell
from tet_deploy.data.sources import FrameData, FrameSource, Samples
from tet_deploy.data.splits import hold_out, split_hash
from tet_deploy.reprs import short_repr


@dataclass(frozen=True, kw_only=True, eq=False)
class Recordings:
    """Files of events, one sample each, in a fixed order.

    Attributes
    ----------
    name, folder
        Of the data set; names of samples are paths below the folder.
    labels, test
        int64 [N], and bool [N]: who is in a test part of its own. All False where there is none.
    read
        Gives the events of file i.
    repairs
        What of the folder was left out.
    """

    name: str
    folder: Path
    files: Sequence[Path]
    labels: np.ndarray
    test: np.ndarray
    classes: int
    read: Callable[[int], EventStream]
    repairs: Mapping[str, Repair] = field(default_factory=dict)
    __repr__ = short_repr

    @property
    def names(self) -> list[str]:
        """Paths below the folder without suffix, such as "airplane/cifar10_airplane_7"."""
        return [path.relative_to(self.folder).with_suffix("").as_posix() for path in self.files]


@dataclass(frozen=True, eq=False)
class Subset:
    """Some of the samples, by their numbers."""

    samples: Samples
    numbers: np.ndarray

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int, /) -> Any:
        return self.samples[int(self.numbers[index])]


def frames_of(
    recordings: Recordings,
    pipeline: EventPipeline,
    *,
    augmentation: Augmentation,
    held_out: float,
    seed: int = 0,
    cache: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> FrameData:
    """The data set: frames from the cache, split by the recordings' own parts or, where there are none, by their names.

    What was left out, sorted or repaired is in its `repairs` and told as a DataWarning, whether the cache had it or not.

    Raises
    ------
    DataError, ArtifactError, MissingDependencyError
        From reading, splitting and keeping the frames.
    """
    names, labels, test = recordings.names, recordings.labels, recordings.test
    if not test.any():
        test = hold_out(names, labels, share=held_out)
    digest = split_hash(names, labels, test)
    counted = _Counted(recordings, pipeline)
    samples = cached_frames(
        counted,
        name=recordings.name,
        settings={"version": pipeline.VERSION, **dataclasses.asdict(pipeline)},
        files=recordings.files,
        shape=(pipeline.steps, 2, *pipeline.frame_size),
        dtype=pipeline.dtype,
        folder=cache,
        progress=progress,
        notes=lambda: counted.repairs,
    )
    repairs = {**recordings.repairs, **{what: Repair(*repair) for what, repair in samples.notes.items()}}
    tell(recordings.name, repairs, depth=5)
    random = (augmentation,) if augmentation != Augmentation() else ()
    train, held = (
        FrameSource(
            samples=Subset(samples, np.flatnonzero(chosen)),
            labels=labels[chosen],
            classes=recordings.classes,
            shape=(2, *pipeline.frame_size),
            steps=pipeline.steps,
            encoding=pipeline.encoding,
            transforms=transforms,
            seed=seed,
            split_hash=digest,
        )
        for chosen, transforms in ((~test, random), (test, ()))
    )
    return FrameData(name=recordings.name, train=train, test=held, seed=seed, repairs=repairs)


class _Counted:
    """Frames of recording i when called; remembers what had to be repaired, and recordings that are in the set twice."""

    def __init__(self, recordings: Recordings, pipeline: EventPipeline) -> None:
        self.recordings, self.pipeline = recordings, pipeline
        self.names = recordings.names
        self.repairs: dict[str, Repair] = {}
        self.seen: set[bytes] = set()

    def __call__(self, index: int) -> np.ndarray:
        stream = self.recordings.read(index)
        frames, repairs = self.pipeline.count(stream, str(self.recordings.files[index]))
        found = {**stream.repairs, **repairs}
        if stream.sensor_size not in (None, self.pipeline.sensor_size):
            found["headers of another camera's size, read as asked"] = 1
        content = hashlib.sha256(stream.events.tobytes()).digest()
        if content in self.seen:
            found["copies of another recording, maybe in the other part, kept"] = 1
        self.seen.add(content)
        add(self.repairs, found, self.names[index])
        return frames
