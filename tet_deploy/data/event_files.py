"""One file of events to a stream, by its suffix, after a look at what it holds."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from tet_deploy.data.aedat2 import read_aedat2
from tet_deploy.data.aedat4 import read_aedat4
from tet_deploy.data.event_columns import EventStream, as_events
from tet_deploy.data.event_formats import check_format
from tet_deploy.data.event_tables import read_hdf5, read_npy, read_npz
from tet_deploy.data.repairs import tell
from tet_deploy.errors import ArtifactError, MissingDependencyError, TetDeployError, first_line

T = TypeVar("T")
_MNIST_RECORD = 5  # bytes of an event
_MNIST_OVERFLOW = 240  # the row of a record that is no event: time went on by 2^13
_MNIST_TURN = 2**13


def read_events(path: str | os.PathLike[str]) -> np.ndarray:
    """Read the events of one recording; what is left out or repaired is told as a DataWarning.

    .aedat4  DV's format, through aedat.
    .aedat   AEDAT 2.0 of jAER, by the chip that its header names: DVS128, or a DAVIS.
    .bin     N-MNIST's and N-Caltech101's 40-bit records.
    .h5      HDF5 with x, y, t, p in a group or table.
    .npy     A structured array with the fields x, y, t, p.
    .npz     Arrays x, y, t, p, or such a structured array.

    Longer names of the columns, such as timestamp and polarity, are known as well.

    Returns
    -------
    np.ndarray
        Structured, with x, y, t (int64) and p (0 or 1), in the file's order and in ticks of its clock.

    Raises
    ------
    ArtifactError
        A suffix that is none of these, or a file that is damaged, of another format, or no file at all.
    DataError
        Columns that have no names, are missing or of different lengths, or hold what they cannot; a polarity that is none.
    MissingDependencyError
        aedat or h5py is not installed.
    """
    stream = read_stream(Path(path))
    tell(str(path), stream.repairs)
    return stream.events


def read_stream(path: Path) -> EventStream:
    """As read_events, with what the file says of its camera and what was done to it.

    Raises
    ------
    ArtifactError, DataError, MissingDependencyError
        As read_events.
    """
    check_format(path, tuple(READERS))
    return guarded(path, lambda: READERS[path.suffix.lower()](path))


def guarded(path: Path, read: Callable[[], T]) -> T:
    """Call a reader; whatever goes wrong inside is about this file.

    Raises
    ------
    ArtifactError, DataError, MissingDependencyError
        As read_events.
    """
    try:
        return read()
    except (TetDeployError, KeyboardInterrupt, SystemExit):
        raise
    except ModuleNotFoundError as error:
        raise MissingDependencyError(f"{path}: needs {error.name}. Install it with: pip install {error.name}") from error
    except MemoryError as error:
        raise ArtifactError(f"{path}: does not fit in memory. Cut it into parts.") from error
    except BaseException as error:  # whatever their arithmetic runs into; aedat's panics are not even Exceptions
        raise ArtifactError(
            f"{path}: cannot be read as {path.suffix} ({first_line(error)}). "
            "It is damaged, or of another format under this name: fetch it again."
        ) from error


def read_mnist(path: Path) -> EventStream:
    """Records of 40 bits, the highest first: x, y, polarity (1 bit) and time (23 bits).

    Raises
    ------
    ArtifactError
        A record that is cut off.
    """
    size = path.stat().st_size
    if size % _MNIST_RECORD:
        raise ArtifactError(f"{path}: must be records of {_MNIST_RECORD} bytes; it has {size} bytes. Unpack it again.")
    records = np.fromfile(path, np.uint8).reshape(-1, _MNIST_RECORD)
    x, y, high, middle, low = records.T
    marks = y == _MNIST_OVERFLOW
    t = (high & 127).astype(np.int64) << 16 | middle.astype(np.int64) << 8 | low
    t += np.cumsum(marks) * _MNIST_TURN
    columns = {"x": x, "y": y, "t": t, "p": high >> 7}
    events = as_events(path, {name: column[~marks] for name, column in columns.items()}).events
    count = int(marks.sum())
    repairs = {f"marks of an overflow, each setting later events {_MNIST_TURN} later": count} if count else {}
    return EventStream(events=events, repairs=repairs)


READERS: dict[str, Callable[[Path], EventStream]] = {
    ".aedat4": read_aedat4,
    ".aedat": read_aedat2,
    ".bin": read_mnist,
    ".h5": read_hdf5,
    ".hdf5": read_hdf5,
    ".npy": read_npy,
    ".npz": read_npz,
}
