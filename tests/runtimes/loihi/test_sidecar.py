import shutil
import subprocess
from pathlib import Path

import pytest

from tet_deploy.errors import ArtifactError, MissingDependencyError
from tet_deploy.runtimes.loihi import sidecar
from tet_deploy.runtimes.loihi.interpreter import VARIABLE
from tet_deploy.runtimes.loihi.sidecar import find_python310, setup_sidecar

PLAIN = """echo '{"python": "3.10", "error": "ModuleNotFoundError: no lava"}'"""
WITH_LAVA = """echo '{"python": "3.10", "lava": "0.10.0", "numpy": "1.26.4"}'"""
FAILING_SHIM = "exit 127"
# Stands for CPython 3.10: `-m venv FOLDER` makes an environment whose `-m pip install` brings Lava.
INSTALLER = f"""
if [ "$2" = venv ]; then
    mkdir -p "$3/bin"; touch "$3/pyvenv.cfg"; cp "$0" "$3/bin/python"
elif [ "$2" = pip ]; then
    echo "$@" >> "$(dirname "$0")/../installed"; touch "$(dirname "$0")/has-lava"
elif [ -e "$(dirname "$0")/has-lava" ]; then {WITH_LAVA}
else {PLAIN}
fi
"""


def script(path: Path, body: str) -> Path:
    """A program that stands for an interpreter."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A machine without a 3.10: PATH holds the shell's tools, home and pyenv are empty folders."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(
        sidecar, "sys", type("sys", (), {"version_info": (3, 12), "executable": str(tmp_path / "none" / "python")})
    )
    for tool in ("sh", "mkdir", "touch", "cp", "dirname"):
        (tmp_path / "path").mkdir(exist_ok=True)
        (tmp_path / "path" / tool).symlink_to(shutil.which(tool, path="/usr/bin:/bin"))
    return tmp_path


def test_a_shim_that_fails_fools_nobody(bare):
    """A python3.10 on PATH that fails when run is passed over; pyenv's own versions are found."""
    script(bare / "path" / "python3.10", FAILING_SHIM)
    script(bare / "pyenv" / "versions" / "3.10.4" / "bin" / "python", FAILING_SHIM)
    good = script(bare / "pyenv" / "versions" / "3.10.13" / "bin" / "python", PLAIN)
    script(bare / "pyenv" / "versions" / "3.11.2" / "bin" / "python", PLAIN)
    assert find_python310() == good


@pytest.mark.parametrize(
    "place", ["path/python3.10", "pyenv/versions/3.10.1/bin/python", "home/.pyenv/versions/3.10.1/bin/python"]
)
def test_every_place_is_searched(bare, place):
    """PATH, PYENV_ROOT and ~/.pyenv."""
    path = script(bare / place, PLAIN)
    assert find_python310() == path


def test_the_variable_comes_first(bare, monkeypatch):
    """The interpreter that the variable names is taken, with or without Lava."""
    script(bare / "path" / "python3.10", PLAIN)
    named = script(bare / "named", PLAIN)
    monkeypatch.setenv(VARIABLE, str(named))
    assert find_python310() == named


def test_uv_brings_one(bare):
    """Without any 3.10, uv is asked to install one."""
    brought = bare / "uv" / "python"
    script(brought, PLAIN)
    script(bare / "path" / "uv", f'if [ "$2" = find ]; then echo {brought}; fi')
    said = []
    assert find_python310(said.append) == brought
    assert said == ["No CPython 3.10 here; asking uv for one"]


@pytest.mark.parametrize("uv", [None, "exit 1", "echo /nowhere/python"])
def test_nothing_found_says_how_to_get_it(bare, uv):
    """Where uv is missing or fails too, the error says in short what to install."""
    if uv:
        script(bare / "path" / "uv", uv)
    with pytest.raises(MissingDependencyError, match=r"needs a CPython 3\.10.*uv python install 3\.10") as caught:
        find_python310(lambda line: None)
    assert len(str(caught.value).splitlines()) <= 3


def test_a_sidecar_is_built_once(bare):
    """A missing, an empty and a half-built folder are built; a complete one, and what is not its own, stay as they are."""
    script(bare / "path" / "python3.10", INSTALLER)
    folder, said = bare / "cache" / "lava", []
    found = setup_sidecar(folder, said.append)
    assert (found.path, found.lava) == (folder / "bin" / "python", "0.10.0")
    assert "lava-nc==0.10.0 numpy==1.26.4" in (folder / "installed").read_text()
    assert len(said) == 2
    assert setup_sidecar(folder, said.append) == found
    assert len(said) == 2, "a complete sidecar is not built again"
    (folder / sidecar._COMPLETE).rename(folder / sidecar._BEGUN)
    (folder / "bin" / "stale").touch()
    (folder / "notes.txt").write_text("mine")
    setup_sidecar(folder, said.append)
    assert len(said) == 4
    assert not (folder / "bin" / "stale").exists()
    assert (folder / "notes.txt").read_text() == "mine"
    (folder / "bin" / "has-lava").unlink()
    setup_sidecar(folder, said.append)
    assert len(said) == 6, "a sidecar that lost its Lava is built again"


def test_other_folders_are_left_alone(bare):
    """A folder that holds something else is not turned into a sidecar, least of all the user's own environment."""
    script(bare / "path" / "python3.10", INSTALLER)
    subprocess.run([bare / "path" / "python3.10", "-m", "venv", bare / ".venv"], check=True)
    before = sorted((bare / ".venv").rglob("*"))
    with pytest.raises(ArtifactError, match="was not set up by tet_deploy"):
        setup_sidecar(bare / ".venv")
    assert sorted((bare / ".venv").rglob("*")) == before
    (bare / "mine").mkdir()
    (bare / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(ArtifactError, match="was not set up by tet_deploy"):
        setup_sidecar(bare / "mine")
    assert (bare / "mine" / "notes.txt").read_text() == "keep"
    with pytest.raises(ArtifactError, match="was not set up by tet_deploy"):
        setup_sidecar(bare / "mine" / "notes.txt")
    with pytest.raises(ArtifactError, match="cannot be written"):
        setup_sidecar(bare / "mine" / "notes.txt" / "below")


def test_a_failed_installation_is_short_and_repeated(bare):
    """When pip fails the error shows its last words; the next attempt starts afresh."""
    broken = INSTALLER.replace('echo "$@" >>', "echo 'ERROR: no network' >&2; exit 1; echo")
    script(bare / "path" / "python3.10", broken)
    with pytest.raises(MissingDependencyError, match="ERROR: no network") as caught:
        setup_sidecar(bare / "lava", lambda line: None)
    assert len(str(caught.value).splitlines()) <= 3
    script(bare / "path" / "python3.10", INSTALLER)
    assert setup_sidecar(bare / "lava", lambda line: None).lava == "0.10.0"
