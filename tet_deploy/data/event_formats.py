"""What an event file is, by its first bytes, and what to do with one that is not what its suffix says, or not read."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from tet_deploy.errors import ArtifactError
from tet_deploy.files import head, regular_file

LARGEST_RECORDING = 2**32  # bytes
_NPZ_WAY = "save its x, y, t and p with np.savez(path, x=..., y=..., t=..., p=...)"

# (first bytes, where they stand) -> what it is, and the suffix that we read it under or what to do with it.
_READ = {
    (b"#!AER-DAT4", 0): ("AEDAT 4", ".aedat4"),
    (b"#!AER-DAT2", 0): ("AEDAT 2.0", ".aedat"),
    (b"\x93NUMPY", 0): ("a numpy array", ".npy"),
    (b"\x89HDF\r\n\x1a\n", 0): ("HDF5", ".h5"),
}
_NOT_READ = {
    (b"#!AER-DAT3", 0): ("AEDAT 3", f"only versions 2.0 and 4 of AEDAT are read; convert it, or {_NPZ_WAY}"),
    (b"#!AER-DAT1", 0): ("AEDAT 1.0", f"only versions 2.0 and 4 of AEDAT are read; convert it, or {_NPZ_WAY}"),
    (b"MATLAB 7.3", 0): ("a MATLAB 7.3 file", f"open it with h5py and {_NPZ_WAY}"),
    (b"MATLAB 5.0", 0): ("a MATLAB file", f"open it with scipy.io.loadmat and {_NPZ_WAY}"),
    (b"#ROSBAG", 0): ("a ROS bag", f"open it with importRosbag, which comes with tonic, and {_NPZ_WAY}"),
    (b"SQLite format 3\0", 0): ("an SQLite file, as ROS 2 bags are", f"open it with rosbags and {_NPZ_WAY}"),
    (b"\x89MCAP0\r\n", 0): ("an MCAP file", f"open it with mcap and {_NPZ_WAY}"),
    (b"\x1f\x8b\x08", 0): ("packed with gzip", "unpack it with gunzip"),
    (b"1AY&SY", 4): ("packed with bzip2", "unpack it with bunzip2"),
    (b"\xfd7zXZ\0", 0): ("packed with xz", "unpack it with unxz"),
    (b"\x28\xb5\x2f\xfd", 0): ("packed with zstd", "unpack it with unzstd"),
    (b"7z\xbc\xaf\x27\x1c", 0): ("a 7z archive", "unpack it"),
    (b"Rar!\x1a\x07", 0): ("a RAR archive", "unpack it"),
    (b"ustar", 257): ("a tar archive", "unpack it with tar -xf"),
    (b"PAR1", 0): ("a Parquet table", f"open it with pandas and {_NPZ_WAY}"),
    (b"version https://git-lfs", 0): ("a pointer of Git LFS, not the recording itself", "fetch that with git lfs pull"),
    (b"\x80\x04\x95", 0): ("a Python pickle", f"where you trust it, open it with pickle and {_NPZ_WAY}"),
    (b"\x80\x05\x95", 0): ("a Python pickle", f"where you trust it, open it with pickle and {_NPZ_WAY}"),
}
_WEB_PAGE = re.compile(rb"\s*<(!doctype|html|\?xml)", re.IGNORECASE)
_PROPHESEE = re.compile(rb"% ?[A-Za-z]{3}")  # an N-MNIST file may begin with "% ", too
_ENCODING = re.compile(rb"% *(?:evt|format EVT) *(\d+)(?:\.([1-9]))?", re.IGNORECASE)


def check_format(path: Path, suffixes: tuple[str, ...]) -> None:
    """See before a file is read that it is one, and what its suffix says.

    Parameters
    ----------
    path
        A recording.
    suffixes
        Those that are read.

    Raises
    ------
    ArtifactError
        No regular file, empty, or too large; an unknown suffix; or what it holds is known to be something else.
    """
    regular_file(path, "Give a recording, or remove it.", largest=LARGEST_RECORDING)
    name, way = identify(path)
    if name and way.startswith("."):
        same = {".hdf5": ".h5"}.get(path.suffix.lower(), path.suffix.lower())
        if same != way:
            raise ArtifactError(f"{path}: is {name}. Rename it to {path.with_suffix(way).name}.")
    elif name:
        raise ArtifactError(f"{path}: is {name}, which is not read: {way}.")
    if path.suffix.lower() not in suffixes:
        raise ArtifactError(
            f"{path}: event files end in {', '.join(suffixes)}; got {path.suffix!r}. Convert it: {_NPZ_WAY}."
        )


def identify(path: Path) -> tuple[str, str]:
    """What a file holds, and the suffix that it is read under or the way out; two empty texts where nothing tells."""
    start = head(path, 2048)
    for (magic, at), found in {**_READ, **_NOT_READ}.items():
        if start[at:].startswith(magic):
            return found
    if start.startswith(b"PK\x03\x04"):
        return _zip(path)
    if _WEB_PAGE.match(start):
        return "a web page or XML, not a recording", "download the recording again"
    if _PROPHESEE.match(start):
        return _prophesee(path, start)
    if re.fullmatch(rb"[\d\s.,;eE+-]{8,}", start):
        return "text", f"read it with np.loadtxt and {_NPZ_WAY}"
    return "", ""


def _prophesee(path: Path, start: bytes) -> tuple[str, str]:
    version = _ENCODING.search(start)
    encoding = "evt" + b"".join(version.groups(b"")).decode() if version else "dat"
    if encoding not in ("dat", "evt2", "evt3"):
        return f"Prophesee's {encoding.upper()}", "convert it to HDF5 with metavision_file_to_hdf5"
    read = f"expelliarmus.Wizard(encoding={encoding!r}).read({path.name!r})"
    return f"Prophesee's {encoding.upper()}", f"expelliarmus comes with tonic: np.save({path.stem + '.npy'!r}, {read})"


def _zip(path: Path) -> tuple[str, str]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return "", ""  # cut off: its reader says so
    if any(name.endswith(".npy") for name in names):
        return "an archive of numpy arrays", ".npz"
    if any(name.endswith("data.pkl") for name in names):
        return "a file of PyTorch", f"open it with torch.load(..., weights_only=True) and {_NPZ_WAY}"
    return "a ZIP archive", "unpack it"
