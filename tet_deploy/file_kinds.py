"""What a file or folder is that was given in the place of another, and who takes it."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open

from tet_deploy.errors import ArtifactError
from tet_deploy.files import LARGEST_FILE_BYTES, begins_with, has_header, head, regular_file


class FileKind(NamedTuple):
    """A kind of file, with its article, what to do with one, and how it is known."""

    name: str
    way_out: str
    test: Callable[[Path], bool]


def _archive_with(*endings: str) -> Callable[[Path], bool]:
    def test(path: Path) -> bool:
        try:
            with zipfile.ZipFile(path) as archive:
                return any(name.endswith(endings) for name in archive.namelist())
        except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
            return False

    return lambda path: head(path, 4) == b"PK\x03\x04" and test(path)


def _is_onnx(path: Path) -> bool:
    """Protobuf whose first field is the IR version, and then a producer, a domain or the graph."""
    start = head(path, 3)
    return start[:1] == b"\x08" and start[2:] in (b"\x12", b"\x1a", b"\x22", b"\x3a")


def _opens_as_safetensors(path: Path) -> bool:
    try:
        with safe_open(path, framework="np"):
            return True
    except (OSError, SafetensorError):
        return False


_PYTORCH = (
    "If it is a state dict of a model of yours, give it back to the model, model.load_state_dict; then td.trace, td.lower "
    "and td.save. One of our networks is read by td.load_checkpoint(NAME, path)."
)
NETWORK = FileKind("a network", "Look at it with `tet-deploy inspect`.", has_header("tet_deploy"))
CHECKPOINT = FileKind(
    "a training's checkpoint", "Make a network of it: `tet-deploy convert`.", has_header("tet_deploy_checkpoint")
)
STATE = FileKind(
    "the state of an interrupted training", "Go on with it: `tet-deploy train --resume`.", has_header("tet_deploy_training")
)
ONNX = FileKind("an ONNX file", "ONNX Runtime runs it; our commands take the network that it was exported from.", _is_onnx)
FRAMES = FileKind(
    "a file of numpy arrays",
    "Frames, an array 'frames' [T, B, C, H, W], are given as --frames.",
    lambda path: head(path, 6) == b"\x93NUMPY" or _archive_with(".npy")(path),
)
HDF5 = FileKind(
    "an HDF5 file",
    "Make a network of a NIR file: `tet-deploy convert --source`, or td.load_nir. Recordings of events are read as data.",
    begins_with(b"\x89HDF\r\n\x1a\n"),
)
KINDS = (  # the first that fits is told
    NETWORK,
    CHECKPOINT,
    STATE,
    FileKind("a safetensors file of another program", _PYTORCH, _opens_as_safetensors),
    FileKind("a PyTorch file", _PYTORCH, _archive_with("data.pkl")),
    FileKind("a pickle", _PYTORCH, begins_with(b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")),
    ONNX,
    FRAMES,
    HDF5,
    FileKind("a page of HTML", "A browser shows it.", begins_with(b"<!doctype html", b"<!DOCTYPE html")),
)
_BUNDLE = "a Lava bundle. Its run.py runs it, see its README.md; our commands take the network that it was exported from."


def expected(path: str | os.PathLike[str], kind: FileKind, way_out: str, *, largest: int = LARGEST_FILE_BYTES) -> Path:
    """See before a file is read that it is one, and of no other kind that is known; for the rest see `regular_file`.

    Raises
    ------
    ArtifactError
        See `regular_file`; or it is of another kind, with what takes that.
    """
    path = Path(path)
    if (path / "plan.json").is_file() and (path / "run.py").is_file():
        raise ArtifactError(f"{path}: must be {kind.name}; it is {_BUNDLE}")
    regular_file(path, way_out, largest=largest)
    found = next((each for each in KINDS if each.test(path)), kind)
    if found is not kind:
        raise ArtifactError(f"{path}: must be {kind.name}; it is {found.name}. {found.way_out}")
    return path
