"""Event files of each format give the events that were written, or are refused with their name."""

import io
import re
import zipfile

import numpy as np
import pytest

from tet_deploy.data.event_camera import EVENT_DTYPE
from tet_deploy.data.event_files import read_events
from tet_deploy.errors import ArtifactError, DataError, DataWarning

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
    """jAER's AEDAT 2.0 of a DVS128: big-endian address and time."""
    header = b"#!AER-DAT2.0\r\n# AEChip: DVS128\r\n"
    x, y = 127 - EVENTS["x"].astype(np.int64), 127 - EVENTS["y"].astype(np.int64)
    records = np.zeros(60, np.dtype([("address", ">u4"), ("time", ">u4")]))
    records["address"] = (y << 8) | (x << 1) | (1 - EVENTS["p"])
    records["time"] = EVENTS["t"]
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


def write_hdf5_deep(path):
    """As DSEC and Metavision lay them: in a group of any name, beside arrays of other lengths, packed in chunks."""
    h5py = pytest.importorskip("h5py", reason="reads .h5")
    with h5py.File(path, "w") as file:
        file["ms_to_idx"] = np.arange(7)
        file.create_dataset("CD/events", data=EVENTS, chunks=(7,), compression="gzip")
        file["CD/itself"] = file["CD"]  # a loop


def write_structured_npz(path):
    np.savez(path, arr_0=EVENTS, labels=np.zeros(3))


@pytest.mark.parametrize(
    ("suffix", "write"),
    [
        (".npy", write_npy),
        (".npz", write_npz),
        (".npz", write_signed_npz),
        (".npz", write_float_npz),
        (".npz", write_structured_npz),
        (".NPZ", write_npz),
        (".bin", write_bin),
        (".aedat", write_aedat2),
        (".h5", write_hdf5_group),
        (".h5", write_hdf5_top),
        (".hdf5", write_hdf5_table),
        (".h5", write_hdf5_deep),
    ],
)
def test_events_come_back_as_written(tmp_path, suffix, write):
    """x, y, t and p of every event, in order."""
    write(tmp_path / f"own{suffix.lower()}")
    (tmp_path / f"own{suffix.lower()}").rename(tmp_path / f"own{suffix}")
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
        ("own.txt", b"x", ArtifactError, r"end in \.aedat4.*got '\.txt'"),
        ("own.npy", b"", ArtifactError, "is empty"),
        ("own.npy", b"nothing", ArtifactError, "cannot be read as .npy .*damaged, or of another format under this name"),
        ("own.npy", npy(EVENTS, -9), ArtifactError, "cannot be read"),
        ("own.npy", claiming((10**12,)), ArtifactError, "claims 8000000000000 bytes"),
        ("own.npy", npy(np.zeros((5, 4))), DataError, r"shape \(5, 4\) whose columns have no names"),
        ("own.npy", npy(EVENTS[["x", "y", "t"]]), DataError, "one column each of x, y, t and p; found 'x', 'y', 't'"),
        ("own.npz", b"PK", ArtifactError, "cannot be read"),
        ("own.npz", zipped(claiming((10**12,))), ArtifactError, "claims"),
        ("own.npz", npz(t=EVENTS["t"][:5]), DataError, "one length"),
        ("own.npz", npz(t=np.full(60, np.inf)), DataError, "t must be finite numbers"),
        ("own.npz", npz(x=np.array(["a"] * 60)), DataError, "x must be whole numbers"),
        ("own.npz", npz(p=EVENTS["p"] + 1), DataError, "polarity must be 0 or 1"),
        ("own.npz", npz(x=EVENTS["x"].astype(object)), ArtifactError, "objects|cannot be read"),
        ("own.bin", b"1234567", ArtifactError, "records of 5 bytes; it has 7"),
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
        for name in "xytp":
            file.create_dataset(name, shape=(10**12,), dtype="i8", chunks=(1000,))
    with pytest.raises(ArtifactError, match="claims 8000000000000 bytes"):
        read_events(tmp_path / "own.h5")


def hdf5(**arrays):
    def write(path):
        with pytest.importorskip("h5py", reason="writes .h5").File(path, "w") as file:
            for name, array in arrays.items():
                file[name] = array

    return write


def hdf5_dataset(**options):
    def write(path):
        h5py = pytest.importorskip("h5py", reason="writes .h5")
        with h5py.File(path, "w") as file:
            for name in "xyp":
                file[name] = EVENTS[name]
            t = file.create_dataset("t", shape=(60,), dtype="i8", **options)
            if "chunks" in options:
                t[:30] = EVENTS["t"][:30]

    return write


