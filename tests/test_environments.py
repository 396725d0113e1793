"""The oldest versions stand in pyproject.toml and nowhere else."""

import re
import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_every_requirement_has_a_floor_that_is_installed():
    """Each requirement says the oldest version, and `make test-floors` installs that one, or what constraints.txt pins."""
    text = (ROOT / "pyproject.toml").read_text()
    project = text[text.index("\ndependencies = ") : text.index("\ndev = ")]
    required = set(re.findall(r'"([a-z0-9-]+)[^\w\[-]', project)) - {"lava-nc"}  # one version of it is known, and required
    installed = {line.partition("==")[0] for line in runpy.run_path(str(ROOT / "tests/environments.py"))["floors"]()}
    assert {"numpy", "typer", "tonic", "onnxruntime", "pytest", "torch"} <= required
    assert installed == required - {"torch"}
