"""One file of events to a structured array, by the file's suffix: parsed by tonic, h5py or numpy, checked here."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tet_deploy.data.frames import LARGEST_FILE_BYTES, check_claimed_size
from tet_deploy.errors import ArtifactError, DataError, MissingDependencyError, TetDeployError

# Wide, so that a coordinate off the sensor is seen instead of wrapped; p is 0 (off) or 1 (on).
WIDE_EVENT_DTYPE = np.dtype([("x", np.int64), ("y", np.int64), ("t", np.int64), ("p", np.int8)])
_MNIST_RECORD = 5  # bytes of an event
_AEDAT_RECORD = 8
_NO_POLARITY_EVENT = 0x8000_8000  # bits of a DVS128's address that mark synchronisation and other special events


def read_events(path: Path) -> np.ndarray:
    """Read the events of one recording.

    .aedat4  DV's format, through tonic and aedat.
    .aedat   AEDAT 2.0 of a DVS128, as the makers of DVS-CIFAR10 published it, through tonic.
    .bin     N-MNIST's and N-Caltech101's 40-bit records, through tonic.
    .h5      HDF5 with x, y, t, p, at the top or in a group or table `events`.
    .npy     A structured array with the fields x, y, t, p.
    .npz     Arrays x, y, t, p.

    Returns
    -------
    np.ndarray
        WIDE_EVENT_DTYPE, in the file's order and unit of time.

    Raises
    ------
    ArtifactError
        A suffix that is none of these, or a file that is damaged or of another format.
    DataError
        Columns that are missing, of different lengths, or not whole numbers; a polarity that is none.
    MissingDependencyError
        tonic, aedat or h5py is not installed.
    """
    if path.suffix not in READERS:
        raise ArtifactError(f"{path}: event files end in {', '.join(READERS)}; got {path.suffix!r}. Convert it.")
    return READERS[path.suffix](path)


def parsed(path: Path, parse: Callable[[], Any]) -> np.ndarray:
    """Call another library's parser and check what it gives; whatever goes wrong inside is about this file.

    Raises
    ------
    ArtifactError, DataError, MissingDependencyError
        As read_events.
    """
    try:
        return as_events(path, parse())
    except TetDeployError:
        raise
    except ModuleNotFoundError as error:
        raise MissingDependencyError(f"{path}: needs {error.name}. Install it with: pip install {error.name}") from error
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # whatever their arithmetic runs into; aedat's panics are not even Exceptions
        raise ArtifactError(f"{path}: cannot be read as events ({error}). It is damaged: fetch it again.") from error


def as_events(path: Path, columns: Mapping[str, Any] | np.ndarray) -> np.ndarray:
    """Columns x, y, t, p of whole numbers to one array of WIDE_EVENT_DTYPE."""
    names = columns.dtype.names or () if isinstance(columns, np.ndarray) else tuple(columns)
    if missing := [name for name in "xytp" if name not in names]:
        raise DataError(f"{path}: events need x, y, t and p; found no {missing[0]!r} among {list(names)}.")
    arrays = {name: np.asarray(columns[name]) for name in "xytp"}
    if any(array.shape != (len(arrays["t"]),) for array in arrays.values()):
        raise DataError(f"{path}: x, y, t and p must be of one length; got {[array.shape for array in arrays.values()]}.")
    events = np.empty(len(arrays["t"]), WIDE_EVENT_DTYPE)
    for name, array in arrays.items():
        if array.dtype.kind not in "iubf" or not np.isfinite(array).all() or not np.array_equal(array, np.rint(array)):
            raise DataError(f"{path}: {name} must be whole numbers, t in microseconds; got {array.dtype}. Convert it.")
        events[name] = array > 0 if name == "p" else array
    if not np.isin(np.unique(arrays["p"]), (-1, 0, 1)).all():
        raise DataError(f"{path}: polarity must be 0 or 1, or -1 or 1; found {np.unique(arrays['p'])[:5]}.")
    return events


def check_mnist_file(path: Path) -> None:
    """Raise an ArtifactError unless the file is of whole records."""
    size = path.stat().st_size
    if not size or size % _MNIST_RECORD:
        raise ArtifactError(f"{path}: must be records of {_MNIST_RECORD} bytes; it has {size} bytes. Unpack it again.")


def check_npy_file(path: Path) -> None:
    """Raise an ArtifactError unless the file holds what its header claims."""
    try:
        with path.open("rb") as file:
            check_claimed_size(file, path.stat().st_size)
    except (OSError, ValueError, EOFError) as error:
        raise ArtifactError(f"{path}: cannot be read as .npy ({error}). It is damaged: fetch it again.") from error


def _read_aedat4(path: Path) -> np.ndarray:
    def parse() -> dict[str, np.ndarray]:
        from tonic.io import read_aedat4

        events = read_aedat4(str(path))
        return {"x": events["x"], "y": events["y"], "t": events["t"], "p": events["on"]}

    return parsed(path, parse)


def _read_aedat2(path: Path) -> np.ndarray:
    """Addresses of a DVS128 in jAER's layout: polarity in bit 0 (0 is on), x in 1-7 from the right, y in 8-14 from below."""

    def parse() -> dict[str, np.ndarray]:
        from tonic.io import get_aer_events_from_file, read_aedat_header_from_file

        with path.open("rb") as file:
            if not file.readline().startswith(b"#!AER-DAT2"):
                raise ArtifactError(f"{path}: only version 2.0 of .aedat is read. Convert it to .aedat4.")
        version, start, _ = read_aedat_header_from_file(str(path))
        if (path.stat().st_size - start) % _AEDAT_RECORD:
            raise ArtifactError(f"{path}: its last record is cut off. Fetch it again.")
        records = get_aer_events_from_file(str(path), version, start)
        records = records[(records["address"] & _NO_POLARITY_EVENT) == 0]
        address = records["address"].astype(np.int64)
        return {
            "x": 127 - ((address >> 1) & 127),
            "y": 127 - ((address >> 8) & 127),
            "t": records["timeStamp"],
            "p": 1 - (address & 1),
        }

    return parsed(path, parse)


