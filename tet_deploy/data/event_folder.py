"""A folder of one's own event files, one sub-folder a class; and an .npz of frames."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tet_deploy.contracts import Progress
from tet_deploy.data.augmentation import augmentation_for
from tet_deploy.data.event_files import READERS, read_stream
from tet_deploy.data.event_formats import check_format, identify
from tet_deploy.data.event_pipeline import EventPipeline
from tet_deploy.data.frames import load_frames
from tet_deploy.data.recordings import Recordings, frames_of
from tet_deploy.data.repairs import Repair
from tet_deploy.data.sources import FrameData, from_arrays
from tet_deploy.errors import DataError
from tet_deploy.wording import number_of

_PARTS = ("train", "test")
_LAYOUT = f"Put event files ({', '.join(READERS)}) into one sub-folder a class."


def load_event_folder(
    *,
    root: str | os.PathLike[str],
    steps: int,
    sensor_size: tuple[int, int],
    seed: int = 0,
    size: tuple[int, int] | None = None,
    resize: str = "bin",
    sort_jumps: bool = False,
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

    steps, seed, size, resize, sort_jumps, augmentation, cache, progress
        As in event_sets.load_event_set.

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
    pipeline = EventPipeline(steps=steps, sensor_size=camera, size=size, resize=resize, sort_jumps=sort_jumps)
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
        raise DataError(f"{root}: holds {number_of('step', len(frames))}; got steps={steps}. Ask for as many as there are.")
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
    if not root.is_dir():
        raise DataError(f"{root}: no such folder. {_LAYOUT}")
    folders = _folders(root)
    there = [part for part in _PARTS if part in folders and any(path.is_dir() for path in (root / part).iterdir())]
    if len(there) == 1:  # else its one class would be "train"
        raise DataError(
            f"{root}: holds the part {there[0]} alone. Give it both, train and test, or folders of classes only."
        )
    parts = [root / part for part in there] or [root]
    beside = [name for name in folders if there and name not in there]
    classes = sorted({name for part in parts for name in _folders(part)})
    files: list[Path] = []
    labels: list[int] = []
    for part in parts:
        for label, name in enumerate(classes):
            found = _event_files(part / name)
            files += found
            labels += [label] * len(found)
    if not files:
        raise DataError(f"{root}: holds no class. {_LAYOUT}")
    return Recordings(
        name=root.name or "events",
        folder=root,
        files=files,
        labels=np.array(labels, dtype=np.int64),
        test=np.array([len(parts) == 2 and parts[1] in path.parents for path in files]),
        classes=len(classes),
        read=lambda index: read_stream(files[index]),
        repairs={"folders beside train and test, left out": Repair(len(beside), 0, beside[0])} if beside else {},
    )


def _folders(folder: Path) -> list[str]:
    """Names of the sub-folders; names with a dot in front are passed over, here and below, as they are everywhere."""
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    if beside := [path for path in entries if path.suffix.lower() in READERS and not path.is_dir()]:
        raise DataError(f"{beside[0]}: belongs to no class. {_LAYOUT}")
    return [path.name for path in entries if path.is_dir()]


def _event_files(folder: Path) -> list[Path]:
    """All files of a class, also in folders below it."""
    found = sorted(path for path in folder.rglob("*") if not path.name.startswith("."))
    if linked := [path for path in found if path.is_symlink() and path.is_dir()]:
        raise DataError(f"{linked[0]}: is a link to a folder, and these are not followed. Move the folder here.")
    found = [path for path in found if not path.is_dir()]
    if not found:
        raise DataError(f"{folder}: holds no event file. {_LAYOUT}")
    for path in found:
        if path.suffix.lower() not in READERS:
            if path.is_file() and any(identify(path)):
                check_format(path, tuple(READERS))  # says what it is
            raise DataError(f"{path}: is no event file. {_LAYOUT} Keep other files elsewhere.")
    return found
