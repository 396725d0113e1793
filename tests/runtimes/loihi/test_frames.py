"""Frames in memory, as td.run takes them, and frames in a file, as a bundle's run.py takes them: one table for both."""

import os
import tracemalloc

import numpy as np
import pytest

from tet_deploy.contracts import check_frames
from tet_deploy.errors import DataError
from tet_deploy.runtimes.loihi.bundle.loihi_checks.frames import check_frames as check_file
from tet_deploy.runtimes.loihi.bundle.loihi_checks.reading import Refused

SHAPE = (2, 3, 4)
COUNTS = np.random.default_rng(0).integers(0, 5, (6, 5, *SHAPE))


def with_value(value, dtype=np.float32, frames=COUNTS):
    """Frames whose last value is another."""
    changed = frames.astype(dtype)
    changed[(-1,) * frames.ndim] = value
    return changed


GOOD = {  # frames, and whether they are event counts
    "counts": (COUNTS, True),
    "counts in float": (COUNTS.astype(np.float32), True),
    "counts in half floats": (COUNTS.astype(np.float16), True),
    "counts in the other byte order": (COUNTS.astype(">f8"), True),
    "counts, columns first": (np.asfortranarray(COUNTS), True),
    "booleans": (COUNTS > 2, True),
    "minus zero": (with_value(-0.0), True),
    "one step and one sample": (COUNTS[:1, :1], True),
    "unsigned": (COUNTS.astype(np.uint64), True),
    "the largest count": (with_value(2**24), True),
    "fractions": (with_value(0.5), False),
    "negative": (with_value(-1.5), False),
    "a fraction that float32 does not have": (with_value(1 + 1e-12, np.float64), True),
}
BAD = {
    "NaN": (with_value(np.nan), False, "NaN"),
    "infinity": (with_value(np.inf), False, "infinity"),
    "minus infinity": (with_value(-np.inf), True, "infinity"),
    "too large for float32": (with_value(1e300, np.float64), False, "infinity"),
    "fractional counts": (with_value(0.5), True, "whole numbers; found fractions"),
    "negative counts": (with_value(-3), True, "found -3"),
    "signed integers": (with_value(-1, np.int8), True, "found -1"),
    "one axis less": (COUNTS[0], True, "time first; got shape (5, 2, 3, 4)"),
    "one axis more": (COUNTS[None], True, "time first; got shape (1, 6, 5, 2, 3, 4)"),
    "channels last": (np.moveaxis(COUNTS, 2, -1), True, "time first; got shape"),
    "a number": (np.float32(1), False, "time first; got shape ()"),
    "no step": (COUNTS[:0], True, "at least one step and one sample"),
    "no sample": (COUNTS[:, :0], True, "at least one step and one sample"),
    "complex": (COUNTS.astype(np.complex64), False, "must hold numbers"),
    "text": (COUNTS.astype(str), False, "must hold numbers"),
    "objects": (COUNTS.astype(object), False, "must hold numbers"),
    "dates": (COUNTS.astype("datetime64[s]"), False, "must hold numbers"),
}


def entry(events: bool):
    return {"shape": list(SHAPE), "encoding": "events" if events else "analog"}


def saved(folder, frames):
    np.save(folder / "frames.npy", frames, allow_pickle=True)
    return folder / "frames.npy"


@pytest.mark.parametrize(("frames", "events"), GOOD.values(), ids=GOOD)
def test_good_frames_pass_in_memory_and_in_a_file(tmp_path, frames, events):
    """Any numbers of the right layout; counts are whole and not negative."""
    assert check_frames(frames, SHAPE, entry(events)["encoding"]).dtype == np.float32
    assert check_file(saved(tmp_path, frames), entry(events)) == frames.shape[:2]


@pytest.mark.parametrize(("frames", "events", "complaint"), BAD.values(), ids=BAD)
def test_bad_frames_are_refused_in_memory_and_in_a_file(tmp_path, frames, events, complaint):
    """The same frames for the same reason."""
    with pytest.raises(DataError) as in_memory:
        check_frames(frames, SHAPE, entry(events)["encoding"])
    with pytest.raises(Refused) as in_file:
        check_file(saved(tmp_path, frames), entry(events))
    for error in (in_memory, in_file):
        assert complaint in str(error.value)
        assert len(str(error.value).splitlines()) == 1


def header(claims: str, version: bytes = b"\x01\x00") -> bytes:
    length = len(claims).to_bytes(2 if version == b"\x01\x00" else 4, "little")
    return b"\x93NUMPY" + version + length + claims.encode()


def claiming(shape: str, descr: str = "'<f4'") -> bytes:
    return header(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n")


FILES = {
    "empty": (b"", "must be a .npy file"),
    "an .npz file": (b"PK\x03\x04", "must be a .npy file"),
    "truncated": (claiming("(6, 5, 2, 3, 4)") + bytes(100), "is shorter than its header says"),
    "larger than any disk": (claiming(f"({10**15}, {10**15}, 2, 3, 4)"), "is shorter than its header says"),
    "many axes": (claiming("(" + "1," * 4000 + ")"), "time first; got shape"),
    "negative axes": (claiming("(-6, -5, 2, 3, 4)") + bytes(4000), "must be a .npy file"),
    "True for an axis": (claiming("(True, 1, 2, 3, 4)") + bytes(4000), "must be a .npy file"),
    "nested": (header("-" * 9000 + "1\n"), "must be a .npy file"),
    "brackets": (header("(" * 9000 + "\n"), "must be a .npy file"),
    "a long header": (header("x" * 2**20, b"\x02\x00"), "must be a .npy file"),
    "code": (claiming("__import__('os').abort()"), "must be a .npy file"),
    "a type of its own": (claiming("(6, 5, 2, 3, 4)", "[('a', '<f4')]") + bytes(4000), "must hold numbers"),
}


@pytest.mark.parametrize(("content", "complaint"), FILES.values(), ids=FILES)
def test_files_of_frames_that_are_none_are_refused_in_short(tmp_path, content, complaint):
    """Whatever a header claims, the error is one short line and memory stays small."""
    path = tmp_path / "frames.npy"
    path.write_bytes(content)
    tracemalloc.start()
    with pytest.raises(Refused) as caught:
        check_file(path, entry(True))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert complaint in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 400
    assert len(str(caught.value).splitlines()) == 1
    assert peak < 2**23


def test_what_is_no_file_is_refused_at_once(tmp_path):
    """A FIFO, a device, a folder, nothing."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("fifo", "zero", "absent", "."):
        with pytest.raises(Refused, match=r"Write frames with numpy\.save\."):
            check_file(tmp_path / name, entry(True))


def test_large_files_are_checked_in_little_memory(tmp_path):
    """64 MB, in either order of axes, whose last value is wrong."""
    frames = np.zeros((2**20, 1, 2, 2, 4), np.float32)
    for order in "CF":
        path = saved(tmp_path, with_value(-1, frames=np.asarray(frames, order=order)))
        tracemalloc.start()
        with pytest.raises(Refused, match="found -1"):
            check_file(path, {"shape": [2, 2, 4], "encoding": "events"})
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < frames.nbytes
