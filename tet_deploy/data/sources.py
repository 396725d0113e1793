"""Frames and labels read one sample at a time, so that a data set need not fit in memory. Needs numpy only."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from tet_deploy.contracts import Frames, as_array
from tet_deploy.data.frames import check_labels
from tet_deploy.data.repairs import Repair
from tet_deploy.errors import DataError
from tet_deploy.reprs import short_repr

Transform = Callable[[Any, np.random.Generator], Any]  # one raw sample and the dice of this sample in this epoch


class Samples(Protocol):
    """Raw samples by index: arrays in memory, a memory-mapped cache, image files."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameSource:
    """Labelled samples, each `(frames float32 [T, C, H, W], label)`; a data set that torch's DataLoader takes.

    What a sample looks like depends on `seed`, `epoch` and its index alone, never on what was read before: a training that
    goes on after a crash sees the same samples, however many processes read them.

    Attributes
    ----------
    samples
        Raw samples; the transforms make of each an array [T, C, H, W], or [1, C, H, W] where `static`.
    labels
        int64 [N], in 0..classes-1.
    shape
        (C, H, W) of one frame.
    steps
        Number of time steps T.
    encoding
        "analog" or "events": what the network's Input says.
    static
        All T frames are the same image. They share its memory: `frames[:1]` is all there is to encode.
    transforms
        Applied in order; each is called as transform(sample, generator).
    seed, epoch
        Of the random transforms; see `at_epoch`.
    split_hash
        SHA-256 of which samples are for training and which for the test; empty where there is no fixed split.

    Raises
    ------
    DataError
        Labels that do not fit the samples or the classes, or no sample.

    Examples
    --------
    >>> loader = DataLoader(source.at_epoch(3), batch_size=64, collate_fn=collate)  # doctest: +SKIP
    """

    samples: Samples
    labels: np.ndarray
    classes: int
    shape: tuple[int, ...]
    steps: int
    encoding: str
    static: bool = False
    transforms: tuple[Transform, ...] = ()
    seed: int = 0
    epoch: int = 0
    split_hash: str = ""
    __repr__ = short_repr

    def __post_init__(self) -> None:
        if not len(self.samples):
            raise DataError("frames: need at least one sample; got none.")
        labels = check_labels(self.labels, samples=len(self.samples), classes=self.classes)
        object.__setattr__(self, "labels", labels)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        index = int(index) % len(self)
        sample = self.samples[index]
        if self.transforms:
            generator = np.random.default_rng((self.seed, self.epoch, index))
            for transform in self.transforms:
                sample = transform(sample, generator)
        frames = np.array(sample, dtype=np.float32, order="C")  # a copy: what was read may be a view into the whole set
        expected = (1 if self.static else self.steps, *self.shape)
        if frames.shape != expected:
            raise DataError(f"sample {index}: frames must be {expected}; got {frames.shape}.")
        return self._over_time(frames), int(self.labels[index])

    def at_epoch(self, epoch: int) -> FrameSource:
        """The same samples, with the random transforms of another epoch."""
        return dataclasses.replace(self, epoch=epoch)

    def batch(self, indices: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Frames float32 [T, B, C, H, W], time first, and labels int64 [B] of the samples named."""
        if isinstance(self.samples, ArrayFrames) and not self.transforms:
            return self._over_time(self.samples.frames[:, indices]), self.labels[indices]
        return collate([self[int(index)] for index in indices])

    def frames(self) -> np.ndarray:
        """All of them, float32 [T, N, C, H, W]: for sets that fit in memory."""
        if isinstance(self.samples, ArrayFrames) and not self.transforms:
            return self._over_time(self.samples.frames)
        return self.batch(range(len(self)))[0]

    def _over_time(self, frames: np.ndarray) -> np.ndarray:
        """Where static, show the one frame at every step: a view."""
        return np.broadcast_to(frames, (self.steps, *frames.shape[1:])) if self.static else frames


def collate(samples: Sequence[tuple[np.ndarray, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Put samples side by side: frames [T, B, C, H, W], time first, and labels int64 [B].

    Samples that share one frame over time, as static images do, still share it in the batch.
    """
    frames = [sample for sample, _ in samples]
    labels = np.array([label for _, label in samples], dtype=np.int64)
    if all(sample.strides[0] == 0 for sample in frames):
        images = np.stack([sample[:1] for sample in frames], axis=1)
        return np.broadcast_to(images, (len(frames[0]), *images.shape[1:])), labels
    return np.stack(frames, axis=1), labels


@dataclass(frozen=True, eq=False)
class ArrayFrames:
    """Samples of an array in memory, float32 [T, N, *shape], or [1, N, *shape] of static images."""

    frames: np.ndarray
    __repr__ = short_repr

    def __len__(self) -> int:
        return int(self.frames.shape[1])

    def __getitem__(self, index: int, /) -> np.ndarray:
        return self.frames[:, index]


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameData:
    """A data set: its training and its test samples.

    `shape` is (C, H, W), `steps` the number of time steps T, `encoding` what the network's Input says, `split_hash` the
    SHA-256 of who belongs to which part. `train_frames`, `test_frames` hold all frames in memory, float32 [T, N, C, H, W].
    `repairs` says what was left out, sorted or repaired when files were read: how often, in how many of them, an example.
    """

    name: str
    train: FrameSource
    test: FrameSource
    seed: int = 0
    repairs: Mapping[str, Repair] = field(default_factory=dict)
    __repr__ = short_repr

    @property
    def shape(self) -> tuple[int, ...]:
        return self.train.shape

    @property
    def steps(self) -> int:
        return self.train.steps

    @property
    def encoding(self) -> str:
        return self.train.encoding

    @property
    def classes(self) -> int:
        return self.train.classes

    @property
    def split_hash(self) -> str:
        return self.train.split_hash

    @property
    def train_frames(self) -> np.ndarray:
        return self.train.frames()

    @property
    def train_labels(self) -> np.ndarray:
        return self.train.labels

    @property
    def test_frames(self) -> np.ndarray:
        return self.test.frames()

    @property
    def test_labels(self) -> np.ndarray:
        return self.test.labels


def from_arrays(
    *,
    name: str,
    train_frames: Frames,
    train_labels: Any,
    test_frames: Frames,
    test_labels: Any,
    encoding: str,
    seed: int,
    classes: int,
    steps: int | None = None,
) -> FrameData:
    """A data set of frames in memory, [T, N, *shape]; its `split_hash` is that of the arrays themselves.

    With `steps`, the frames are images [1, N, *shape] that are shown at so many steps.
    """
    train_frames, train_labels, test_frames, test_labels = map(
        as_array, (train_frames, train_labels, test_frames, test_labels)
    )
    digest = hashlib.sha256()
    for array in (train_labels, train_frames, test_labels, test_frames):
        digest.update(f"{array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    parts = [
        FrameSource(
            samples=ArrayFrames(frames),
            labels=labels,
            classes=classes,
            shape=frames.shape[2:],
            steps=steps or int(frames.shape[0]),
            encoding=encoding,
            static=steps is not None,
            seed=seed,
            split_hash=digest.hexdigest(),
        )
        for frames, labels in ((train_frames, train_labels), (test_frames, test_labels))
    ]
    return FrameData(name=name, train=parts[0], test=parts[1], seed=seed)
