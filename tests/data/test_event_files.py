"""Event files of each format give the events that were written, or are refused with their name."""

import io
import zipfile

import numpy as np
import pytest

from tet_deploy.data.event_camera import EVENT_DTYPE
from tet_deploy.data.event_files import read_events
from tet_deploy.errors import ArtifactError, DataError

RNG = np.random.default_rng(0)
EVENTS = np.zeros(60, EVENT_DTYPE)
for _name, _high in (("x", 34), ("y", 34), ("p", 2)):
    EVENTS[_name] = RNG.integers(0, _high, 60)
EVENTS["t"] = np.sort(RNG.integers(0, 300_000, 60))


def write_npy(path):
    np.save(path, EVENTS)


def write_npz(path):
    np.savez(path, **{name: EVENTS[name] for name in "txyp"})


def write_signed_npz(path):
    np.savez(path, **{name: EVENTS[name] for name in "txy"}, p=2 * EVENTS["p"] - 1)


def write_float_npz(path):
    np.savez(path, **{name: EVENTS[name].astype(np.float64) for name in "txyp"})


def write_bin(path):
    records = zip(*(EVENTS[name].tolist() for name in "xytp"), strict=True)
    path.write_bytes(b"".join(bytes([x, y]) + ((p << 23) | t).to_bytes(3, "big") for x, y, t, p in records))


def write_aedat2(path):
    """jAER's AEDAT 2.0 of a DVS128: big-endian address and time; bit 15 marks what is no polarity event."""
    header = b"#!AER-DAT2.0\r\n# This is a raw AE data file\r\n"
    x, y = 127 - EVENTS["x"].astype(np.int64), 127 - EVENTS["y"].astype(np.int64)
    records = np.zeros(61, np.dtype([("address", ">u4"), ("time", ">u4")]))
    records["address"][1:] = (y << 8) | (x << 1) | (1 - EVENTS["p"])
    records["time"][1:] = EVENTS["t"]
    records["address"][0] = 0x8000
    path.write_bytes(header + records.tobytes())


def write_hdf5_group(path):
    h5py = pytest.importorskip("h5py", reason="reads .h5")
    with h5py.File(path, "w") as file:
        for name in "xytp":
            file[f"events/{name}"] = EVENTS[name]


def write_hdf5_top(path):
    h5py = pytest.importorskip("h5py", reason="reads .h5")
    with h5py.File(path, "w") as file:
        for name in "xytp":
            file[name] = EVENTS[name]


def write_hdf5_table(path):
    h5py = pytest.importorskip("h5py", reason="reads .h5")
    with h5py.File(path, "w") as file:
        file["events"] = EVENTS


@pytest.mark.parametrize(
    ("suffix", "write"),
    [
        (".npy", write_npy),
        (".npz", write_npz),
        (".npz", write_signed_npz),
        (".npz", write_float_npz),
        (".bin", write_bin),
        (".aedat", write_aedat2),
        (".h5", write_hdf5_group),
        (".h5", write_hdf5_top),
        (".hdf5", write_hdf5_table),
    ],
)
def test_events_come_back_as_written(tmp_path, suffix, write):
    """x, y, t and p of every event, in order."""
    write(tmp_path / f"own{suffix}")
    found = read_events(tmp_path / f"own{suffix}")
    for name in "xytp":
        np.testing.assert_array_equal(found[name], EVENTS[name])


def npz(**columns):
    file = io.BytesIO()
    np.savez(file, **{**{name: EVENTS[name] for name in "xytp"}, **columns})
    return file.getvalue()


def npy(array, cut=None):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()[:cut]


def claiming(shape):
    """An .npy header that claims a shape, and nothing behind it."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<i8", "fortran_order": False, "shape": shape})
    return file.getvalue()


def zipped(content):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x.npy", content)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("own.txt", b"", ArtifactError, r"end in \.aedat4.*got '\.txt'"),
        ("own.npy", b"", ArtifactError, "cannot be read"),
        ("own.npy", npy(EVENTS, -9), ArtifactError, "cannot be read"),
        ("own.npy", claiming((10**12,)), ArtifactError, "claims 8000000000000 bytes"),
        ("own.npy", npy(np.zeros((5, 4))), DataError, "found no 'x'"),
        ("own.npy", npy(EVENTS[["x", "y", "t"]]), DataError, "found no 'p'"),
        ("own.npz", b"PK", ArtifactError, "cannot be read"),
        ("own.npz", zipped(claiming((10**12,))), ArtifactError, "claims"),
        ("own.npz", npz(t=EVENTS["t"][:5]), DataError, "one length"),
        ("own.npz", npz(t=EVENTS["t"] / 1e6), DataError, "t must be whole numbers, t in microseconds"),
        ("own.npz", npz(t=np.full(60, np.inf)), DataError, "whole numbers"),
        ("own.npz", npz(x=np.array(["a"] * 60)), DataError, "x must be whole numbers"),
        ("own.npz", npz(p=EVENTS["p"] + 1), DataError, "polarity must be 0 or 1"),
        ("own.npz", npz(x=EVENTS["x"].astype(object)), ArtifactError, "objects|cannot be read"),
        ("own.bin", b"1234567", ArtifactError, "records of 5 bytes; it has 7"),
        ("own.aedat", b"#!AER-DAT3.1\r\n#!END-HEADER\r\n", ArtifactError, r"only version 2\.0"),
        ("own.aedat", b"#!AER-DAT2.0\r\n1234567890", ArtifactError, "last record is cut off"),
        ("own.aedat", b"", ArtifactError, r"only version 2\.0"),
        ("own.h5", b"nothing", ArtifactError, "cannot be read"),
    ],
)
def test_damaged_files_are_named(tmp_path, name, content, error, message):
    """The file's name, what is wrong with it, and no memory for what a header claims."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=message) as caught:
        read_events(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_an_hdf5_file_that_claims_too_much_is_refused(tmp_path):
    """A table of 8e12 bytes that were never written is not read."""
    h5py = pytest.importorskip("h5py", reason="reads .h5")
    with h5py.File(tmp_path / "own.h5", "w") as file:
        file.create_dataset("x", shape=(10**12,), dtype="i8", chunks=(1000,))
    with pytest.raises(ArtifactError, match="claims 8000000000000 bytes"):
        read_events(tmp_path / "own.h5")
