"""Files of events to damage: those that the readers' own tests write, and HDF5 files that only pretend to be small."""

import runpy
import struct
from pathlib import Path

import flatbuffers
import h5py
import numpy as np

ODD = "odd-"
_TESTS = Path(__file__).resolve().parent.parent / "data"
_files = runpy.run_path(str(_TESTS / "test_event_files.py"))
_parts = runpy.run_path(str(_TESTS / "conftest.py"))
_sets = runpy.run_path(str(_TESTS / "test_event_sets.py"))


def write_npy(folder: Path) -> None:
    _files["write_npy"](folder / "own.npy")


def write_npz(folder: Path) -> None:
    for name in ("npz", "signed_npz", "float_npz"):
        _files[f"write_{name}"](folder / f"{name}.npz")


def write_bin(folder: Path) -> None:
    _files["write_bin"](folder / "own.bin")


def write_aedat(folder: Path) -> None:
    _files["write_aedat2"](folder / "own.aedat")


def write_aedat4(folder: Path) -> None:
    events = _sets["draw"](np.random.default_rng(0), 40, 128, 128)
    packets = [_parts["_packet"](flatbuffers, part, "EVTS") for part in (events[:20], events[20:])]
    for compression, bodies in ((0, packets), (3, map(_parts["_zstd"], packets))):
        header = _parts["_header"](flatbuffers, ("EVTS", "IMUS"), compression, (128, 128))
        content = b"#!AER-DAT4.0\r\n" + header
        content += b"".join(struct.pack("<ii", 0, len(body)) + body for body in bodies)
        (folder / f"packed{compression}.aedat4").write_bytes(content)


def write_h5(folder: Path) -> None:
    for name in ("hdf5_group", "hdf5_top", "hdf5_table"):
        _files[f"write_{name}"](folder / f"{name}.h5")
    for name, write in _ODD.items():
        with h5py.File(folder / f"{ODD}{name}.h5", "w") as file:
            for column in "xytp":
                write(file, column)


def _dataset(**options: object):
    return lambda file, name: file.create_dataset(name, **options)


def _virtual(file: h5py.File, name: str) -> None:
    space = h5py.h5s.create_simple((10**6,))
    how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    how.set_virtual(space, b"/dev/zero", b"x", space)
    how.set_obj_track_times(False)  # the same file each time
    h5py.h5d.create(file.id, name.encode(), h5py.h5t.NATIVE_INT64, space, how)


def _linked(target: object):
    def write(file: h5py.File, name: str) -> None:
        file[name] = target

    return write


def _deep(file: h5py.File, name: str) -> None:
    group = file.require_group(name)
    for _ in range(50):
        group = group.create_group("events")
    group["x"] = np.arange(3)


_ODD = {
    "sparse": _dataset(shape=(10**9,), dtype="i8", chunks=(10**4,)),
    "packed": _dataset(data=np.zeros(10**6, "i8"), compression="gzip"),
    "outside": _dataset(shape=(10**6,), dtype="i8", external=[("/dev/zero", 0, h5py.h5f.UNLIMITED)]),
    "text": _dataset(data=[b"a", b"bc"], dtype=h5py.string_dtype()),
    "ragged": _dataset(shape=(3,), dtype=h5py.vlen_dtype(np.int32)),
    "truth": _dataset(data=[True, False, True]),
    "list": _dataset(data=1, dtype=h5py.enum_dtype({"A": 1})),
    "empty": _dataset(data=h5py.Empty("f")),
    "pairs": _dataset(data=np.zeros(3, [("x", "i8"), ("y", "(2,)i4")])),
    "cube": _dataset(data=np.zeros((2, 3, 4))),
    "loop": _linked(h5py.SoftLink("/x")),
    "elsewhere": _linked(h5py.ExternalLink("/dev/zero", "x")),
    "deep": _deep,
    "virtual": _virtual,
}
WRITERS = {
    ".aedat4": write_aedat4,
    ".aedat": write_aedat,
    ".bin": write_bin,
    ".h5": write_h5,
    ".npy": write_npy,
    ".npz": write_npz,
}
