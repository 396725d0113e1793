"""A folder of one's own event files, one sub-folder a class; and an .npz of frames."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tet_deploy.contracts import Progress
from tet_deploy.data.augmentation import augmentation_for
from tet_deploy.data.event_files import READERS, read_events
from tet_deploy.data.event_pipeline import EventPipeline
from tet_deploy.data.frames import load_frames
from tet_deploy.data.recordings import Recordings, frames_of
from tet_deploy.data.sources import FrameData, from_arrays
from tet_deploy.errors import DataError

_PARTS = ("train", "test")


def load_event_folder(
    *,
    root: str | os.PathLike[str],
    steps: int,
    sensor_size: tuple[int, int],
    seed: int = 0,
    size: tuple[int, int] | None = None,
    resize: str = "bin",
    held_out: float = 0.2,
    augmentation: Mapping[str, Any] | None = None,
    cache: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> FrameData:
    """Frames of event files `root/CLASS/FILE`, or `root/train/CLASS/FILE` and `root/test/CLASS/FILE`.

    Parameters
    ----------
    root
        The folder. Classes are numbered in the order of their folders' names; files are read by their suffix, see
        event_files.read_events.
    sensor_size
        Width and height of the camera in pixels.
    held_out
        Share of each class for the test, where the folder has no part of its own for it; chosen by the files' names.

    The rest is as in event_sets.load_event_set.

    Raises
    ------
    DataError
        No such folder, no class or no file in it, or a recording that does not fit the camera.
    ArtifactError
        A file that cannot be read.
    """
    root = Path(root).expanduser()
    chosen = augmentation_for(root.name, augmentation, without={"resized_crop": "it is for image files"})
    size = None if size is None else (int(size[0]), int(size[1]))
    camera = (int(sensor_size[0]), int(sensor_size[1]))
    pipeline = EventPipeline(steps=steps, sensor_size=camera, size=size, resize=resize)
    listing = _list(root)
    return frames_of(listing, pipeline, augmentation=chosen, held_out=held_out, seed=seed, cache=cache, progress=progress)


def load_frames_file(*, root: str | os.PathLike[str], steps: int, seed: int = 0, held_out: float = 0.2) -> FrameData:
    """Frames and labels of an .npz, split at random by the seed; frames of whole numbers count as events.

    Raises
    ------
    ArtifactError
        A file that cannot be read.
    DataError
        No labels, another number of steps, or fewer than two samples.
    """
    loaded = load_frames(root)
    frames, labels = loaded.frames, loaded.labels
    if labels is None:
        raise DataError(f"{root}: training needs 'labels' beside 'frames'. Write np.savez(path, frames=..., labels=...).")
    if len(frames) != steps:
        raise DataError(f"{root}: holds {len(frames)} steps; got steps={steps}. Ask for as many as there are.")
    if labels.max() >= len(labels):
        raise DataError(
            f"{root}: labels must count classes from 0, with samples of each; got {labels.max()} with {len(labels)} of them."
        )
    order = np.random.default_rng(seed).permutation(len(labels))
    count = max(1, round(held_out * len(labels)))
    if count >= len(labels):
        raise DataError(f"{root}: training needs at least 2 samples; got {len(labels)}.")
    test, training = order[:count], order[count:]
    return from_arrays(
        name=str(root),
        train_frames=frames[:, training],
        train_labels=labels[training],
        test_frames=frames[:, test],
        test_labels=labels[test],
        encoding="events" if np.array_equal(frames, np.rint(frames)) else "analog",
        seed=seed,
        classes=int(labels.max()) + 1,
    )


def _list(root: Path) -> Recordings:
    layout = f"Put event files ({', '.join(READERS)}) into one sub-folder a class."
    if not root.is_dir():
        raise DataError(f"{root}: no such folder. {layout}")
    parts = [root / part for part in _PARTS] if all((root / part).is_dir() for part in _PARTS) else [root]
    classes = sorted({folder.name for part in parts for folder in part.iterdir() if _is_class(folder)})
    files: list[Path] = []
    labels: list[int] = []
    for part in parts:
        for label, name in enumerate(classes):
            found = sorted(path for path in (part / name).rglob("*") if path.is_file() and not path.name.startswith("."))
            if not found:
                raise DataError(f"{part / name}: holds no event file. {layout}")
            if strange := [path for path in found if path.suffix not in READERS]:
                raise DataError(f"{strange[0]}: is no event file. {layout} Keep other files elsewhere.")
            files += found
            labels += [label] * len(found)
    if not files:
        raise DataError(f"{root}: holds no class. {layout}")
    return Recordings(
        name=root.name or "events",
        folder=root,
        files=files,
        labels=np.array(labels, dtype=np.int64),
        test=np.array([len(parts) == 2 and parts[1] in path.parents for path in files]),
        classes=len(classes),
        read=lambda index: read_events(files[index]),
    )


def _is_class(folder: Path) -> bool:
    return folder.is_dir() and not folder.name.startswith(".")
