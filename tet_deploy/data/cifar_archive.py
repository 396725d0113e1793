"""The files of CIFAR-10 and CIFAR-100: the binary version, and the python version without running its pickles."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tet_deploy.errors import ArtifactError, DataError

PIXELS = 3 * 32 * 32


def read_binary(path: Path, *, label_bytes: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [N, 3, 32, 32] and labels int64 [N], from records of `label_bytes`, the last the label, and the pixels.

    Raises
    ------
    ArtifactError
        A file that cannot be read, or is not of whole records.
    DataError
        A label out of range.
    """
    try:
        content = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror}). Unpack the archive again.") from error
    record = label_bytes + PIXELS
    if not content.size or content.size % record:
        raise ArtifactError(
            f"{path}: must be records of {record} bytes; it has {content.size} bytes. Unpack the archive of this set again."
        )
    records = content.reshape(-1, record)
    labels = _checked(path, records[:, label_bytes - 1].astype(np.int64), classes)
    return records[:, label_bytes:].reshape(-1, 3, 32, 32), labels


def read_python(path: Path, *, label_key: bytes, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """The same from a file of the python version.

    Such a file is a pickle. Its numpy array is rebuilt from the bytes by ourselves and no name in it is ever looked up or
    called, so that a pickle made to run a program gives an error instead.

    Raises
    ------
    ArtifactError
        A file that cannot be read, or holds anything but CIFAR's plain values.
    DataError
        Images or labels of another shape or range.
    """
    try:
        with path.open("rb") as file:
            content = _CifarUnpickler(file, encoding="bytes").load()
        images, labels = content[b"data"].array(), content[label_key]
    except Exception as error:  # a damaged pickle fails in any way it likes
        raise ArtifactError(
            f"{path}: cannot be read as CIFAR's python version ({error}). Unpack it again, or get the binary version."
        ) from error
    if images.ndim != 2 or images.shape[1] != PIXELS or not isinstance(labels, list) or len(labels) != len(images):
        raise DataError(f"{path}: must hold images [N, {PIXELS}] and N labels; got {images.shape}. Unpack it again.")
    return images.reshape(-1, 3, 32, 32), _checked(path, labels, classes)


def _checked(path: Path, labels: Sequence[Any] | np.ndarray, classes: int) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iu":
        raise DataError(f"{path}: labels must be integers; got {labels.dtype}.")
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise DataError(
            f"{path}: record {wrong[0]} has label {labels[wrong[0]]}; must be in 0..{classes - 1}. Is it another CIFAR?"
        )
    return labels.astype(np.int64)


class _Array:
    """Stands for numpy.ndarray in a pickle and keeps its state: (version, shape, dtype, Fortran order, bytes)."""

    def __init__(self, *arguments: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def array(self) -> np.ndarray:
        _, shape, dtype, fortran, content = self.state
        if not isinstance(dtype, _Type) or dtype.code != b"u1":
            raise ValueError("its images are not bytes")
        return np.frombuffer(content, dtype=np.uint8).reshape(shape, order="F" if fortran else "C")


class _Type:
    """Stands for numpy.dtype."""

    def __init__(self, code: bytes, *arguments: Any) -> None:
        self.code = code.encode() if isinstance(code, str) else code

    def __setstate__(self, state: Any) -> None:
        pass  # byte order and fields; a type of one byte has none


class _CifarUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module in ("numpy.core.multiarray", "numpy._core.multiarray", "numpy") and name in ("_reconstruct", "ndarray"):
            return _Array
        if (module, name) == ("numpy", "dtype"):
            return _Type
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which CIFAR does not need")
