"""Samples as batches of the network's input [T, B, *shape], in an order that can be computed again.

Order and augmentation depend on seed, epoch and sample alone: not on the number of processes or loader workers, nor on where
a training was interrupted. Epochs are counted through all stages.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tet_deploy.contracts import Frames, as_array
from tet_deploy.data.frames import check_labels
from tet_deploy.data.sources import ArrayFrames, FrameSource
from tet_deploy.errors import DataError, TetDeployError
from tet_deploy.training.distribution import Group
from tet_deploy.training.randomness import seeded

Batch = tuple[Tensor, Tensor]  # frames float32 [T, B, *shape], labels int64 [B]


class Source(Protocol):
    """A data set of a map's style: len(source) samples, source[i] = (frames [T, *shape], label).

    A source with a method `at_epoch(epoch)` gives itself with the random changes of that epoch (see data.FrameSource). Of
    any other, torch's, numpy's and Python's global generators are seeded for each sample.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[Any, Any]: ...


class Feed(Protocol):
    """What a training takes its samples from."""

    def __len__(self) -> int: ...

    def batches(self, chosen: Sequence[np.ndarray], device: torch.device, epoch: int | None = None) -> Iterator[Batch]:
        """Batches of the samples with these numbers, in this order; `epoch` is None for evaluation.

        Images that stand still share their memory over the steps: the stride of their first axis is 0.
        """

    def check_classes(self, classes: int) -> None:
        """Raise a DataError where a label is not in 0..classes-1, now or when its sample is read."""


def order(samples: int, batch_size: int, *, seed: int, epoch: int) -> list[np.ndarray]:
    """Sample numbers of each batch of one epoch: every sample once, batches of nearly equal size."""
    permutation = np.random.default_rng((seed, epoch)).permutation(samples)
    return np.array_split(permutation, math.ceil(samples / batch_size))


def parts(batch: np.ndarray, group: Group, accumulate: int) -> list[np.ndarray]:
    """What one process takes of a batch, in so many parts: of every part of the batch its share, of nearly equal size.

    Raises
    ------
    DataError
        Fewer samples than processes.
    """
    if len(batch) < group.size:
        raise DataError(f"{group.size} processes: a batch of {len(batch)} samples is too small. Take a larger batch_size.")
    count = min(accumulate, len(batch) // group.size)
    return [np.array_split(part, group.size)[group.rank] for part in np.array_split(batch, count)]


class ArrayFeed:
    """Frames that fit in memory, [T, N, *shape], with labels [N] in 0..classes-1.

    Raises
    ------
    DataError
        Frames that are not finite numbers [T, N, *shape] with T steps, or labels that do not fit.
    """

    def __init__(self, frames: Frames, labels: Any, *, steps: int, classes: int | None = None) -> None:
        frames = as_array(frames)
        shape = frames.shape
        if len(shape) < 3 or shape[0] != steps or shape[1] < 1:
            raise DataError(
                f"training frames: must be [T, N, *shape] with T = {steps} as in the recipe and at least one sample; "
                f"got {shape}."
            )
        self.steps = steps
        stored = frames[:1] if frames.strides[0] == 0 else frames
        self.frames = torch.tensor(np.asarray(stored, dtype=np.float32))
        if not torch.isfinite(self.frames).all():
            raise DataError("training frames: must be finite; found NaN or infinity. Look at the preprocessing.")
        self.labels = torch.tensor(check_labels(labels, samples=shape[1], classes=classes))

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, chosen: Sequence[np.ndarray], device: torch.device, epoch: int | None = None) -> Iterator[Batch]:
        """See Feed."""
        for indices in chosen:
            picked = torch.from_numpy(indices)
            yield _on(device, self.frames[:, picked], self.steps), self.labels[picked].to(device)

    def check_classes(self, classes: int) -> None:
        """See Feed."""
        check_labels(self.labels.numpy(), samples=len(self), classes=classes)


