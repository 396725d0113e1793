"""Texts of any length, read from an HDF5 file's global heap by its published layout and not by the HDF5 library.

Over a damaged heap the library runs in circles, or allocates what a reference claims. A reference is 16 bytes: the text's
length, the address of a collection, and a number in it (4, 8 and 4 bytes). A collection is "GCOL", a version, its size, and
objects, each of a number, two words, a size and its bytes, padded to 8. All is little-endian. Source: "HDF5 File Format
Specification Version 3.0", III.E.
"""

from __future__ import annotations

import struct
from pathlib import Path

_REFERENCE = struct.Struct("<IQI")
_COLLECTION = struct.Struct("<4sB3xQ")
_OBJECT = struct.Struct("<H6xQ")
REFERENCE_BYTES = _REFERENCE.size


class Heap:
    """The collections of one file, each read once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes_left = 2 * path.stat().st_size  # that are read, as collections might overlap
        self.collections: dict[int, dict[int, bytes]] = {}

    def texts(self, offset: int, count: int, longest: int) -> list[bytes]:
        """What the references at a place in the file refer to.

        Raises
        ------
        ValueError
            A reference to nothing, or to a text longer than `longest` bytes.
        """
        with self.path.open("rb") as file:
            file.seek(offset)
            content = file.read(count * REFERENCE_BYTES)
        if len(content) < count * REFERENCE_BYTES:
            raise ValueError("a text that lies outside the file")
        references = _REFERENCE.iter_unpack(content)
        return [self._text(length, address, number, longest) for length, address, number in references]

    def _text(self, length: int, address: int, number: int, longest: int) -> bytes:
        if not length:
            return b""
        if length > longest:
            raise ValueError(f"a text of {length} bytes; {longest} are read at most")
        found = self._collection(address).get(number, b"")
        if len(found) < length:
            raise ValueError("a text that refers to nothing")
        return found[:length]

    def _collection(self, address: int) -> dict[int, bytes]:
        if address not in self.collections:
            self.collections[address] = self._objects(address)
        return self.collections[address]

    def _objects(self, address: int) -> dict[int, bytes]:
        if address > self.path.stat().st_size:
            raise ValueError("a text that lies outside the file")
        with self.path.open("rb") as file:
            file.seek(address)
            header = file.read(_COLLECTION.size)
            signature, version, size = _COLLECTION.unpack(header.ljust(_COLLECTION.size))
            self.bytes_left -= size
            if (signature, version) != (b"GCOL", 1) or self.bytes_left < 0:
                raise ValueError("a text that lies in no heap")
            content = file.read(size - _COLLECTION.size if size > _COLLECTION.size else 0)
        found: dict[int, bytes] = {}
        place = 0
        while place + _OBJECT.size <= len(content):
            number, size = _OBJECT.unpack_from(content, place)
            if number == 0:  # what is left is free
                break
            place += _OBJECT.size
            found[number] = content[place : place + size]
            place += -(-size // 8) * 8
        return found
