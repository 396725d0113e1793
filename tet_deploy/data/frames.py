"""Frames and labels from plain .npz and .npy files, and the checks on labels. Needs numpy only."""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from tet_deploy import file_kinds
from tet_deploy.contracts import as_array
from tet_deploy.data.event_columns import named
from tet_deploy.data.event_formats import identify
from tet_deploy.errors import ArtifactError, DataError, TetDeployError, cut, first_line
from tet_deploy.files import LARGEST_FILE_BYTES
from tet_deploy.mapped import map_array, stored_at
from tet_deploy.reprs import short_repr

_TIGHTEST = 1032  # deflate packs no tighter: an array that claims more was never in the file
_RECORDINGS = " Recordings of events are loaded as a folder, with one sub-folder a class."


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledFrames:
    """Frames [T, B, *shape], time first, and the classes of the samples, int64 [B], if they are known."""

    frames: np.ndarray
    labels: np.ndarray | None = None
    __repr__ = short_repr


def load_frames(path: str | os.PathLike[str], *, mapped: bool = False) -> LabelledFrames:
    """Read `frames` and, if it is there, `labels` from an .npz; or frames alone from an .npy. Pickles are refused.

    With `mapped`, frames that are not compressed stay in their file, which must then stay as it is, and are read where they
    are looked at.

    Raises
    ------
    ArtifactError
        No such file, not of this kind, damaged, too large, or without `frames`.
    DataError
        Frames that are not numbers [T, B, C, H, W] (or [T, B, C, L], [T, B, N]), or labels that do not fit them.
    """
    path = file_kinds.expected(path, file_kinds.FRAMES, "Give an .npz with the array 'frames' [T, B, C, H, W].")
    found, kind = identify(path)
    if found and kind not in (".npy", ".npz"):
        raise ArtifactError(f"{path}: is {found}; frames are read from .npz and .npy.{_RECORDINGS * kind.startswith('.')}")
    try:
        arrays = _read_npz(path, mapped) if zipfile.is_zipfile(path) else {"frames": _read_npy(path, mapped)}
    except TetDeployError:
        raise
    except Exception as error:  # a file can be wrong in any way: it must not surprise the caller
        raise ArtifactError(
            f"{path}: cannot be read as .npz or .npy ({first_line(error)}). "
            "Write it with np.savez(path, frames=..., labels=...)."
        ) from error
    frames, labels = arrays["frames"], arrays.get("labels")
    if frames.dtype.kind not in "fiub" or frames.ndim not in (3, 4, 5) or 0 in frames.shape:
        raise DataError(
            f"{path}: frames must be numbers [T, B, C, H, W], [T, B, C, L] or [T, B, N], time first; got {frames.dtype} "
            f"{frames.shape}."
        )
    if labels is not None and labels.shape == frames.shape[:1] != frames.shape[1:2]:
        raise DataError(
            f"{path}: has {len(labels)} labels, but frames {frames.shape}: time first, that is {frames.shape[0]} steps of "
            f"{frames.shape[1]} samples. If samples stand first, save frames.swapaxes(0, 1); of still images, "
            "np.broadcast_to(images, (T, *images.shape)).copy()."
        )
    return LabelledFrames(frames=frames, labels=None if labels is None else check_labels(labels, samples=frames.shape[1]))


def samples_of(name: str, split: str = "test") -> str:
    """What samples are called: "test samples of digits".

    Of a path its last name alone: the words go into papers, pages and files that others are handed.
    """
    return f"{split} samples of {Path(name).name}".lstrip()


def which_samples(count: int, total: int, of: str) -> str:
    """Which samples a number is of: "all 360 test samples of digits", "the first 64 of 360 samples of frames.npz".

    `of` says of which there are so many: "test samples of digits".
    """
    if count == total:
        return f"all {total:,} {of}" if total > 1 else f"the only {of.replace('samples', 'sample', 1)}"
    return f"the first {count:,} of {total:,} {of}" if count > 1 else f"the first of {total:,} {of}"


def check_labels(labels: Any, *, samples: int, classes: int | None = None) -> np.ndarray:
    """Labels as int64 [samples], in 0..classes-1 where the number of classes is known.

    Raises
    ------
    DataError
        Not integers, another number of them, or one out of range.
    """
    found = as_array(labels)
    if found.dtype.kind not in "iu" or found.shape != (samples,):
        raise DataError(f"labels: must be integers of shape ({samples},), one a sample; got {found.dtype} {found.shape}.")
    found = found.astype(np.int64)
    wrong = found[(found < 0) | (found >= (np.inf if classes is None else classes))]
    if len(wrong):
        limit = "at least 0" if classes is None else f"in 0..{classes - 1}"
        raise DataError(f"labels: must be {limit}; got {wrong[0]}. Count classes from 0.")
    return found


def _read_npz(path: Path, mapped: bool) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        if "frames" not in names:
            raise ArtifactError(
                f"{path}: holds no array 'frames', but {cut(', '.join(names)) or 'none'}. Write it with "
                f"np.savez(path, frames=..., labels=...).{_RECORDINGS * bool(named(names))}"
            )
        for name in ("frames", "labels"):
            if name in names:
                size = min(archive.getinfo(f"{name}.npy").file_size, unpacked_limit(path))
                with archive.open(f"{name}.npy") as header:
                    check_claimed_size(header, size)
                if mapped and (offset := stored_at(path, archive.getinfo(f"{name}.npy"))) is not None:
                    arrays[name] = map_array(path, offset)
                else:
                    with archive.open(f"{name}.npy") as file:
                        arrays[name] = np.lib.format.read_array(file, allow_pickle=False)
    return arrays


def _read_npy(path: Path, mapped: bool) -> np.ndarray:
    with path.open("rb") as file:
        check_claimed_size(file, path.stat().st_size)
        file.seek(0)
        return map_array(path, 0) if mapped else np.asarray(np.lib.format.read_array(file, allow_pickle=False))


def unpacked_limit(path: Path) -> int:
    """Bytes that an array packed into this file may have."""
    return min(LARGEST_FILE_BYTES, _TIGHTEST * path.stat().st_size)


def check_claimed_size(file: IO[bytes], size: int) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of the array in an .npy of `size` bytes.

    Raises
    ------
    ValueError
        The file cannot hold the array that its header claims: numpy would allocate it.
    """
    major, _ = np.lib.format.read_magic(file)
    if major not in (1, 2):
        raise ValueError(f"an .npy of version {major}; versions 1 and 2 are read")
    read_header = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(file)
    if any(type(axis) is not int for axis in shape):  # numpy takes True for 1
        raise ValueError(f"its header claims the shape {shape}")
    claimed = dtype.itemsize
    for axis in shape:
        claimed *= axis
    if dtype.hasobject:
        raise ValueError("it holds Python objects, not numbers")
    if not 0 <= claimed <= min(size, LARGEST_FILE_BYTES):
        raise ValueError(f"its header claims {claimed} bytes; the file holds {size}, and {LARGEST_FILE_BYTES} are allowed")
    return shape, dtype
