"""What is installed, which Lava Python was found, and whether it computes what we prove."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tet_deploy import terminal
from tet_deploy._version import __version__
from tet_deploy.errors import TetDeployError
from tet_deploy.layout import Table
from tet_deploy.runtimes.loihi.interpreter import LavaPython, find_lava_python, sidecar_folders
from tet_deploy.runtimes.loihi.sidecar import setup_sidecar

PACKAGES = {  # distribution -> the extra that brings it; "" for what every installation has
    "numpy": "",
    "safetensors": "",
    "torch": "train",
    "scikit-learn": "digits",
    "tonic": "events",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "matplotlib": "report",
    "jinja2": "report",
    "h5py": "nir",
}


@dataclass(kw_only=True)
class Examination:
    """What was found; `self_test` is what the Lava Python computed, or None if it was not asked."""

    versions: dict[str, str]
    missing: dict[str, str]
    lava: LavaPython | None = None
    lava_problem: str | None = None
    self_test: dict[str, Any] | None = field(default=None)

    @property
    def lava_works(self) -> bool:
        """Whether a Lava Python was found and nothing went wrong with it."""
        return self.lava is not None and self.lava_problem is None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for --json."""
        lava = self.lava and {**vars(self.lava), "path": str(self.lava.path)}
        return {
            "versions": self.versions,
            "missing": self.missing,
            "lava": lava,
            "lava_problem": self.lava_problem,
            "self_test": self.self_test,
        }

    def show(self, *, quiet: bool = False) -> None:
        """Print it; quietly, only what is wrong."""
        if not quiet:
            missing = [(name, f"missing: pip install 'tet-deploy[{extra}]'") for name, extra in self.missing.items()]
            terminal.say(Table("Installed", ("package", "version"), [*self.versions.items(), *missing], text=("version",)))
            if self.lava:
                terminal.say(
                    f"Lava: lava-nc {self.lava.lava}, numpy {self.lava.numpy} in {self.lava.path} ({self.lava.origin})"
                )
            if self.self_test:
                summary = ", ".join(f"{name} {value}" for name, value in self.self_test.items())
                terminal.say(f"Self-test: {summary}")
        if self.lava_problem:
            terminal.say(self.lava_problem)


def versions() -> dict[str, str]:
    """Versions of the interpreter, of tet_deploy and of the libraries that are installed."""
    found = {"python": platform.python_version(), "tet-deploy": __version__}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def examine(
    *, setup_lava: bool = False, into: Path | None = None, self_test: bool = True, quiet: bool = False
) -> Examination:
    """Look at the installation.

    Parameters
    ----------
    setup_lava
        Build a Lava Python if there is none.
    into
        Folder in which to have one, whatever others there are; by default, if there is none, the user's cache folder.
    self_test
        Run a tiny network through real Lava, with its own and with our process models, and compare.
    quiet
        Do not say what is being built.
    """
    found = versions()
    result = Examination(versions=found, missing={name: extra for name, extra in PACKAGES.items() if name not in found})
    try:
        result.lava = _lava_python(setup_lava, into, quiet)
        if self_test:
            result.self_test = _self_test(result.lava)
    except TetDeployError as error:
        result.lava_problem = str(error)
    return result


def _lava_python(setup_lava: bool, into: Path | None, quiet: bool) -> LavaPython:
    if not setup_lava:
        return find_lava_python()
    if into is None:
        with contextlib.suppress(TetDeployError):
            return find_lava_python()
    log = (lambda line: None) if quiet else terminal.tell
    return setup_sidecar(into or sidecar_folders()[-1], log=log)


def _self_test(python: LavaPython) -> dict[str, Any]:
    from tet_deploy.runtimes.loihi.self_test import self_test

    with terminal.progress_bar("self-test of Lava"):
        return self_test(python)
