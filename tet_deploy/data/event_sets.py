"""DVS-CIFAR10, N-MNIST and DVS-Gesture: tonic lists and parses them; the paper's pipeline makes them frames.

Nothing is downloaded: a set that is missing is an error that says where to get it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tet_deploy.contracts import Progress
from tet_deploy.data.augmentation import augmentation_for
from tet_deploy.data.event_files import check_mnist_file, check_npy_file, parsed
from tet_deploy.data.event_pipeline import EventPipeline
from tet_deploy.data.recordings import Recordings, frames_of
from tet_deploy.data.roots import data_root
from tet_deploy.data.sources import FrameData
from tet_deploy.errors import DataError, MissingDependencyError


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
    check
        Raises an error of a file that is damaged in a way that its parser would not notice.
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
    check: Callable[[Path], None] = lambda path: None


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
        check=check_mnist_file,
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
        check=check_npy_file,
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
    size, resize
        Height and width of the frames, and how they are reached; see EventPipeline.
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
    pipeline = EventPipeline(steps=steps, sensor_size=about.sensor_size, size=size, resize=resize)
    listing = _list(name, about, data_root(root), partial)
    return frames_of(
        listing, pipeline, augmentation=chosen, held_out=about.held_out, seed=seed, cache=cache, progress=progress
    )


def _list(name: str, about: EventSet, root: Path, partial: bool) -> Recordings:
    """The recordings of a set in the order of their names, each with its part, label and reader."""
    folder = root / about.tonic
    entries: list[tuple[Path, int, bool, Callable[[], np.ndarray]]] = []
    for part, expected in about.samples.items():
        dataset = _tonic_dataset(name, about, root, part)
        if not dataset.data or (len(dataset.data) != expected and not partial):
            raise _missing(name, about, root, f"found {len(dataset.data)} of {expected} recordings ({part})")
        for index, (file, label) in enumerate(zip(dataset.data, dataset.targets, strict=True)):
            path = Path(file)
            entries.append((path, int(label), part == "test", _reader(about, dataset, index, path)))
    entries.sort(key=lambda entry: entry[0].as_posix())
    labels = np.array([label for _, label, _, _ in entries], dtype=np.int64)
    strange = np.flatnonzero((labels < 0) | (labels >= about.classes))
    if len(strange):
        raise DataError(
            f"{entries[strange[0]][0]}: label must be in 0..{about.classes - 1}; got {labels[strange[0]]}. Remove it."
        )
    absent = sorted(set(range(about.classes)) - set(labels.tolist()))
    if absent and not partial:
        raise _missing(name, about, root, f"class {absent[0]} has no recording")
    return Recordings(
        name=name,
        folder=folder,
        files=[path for path, _, _, _ in entries],
        labels=labels,
        test=np.array([test for _, _, test, _ in entries]),
        classes=about.classes,
        read=lambda index: entries[index][3](),
    )


def _tonic_dataset(name: str, about: EventSet, root: Path, part: str) -> Any:
    """tonic's own data set on the files that are there; its class is kept from downloading."""
    try:
        from tonic import datasets
    except ModuleNotFoundError as error:
        raise MissingDependencyError("event data need tonic. Install it with: pip install 'tet_deploy[events]'") from error
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


def _reader(about: EventSet, dataset: Any, index: int, path: Path) -> Callable[[], np.ndarray]:
    def read() -> np.ndarray:
        about.check(path)
        return parsed(path, lambda: dataset[index][0])

    return read


def _missing(name: str, about: EventSet, root: Path, found: str) -> DataError:
    return DataError(
        f"data {name!r}: needs {about.layout} in {root / about.tonic}; {found}.\n"
        f"Get it from {about.page} and unpack it there, inner archives too (tonic calls it {about.tonic}).\n"
        f"If it lies elsewhere, give root= or set TET_DEPLOY_DATA; partial=True takes what is there."
    )
