"""Folders of image files, one sub-folder a class, as ImageNet is laid out. Decoding is Pillow's."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tet_deploy.data.augmentation import Augmentation, Normalisation, augmentation_for
from tet_deploy.data.repairs import Repair, tell
from tet_deploy.data.roots import data_root
from tet_deploy.data.sources import FrameData, FrameSource, Transform
from tet_deploy.data.splits import split_hash
from tet_deploy.errors import ArtifactError, DataError, MissingDependencyError

# By channel, over ImageNet's training images; the values that the PyTorch project publishes with its ImageNet models.
IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_SUFFIXES = (".jpeg", ".jpg", ".png")
_PARTS = {"train": ("train",), "test": ("val", "test")}
_CLASSES = 1000


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Image files, opened when they are asked for; RGB."""

    paths: Sequence[Path]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int, /) -> Any:
        from PIL import Image

        path = self.paths[index]
        try:
            with Image.open(path) as image:
                return image.convert("RGB")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise ArtifactError(f"{path}: cannot be read as an image ({error}). Fetch it again, or remove it.") from error


@dataclass(frozen=True, kw_only=True)
class CentreCrop:
    """Shrink or enlarge so that the shorter side is size * 256 / 224, then cut out the middle size x size pixels."""

    size: int

    def __call__(self, image: Any, generator: np.random.Generator) -> np.ndarray:
        """An RGB image to uint8 [1, 3, size, size]."""
        scale = round(self.size * 256 / 224) / min(image.size)
        width, height = (max(self.size, round(side * scale)) for side in image.size)
        left, top = (width - self.size) // 2, (height - self.size) // 2
        pixels = _pixels(image.resize((width, height), _bilinear()))
        return pixels[..., top : top + self.size, left : left + self.size]


@dataclass(frozen=True, kw_only=True)
class ResizedCrop:
    """Cut out a window of 8 to 100 % of the area and a shape from 3:4 to 4:3, and resize it to size x size pixels.

    The crop of Szegedy et al., "Going deeper with convolutions" (CVPR 2015, section 6), usual for ImageNet. Where ten
    draws do not fit into the image, the middle.
    """

    size: int

    def __call__(self, image: Any, generator: np.random.Generator) -> np.ndarray:
        """An RGB image to uint8 [1, 3, size, size]."""
        whole_width, whole_height = image.size
        for _ in range(10):
            area = whole_width * whole_height * generator.uniform(0.08, 1)
            shape = math.exp(generator.uniform(math.log(3 / 4), math.log(4 / 3)))
            width, height = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
            if 0 < width <= whole_width and 0 < height <= whole_height:
                left = int(generator.integers(0, whole_width - width + 1))
                top = int(generator.integers(0, whole_height - height + 1))
                window = (left, top, left + width, top + height)
                return _pixels(image.resize((self.size, self.size), _bilinear(), box=window))
        return CentreCrop(size=self.size)(image, generator)


def load_imagenet(
    *,
    steps: int,
    seed: int = 0,
    root: str | os.PathLike[str] | None = None,
    size: int = 224,
    augmentation: Mapping[str, Any] | None = None,
    partial: bool = False,
) -> FrameData:
    """ImageNet: normalised images [1, 3, size, size], shown at each of T steps; its validation images are the test.

    `root` is the folder that holds `imagenet/train/CLASS/*.JPEG` and `imagenet/val/CLASS/*.JPEG`; the rest is as in
    load_image_folder. All 1000 classes must be there unless `partial`.

    Raises
    ------
    DataError
        The set or classes of it are missing.
    MissingDependencyError
        Pillow is not installed.
    """
    folder = data_root(root) / "imagenet"
    if not folder.is_dir():
        raise DataError(
            f"data 'imagenet': found no folder {folder}. Get ILSVRC2012 from https://image-net.org and unpack "
            f"it as {folder}/train/CLASS/*.JPEG and {folder}/val/CLASS/*.JPEG.\n"
            f"If it lies elsewhere, give root= or set TET_DEPLOY_DATA."
        )
    data = load_image_folder(root=folder, steps=steps, seed=seed, size=size, augmentation=augmentation)
    if data.classes != _CLASSES and not partial:
        raise DataError(
            f"data 'imagenet': needs {_CLASSES} classes; {folder} holds {data.classes}. partial=True takes these."
        )
    return data


