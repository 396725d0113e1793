"""Find an interpreter that can run Lava, or set one up. lava-nc 0.10 needs CPython 3.10.

In order: the one that TET_DEPLOY_LAVA_PYTHON names (unless it is a 3.10 without Lava: that is one to build a sidecar
from); this one, if it is a 3.10 with Lava; the sidecar of a checkout, .venv-lava; the sidecar in the user's cache folder.
Every candidate is run and asked, never believed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tet_deploy.errors import MissingDependencyError

VARIABLE = "TET_DEPLOY_LAVA_PYTHON"
LAVA_VERSION = "0.10.0"
NUMPY_VERSION = "1.26.4"
NO_LINUX = "is run on Linux alone. Use the runtime lava-numpy: the same bundle and the same integers without Lava."
_SECONDS = 60.0  # a cold disk is slow
_good_answers: dict[
    tuple[Path, int], dict[str, str]
] = {}  # asking takes most of a second; a file that changed is asked again
_QUESTION = """
import json, sys
answer = {"python": "%d.%d" % sys.version_info[:2]}
try:
    import importlib.metadata, lava.magma.compiler.compiler, lava.proc.conv.process, numpy
    answer.update(lava=importlib.metadata.version("lava-nc"), numpy=numpy.__version__)
except Exception as error:
    answer["error"] = "%s: %s" % (type(error).__name__, error)
print(json.dumps(answer))
"""


@dataclass(frozen=True)
class LavaPython:
    """An interpreter that runs Lava: where it is, its Lava's and numpy's versions, and why it was chosen."""

    path: Path
    lava: str
    numpy: str
    origin: str


def find_lava_python() -> LavaPython:
    """The first interpreter that runs Lava.

    Raises
    ------
    MissingDependencyError
        None does, or the one that the variable names does not, or this is no Linux.
    """
    if sys.platform != "linux":
        raise MissingDependencyError(f"Lava: {NO_LINUX}")
    named = os.environ.get(VARIABLE)
    candidates = [(sidecar_python(folder), "sidecar") for folder in sidecar_folders()]
    if named and not _is_bare_python310(Path(named)):
        return check_lava_python(Path(named), origin=VARIABLE)
    if sys.version_info[:2] == (3, 10):
        candidates.insert(0, (Path(sys.executable), "this interpreter"))
    for path, origin in candidates:
        if path.exists():
            found = _lava_python(path, origin)
            if isinstance(found, LavaPython):
                return found
    if named:
        return check_lava_python(Path(named), origin=VARIABLE)
    raise MissingDependencyError(
        f"Lava: needs CPython 3.10 with lava-nc {LAVA_VERSION}; none was found. "
        f"Run `tet-deploy doctor --setup-lava`, or set {VARIABLE} to such an interpreter; "
        "the runtime lava-numpy gives a bundle's integers without it."
    )


def _is_bare_python310(path: Path) -> bool:
    """Whether an interpreter is a 3.10 without Lava: one to build a sidecar from, not to run Lava in."""
    answer = ask(path)
    return answer.get("python") == "3.10" and "lava" not in answer


def check_lava_python(path: Path, origin: str = "given") -> LavaPython:
    """The interpreter at `path`, after asking it.

    Raises
    ------
    MissingDependencyError
        It does not run, is no 3.10, or has no Lava.
    """
    found = _lava_python(Path(shutil.which(path) or path).absolute(), origin)
    if isinstance(found, LavaPython):
        return found
    name = f"{VARIABLE}={path}" if origin == VARIABLE else str(path)
    raise MissingDependencyError(
        f"{name}: must be a CPython 3.10 with lava-nc {LAVA_VERSION}; {found}. "
        "Run `tet-deploy doctor --setup-lava`, or name another interpreter."
    )


def sidecar_folders() -> list[Path]:
    """Where a sidecar may lie: in the checkout, if this is one, and in the user's cache folder."""
    root = Path(__file__).resolve().parents[2]
    checkout = [root / ".venv-lava"] if (root / "pyproject.toml").is_file() and (root / "exporters").is_dir() else []
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return [*checkout, cache / "tet_deploy" / f"lava-{LAVA_VERSION}"]


def sidecar_python(folder: Path) -> Path:
    """Interpreter of the virtual environment in a folder."""
    return folder / "bin" / "python"


def ask(path: Path) -> dict[str, str]:
    """What an interpreter says about itself: "python", then "lava" and "numpy", or an "error"."""
    try:
        # -E and the folder: neither the caller's PYTHONPATH nor a folder called lava must be taken for the library.
        answer = subprocess.run(
            [str(path.absolute()), "-E", "-c", _QUESTION],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            stdin=subprocess.DEVNULL,
            cwd=os.sep,
        )
        if answer.returncode == 0:
            return {key: str(value) for key, value in json.loads(answer.stdout.splitlines()[-1]).items()}
        said = (answer.stderr.strip().splitlines() or ["no message"])[-1]
        return {"error": f"it ended with exit code {answer.returncode}: {said:.200}"}
    except OSError as error:
        return {"error": f"it cannot be run: {error.strerror}"}
    except subprocess.TimeoutExpired:
        return {"error": f"it gave no answer in {_SECONDS:g} s"}
    except (ValueError, IndexError, AttributeError):
        return {"error": "it is no Python interpreter"}


def _lava_python(path: Path, origin: str) -> LavaPython | str:
    """The interpreter, or what is wrong with it."""
    key = (path, path.stat().st_mtime_ns if path.exists() else 0)
    if key not in _good_answers:
        answer = ask(path)
        problem = _problem(answer)
        if problem:
            return problem
        _good_answers[key] = answer
    return LavaPython(path, _good_answers[key]["lava"], _good_answers[key]["numpy"], origin)


def _problem(answer: dict[str, str]) -> str:
    """Why an interpreter with this answer cannot run Lava; empty if it can."""
    version = answer.get("python")
    if version is not None and version != "3.10":
        return f"it is Python {version}"
    if "lava" not in answer:
        error = answer.get("error", "it is no Python interpreter")
        return f"it has no Lava: {error}" if version else error
    if not answer["lava"].startswith("0.10."):
        return f"it has lava-nc {answer['lava']}"
    return ""
