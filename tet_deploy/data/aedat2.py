"""AEDAT 2.0 as jAER writes it, by the camera that its header names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from tet_deploy.data.event_columns import EventStream, as_events
from tet_deploy.errors import ArtifactError, DataError

_RECORD = 8  # bytes: address and time stamp, most significant byte first
_LONGEST_LINE = 2**16
_LAST_LINE = b"end of ascii header"


class _Camera(NamedTuple):
    """A sensor, and where the 32 bits of its addresses hold column, row and polarity: jAER's DVS128 and DavisChip."""

    width: int
    height: int
    x: tuple[int, int]  # lowest bit and number of bits of the column, counted from the right
    y: tuple[int, int]  # of the row, counted from below
    polarity: int  # its bit
    on: int  # what this bit is where a pixel became brighter
    other: int  # bits of records that are no change of brightness: synchronisation, triggers, frames, motion
    unused: int  # bits that no record has


def _davis(width: int, height: int) -> _Camera:
    return _Camera(width, height, x=(12, 10), y=(22, 9), polarity=11, on=1, other=0x8000_0400, unused=0)


_DVS128 = _Camera(128, 128, x=(1, 7), y=(8, 7), polarity=0, on=0, other=0x8000_8000, unused=0x7FFF_0000)
_CAMERAS = {  # how the last part of a chip's name begins, in small letters; some have older names in jAER
    r"dvs128|tmpdiff128": _DVS128,
    r"davis240|sbret|seebetter20": _davis(240, 180),
    r"davis?346": _davis(346, 260),
    r"davis128": _davis(128, 128),
    r"davis208|sensdavis192|pixelparade": _davis(208, 192),
    r"davis640": _davis(640, 480),
}


def read_aedat2(path: Path) -> EventStream:
    """Read the changes of brightness; x from the left, y from above.

    Raises
    ------
    ArtifactError
        Another version, a record that is cut off, or a chip that is not known.
    DataError
        Addresses that this camera does not have.
    """
    with path.open("rb") as file:
        if not file.readline(_LONGEST_LINE).startswith(b"#!AER-DAT2"):
            raise ArtifactError(f"{path}: must begin with #!AER-DAT2.0, and does not. Unpack or fetch it again.")
        header = _header(file)
        rest = path.stat().st_size - file.tell()
        if rest % _RECORD:
            raise ArtifactError(f"{path}: must be records of {_RECORD} bytes; {rest % _RECORD} are over. Fetch it again.")
        records = np.fromfile(file, ">u4").reshape(-1, 2)
    camera, says_so = _camera(path, header)
    repairs = {} if says_so else {"headers that name no camera, read as a DVS128's": 1}
    address = records[:, 0].astype(np.int64)
    x, y = (address >> low & (1 << bits) - 1 for low, bits in (camera.x, camera.y))
    changes = address & camera.other == 0
    outside = changes & ((x >= camera.width) | (y >= camera.height)) | (address & camera.unused != 0)
    if outside.any():
        whose = "the camera that its header names" if says_so else "a DVS128, and its header names no camera"
        raise DataError(
            f"{path}: {outside.sum()} of {len(x)} addresses, such as {address[outside][0]:#010x}, are none of {whose}.\n"
            "Name the right one in its header, in a line such as '# AEChip: DAVIS346', or export it as AEDAT 4."
        )
    if others := len(records) - int(changes.sum()):
        repairs["records that are no change of brightness, left out"] = others
    columns = {
        "x": camera.width - 1 - x,
        "y": camera.height - 1 - y,
        "t": records[:, 1],
        "p": (address >> camera.polarity & 1) == camera.on,
    }
    return EventStream(
        events=as_events(path, {name: column[changes] for name, column in columns.items()}).events,
        sensor_size=(camera.width, camera.height) if says_so else None,
        repairs=repairs,
    )


def _header(file: BinaryIO) -> dict[str, str]:
    """Names and values of the lines '# name: value' up to the first record, where the file then stands.

    The first byte of a record may be a '#', too; but then what follows is no line of text.
    """
    found: dict[str, str] = {}
    while True:
        start = file.tell()
        line = file.readline(_LONGEST_LINE)
        if not line.startswith(b"#") or not line.endswith(b"\n") or re.search(rb"[\x00-\x08\x0e-\x1f]", line):
            file.seek(start)
            return found
        text = line[1:].strip()
        if text.lower() == _LAST_LINE:
            return found
        name, _, value = text.decode("utf-8", "replace").partition(":")
        found.setdefault(name.strip().lower(), value.strip())


def _camera(path: Path, header: dict[str, str]) -> tuple[_Camera, bool]:
    """The camera, and whether the header names it; if not, a DVS128: files of its time, such as DVS-CIFAR10's, name none."""
    chip, interface = header.get("aechip"), header.get("hardwareinterface", "").lower()
    for begin, camera in _CAMERAS.items():
        if re.match(begin, chip.rpartition(".")[2].lower()) if chip else re.search(begin, interface):
            return camera, True
    if not chip:
        return _DVS128, False
    raise ArtifactError(
        f"{path}: its header names the chip {chip[:80]!r}; the addresses of DVS128 and DAVIS 128, 208, 240, 346 and 640 are "
        "known. Export it as AEDAT 4, or save its x, y, t and p with np.savez(path, x=..., y=..., t=..., p=...)."
    )
