"""AEDAT 4 as DV writes it: its frame is checked here, as aedat would end the process over some that are damaged."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np

from tet_deploy.data.event_columns import EventStream, as_events
from tet_deploy.data.frames import unpacked_limit
from tet_deploy.errors import ArtifactError, DataError

_MAGIC = b"#!AER-DAT4.0\r\n"
_EVENT = 16  # bytes of one, unpacked


def read_aedat4(path: Path) -> EventStream:
    """Read the events of the one camera in the file.

    Raises
    ------
    DataError
        No stream of events, or several.
    ArtifactError
        A file that is damaged, or unpacks to more events than it can hold.
    """
    import aedat

    try:
        with path.open("rb") as file:
            _check_frame(file, path.stat().st_size)
    except (struct.error, UnicodeDecodeError, ValueError) as error:
        raise ArtifactError(f"{path}: is damaged or cut off ({error}). Fetch it again.") from error
    decoder = aedat.Decoder(str(path))
    sizes = [(stream["width"], stream["height"]) for stream in decoder.id_to_stream().values() if stream["type"] == "events"]
    if len(sizes) != 1:
        raise DataError(f"{path}: must hold the events of one camera; found {len(sizes)} streams. Export the one you need.")
    packets, others, size = [], 0, 0
    for packet in decoder:
        if "events" not in packet:
            others += 1
            continue
        packets.append(packet["events"])
        size += packets[-1].nbytes
        if size > unpacked_limit(path):
            raise ArtifactError(f"{path}: unpacks to more than {unpacked_limit(path):,} bytes. Cut it into parts.")
    columns = np.concatenate(packets) if packets else {name: np.zeros(0, np.int64) for name in "xytp"}
    repairs = {"packets of frames, motion or triggers, left out": others} if others else {}
    return EventStream(events=as_events(path, columns).events, sensor_size=sizes[0], repairs=repairs)


def _check_frame(file: BinaryIO, size: int) -> None:
    """That the header and each packet lie in the file whole, and what is not packed is where their tables say.

    Raises
    ------
    ValueError, struct.error, UnicodeDecodeError
        They do not.
    """
    if file.read(len(_MAGIC)) != _MAGIC:
        raise ValueError(f"it must begin with {_MAGIC!r}")
    header = _Table(_block(file, size), 0)
    compression = header.number(0, "<i", 0)
    end = header.number(1, "<q", -1)
    header.array(2, item=1).decode()
    while file.tell() < size and file.tell() != end:
        kind = file.read(4)
        if len(kind) < 4:
            raise ValueError("its last packet is cut off")
        packet = _block(file, size)
        if compression == 0 and packet[8:12] == b"EVTS":
            _Table(packet, 4).array(0, item=_EVENT)


def _block(file: BinaryIO, size: int) -> bytes:
    (length,) = struct.unpack("<I", file.read(4))
    if file.tell() + length > size:
        raise ValueError(f"a block of {length} bytes at {file.tell()} ends behind the file's {size}")
    return file.read(length)


class _Table:
    """The root table of a flat buffer; every place is looked at before it is read."""

    def __init__(self, data: bytes, start: int) -> None:
        self.data = data
        self.place = start + self._read("<I", start)
        self.fields = self.place - self._read("<i", self.place)

    def number(self, field: int, kind: str, default: int) -> int:
        """A field that holds a number."""
        place = self._field(field)
        return default if place is None else self._read(kind, place)

    def array(self, field: int, *, item: int) -> bytes:
        """A field that holds text, or a vector of items of so many bytes."""
        place = self._field(field)
        if place is None:
            return b""
        place += self._read("<I", place)
        length = item * self._read("<I", place)
        if place + 4 + length > len(self.data):
            raise ValueError(f"a table at {self.place} has an array of {length} bytes that ends behind it")
        return self.data[place + 4 : place + 4 + length]

    def _field(self, field: int) -> int | None:
        size = self._read("<H", self.fields)
        offset = self._read("<H", self.fields + 4 + 2 * field) if 6 + 2 * field <= size else 0
        return self.place + offset if offset else None

    def _read(self, kind: str, place: int) -> int:
        if place < 0:
            raise ValueError(f"a table points {-place} bytes before its beginning")
        return int(struct.unpack_from(kind, self.data, place)[0])
