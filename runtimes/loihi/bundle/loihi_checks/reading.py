"""Open files that may be anything: only regular ones, only as large as they can be, never a byte more in memory."""

from __future__ import annotations

import contextlib
import io
import math
import os
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

_LARGEST_NPY_HEADER = 2**14  # bytes; numpy refuses headers of more than 10,000
_CHARACTERS_SHOWN = 200
EXPORT_AGAIN = "Export the network again."


class Refused(Exception):
    """Something that the user can put right, in one line: the problem, and the way out."""

    def __init__(self, problem: str, way_out: str = EXPORT_AGAIN) -> None:
        super().__init__(f"{problem}. {way_out}")
        self.problem = problem


def said(error: BaseException) -> str:
    """What another's error says, in one short line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:_CHARACTERS_SHOWN]


@contextlib.contextmanager
def opened(path: Path, largest: int, way_out: str = EXPORT_AGAIN) -> Iterator[BinaryIO]:
    """A file to read. A FIFO would keep us waiting and a device would never end, so both are refused, links to them too.

    Raises
    ------
    Refused
        No such file, no regular one, or one of more than `largest` bytes.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except (OSError, ValueError) as error:
        raise Refused(f"{path}: cannot be opened: {getattr(error, 'strerror', None) or said(error)}", way_out) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Refused(f"{path}: must be a file; it is a folder, a pipe or a device", way_out)
        if status.st_size > largest:
            raise Refused(f"{path}: must have {largest:,} bytes at most; it has {status.st_size:,}", way_out)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class Npy:
    """What the header of a .npy file claims, and where the data begin."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[np.generic]
    offset: int

    @property
    def size(self) -> int:
        """Bytes of the header and of the data that it claims."""
        return self.offset + math.prod(self.shape) * self.dtype.itemsize


def npy_header(start: bytes) -> Npy:
    """Parse the header of a .npy file of numbers from the file's first bytes.

    Raises
    ------
    ValueError
        They are no such header.
    """
    stream = io.BytesIO(start[:_LARGEST_NPY_HEADER])
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        shape, fortran_order, dtype = readers[np.lib.format.read_magic(stream)](stream)
    except Exception as error:  # the header is a Python expression and can be wrong in any way
        raise ValueError(f"it is no .npy file of numbers ({type(error).__name__}: {said(error)})") from error
    if dtype.kind not in "fiub" or any(type(axis) is not int or axis < 0 for axis in shape):  # numpy takes True for 1
        raise ValueError(f"it must hold numbers; it claims {f'{dtype} {shape}':.{_CHARACTERS_SHOWN}}")
    return Npy(shape, fortran_order, dtype, stream.tell())


def npz_arrays(path: Path, file: BinaryIO, way_out: str = EXPORT_AGAIN) -> dict[str, np.ndarray]:
    """Arrays of an uncompressed .npz file, in no more memory than it has bytes, whatever it claims.

    Raises
    ------
    Refused
        Another file, or a damaged one.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > file.seek(0, 2):
                raise ValueError("its parts claim to be larger than the whole")
            arrays = {member.filename.removesuffix(".npy"): _array(archive, member) for member in members}
    except Exception as error:  # a zip file can be wrong in any way
        raise Refused(f"{path}: cannot be read: {said(error)}", way_out) from error
    if len(arrays) != len(members):
        raise Refused(f"{path}: holds an array twice", way_out)
    return arrays


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    if member.compress_type != zipfile.ZIP_STORED:
        raise ValueError("it is compressed")
    content = archive.read(member)
    header = npy_header(content)
    if header.size != len(content):
        raise ValueError(f"an array claims {header.size} bytes and has {len(content)}")
    values = np.frombuffer(content, header.dtype, math.prod(header.shape), header.offset)
    return values.reshape(header.shape, order="F" if header.fortran_order else "C")