def _read_mnist(path: Path) -> np.ndarray:
    check_mnist_file(path)

    def parse() -> np.ndarray:
        from tonic.io import read_mnist_file

        return np.asarray(read_mnist_file(str(path), dtype=WIDE_EVENT_DTYPE))

    return parsed(path, parse)


def _read_hdf5(path: Path) -> np.ndarray:
    def parse() -> dict[str, np.ndarray]:
        import h5py  # type: ignore[import-untyped]  # it ships no type information

        with h5py.File(path, "r") as file:
            table = file.get("events", file)
            if isinstance(table, h5py.Dataset):
                _check_hdf5_size(path, table)
                return {name: table[name] for name in table.dtype.names or ()}
            for name in table:
                _check_hdf5_size(path, table[name])
            return {name: table[name][()] for name in table if name in "xytp"}

    return parsed(path, parse)


def _check_hdf5_size(path: Path, dataset: Any) -> None:
    size = getattr(dataset, "nbytes", 0)
    if size > LARGEST_FILE_BYTES:
        raise ArtifactError(f"{path}: {dataset.name} claims {size} bytes; {LARGEST_FILE_BYTES} are allowed. Is it damaged?")


def _read_npy(path: Path) -> np.ndarray:
    check_npy_file(path)
    return parsed(path, lambda: np.load(path, allow_pickle=False))


def _read_npz(path: Path) -> np.ndarray:
    def parse() -> dict[str, np.ndarray]:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                with archive.open(member) as header:
                    check_claimed_size(header, member.file_size)
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in "xytp" if name in arrays.files}

    return parsed(path, parse)


READERS: dict[str, Callable[[Path], np.ndarray]] = {
    ".aedat4": _read_aedat4,
    ".aedat": _read_aedat2,
    ".bin": _read_mnist,
    ".h5": _read_hdf5,
    ".hdf5": _read_hdf5,
    ".npy": _read_npy,
    ".npz": _read_npz,
}
