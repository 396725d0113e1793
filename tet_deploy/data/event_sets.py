"""DVS-CIFAR10, N-MNIST and DVS-Gesture: tonic lists and labels them; the paper's pipeline makes them frames.

Nothing is downloaded: a set that is missing is an error that says where to get it.
"""

from __future__ import annotations

import collections
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tet_deploy.contracts import Progress
from tet_deploy.data.augmentation import augmentation_for
from tet_deploy.data.event_columns import EventStream, as_events
from tet_deploy.data.event_files import READERS, guarded, read_stream
from tet_deploy.data.event_formats import check_format
from tet_deploy.data.event_pipeline import EventPipeline
from tet_deploy.data.frames import check_claimed_size
from tet_deploy.data.recordings import Recordings, frames_of
from tet_deploy.data.repairs import Repair
from tet_deploy.data.roots import data_root
from tet_deploy.data.sources import FrameData
from tet_deploy.errors import ArtifactError, DataError, MissingDependencyError


@dataclass(frozen=True, kw_only=True)
class EventSet:
    """What is known of a public set.

    Attributes
    ----------
    tonic
        tonic's class, which is also the folder below `root`.
    page
        Where to get it.
    layout
        Of the unpacked files below that folder.
    classes
        Number of classes.
    sensor_size
        Width and height in pixels.
    samples
        In each part, by the makers' count. A set in one part is split by the names of its files.
    held_out
        Share of each class for the test, of a set in one part.
    size
        Height and width of the frames, unless asked otherwise.
    unsuited
        Augmentation that would change the class, and why.
    read
        Gives the events of a file.
    label
        What the makers' layout says of a file's class, where tonic would take any folder.
    """

    tonic: str
    page: str
    layout: str
    classes: int
    sensor_size: tuple[int, int]
    samples: Mapping[str, int]
    held_out: float = 0.0
    size: tuple[int, int] | None = None
    unsuited: Mapping[str, str] = field(default_factory=dict)
    read: Callable[[Path], EventStream] = read_stream
    label: Callable[[Path], str] | None = None


def read_gesture(path: Path) -> EventStream:
    """Read an array [N, 4] of x, y, p and milliseconds, as tonic's makers cut the recordings.

    Raises
    ------
    ArtifactError
        A file that is damaged, or an array of another shape.
    DataError
        Columns that hold what they cannot.
    """
    check_format(path, (".npy",))
    return guarded(path, lambda: _gesture(path))


def _gesture(path: Path) -> EventStream:
    with path.open("rb") as file:
        shape, _ = check_claimed_size(file, path.stat().st_size)
    if len(shape) != 2 or shape[1] != 4:
        raise ArtifactError(f"{path}: must be an array [N, 4] of x, y, p and milliseconds; got {shape}. Fetch it again.")
    return as_events(path, dict(zip("xypt", np.load(path, allow_pickle=False).T, strict=True)))


EVENT_SETS = {
    # The paper: 10k recordings, 9k for training and 1k for the test, 48x48 (appendix A.1).
    "dvs-cifar10": EventSet(
        tonic="CIFAR10DVS",
        page="https://figshare.com/ndownloader/files/38023437 (Li et al., 2017)",
        layout="airplane/*.aedat4, ..., truck/*.aedat4",
        classes=10,
        sensor_size=(128, 128),
        samples={"train and test": 10_000},
        held_out=0.1,
        size=(48, 48),
    ),
    "n-mnist": EventSet(
        tonic="NMNIST",
        page="https://www.garrickorchard.com/datasets/n-mnist (Orchard et al., 2015)",
        layout="Train/0/*.bin, ..., Test/9/*.bin",
        classes=10,
        sensor_size=(34, 34),
        samples={"train": 60_000, "test": 10_000},
        unsuited={"flip": "a digit's mirror image is no digit"},
        label=lambda path: path.parent.name,
    ),
    "dvs-gesture": EventSet(
        tonic="DVSGesture",
        page="https://figshare.com/ndownloader/files/38022171 and .../38020584, cut by tonic's makers (Amir et al., 2017)",
        layout="ibmGestureTrain/user*/*.npy, ibmGestureTest/user*/*.npy",
        classes=11,
        sensor_size=(128, 128),
        samples={"train": 1077, "test": 264},
        size=(48, 48),
        unsuited={"flip": "the right hand's gestures would become the left's"},
        read=read_gesture,
    ),
}