def load_image_folder(
    *,
    root: str | os.PathLike[str],
    steps: int,
    seed: int = 0,
    size: int = 224,
    augmentation: Mapping[str, Any] | None = None,
    normalisation: Normalisation = IMAGENET,
) -> FrameData:
    """Images `root/train/CLASS/FILE`, and `root/val/CLASS/FILE` (or test) for the test; JPEG or PNG.

    Parameters
    ----------
    root
        The folder. Classes are numbered in the order of their folders' names.
    size
        Height and width of the frames.
    augmentation
        Of the training images; the usual for ImageNet is {"flip": True, "resized_crop": True}. Others get the middle.
    normalisation
        By default ImageNet's.

    Raises
    ------
    DataError
        No images, or a class that is in one part only.
    MissingDependencyError
        Pillow is not installed.
    """
    try:
        import PIL.Image  # noqa: F401  # asked for before a long listing
    except ModuleNotFoundError as error:
        raise MissingDependencyError("image files need Pillow. Install it with: pip install pillow") from error
    root = Path(root).expanduser()
    chosen = augmentation_for(root.name, augmentation, without={})
    others: list[Path] = []
    parts = {part: _list(root, part, names, others) for part, names in _PARTS.items()}
    classes = sorted(parts["train"])
    if alone := sorted(set(classes) ^ set(parts["test"])):
        raise DataError(f"{root}: class {alone[0]!r} must have images in both parts, to train and to test. Unpack it again.")
    files = {part: [path for name in classes for path in found[name]] for part, found in parts.items()}
    labels = {
        part: np.repeat(np.arange(len(classes)), [len(found[name]) for name in classes]) for part, found in parts.items()
    }
    names = [path.relative_to(root).as_posix() for part in _PARTS for path in files[part]]
    digest = split_hash(names, np.concatenate(list(labels.values())), np.arange(len(names)) >= len(files["train"]))
    random: tuple[Transform, ...] = (ResizedCrop(size=size) if chosen.resized_crop else CentreCrop(size=size),)
    random += (chosen,) if chosen != Augmentation(resized_crop=chosen.resized_crop) else ()
    transforms: dict[str, tuple[Transform, ...]] = {
        "train": (*random, normalisation),
        "test": (CentreCrop(size=size), normalisation),
    }
    sources = {
        part: FrameSource(
            samples=ImageFiles(files[part]),
            labels=labels[part],
            classes=len(classes),
            shape=(3, size, size),
            steps=steps,
            encoding="analog",
            static=True,
            transforms=transforms[part],
            seed=seed,
            split_hash=digest,
        )
        for part in _PARTS
    }
    repairs = {"files that are no JPEG or PNG, left out": Repair(len(others), 0, str(others[0]))} if others else {}
    tell(root.name, repairs, depth=4)
    return FrameData(name=root.name, train=sources["train"], test=sources["test"], seed=seed, repairs=repairs)


def _list(root: Path, part: str, names: tuple[str, ...], others: list[Path]) -> dict[str, list[Path]]:
    """Image files of each class, in the order of their names; what else lies there is added to `others`."""
    folder = next((root / name for name in names if (root / name).is_dir()), None)
    if folder is None:
        raise DataError(f"{root}: needs a folder {' or '.join(names)}. Put images into one sub-folder of it a class.")
    found: dict[str, list[Path]] = {}
    for entry in sorted(path for path in folder.iterdir() if path.is_dir()):
        paths = sorted(path for path in entry.iterdir() if not path.name.startswith("."))
        found[entry.name] = [path for path in paths if path.suffix.lower() in _SUFFIXES]
        others += [path for path in paths if path.suffix.lower() not in _SUFFIXES]
    if empty := [name for name, files in found.items() if not files]:
        raise DataError(f"{folder / empty[0]}: holds no image ({', '.join(_SUFFIXES)}). Unpack it again.")
    if not found:
        raise DataError(f"{folder}: holds no class ({part}). Put images into one sub-folder a class.")
    return found


def _bilinear() -> Any:
    from PIL import Image

    return Image.Resampling.BILINEAR


def _pixels(image: Any) -> np.ndarray:
    return np.asarray(image, dtype=np.uint8).transpose(2, 0, 1)[None]
