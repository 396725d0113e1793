"""A file that is not what its suffix says, or of a format that is not read, is refused with what it is and what to do."""

import bz2
import gzip
import lzma
import os
import pickle
import re
import socket
import tarfile
import zipfile

import numpy as np
import pytest

from tet_deploy.data.event_files import READERS, read_events
from tet_deploy.errors import ArtifactError

EVENTS = np.zeros(50, [("t", "i8"), ("x", "i2"), ("y", "i2"), ("p", "u1")])
EVENTS["t"], EVENTS["x"], EVENTS["y"], EVENTS["p"] = (
    np.arange(50) * 10,
    np.arange(50) % 7,
    np.arange(50) % 5,
    np.arange(50) % 2,
)


def npy(path):
    with path.open("wb") as file:
        np.save(file, EVENTS)


def npz(path):
    with path.open("wb") as file:
        np.savez(file, **{name: EVENTS[name] for name in "xytp"})


def hdf5(path):
    with pytest.importorskip("h5py", reason="writes HDF5").File(path, "w") as file:
        file["events"] = EVENTS


def archive(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("airplane/0.aedat4", b"")


def tar(path):
    (path.parent / "inner").write_bytes(b"")
    with tarfile.open(path, "w") as file:
        file.add(path.parent / "inner", "inner")


def matlab(path):
    with path.open("wb") as file:
        pytest.importorskip("scipy.io", reason="writes .mat").savemat(file, {"TD": np.zeros(3)})


def torch_file(path):
    pytest.importorskip("torch", reason="writes its files").save({"x": 1}, path)


def content(data):
    return lambda path: path.write_bytes(data)


def text(line):
    return content(line.encode() * 30)


@pytest.mark.parametrize(
    ("write", "name", "message"),
    [
        (npy, "own.h5", r"is a numpy array\. Rename it to own\.npy\.$"),
        (npy, "own", r"Rename it to own\.npy\.$"),
        (npz, "own.npy", r"is an archive of numpy arrays\. Rename it to own\.npz\.$"),
        (hdf5, "own.npy", r"is HDF5\. Rename it to own\.h5\.$"),
        (hdf5, "own.nir", r"is HDF5\. Rename it to own\.h5\.$"),
        (content(b"#!AER-DAT4.0\r\n" + bytes(99)), "own.aedat", r"is AEDAT 4\. Rename it to own\.aedat4\.$"),
        (content(b"#!AER-DAT2.0\r\n" + bytes(80)), "own.aedat4", r"is AEDAT 2\.0\. Rename it to own\.aedat\.$"),
        (content(b"#!AER-DAT3.1\r\n#!END-HEADER\r\n" + bytes(28)), "own.aedat", "is AEDAT 3, .* only versions 2.0 and 4"),
        (content(b"#!AER-DAT1.0\r\n" + bytes(6)), "own.aedat", r"is AEDAT 1\.0, .* only versions 2.0 and 4"),
        (content(gzip.compress(bytes(99))), "own.npy", "packed with gzip.*gunzip"),
        (content(bz2.compress(bytes(99))), "own.bin", "packed with bzip2.*bunzip2"),
        (content(lzma.compress(bytes(99))), "own.aedat", "packed with xz.*unxz"),
        (archive, "own.npz", "is a ZIP archive.*unpack it"),
        (archive, "own.aedat4", "is a ZIP archive.*unpack it"),
        (tar, "own.bin", "is a tar archive.*tar -xf"),
        (matlab, "own.bin", r"is a MATLAB file.*scipy\.io\.loadmat"),
        (torch_file, "own.npz", r"is a file of PyTorch.*torch\.load"),
        (content(pickle.dumps({"x": [1]}, protocol=4)), "own.npy", "is a Python pickle"),
        (content(b"#ROSBAG V2.0\n" + bytes(99)), "own.bag", "is a ROS bag.*importRosbag"),
        (content(b"SQLite format 3\0" + bytes(99)), "own.db3", "is an SQLite file, as ROS 2 bags are"),
        (content(b"version https://git-lfs.github.com/spec/v1\noid"), "own.aedat4", "pointer of Git LFS.*git lfs pull"),
        (content(b"<!DOCTYPE html><html>404"), "own.aedat4", "is a web page or XML.*download"),
        (content(b"% evt 2.1\n% end\n" + bytes(16)), "own.raw", r"is Prophesee's EVT21, .*metavision_file_to_hdf5"),
        (text("0.003811 96 133 0\n"), "events.txt", r"is text.*np\.loadtxt"),
        (text("1, 2, 3, 0\n"), "events.csv", r"is text.*np\.loadtxt"),
        (text("notes of mine"), "own.txt", r"event files end in \.aedat4, .*; got '\.txt'"),
    ],
)
def test_what_a_file_holds_decides_what_it_is_told(tmp_path, write, name, message):
    """Its first bytes say what it is; the message names the file, that, and the way out."""
    write(tmp_path / name)
    with pytest.raises(ArtifactError, match=rf"^{re.escape(str(tmp_path / name))}: (.|\n)*{message}"):
        read_events(tmp_path / name)


@pytest.mark.parametrize("encoding", ["dat", "evt2", "evt3"])
def test_advice_for_prophesees_files_can_be_followed(tmp_path, monkeypatch, encoding):
    """The line of the message, carried out, makes a file whose events are those that the camera's file holds."""
    expelliarmus = pytest.importorskip("expelliarmus", reason="comes with tonic")
    monkeypatch.chdir(tmp_path)
    name = f"own.{'dat' if encoding == 'dat' else 'raw'}"
    expelliarmus.Wizard(encoding=encoding).save(fpath=tmp_path / name, arr=EVENTS)
    with pytest.raises(ArtifactError, match=f"is Prophesee's {encoding.upper()}, which is not read") as caught:
        read_events(tmp_path / name)
    line = re.search(r"(np\.save\(.*\))\.$", str(caught.value))[1]
    exec(line, {"np": np, "expelliarmus": expelliarmus})
    found = read_events(tmp_path / "own.npy")
    for column in "xytp":
        np.testing.assert_array_equal(found[column], EVENTS[column])


def test_first_pixels_are_no_other_format(tmp_path):
    """An N-MNIST or N-Caltech101 file may begin with the bytes of '% ' or '<', as pixels do."""
    for pixel in (b"% ", b"<!", b"\x1f\x8b", b"PK", b"BZ"):
        (tmp_path / "own.bin").write_bytes((pixel + b"\x80\x00\x05") * 3)
        assert read_events(tmp_path / "own.bin")["x"].tolist() == [pixel[0]] * 3


@pytest.mark.parametrize("suffix", READERS)
@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "socket", "nothing", "empty", "dangling link", "loop"])
def test_what_is_no_file_is_not_opened(tmp_path, suffix, kind):
    """A FIFO would hang, /dev/zero never ends: all are refused by name before a byte is read."""
    path = tmp_path / f"own{suffix}"
    make = {
        "fifo": lambda: os.mkfifo(path),
        "device": lambda: path.symlink_to("/dev/zero"),
        "folder": path.mkdir,
        "socket": lambda: socket.socket(socket.AF_UNIX).bind(str(path)),
        "nothing": lambda: None,
        "empty": path.touch,
        "dangling link": lambda: path.symlink_to(tmp_path / "gone"),
        "loop": lambda: path.symlink_to(path),
    }
    make[kind]()
    with pytest.raises(
        ArtifactError, match=rf"^{re.escape(str(path))}: (must be a file|no such file|is empty|cannot be read)"
    ):
        read_events(path)
