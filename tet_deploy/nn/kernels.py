"""Where the library of kernels.c comes from: a folder that was built ahead, the user's cache folder, or a compiler."""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from tet_deploy.errors import ArtifactError, MissingDependencyError
from tet_deploy.files import BY_NAME, Kind, regular_file, written_whole
from tet_deploy.nn import backends

VARIABLE = "TET_DEPLOY_KERNELS"  # names a folder that `build` wrote
DEFINES: dict[str, list[str]] = {"float32": [], "bfloat16": ["-DBFLOAT16"]}  # a library for each dtype
SOURCE = Path(__file__).with_name("kernels.c")
# Without contraction, multiply-then-add is what it is in torch; the other two let comparisons become vector instructions.
FLAGS = (
    "-O3",
    "-std=gnu99",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fopenmp-simd",
    "-shared",
    "-fPIC",
)
PORTABLE = (("-fopenmp",), ())  # what a compiler may not know, best first
NATIVE = (("-march=native", "-mprefer-vector-width=512", "-fopenmp"), ("-march=native", "-fopenmp"), *PORTABLE)
_MARK = re.compile(rb"tet_deploy kernels [0-9a-f]{16} \w+")
_LARGEST = 2**26
_SEAL_BYTES = hashlib.sha256().digest_size
_WAY_OUT = (
    f"Install gcc or clang, or set CC; or build it elsewhere (tet-deploy doctor --build-kernels FOLDER) and set {VARIABLE}."
)
LIBRARY = Kind("a library of tet_deploy's kernels", lambda path: _said(path.read_bytes()) is not None)

_Made = TypeVar("_Made")


