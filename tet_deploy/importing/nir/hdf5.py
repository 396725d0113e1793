"""The groups and arrays of an HDF5 file, as nested dicts; nothing is allocated that the file's size does not account for.

Refused are links to other places and files, an object that stands in two places (a link that leads back would never end),
data that were never written, sizes that the file cannot hold, and whatever holds neither numbers nor text.
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from tet_deploy.errors import ArtifactError, MissingDependencyError, TetDeployError, first_line, shown
from tet_deploy.hdf5_file import refuse_virtual
from tet_deploy.importing.nir.heap import REFERENCE_BYTES, Heap

Table: TypeAlias = "list[tuple[str, ...]]"  # text in rows
Tree: TypeAlias = "dict[str, Tree | np.ndarray | str | Table]"
AGAIN = "Export the network again."
_DEEPEST = 32  # groups in groups
_MOST_OBJECTS = 20_000
_MOST_CHUNKS = 100_000  # of one array
_MOST_TEXTS = 40_000  # of one array
_LONGEST_TEXT = 1000  # bytes
_FREE, _PER_BYTE = 2**26, 32  # bytes that all arrays together may have: so many, and so many for each byte of the file
_DEFLATE, _SHUFFLE, _FLETCHER32 = 1, 2, 3  # HDF5's own filters, by their numbers


def read_hdf5(path: Path) -> Tree:
    """Everything in a file, by its names.

    Raises
    ------
    ArtifactError
        The file is damaged, or holds something of what is refused.
    MissingDependencyError
        h5py is not installed.
    """
    try:
        import h5py  # type: ignore[import-untyped]  # it ships no type information
    except ModuleNotFoundError as error:
        raise MissingDependencyError(f"{path}: NIR files are read by h5py: pip install 'tet-deploy[nir]'.") from error
    refuse_virtual(path)
    try:
        with h5py.File(path, "r") as file:
            return _Reader(path, h5py).group(file, "", 0)
    except TetDeployError:
        raise
    except MemoryError as error:
        raise ArtifactError(f"{path}: does not fit in memory. Read it on a larger machine.") from error
    except Exception as error:  # a file can be wrong in any way, and h5py fails in any way
        raise ArtifactError(
            f"{path}: cannot be read as HDF5 ({first_line(error)}). It is damaged: fetch it again."
        ) from error


class _Reader:
    """One file, and what has been read of it."""

    def __init__(self, path: Path, h5py: Any) -> None:
        self.path, self.h5py = path, h5py
        self.heap = Heap(path)
        self.file_bytes = path.stat().st_size
        self.bytes_left = _FREE + _PER_BYTE * self.file_bytes
        self.seen: dict[tuple[int, int], str] = {}  # where an object lies -> its first name

    def group(self, group: Any, where: str, depth: int) -> Tree:
        if depth > _DEEPEST:
            raise self._refused(where, f"is nested deeper than {_DEEPEST} groups")
        found: Tree = {}
        for name in group:
            inner = f"{where}/{name}"
            if not isinstance(group.get(name, getlink=True), self.h5py.HardLink):
                raise self._refused(inner, "is a link to another place or file, not what stands there")
            found[name] = self._object(group[name], inner, depth)
        return found

    def _object(self, thing: Any, where: str, depth: int) -> Tree | np.ndarray | str | Table:
        about = self.h5py.h5o.get_info(thing.id)
        first = self.seen.setdefault((about.fileno, about.addr), where)
        if first != where:
            raise self._refused(where, f"is the same object as {shown(first)}")
        if len(self.seen) > _MOST_OBJECTS:
            raise self._refused(where, f"is one of more than {_MOST_OBJECTS} groups and arrays")
        if isinstance(thing, self.h5py.Group):
            return self.group(thing, where, depth + 1)
        if not isinstance(thing, self.h5py.Dataset):
            raise self._refused(where, "is neither a group nor an array")
        if thing.shape is None:
            raise self._refused(where, "is an array that holds nothing")
        self._check_stored(thing, where)
        if self.h5py.check_string_dtype(thing.dtype) is not None:
            return self._text(thing, where)
        if thing.dtype.kind not in "fiu" or thing.dtype.itemsize > 8 or self.h5py.check_enum_dtype(thing.dtype):
            raise self._refused(where, f"must hold numbers or text; its type is {thing.dtype!s:.100}")
        array = np.asarray(thing[()])
        return array.astype(array.dtype.newbyteorder("="), copy=False)

    def _text(self, thing: Any, where: str) -> str | Table:
        """One text, or rows of them."""
        count = math.prod(thing.shape)
        if count > _MOST_TEXTS:
            raise self._refused(where, f"holds {count} texts; {_MOST_TEXTS} are read at most")
        if self.h5py.check_string_dtype(thing.dtype).length is not None:
            contents = np.asarray(thing[()]).reshape(-1).tolist()
        else:
            offset = thing.id.get_offset()
            if count and (offset is None or thing.file.id.get_create_plist().get_sizes() != (8, 8)):
                raise self._refused(where, "holds text in parts, or packed", "Write it in one piece.")
            try:
                contents = self.heap.texts(offset, count, _LONGEST_TEXT) if count else []
            except ValueError as error:
                raise self._refused(where, f"holds {error}") from None
        texts = [self._decoded(content, where) for content in contents]
        if thing.ndim == 0:
            return texts[0]
        width = math.prod(thing.shape[1:])
        return [tuple(texts[start : start + width]) for start in range(0, count, width)] if count else []

    def _decoded(self, content: bytes, where: str) -> str:
        if len(content) > _LONGEST_TEXT:
            raise self._refused(where, f"holds a text of {len(content)} bytes; {_LONGEST_TEXT} are read at most")
        try:
            return content.decode()
        except UnicodeDecodeError:
            raise self._refused(where, f"must hold text in UTF-8; got {content[:40]!r}") from None

    def _check_stored(self, thing: Any, where: str) -> None:
        """See that all of an array is in the file, and that reading it takes no more memory than that accounts for."""
        how, item = thing.id.get_create_plist(), self._item_bytes(thing)
        if how.get_external_count() or how.get_layout() == self.h5py.h5d.VIRTUAL:
            raise self._refused(where, "lies in other files")
        parts = 1
        if thing.chunks:
            parts = math.prod(-(-size // part) for size, part in zip(thing.shape, thing.chunks, strict=True))
        claimed = parts * math.prod(thing.chunks or thing.shape) * item
        self.bytes_left -= claimed
        if self.bytes_left < 0:
            raise self._refused(where, f"claims {claimed:,} bytes, for which a file of {self.file_bytes:,} is too small")
        if thing.chunks:
            self._check_chunks(thing, where, parts, how)
        elif thing.id.get_storage_size() < claimed:
            raise self._refused(where, f"claims {claimed:,} bytes and was never written in full")

    def _item_bytes(self, thing: Any) -> int:
        """Of one element in the file; HDF5 says of texts of any length what they take in memory."""
        text = self.h5py.check_string_dtype(thing.dtype)
        return REFERENCE_BYTES if text is not None and text.length is None else int(thing.id.get_type().get_size())

    def _check_chunks(self, thing: Any, where: str, parts: int, how: Any) -> None:
        filters = [how.get_filter(number)[0] for number in range(how.get_nfilters())]
        if not set(filters) <= {_DEFLATE, _SHUFFLE, _FLETCHER32} or len(set(filters)) < len(filters):
            raise self._refused(where, "is compressed in another way than by gzip", "Write it with gzip.")
        written = thing.id.get_num_chunks()
        if written != parts or parts > _MOST_CHUNKS:
            raise self._refused(where, f"has {written} of {parts} parts in the file; at most {_MOST_CHUNKS} are read")
        if _DEFLATE not in filters or not parts:
            return
        whole = math.prod(thing.chunks) * self._item_bytes(thing) + 4  # Fletcher's checksum
        skipped = 1 << filters.index(_DEFLATE)
        for part in thing.iter_chunks():
            start = tuple(axis.start // size * size for axis, size in zip(part, thing.chunks, strict=True))
            stored = thing.id.get_chunk_info_by_coord(start)
            if stored.byte_offset is None or stored.size > self.file_bytes:
                raise self._refused(where, "has parts that lie outside the file")
            mask, packed = thing.id.read_direct_chunk(start)
            if not mask & skipped and len(zlib.decompressobj().decompress(packed, whole + 1)) > whole:
                raise self._refused(where, "unpacks to more than it claims")

    def _refused(self, where: str, what: str, way_out: str = AGAIN) -> ArtifactError:
        return ArtifactError(f"{self.path}: {shown(where)} {what}. {way_out}")
