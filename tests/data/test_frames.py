"""Frames of the user's own are read from .npz and .npy, or refused with the reason."""

import io
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from tet_deploy.data import check_labels, load_frames
from tet_deploy.errors import ArtifactError, DataError

FRAMES = np.arange(2 * 3 * 1 * 4 * 5, dtype=np.float32).reshape(2, 3, 1, 4, 5)
LABELS = np.array([0, 2, 1], dtype=np.int32)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_npz_gives_frames_and_labels(tmp_path, save):
    """Arrays come back as they were written, labels as int64."""
    save(tmp_path / "own.npz", frames=FRAMES, labels=LABELS)
    data = load_frames(tmp_path / "own.npz")
    np.testing.assert_array_equal(data.frames, FRAMES)
    np.testing.assert_array_equal(data.labels, LABELS)
    assert data.labels.dtype == np.int64


def test_labels_may_be_missing(tmp_path):
    """An .npy, or an .npz without labels, gives frames alone."""
    np.save(tmp_path / "own.npy", FRAMES)
    np.savez(tmp_path / "own.npz", frames=FRAMES)
    for name in ("own.npy", "own.npz"):
        data = load_frames(tmp_path / name)
        np.testing.assert_array_equal(data.frames, FRAMES)
        assert data.labels is None


@pytest.mark.parametrize(
    ("arrays", "error", "message"),
    [
        ({"images": FRAMES, "labels": LABELS}, ArtifactError, r"no array 'frames', but images, labels\. Write it with"),
        (dict.fromkeys("xytp", LABELS), ArtifactError, r"but x, y, t, p\..*Recordings of events are loaded as a folder"),
        ({"frames": FRAMES[0, 0, 0]}, DataError, r"\[T, B, C, H, W\].*\(4, 5\)"),
        ({"frames": FRAMES[:0]}, DataError, r"\(0, 3, 1, 4, 5\)"),
        ({"frames": np.array([["a"]])}, DataError, "must be numbers"),
        ({"frames": FRAMES.astype(object)}, ArtifactError, "Python objects"),
        ({"frames": FRAMES, "labels": LABELS[:1]}, DataError, r"shape \(3,\)"),
        (
            {"frames": FRAMES.swapaxes(0, 1), "labels": LABELS},
            DataError,
            r"3 steps of 2 samples.*save frames\.swapaxes",
        ),
        ({"frames": FRAMES[0], "labels": LABELS}, DataError, r"of still images, np\.broadcast_to"),
        ({"frames": FRAMES, "labels": LABELS - 1}, DataError, "at least 0; got -1"),
        ({"frames": FRAMES, "labels": LABELS / 2}, DataError, "integers"),
    ],
)
def test_arrays_that_are_no_frames_are_refused(tmp_path, arrays, error, message):
    """Missing arrays, wrong ranks, types and labels are named."""
    np.savez(tmp_path / "own.npz", **arrays)
    with pytest.raises(error, match=message):
        load_frames(tmp_path / "own.npz")


def npy(shape, payload=b""):
    """An .npy whose header claims a shape, with whatever bytes behind it."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return file.getvalue() + payload


def archive(content):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as zipped:
        zipped.writestr("frames.npy", content)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"some text",
        npy((2, 3))[:40],
        npy((2, 10**6, 1, 1000, 1000)),  # 8e12 bytes claimed
        npy((2, -3, 1, 4, 5)),
        npy((True, 1, 1, 4, 5), bytes(80)),
        archive(npy((2, 10**6, 1, 1000, 1000))),
        archive(npy((2, 3, 1, 4, 5), b"short")),
        archive(b"nothing"),
        archive(npy((2, 3, 1, 4, 5), FRAMES.tobytes()))[:-30],
    ],
)
@pytest.mark.parametrize("mapped", [False, True])
def test_damaged_and_hostile_files_are_refused(tmp_path, content, mapped):
    """No crash, no hang, and no memory for what a header claims."""
    (tmp_path / "own.npz").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"cannot be read|is empty"):
        load_frames(tmp_path / "own.npz", mapped=mapped)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_frames_that_stay_in_their_file_are_those_that_are_read(tmp_path, save):
    """Mapped where they are not compressed, read where they are: the same numbers."""
    save(tmp_path / "own.npz", frames=FRAMES, labels=np.arange(FRAMES.shape[1]))
    found = load_frames(tmp_path / "own.npz", mapped=True)
    assert isinstance(found.frames, np.memmap) == (save is np.savez)
    np.testing.assert_array_equal(found.frames, FRAMES)
    np.save(tmp_path / "own.npy", np.asfortranarray(FRAMES))
    np.testing.assert_array_equal(load_frames(tmp_path / "own.npy", mapped=True).frames, FRAMES)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"#!AER-DAT4.0\r\n",
            r"is AEDAT 4; frames are read from \.npz and \.npy\. Recordings of events are loaded as a folder",
        ),
        (b"\x1f\x8b\x08" + bytes(20), r"is packed with gzip"),
        (b"1 2 3 4\n" * 9, r"is text; frames are read from \.npz and \.npy\.$"),
    ],
)
def test_other_files_are_named_for_what_they_are(tmp_path, content, message):
    """A recording, an archive, text."""
    (tmp_path / "own.npz").write_bytes(content)
    with pytest.raises(ArtifactError, match=rf"own\.npz: {message}"):
        load_frames(tmp_path / "own.npz")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_is_not_opened(tmp_path, make):
    """A FIFO would hang, /dev/zero never ends."""
    make(tmp_path / "own.npz")
    with pytest.raises(ArtifactError, match=r"own\.npz: must be a file; it is a"):
        load_frames(tmp_path / "own.npz")


def test_empty_frames_may_be_packed_tight(tmp_path):
    """Ten million zeros are as small as deflate makes them, and are read."""
    np.savez_compressed(tmp_path / "own.npz", frames=np.zeros((10, 100, 1, 100, 100), np.int8))
    assert load_frames(tmp_path / "own.npz").frames.sum() == 0


def test_a_missing_file_is_named(tmp_path):
    """The error says what to give."""
    with pytest.raises(ArtifactError, match="no such file"):
        load_frames(tmp_path / "own.npz")


def test_labels_must_lie_among_the_classes():
    """The first label out of range is named."""
    with pytest.raises(DataError, match=r"in 0\.\.9; got 10"):
        check_labels(np.array([3, 10]), samples=2, classes=10)


def test_reading_frames_needs_numpy_only():
    """Importing the data package loads neither torch nor tonic nor scikit-learn."""
    program = "import sys, tet_deploy.data; print([m for m in ('torch', 'tonic', 'sklearn') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
