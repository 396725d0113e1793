"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009): 50,000 images to train and 10,000 to test, 3x32x32."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tet_deploy.data.augmentation import Augmentation, Normalisation, augmentation_for
from tet_deploy.data.cifar_archive import read_binary, read_python
from tet_deploy.data.roots import data_root
from tet_deploy.data.sources import FrameData, FrameSource
from tet_deploy.data.splits import split_hash
from tet_deploy.errors import DataError
from tet_deploy.reprs import short_repr

PAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"
_COUNTS = {"train": 50_000, "test": 10_000}


@dataclass(frozen=True, kw_only=True)
class CifarSet:
    """How the files of one of the two are called, and its normalisation.

    Mean and deviation are those of all pixels of the training images, by channel.
    """

    classes: int
    label_bytes: int
    label_key: bytes
    binary: Mapping[str, tuple[str, ...]]
    python: Mapping[str, tuple[str, ...]]
    binary_folder: str
    python_folder: str
    normalisation: Normalisation


CIFAR = {
    "cifar10": CifarSet(
        classes=10,
        label_bytes=1,
        label_key=b"labels",
        binary={"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)},
        python={"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)},
        binary_folder="cifar-10-batches-bin",
        python_folder="cifar-10-batches-py",
        normalisation=Normalisation((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    ),
    "cifar100": CifarSet(
        classes=100,
        label_bytes=2,  # coarse, then fine
        label_key=b"fine_labels",
        binary={"train": ("train.bin",), "test": ("test.bin",)},
        python={"train": ("train",), "test": ("test",)},
        binary_folder="cifar-100-binary",
        python_folder="cifar-100-python",
        normalisation=Normalisation((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    ),
}


@dataclass(frozen=True, eq=False)
class Images:
    """Images in memory, [N, C, H, W], as samples [1, C, H, W]."""

    images: np.ndarray
    __repr__ = short_repr

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int, /) -> np.ndarray:
        return np.asarray(self.images[index][None])


def load_cifar(
    name: str,
    *,
    steps: int,
    seed: int = 0,
    root: str | os.PathLike[str] | None = None,
    augmentation: Mapping[str, Any] | None = None,
    partial: bool = False,
) -> FrameData:
    """Normalised images [1, 3, 32, 32], shown at each of T steps; the makers' split.

    Parameters
    ----------
    name
        In `CIFAR`.
    root
        Folder that holds the unpacked archive's folder; default: the environment's TET_DEPLOY_DATA, else `data`. The binary
        version is taken where both are there.
    augmentation
        Of the training images; usually {"flip": True, "crop_padding": 4}, zeros being added before normalisation.
    partial
        Take what is there. Otherwise all 50,000 and 10,000 images must be.

    Raises
    ------
    DataError
        The set or a part of it is missing, or a label is out of range.
    ArtifactError
        A file that cannot be read.
    """
    about = CIFAR[name]
    chosen = augmentation_for(name, augmentation, without={"resized_crop": "it is for image files"})
    parts = {part: _read(name, about, data_root(root), part, partial) for part in _COUNTS}
    names = [f"{part}/{index}" for part, (_, labels) in parts.items() for index in range(len(labels))]
    labels = np.concatenate([labels for _, labels in parts.values()])
    digest = split_hash(names, labels, np.arange(len(names)) >= len(parts["train"][1]))
    sources = {
        part: FrameSource(
            samples=Images(images),
            labels=labels,
            classes=about.classes,
            shape=(3, 32, 32),
            steps=steps,
            encoding="analog",
            static=True,
            transforms=(
                (chosen, about.normalisation) if part == "train" and chosen != Augmentation() else (about.normalisation,)
            ),
            seed=seed,
            split_hash=digest,
        )
        for part, (images, labels) in parts.items()
    }
    return FrameData(name=name, train=sources["train"], test=sources["test"], seed=seed)


def _read(name: str, about: CifarSet, root: Path, part: str, partial: bool) -> tuple[np.ndarray, np.ndarray]:
    binary = (root / about.binary_folder).is_dir()
    folder = root / (about.binary_folder if binary else about.python_folder)
    paths = [folder / file for file in (about.binary if binary else about.python)[part]]
    there = [path for path in paths if path.is_file()]
    if not there or (len(there) < len(paths) and not partial):
        absent = next(path for path in paths if path not in there)
        raise DataError(
            f"data {name!r}: found no {absent}. Get the binary version from {PAGE} and unpack it, "
            f"so that {root / about.binary_folder} holds its files.\n"
            f"If it lies elsewhere, give root= or set TET_DEPLOY_DATA."
        )
    if binary:
        read = [read_binary(path, label_bytes=about.label_bytes, classes=about.classes) for path in there]
    else:
        read = [read_python(path, label_key=about.label_key, classes=about.classes) for path in there]
    images, labels = (np.concatenate(arrays) for arrays in zip(*read, strict=True))
    if len(labels) != _COUNTS[part] and not partial:
        raise DataError(
            f"data {name!r}: needs {_COUNTS[part]} images ({part}); {folder} holds {len(labels)}. "
            f"Unpack the archive again; partial=True takes what is there."
        )
    return images, labels