class SourceFeed:
    """A data set read sample by sample, by this process or by `workers` others, with torch's DataLoader.

    Raises
    ------
    DataError
        From `batches`: frames that are not [T, *shape], of one shape, with T steps; or labels that do not fit.
    """

    def __init__(self, source: Source, *, steps: int, seed: int = 0, classes: int | None = None, workers: int = 0) -> None:
        if len(source) < 1:
            raise DataError("training samples: need at least one; the data set is empty.")
        self.source, self.steps, self.classes = source, steps, classes
        self._plan: list[list[tuple[int | None, int]]] = []
        self._loader: DataLoader[Any] = DataLoader(
            _Epochs(source, seed),
            batch_sampler=self._plan,  # read anew by every call of `batches`
            num_workers=workers,
            collate_fn=_side_by_side,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=workers > 0,
            generator=torch.Generator(),  # its own: torch's global one must not depend on when a loader starts
        )

    def __len__(self) -> int:
        return len(self.source)

    def batches(self, chosen: Sequence[np.ndarray], device: torch.device, epoch: int | None = None) -> Iterator[Batch]:
        """See Feed."""
        self._plan[:] = [[(epoch, int(index)) for index in indices] for indices in chosen]
        for frames, labels, shapes in self._read():
            if len(shapes) != 1 or len(shapes[0]) < 2 or shapes[0][0] != self.steps:
                raise DataError(f"a sample's frames: must be [T, *shape], all of one shape, T = {self.steps}; got {shapes}.")
            checked = check_labels(labels, samples=len(labels), classes=self.classes)
            yield _on(device, frames, self.steps), torch.from_numpy(checked).to(device)

    def check_classes(self, classes: int) -> None:
        """See Feed."""
        self.classes = classes

    def _read(self) -> Iterator[Any]:
        try:
            yield from self._loader
        except TetDeployError as error:  # from a worker it comes with that process's traceback; its own words are enough
            raise type(error)(str(error).rsplit(f"{type(error).__name__}: ", 1)[-1].strip()) from error


def feed_of(source: FrameSource, *, workers: int = 0) -> Feed:
    """The feed that suits a source: from memory where its frames lie there and are not changed at random."""
    if isinstance(source.samples, ArrayFrames) and not source.transforms:
        return ArrayFeed(source.frames(), source.labels, steps=source.steps, classes=source.classes)
    return SourceFeed(source, steps=source.steps, seed=source.seed, classes=source.classes, workers=workers)


def _on(device: torch.device, frames: Tensor, steps: int) -> Tensor:
    """Frames [T or 1, B, *shape] on the device, as [T, B, *shape]; moved first, so that a still image moves once."""
    return frames.to(device, non_blocking=True).expand(steps, *frames.shape[1:])


class _Epochs(Dataset[tuple[Any, Any]]):
    """A source whose samples depend on nothing but seed, epoch and index."""

    def __init__(self, source: Source, seed: int) -> None:
        self.source, self.seed = source, seed
        self.current: tuple[int, Source] | None = None

    def __getitem__(self, asked: tuple[int | None, int]) -> tuple[Any, Any]:
        epoch, index = asked
        if epoch is None:
            return self.source[index]
        if not hasattr(self.source, "at_epoch"):
            with seeded((self.seed, epoch, index)):
                return self.source[index]
        if self.current is None or self.current[0] != epoch:  # not for each sample: making one checks all labels
            self.current = epoch, self.source.at_epoch(epoch)
        return self.current[1][index]


def _side_by_side(samples: list[tuple[Any, Any]]) -> tuple[Tensor, np.ndarray, list[tuple[int, ...]]]:
    """Frames [T, B, *shape], or [1, B, *shape] where all steps share their memory; labels [B]; the shapes there are."""
    frames = [np.asarray(frames) for frames, _ in samples]
    shapes = sorted({one.shape for one in frames})
    if len(shapes) > 1 or not frames[0].ndim:
        return torch.empty(0), np.empty(0), shapes
    if all(one.strides[0] == 0 for one in frames):
        frames = [one[:1] for one in frames]
    side_by_side = np.stack(frames, axis=1).astype(np.float32, copy=False)
    return torch.from_numpy(side_by_side), np.asarray([label for _, label in samples]), shapes