def load_event_set(
    name: str,
    *,
    steps: int,
    seed: int = 0,
    root: str | os.PathLike[str] | None = None,
    size: tuple[int, int] | None = None,
    resize: str = "bin",
    sort_jumps: bool = False,
    augmentation: Mapping[str, Any] | None = None,
    partial: bool = False,
    cache: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> FrameData:
    """Frames [T, 2, H, W]: each recording's time in T equal blocks, its events counted.

    Parameters
    ----------
    name
        In `EVENT_SETS`.
    steps
        Number of blocks T.
    seed
        Of the augmentation. The split does not depend on it.
    root
        Folder that holds the set's own folder; default: the environment's TET_DEPLOY_DATA, else `data`.
    size, resize, sort_jumps
        Height and width of the frames, how they are reached, and what becomes of recordings whose clock was set back; see
        EventPipeline.
    augmentation
        Of the training samples; see Augmentation.
    partial
        Take what is there. Otherwise a set of which samples are missing is refused: its accuracy could not be compared.
    cache, progress
        See frame_cache.cached_frames.

    Raises
    ------
    DataError
        The set or samples of it are missing, or a recording does not fit the camera.
    ArtifactError
        A file that cannot be read, or a cache that cannot be written.
    MissingDependencyError
        tonic, or for DVS-CIFAR10 aedat, is not installed.
    """
    about = EVENT_SETS[name]
    chosen = augmentation_for(name, augmentation, without={"resized_crop": "it is for image files", **about.unsuited})
    size = about.size if size is None else (int(size[0]), int(size[1]))
    pipeline = EventPipeline(steps=steps, sensor_size=about.sensor_size, size=size, resize=resize, sort_jumps=sort_jumps)
    listing = _list(name, about, data_root(root), partial)
    return frames_of(
        listing, pipeline, augmentation=chosen, held_out=about.held_out, seed=seed, cache=cache, progress=progress
    )


def _list(name: str, about: EventSet, root: Path, partial: bool) -> Recordings:
    """The recordings of a set in the order of their names, each with its part, label and reader."""
    folder = root / about.tonic
    entries: list[tuple[Path, int, bool]] = []
    for part, expected in about.samples.items():
        dataset = _tonic_dataset(name, about, root, part)
        if not dataset.data or (len(dataset.data) != expected and not partial):
            raise _missing(name, about, root, f"found {len(dataset.data)} of {expected} recordings ({part})")
        for file, label in zip(dataset.data, dataset.targets, strict=True):
            path = Path(file)
            if about.label and about.label(path) != str(label):
                raise DataError(f"{path}: lies in no class of {name}. Keep only what its makers published: {about.layout}.")
            entries.append((path, int(label), part == "test"))
    entries.sort(key=lambda entry: entry[0].as_posix())
    labels = np.array([label for _, label, _ in entries], dtype=np.int64)
    strange = np.flatnonzero((labels < 0) | (labels >= about.classes))
    if len(strange):
        raise DataError(
            f"{entries[strange[0]][0]}: label must be in 0..{about.classes - 1}; got {labels[strange[0]]}. Remove it."
        )
    absent = sorted(set(range(about.classes)) - set(labels.tolist()))
    if absent and not partial:
        raise _missing(name, about, root, f"class {absent[0]} has no recording")
    files = [path for path, _, _ in entries]
    others = _event_files(folder) - set(files)
    return Recordings(
        name=name,
        folder=folder,
        files=files,
        labels=labels,
        test=np.array([test for _, _, test in entries]),
        classes=about.classes,
        read=lambda index: about.read(files[index]),
        repairs={"files of another kind or place, left out": Repair(len(others), 0, str(min(others)))} if others else {},
    )


def _event_files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.suffix.lower() in READERS and not path.name.startswith(".")}


def _tonic_dataset(name: str, about: EventSet, root: Path, part: str) -> Any:
    """tonic's own data set on the files that are there; its class is kept from downloading."""
    try:
        from tonic import datasets
    except ModuleNotFoundError as error:
        raise MissingDependencyError("event data need tonic. Install it with: pip install 'tet-deploy[events]'") from error
    base = getattr(datasets, about.tonic)
    offline = type(base.__name__, (base,), {"_check_exists": lambda self: True})  # tonic names the folder by the class
    keywords = {} if len(about.samples) == 1 else {"train": part == "train"}
    if not (root / about.tonic).is_dir():
        raise _missing(name, about, root, "found no such folder")
    try:
        return offline(save_to=str(root), **keywords)
    except (KeyError, ValueError) as error:  # tonic reads labels from the names of folders and files
        raise DataError(
            f"{root / about.tonic}: holds a folder or file that is no class of {name} ({error}). "
            f"Keep only what its makers published: {about.layout}."
        ) from error


def _missing(name: str, about: EventSet, root: Path, found: str) -> DataError:
    folder = root / about.tonic
    kind = Path(about.layout).suffix
    others = collections.Counter(path.suffix for path in _event_files(folder) if path.suffix != kind)
    way = f"Get it from {about.page} and unpack it there, inner archives too (tonic calls it {about.tonic})."
    if others:
        suffix, count = others.most_common(1)[0]
        found += f" and {count} files {suffix}"
        if about.held_out:
            options = f"sensor_size={about.sensor_size}, size={about.size}, held_out={about.held_out}"
            way = f"Files {suffix} are loaded by their folder's path: load({str(folder)!r}, {options}, ...)."
    return DataError(
        f"data {name!r}: needs {about.layout} in {folder}; {found}.\n{way}\n"
        f"If it lies elsewhere, give root= or set TET_DEPLOY_DATA; partial=True takes what is there."
    )
