"""Arrays that stay in their .npy or .npz file and are read where they are looked at."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import Any, Literal

import numpy as np

_LOCAL_HEADER = 30  # bytes, before the name and the extra fields, whose lengths are its last two numbers


def stored_at(path: Path, member: zipfile.ZipInfo) -> int | None:
    """Where a member's bytes begin in its archive; None where they are compressed.

    Raises
    ------
    OSError, struct.error
        The archive ends before.
    """
    if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
        return None
    with path.open("rb") as file:
        file.seek(member.header_offset)
        name, extra = struct.unpack("<HH", file.read(_LOCAL_HEADER)[-4:])
    return int(member.header_offset + _LOCAL_HEADER + name + extra)


def map_array(path: Path, offset: int = 0) -> np.ndarray:
    """The array whose .npy begins at that byte of a file, read-only.

    Raises
    ------
    OSError, ValueError
        There is none, it holds Python objects, or the file ends before the array does.
    """
    with path.open("rb") as file:
        file.seek(offset)
        major, _ = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read_header(file)
        if dtype.hasobject:
            raise ValueError("it holds Python objects, not numbers")
        return np.memmap(file, dtype, "r", file.tell(), shape, "F" if fortran else "C")


def mapped_anew(array: np.memmap[Any, Any]) -> np.ndarray:
    """The same array of the same file, whose pages leave memory when it is dropped, and not when `array` is."""
    assert array.filename is not None
    order: Literal["C", "F"] = "C" if array.flags.c_contiguous else "F"
    return np.memmap(array.filename, array.dtype, "r", array.offset, array.shape, order)
