"""CIFAR's files are read in both versions, and no pickle is ever run."""

import pickle
import struct

import numpy as np
import pytest

from tet_deploy.data.cifar_archive import read_binary, read_python
from tet_deploy.errors import ArtifactError, DataError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (7, 3, 32, 32)).astype(np.uint8)
LABELS = RNG.integers(0, 10, 7)


def binary(labels=LABELS):
    return b"".join(bytes([label]) + image.tobytes() for label, image in zip(labels.tolist(), IMAGES, strict=True))


def text(value):
    """A string as Python 2 pickled it: bytes behind their length."""
    return b"T" + struct.pack("<i", len(value)) + value


def python2_pickle(reconstruct=b"numpy.core.multiarray\n_reconstruct\n", dtype=b"u1"):
    """A batch as its makers wrote it: Python 2, protocol 2, an array rebuilt by numpy.core.multiarray._reconstruct."""
    array = b"c" + reconstruct + b"cnumpy\nndarray\n" + b"K\x00\x85" + text(b"b") + b"\x87R"
    shape = b"J" + struct.pack("<i", len(IMAGES)) + b"J" + struct.pack("<i", 3072) + b"\x86"
    kind = (
        b"cnumpy\ndtype\n"
        + text(dtype)
        + b"K\x00K\x01\x87R"
        + b"(K\x03"
        + text(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    state = b"(K\x01" + shape + kind + b"\x89" + text(IMAGES.tobytes()) + b"tb"
    numbers = b"".join(b"K" + bytes([label]) for label in LABELS.tolist())
    content = text(b"data") + array + state + text(b"labels") + b"](" + numbers + b"e"
    return b"\x80\x02}(" + content + text(b"batch_label") + text(b"training batch 1 of 5") + b"u."


def test_the_pickle_of_this_test_is_one():
    """pickle itself reads the hand-written Python 2 batch, with the same arrays."""
    content = pickle.loads(python2_pickle(), encoding="bytes")
    np.testing.assert_array_equal(content[b"data"], IMAGES.reshape(7, 3072))
    assert content[b"labels"] == LABELS.tolist()


def modern_pickle(protocol, order="C"):
    return pickle.dumps(
        {b"data": np.asarray(IMAGES.reshape(7, 3072), order=order), b"labels": LABELS.tolist()}, protocol=protocol
    )


@pytest.mark.parametrize("content", [python2_pickle(), modern_pickle(3), modern_pickle(4), modern_pickle(4, "F")])
def test_both_versions_hold_the_same(tmp_path, content):
    """Images [N, 3, 32, 32] and labels come back as written, from bytes and from pickles of Python 2 and 3."""
    (tmp_path / "batch").write_bytes(content)
    (tmp_path / "batch.bin").write_bytes(binary())
    for images, labels in (
        read_python(tmp_path / "batch", label_key=b"labels", classes=10),
        read_binary(tmp_path / "batch.bin", label_bytes=1, classes=10),
    ):
        np.testing.assert_array_equal(images, IMAGES)
        np.testing.assert_array_equal(labels, LABELS)
        assert (images.dtype, labels.dtype) == (np.uint8, np.int64)


def test_cifar100_counts_by_the_fine_label(tmp_path):
    """Of the two bytes before each image, the second is the label."""
    records = b"".join(bytes([3, 90 + index]) + image.tobytes() for index, image in enumerate(IMAGES))
    (tmp_path / "train.bin").write_bytes(records)
    images, labels = read_binary(tmp_path / "train.bin", label_bytes=2, classes=100)
    np.testing.assert_array_equal(images, IMAGES)
    assert labels.tolist() == list(range(90, 97))


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b"", ArtifactError, "it has 0 bytes"),
        (binary()[:-1], ArtifactError, "records of 3073 bytes; it has 21510"),
        (binary(np.array([0, 1, 10, 3, 4, 5, 200])), DataError, r"record 2 has label 10; must be in 0\.\.9"),
    ],
)
def test_damaged_binaries_are_named(tmp_path, content, error, message):
    """Truncated records, labels out of range."""
    (tmp_path / "batch.bin").write_bytes(content)
    with pytest.raises(error, match=message):
        read_binary(tmp_path / "batch.bin", label_bytes=1, classes=10)


class Program:
    """Pickles as a call that writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_pickle_made_to_run_a_program_does_not(tmp_path):
    """The call never happens, and the error says what was asked for."""
    (tmp_path / "batch").write_bytes(pickle.dumps({b"data": Program(tmp_path / "ran"), b"labels": [1]}))
    with pytest.raises(ArtifactError, match=r"asks for .*open, which CIFAR does not need.*binary version"):
        read_python(tmp_path / "batch", label_key=b"labels", classes=10)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b"", ArtifactError, "cannot be read"),
        (python2_pickle()[:-40], ArtifactError, "cannot be read"),
        (b"\x80\x02K\x01.", ArtifactError, "cannot be read"),
        (pickle.dumps({b"data": IMAGES, b"labels": [1] * 7}, protocol=4), DataError, r"images \[N, 3072\]"),
        (pickle.dumps({b"data": IMAGES.reshape(7, -1), b"labels": [1] * 6}, protocol=4), DataError, "N labels"),
        (pickle.dumps({b"data": IMAGES.reshape(7, -1), b"labels": ["cat"] * 7}, protocol=4), DataError, "integers"),
        (pickle.dumps({b"data": IMAGES.reshape(7, -1), b"labels": [10] * 7}, protocol=4), DataError, r"in 0\.\.9"),
        (pickle.dumps({b"data": IMAGES.reshape(7, -1).astype(float), b"labels": [1] * 7}), ArtifactError, "not bytes"),
        (pickle.dumps({b"data": IMAGES.reshape(7, -1), b"fine_labels": [1] * 7}, protocol=4), ArtifactError, "labels"),
        (python2_pickle(dtype=b"O8"), ArtifactError, "not bytes"),
        (python2_pickle(reconstruct=b"os\nsystem\n"), ArtifactError, "asks for os.system"),
    ],
)
def test_other_pickles_are_refused(tmp_path, content, error, message):
    """Damaged ones, other shapes, types and names."""
    (tmp_path / "batch").write_bytes(content)
    with pytest.raises(error, match=message):
        read_python(tmp_path / "batch", label_key=b"labels", classes=10)
