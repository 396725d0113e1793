"""Frames computed once and kept on disk, memory-mapped: a set of many gigabytes needs little memory."""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tet_deploy.contracts import Progress
from tet_deploy.errors import ArtifactError
from tet_deploy.files import BY_NAME, regular_file, written_whole

_CHUNK_BYTES = 2**24


@dataclass(frozen=True, eq=False)
class CachedFrames:
    """Samples [T, C, H, W] of an .npy [N, T, C, H, W] on disk. Sent to another process, it opens the file there."""

    path: Path
    shape: tuple[int, ...]
    notes: Any = None  # what `notes` of cached_frames gave

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int, /) -> np.ndarray:
        return np.asarray(self._array()[index])

    def _array(self) -> np.ndarray:
        if "array" not in self.__dict__:
            object.__setattr__(self, "array", np.load(self.path, mmap_mode="r", allow_pickle=False))
        return np.asarray(self.__dict__["array"])

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "shape": self.shape, "notes": self.notes}  # a memory map would travel as the whole array


def cached_frames(
    compute: Callable[[int], np.ndarray],
    *,
    name: str,
    settings: Mapping[str, Any],
    files: Sequence[Path],
    shape: tuple[int, ...],
    dtype: np.dtype[np.generic],
    folder: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    notes: Callable[[], Any] = lambda: None,
) -> CachedFrames:
    """Open the frames of these files, or compute and keep them.

    The file is named by a hash of the settings and of every source file's name, size and time of change: whatever changes,
    the frames are computed anew. It is written whole, and its notes and a checksum of both beside it; what does not match
    that is damaged, and is computed again.

    Parameters
    ----------
    compute
        Gives the frames of file i, of the shape and type promised.
    name
        Of the data set, for the file's name.
    settings
        All that the frames depend on besides the files; plain values.
    files
        The recordings, in order.
    shape, dtype
        Of one sample's frames.
    folder
        Default: `tet_deploy/frames` in the user's cache folder.
    progress
        Called as progress(done, total) while frames are computed.
    notes
        Called when they are; gives plain values to be kept with them.

    Raises
    ------
    ArtifactError
        The folder cannot be written to, or a recording is no file.
    """
    folder = Path(folder) if folder is not None else _default_folder()
    path = folder / f"{name}-{_key(settings, files)}.npy"
    whole = (len(files), *shape)
    if not _is_intact(path, whole, dtype):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ArtifactError(f"{folder}: cannot be made ({error.strerror}). Choose another cache folder.") from error
        _write(path, compute, whole, dtype, progress, notes)
    return CachedFrames(path, whole, _described(path)["notes"])


def _default_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tet_deploy" / "frames"


def _key(settings: Mapping[str, Any], files: Sequence[Path]) -> str:
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    root = os.path.commonpath([file.parent for file in files])
    for file in files:
        status = regular_file(file, "Give a recording, or remove it.").stat()
        digest.update(f"\n{file.relative_to(root).as_posix()}\t{status.st_size}\t{status.st_mtime_ns}".encode())
    return digest.hexdigest()[:24]


def _write(
    path: Path,
    compute: Callable[[int], np.ndarray],
    shape: tuple[int, ...],
    dtype: np.dtype[np.generic],
    progress: Progress | None,
    notes: Callable[[], Any],
) -> None:
    _checksum_file(path).unlink(missing_ok=True)
    with written_whole(path, BY_NAME) as temporary:
        array = np.lib.format.open_memmap(temporary, mode="w+", dtype=dtype, shape=shape)
        for index in range(shape[0]):
            array[index] = compute(index)
            if progress:
                progress(index + 1, shape[0])
        array.flush()
        del array
        kept = notes()
        checksum = _checksum(temporary, kept)
    with written_whole(_checksum_file(path), BY_NAME) as temporary:
        temporary.write_text(json.dumps({"crc32": checksum, "notes": kept}), encoding="utf-8")


def _is_intact(path: Path, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> bool:
    if not (path.is_file() and _checksum_file(path).is_file()):
        return False
    try:
        described = _described(path)
        if described["crc32"] != _checksum(path, described["notes"]):
            return False
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
    return bool(array.shape == shape and array.dtype == dtype)


def _described(path: Path) -> dict[str, Any]:
    """What lies beside the frames in `path`: their checksum, and the notes."""
    described: dict[str, Any] = json.loads(_checksum_file(path).read_text(encoding="utf-8"))
    return described


def _checksum_file(path: Path) -> Path:
    return path.with_suffix(".json")


def _checksum(path: Path, notes: Any) -> int:
    checksum = zlib.crc32(json.dumps(notes).encode())
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            checksum = zlib.crc32(chunk, checksum)
    return checksum