def build(folder: str | os.PathLike[str], *, native: bool = False) -> list[Path]:
    """Compile the kernels ahead of time, for whoever sets TET_DEPLOY_KERNELS to this folder and then needs no compiler.

    Parameters
    ----------
    folder
        Is made if it is not there; kernels of another version in it are replaced.
    native
        Use all that this machine's processor can do: other processors may lack it and end the process.

    Raises
    ------
    MissingDependencyError
        No compiler, or none that can compile them.
    ArtifactError
        The folder cannot be written, or something else has the name of a library.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArtifactError(f"{folder}: cannot be made ({error.strerror or error}). Choose another folder.") from error
    return with_compiler(
        lambda command: [_build(command, folder, dtype) for dtype in DEFINES], NATIVE if native else PORTABLE
    )


def _build(command: list[str], folder: Path, dtype: str) -> Path:
    with tempfile.TemporaryDirectory(prefix="tet_deploy-") as private:
        made = Path(private, _name(dtype))
        _compile([*command, *DEFINES[dtype], f'-DIDENTITY="{_identity(dtype)}"'], made)
        with written_whole(folder / made.name, LIBRARY) as temporary:
            temporary.write_bytes(_sealed(made.read_bytes()))
    return folder / made.name


def built_ahead(folder: str | os.PathLike[str]) -> dict[str, ctypes.CDLL]:
    """The libraries that `build` wrote into a folder, by dtype.

    Raises
    ------
    ArtifactError
        A library is missing, damaged, of another source or kind, or cannot be loaded on this machine.
    """
    return {dtype: _loaded(Path(folder, _name(dtype)), dtype) for dtype in DEFINES}


def _loaded(path: Path, dtype: str) -> ctypes.CDLL:
    """Nothing in the file is executed before it has been found to be of this very source, and whole."""
    command = f"tet-deploy doctor --build-kernels {shlex.quote(str(path.parent))}"
    way_out = f"Build it with this version: {command}; or unset {VARIABLE}."
    content = regular_file(path, way_out, largest=_LARGEST).read_bytes()
    said, wanted = _said(content), _identity(dtype)
    if said != wanted:
        raise ArtifactError(f"{path}: must hold {wanted!r}; it holds {said or 'no kernels of tet_deploy'!r}. {way_out}")
    if content != _sealed(content[:-_SEAL_BYTES]):
        raise ArtifactError(f"{path}: is damaged, as its checksum does not fit. {way_out}")
    try:
        return ctypes.CDLL(str(path.resolve()))
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be loaded on this machine ({error}). {way_out}") from error


def _name(dtype: str) -> str:
    return f"neurons-{dtype}.so"


def _identity(dtype: str) -> str:
    """What a library that was built ahead says of itself: of which source, with which meaning of floats, for which dtype."""
    digest = hashlib.sha256("\n".join([SOURCE.read_text(encoding="utf-8"), *FLAGS]).encode()).hexdigest()
    return f"tet_deploy kernels {digest[:16]} {dtype}"


def _sealed(content: bytes) -> bytes:
    """A library with its checksum behind it, where no loader looks."""
    return content + hashlib.sha256(content).digest()


def _said(content: bytes) -> str | None:
    found = _MARK.search(content)
    return found and found[0].decode()


def with_compiler(make: Callable[[list[str]], _Made], options: Sequence[Sequence[str]] | None = None) -> _Made:
    """What `make` gives for the first command that the compiler can carry out.

    Raises
    ------
    MissingDependencyError
        No compiler, or none that can.
    """
    compiler = _compiler()
    complaint = ""
    for extras in NATIVE if options is None else options:
        try:
            return make([*compiler, *FLAGS, *extras])
        except (OSError, subprocess.CalledProcessError) as error:
            complaint = complaint or str(getattr(error, "stderr", None) or error).strip().split("\n")[-1]
    raise MissingDependencyError(f"neurons: {shlex.join(compiler)} cannot compile the C backend ({complaint}). {_WAY_OUT}")


def _compiler() -> list[str]:
    found = os.environ.get("CC") or next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if not found:
        raise MissingDependencyError(f"neurons: the C backend needs a C compiler, and none was found. {_WAY_OUT}")
    try:
        return shlex.split(found) or [found]
    except ValueError as error:
        raise MissingDependencyError(f"neurons: CC={found!r} is no command ({error}). {_WAY_OUT}") from error


def compiled(command: list[str], dtype: str) -> ctypes.CDLL:
    """The library for a dtype from the cache, or compiled into it.

    Its name tells source, flags, compiler and what this CPU can do.
    """
    command = [*command, *DEFINES[dtype]]
    macros = subprocess.run(
        [*command, "-dM", "-E", "-x", "c", os.devnull], check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL
    ).stdout
    identity = "\n".join([SOURCE.read_text(encoding="utf-8"), *command, macros])
    name = f"neurons-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.so"
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tet_deploy" / "compiled"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if _nobody_else_writes(folder.parent, 0o002) and _nobody_else_writes(folder, 0o022):
            return _load_or_compile(command, folder / name)
    except (OSError, ArtifactError):  # a cache that cannot be written, or from which nothing may be executed
        pass
    with tempfile.TemporaryDirectory(prefix="tet_deploy-") as private:
        return _load_or_compile(command, Path(private, name))


def _nobody_else_writes(path: Path, others: int) -> bool:
    """Whether what lies there is ours or the system's: it will be executed."""
    status = path.stat()
    return status.st_uid in (0, os.geteuid()) and not status.st_mode & others


def _load_or_compile(command: list[str], path: Path) -> ctypes.CDLL:
    if not path.exists() or not _nobody_else_writes(path, 0):
        with written_whole(path, BY_NAME) as temporary:
            print(
                f"tet_deploy: {command[0]} compiles the neurons' time loop, once for this machine and a few seconds; "
                f"{backends.VARIABLE}=torch does without a compiler, at about half the speed.",
                file=sys.stderr,
            )
            _compile(command, temporary)
    return ctypes.CDLL(str(path))


def _compile(command: list[str], path: Path) -> None:
    arguments = [*command, str(SOURCE), "-o", str(path), "-lm"]
    subprocess.run(arguments, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)