def hdf5_virtual(**options):
    def write(path):
        h5py = pytest.importorskip("h5py", reason="writes .h5")
        layout = h5py.VirtualLayout(shape=(60,), dtype="i8")
        layout[:] = h5py.VirtualSource("elsewhere.h5", "t", shape=(60,))
        with h5py.File(path, "w", **options) as file:
            for name in "xyp":
                file[name] = EVENTS[name]
            file.create_virtual_dataset("t", layout)

    return write


def hdf5_link(path):
    h5py = pytest.importorskip("h5py", reason="writes .h5")
    hdf5(**{name: EVENTS[name] for name in "xyp"})(path)
    with h5py.File(path, "a") as file:
        file["t"] = h5py.ExternalLink("/dev/zero", "t")


def doubled(path):
    with zipfile.ZipFile(path, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        for name in ("x", "y", "t", "p", "x"):
            archive.writestr(f"{name}.npy", npy(EVENTS[name]))


def bomb(path):
    """Arrays of zeros, packed tighter than deflate can."""
    inner = npy(np.zeros(10**7, np.int8))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        for name in "xytp":
            archive.writestr(f"{name}.npy", inner)


TABLE = np.stack([EVENTS[name].astype("u4") for name in "txyp"], axis=1)


@pytest.mark.parametrize(
    ("name", "write", "error", "message"),
    [
        ("own.h5", hdf5(events=TABLE), DataError, r"array of uint32 of shape \(60, 4\).*look like t, x, y, p"),
        ("own.h5", hdf5(**{"davis/left/events": TABLE}), DataError, "look like t, x, y, p"),
        ("own.h5", hdf5(a=EVENTS, b=EVENTS), DataError, "holds events in 2 places: 'a', 'b'. Keep one"),
        ("own.h5", hdf5(**{"spikes/times": np.zeros(3)}), DataError, r"found 'spikes/times \(3,\)'\. Name them so"),
        ("own.h5", hdf5(frames=np.zeros((2, 3, 1, 5, 5))), DataError, "Frames are loaded by this file's own path"),
        ("own.h5", hdf5(), DataError, "found none"),
        ("own.h5", hdf5_dataset(chunks=(10,)), ArtifactError, " /t: only 3 of its 6 parts were written"),
        ("own.h5", hdf5_dataset(), ArtifactError, " /t: only 0 of its 1 parts were written"),
        ("own.h5", hdf5_dataset(external=[("/dev/zero", 0, 480)]), ArtifactError, " /t lies in other files"),
        ("own.h5", hdf5_virtual(), ArtifactError, "virtual dataset, which lies in other files"),
        ("own.h5", hdf5_virtual(libver="latest"), ArtifactError, "virtual dataset, which lies in other files"),
        ("own.h5", hdf5_virtual(libver="latest", track_order=True), ArtifactError, "virtual dataset, which lies in other"),
        ("own.h5", hdf5_link, DataError, "events need arrays x, y, t and p"),
        ("own.npz", lambda path: np.savez(path, events=TABLE), DataError, "look like t, x, y, p"),
        (
            "own.npz",
            lambda path: np.savez(path, frames=np.zeros((2, 3, 9))),
            DataError,
            "Frames are loaded by this file's own",
        ),
        ("own.npz", doubled, ArtifactError, "holds two arrays of one name"),
        ("own.npz", bomb, ArtifactError, "claims 10000000 bytes"),
    ],
)
def test_arrays_that_are_no_events_are_refused_with_what_they_are(tmp_path, name, write, error, message):
    """Without names, in several places or in other files, not written to the end, twice, or larger than the file can be."""
    write(tmp_path / name)
    with pytest.raises(error, match=rf"^{re.escape(str(tmp_path / name))}:(.|\n)*{message}"):
        read_events(tmp_path / name)


def test_other_arrays_in_an_npz_do_not_matter(tmp_path):
    """Also where they are pickles, which are never opened."""
    np.savez(tmp_path / "own.npz", **{name: EVENTS[name] for name in "xytp"}, about=np.array([{"camera": 1}], dtype=object))
    np.testing.assert_array_equal(read_events(tmp_path / "own.npz")["t"], EVENTS["t"])


def test_many_marks_of_an_overflow_take_no_time(tmp_path):
    """A million records that each set all later ones forward are read in one pass."""
    (tmp_path / "own.bin").write_bytes(bytes([1, 240, 0, 0, 0]) * 10**6 + bytes([1, 2, 128, 0, 5]))
    with pytest.warns(DataWarning, match="marks of an overflow, each setting later events 8192 later: 1000000"):
        assert read_events(tmp_path / "own.bin").tolist() == [(1, 2, 5 + 8192 * 10**6, 1)]
