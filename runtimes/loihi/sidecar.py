"""Set up a sidecar: a virtual environment of CPython 3.10 that holds Lava and nothing else of ours."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tet_deploy.errors import ArtifactError, MissingDependencyError
from tet_deploy.runtimes.loihi.interpreter import (
    LAVA_VERSION,
    NUMPY_VERSION,
    VARIABLE,
    LavaPython,
    ask,
    check_lava_python,
    sidecar_python,
)

Log = Callable[[str], None]
_BEGUN, _COMPLETE = "tet_deploy-begun", "tet_deploy-complete"  # written first and last: a folder with neither is not ours
_OF_AN_ENVIRONMENT = ("bin", "include", "lib", "lib64", "share", "pyvenv.cfg", ".gitignore", _COMPLETE)
_REQUIREMENTS = (f"lava-nc=={LAVA_VERSION}", f"numpy=={NUMPY_VERSION}")


def setup_sidecar(folder: Path, log: Log = print) -> LavaPython:
    """Build a sidecar in a folder, unless a complete one stands there.

    Parameters
    ----------
    folder
        Absent, empty, or a sidecar, which is rebuilt if it was left half built or no longer runs Lava: what belongs to a
        virtual environment is removed, the rest stays. It is built in place, as virtual environments cannot be moved.
    log
        Called with one line before each part that takes long.

    Raises
    ------
    MissingDependencyError
        No CPython 3.10 can be had, or Lava cannot be installed.
    ArtifactError
        Something else stands in the folder, or it cannot be written.
    """
    folder = Path(folder)
    if (folder / _COMPLETE).exists() and "lava" in ask(sidecar_python(folder)):
        return check_lava_python(sidecar_python(folder), origin="sidecar")
    empty = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    if not empty and not any((folder / marker).is_file() for marker in (_BEGUN, _COMPLETE)):
        raise ArtifactError(f"{folder}: exists and was not set up by tet_deploy. Remove it or choose another folder.")
    python = find_python310(log)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _BEGUN).touch()
        _remove_environment(folder)
    except OSError as error:
        raise ArtifactError(f"{folder}: cannot be written: {error.strerror or error}. Choose another folder.") from error
    log(f"Making a virtual environment of {python} in {folder}")
    _command([str(python), "-m", "venv", str(folder)])
    log(f"Installing {' and '.join(_REQUIREMENTS)}")
    _command([str(sidecar_python(folder)), "-m", "pip", "install", "--disable-pip-version-check", *_REQUIREMENTS])
    found = check_lava_python(sidecar_python(folder), origin="sidecar")
    (folder / _COMPLETE).write_text("\n".join(_REQUIREMENTS) + "\n", encoding="utf-8")
    (folder / _BEGUN).unlink()
    return found


def _remove_environment(folder: Path) -> None:
    for path in (folder / name for name in _OF_AN_ENVIRONMENT):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def find_python310(log: Log = print) -> Path:
    """A CPython 3.10 that runs, installed through uv where there is no other.

    Raises
    ------
    MissingDependencyError
        There is none, and uv cannot bring one.
    """
    named = os.environ.get(VARIABLE)
    python = find_python("3.10", *([Path(shutil.which(named) or named)] if named else []))
    if python is None:
        log("No CPython 3.10 here; asking uv for one")
        python = _python_from_uv()
    if python is None:
        raise MissingDependencyError(
            f"Lava: needs a CPython 3.10; none was found and uv could not install one. Install it "
            f"(`uv python install 3.10` or `pyenv install 3.10`), or set {VARIABLE} to one."
        )
    return python


def find_python(version: str, *first: Path) -> Path | None:
    """A CPython of a version such as "3.10" that runs: of those given, this one, or on PATH or among pyenv's; else None."""
    return next((path for path in (*first, *_pythons(version)) if ask(path).get("python") == version), None)


def _pythons(version: str) -> Iterator[Path]:
    """Interpreters that may be of a version. A pyenv shim may be among them that fails when it is run."""
    if version == "{}.{}".format(*sys.version_info[:2]):
        yield Path(sys.executable)
    for folder in os.get_exec_path():
        path = Path(folder) / f"python{version}"
        if path.is_file():
            yield path
    roots = [Path(os.environ["PYENV_ROOT"])] if os.environ.get("PYENV_ROOT") else []
    for root in [*roots, Path.home() / ".pyenv"]:
        yield from sorted(root.glob(f"versions/{version}.*/bin/python"))


def _python_from_uv() -> Path | None:
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    with tempfile.TemporaryDirectory(prefix="tet-deploy-uv-") as folder:
        try:
            if uv is None:  # a copy for this once: the user's environment stays as it is
                _command([sys.executable, "-m", "pip", "install", "--quiet", "--target", folder, "uv"])
                uv = str(Path(folder) / "bin" / "uv")
            _command([uv, "python", "install", "3.10"])
            path = Path(_command([uv, "python", "find", "--managed-python", "3.10"]).strip())
        except MissingDependencyError:
            return None
    return path if ask(path).get("python") == "3.10" else None


def _command(command: list[str]) -> str:
    """Output of a command."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise MissingDependencyError(f"{command[0]}: cannot be run: {error.strerror}.") from error
    if done.returncode:
        said = " | ".join((done.stderr or done.stdout).strip().splitlines()[-2:])
        raise MissingDependencyError(f"`{' '.join(command[:4])} ...` failed: {said:.300}. Repeat it by hand to see why.")
    return done.stdout
