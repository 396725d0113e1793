"""Events in the arrays of .npy, .npz and HDF5 files: found by their names, wherever these stand, and never out of memory."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tet_deploy.data.event_columns import EventStream, as_events, listed, named, unnamed
from tet_deploy.data.frames import check_claimed_size, unpacked_limit
from tet_deploy.errors import ArtifactError, DataError
from tet_deploy.hdf5_file import refuse_virtual

_MOST_OBJECTS = 10_000  # in an HDF5 file


class Array(NamedTuple):
    """An array in a file, and how to read it."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[], np.ndarray]


def read_npy(path: Path) -> EventStream:
    """A structured array with x, y, t and p."""
    with path.open("rb") as file:
        check_claimed_size(file, path.stat().st_size)
    return as_events(path, np.load(path, allow_pickle=False))


def read_npz(path: Path) -> EventStream:
    """Arrays x, y, t and p; or one structured array with them."""
    with zipfile.ZipFile(path) as archive:
        members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
        names = [member.filename.removesuffix(".npy") for member in members]
        if len(set(names)) < len(names):
            raise ArtifactError(f"{path}: holds two arrays of one name among {listed(names)}. Write it again with np.savez.")
        columns = named(names)  # what else lies beside them does not matter
        arrays = {}
        for name, member in zip(names, members, strict=True):
            if columns is None or name in columns.values():
                with archive.open(member) as header:
                    shape, dtype = check_claimed_size(header, min(member.file_size, unpacked_limit(path)))
                arrays[name] = Array(shape, dtype, partial(_member, path, member.filename))
    return _events(path, {"": arrays})


def read_hdf5(path: Path) -> EventStream:
    """Datasets x, y, t and p in one group, whichever it is; or one table with these columns.

    Raises
    ------
    ArtifactError
        Data that lie in other files, were never written, or are larger than this file can hold.
    """
    import h5py  # type: ignore[import-untyped]  # it ships no type information

    refuse_virtual(path)
    groups: dict[str, dict[str, Array]] = {}
    seen = 0

    def visit(name: str, found: Any) -> None:  # called for each object once, through links inside the file only
        nonlocal seen
        seen += 1
        if seen > _MOST_OBJECTS:
            raise ArtifactError(f"{path}: holds more than {_MOST_OBJECTS} datasets. Save the events of one recording alone.")
        if isinstance(found, h5py.Dataset):
            group, _, own = name.rpartition("/")
            groups.setdefault(group, {})[own] = Array(found.shape or (), found.dtype, partial(_dataset, path, found))

    with h5py.File(path, "r") as file:
        file.visititems(visit)
        return _events(path, groups)


def _events(path: Path, groups: Mapping[str, Mapping[str, Array]]) -> EventStream:
    """The events of the one place that has x, y, t and p."""
    arrays = {f"{group}/{name}".lstrip("/"): array for group, members in groups.items() for name, array in members.items()}
    places: dict[str, Callable[[], EventStream]] = {
        name: partial(_table, path, array) for name, array in arrays.items() if named(array.dtype.names or ())
    }
    for group, members in groups.items():
        columns = named(members)
        if columns:
            places[f"{group}/"] = partial(_columns, path, {column: members[name] for column, name in columns.items()})
    if len(places) == 1:
        return next(iter(places.values()))()
    if places:
        raise DataError(f"{path}: holds events in {len(places)} places: {listed(places)}. Keep one of them.")
    tables = [array for array in arrays.values() if len(array.shape) == 2 and 4 in array.shape]
    if len(tables) == 1:
        raise unnamed(path, tables[0].read())
    shown = listed(f"{name} {array.shape}" for name, array in arrays.items())
    way = "Frames are loaded by this file's own path." if "frames" in arrays else "Name them so."
    raise DataError(f"{path}: events need arrays x, y, t and p, or a table with such columns; found {shown}. {way}")


def _table(path: Path, array: Array) -> EventStream:
    return as_events(path, array.read())


def _columns(path: Path, arrays: Mapping[str, Array]) -> EventStream:
    return as_events(path, {name: array.read() for name, array in arrays.items()})


def _member(path: Path, name: str) -> np.ndarray:
    with zipfile.ZipFile(path) as archive, archive.open(name) as file:
        return np.asarray(np.lib.format.read_array(file, allow_pickle=False))


def _dataset(path: Path, dataset: Any) -> np.ndarray:
    name = f"{path}: {dataset.name}"
    if dataset.external:
        raise ArtifactError(f"{name} lies in other files. Copy it into this one.")
    if dataset.dtype.hasobject or dataset.shape is None:
        raise ArtifactError(f"{name} must be an array of numbers; got {dataset.dtype}. Save it as such.")
    if dataset.nbytes > unpacked_limit(path):
        raise ArtifactError(f"{name} claims {dataset.nbytes} bytes, which this file cannot hold. Fetch it again.")
    parts = math.prod(
        -(-size // part) for size, part in zip(dataset.shape, dataset.chunks or dataset.shape, strict=True) if part
    )
    written = dataset.id.get_num_chunks() if dataset.chunks else int(dataset.id.get_storage_size() > 0)
    if dataset.size and written < parts:
        raise ArtifactError(f"{name}: only {written} of its {parts} parts were written. Record it again.")
    return np.asarray(dataset[()])
