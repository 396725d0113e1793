import sys
from pathlib import Path

import pytest

from tet_deploy.errors import MissingDependencyError
from tet_deploy.runtimes.loihi import interpreter
from tet_deploy.runtimes.loihi.interpreter import check_lava_python, find_lava_python

GOOD = """echo '{"python": "3.10", "lava": "0.10.0", "numpy": "1.26.4"}'"""
FAILING_SHIM = 'echo "pyenv: python3.10: command not found" >&2; exit 127'


def script(path: Path, body: str) -> Path:
    """A program that stands for an interpreter and answers as `body` says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """No variable, no checkout, an empty cache folder."""
    monkeypatch.delenv(interpreter.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(
        interpreter, "__file__", str(tmp_path / "site" / "tet_deploy" / "runtimes" / "loihi" / "interpreter.py")
    )
    return tmp_path / "cache" / "tet_deploy" / "lava-0.10.0"


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("""echo '{"python": "3.11", "error": "irrelevant"}'""", "it is Python 3.11"),
        (
            """echo '{"python": "3.10", "error": "ModuleNotFoundError: No module named lava"}'""",
            "it has no Lava: ModuleNotFound",
        ),
        ("""echo '{"python": "3.10", "lava": "0.9.0", "numpy": "1.26.4"}'""", "it has lava-nc 0.9.0"),
        (FAILING_SHIM, "exit code 127: pyenv: python3.10: command not found"),
        ("echo hello", "it is no Python interpreter"),
        ("true", "it is no Python interpreter"),
        ("echo 7", "it is no Python interpreter"),
    ],
)
def test_an_interpreter_that_cannot_run_lava_is_refused(tmp_path, elsewhere, monkeypatch, body, complaint):
    """The interpreter that the variable names is run and asked; a wrong one gives a short error with the way out."""
    path = script(tmp_path / "python", body)
    monkeypatch.setenv(interpreter.VARIABLE, str(path))
    with pytest.raises(
        MissingDependencyError, match=f"TET_DEPLOY_LAVA_PYTHON={path}: must be a CPython 3.10.*{complaint}"
    ) as caught:
        find_lava_python()
    assert "doctor --setup-lava" in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 3


def test_a_named_310_without_lava_gives_way_to_the_sidecar_built_from_it(tmp_path, elsewhere, monkeypatch):
    """TET_DEPLOY_LAVA_PYTHON may name a bare 3.10: once a sidecar stands, that is taken."""
    bare = script(
        tmp_path / "python3.10", """echo '{"python": "3.10", "error": "ModuleNotFoundError: No module named lava"}'"""
    )
    monkeypatch.setenv(interpreter.VARIABLE, str(bare))
    sidecar = elsewhere / "bin" / "python"
    sidecar.parent.mkdir(parents=True)
    script(sidecar, """echo '{"python": "3.10", "lava": "0.10.0", "numpy": "1.26.4"}'""")
    assert find_lava_python().path == sidecar


def test_a_path_that_is_no_program_is_refused(tmp_path):
    """A missing file and a folder are refused like a wrong interpreter."""
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(MissingDependencyError, match="it cannot be run"):
            check_lava_python(path)


@pytest.mark.skipif(sys.version_info[:2] == (3, 10), reason="a 3.10 may have Lava itself")
def test_this_interpreter_is_refused():
    """A real Python that is no 3.10 is refused."""
    with pytest.raises(MissingDependencyError, match=f"it is Python 3.{sys.version_info[1]}"):
        check_lava_python(Path(sys.executable))


def test_the_variable_comes_first(elsewhere, tmp_path, monkeypatch):
    """The variable wins over every sidecar."""
    script(elsewhere / "bin" / "python", GOOD)
    named = script(tmp_path / "named", GOOD)
    monkeypatch.setenv(interpreter.VARIABLE, str(named))
    assert (find_lava_python().path, find_lava_python().origin) == (named, interpreter.VARIABLE)


@pytest.mark.skipif(sys.version_info[:2] == (3, 10), reason="a 3.10 with Lava is used in place")
def test_sidecars_are_tried_in_order(elsewhere, tmp_path):
    """In a checkout its own sidecar comes before that of the cache folder; one that fails is passed over."""
    cached = script(elsewhere / "bin" / "python", GOOD)
    assert find_lava_python() == interpreter.LavaPython(cached, "0.10.0", "1.26.4", "sidecar")
    root = tmp_path / "site" / "tet_deploy"
    (root / "exporters").mkdir(parents=True)
    own = script(root / ".venv-lava" / "bin" / "python", GOOD)
    assert find_lava_python().path == cached, "an installed package is no checkout"
    (root / "pyproject.toml").touch()
    assert find_lava_python().path == own
    script(own, FAILING_SHIM)
    assert find_lava_python().path == cached


@pytest.mark.skipif(sys.version_info[:2] == (3, 10), reason="a 3.10 with Lava is used in place")
def test_nothing_found_says_how_to_get_it(elsewhere):
    """Without any candidate the error names the command that sets one up."""
    with pytest.raises(MissingDependencyError, match=r"none was found\. Run `tet-deploy doctor --setup-lava`.*lava-numpy"):
        find_lava_python()


def test_the_real_one_answers(lava_python):
    """The interpreter that the other tests use says what it is."""
    assert lava_python.lava == "0.10.0"
    assert check_lava_python(lava_python.path).numpy == lava_python.numpy
