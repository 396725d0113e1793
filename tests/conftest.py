"""Fixtures that more than one area needs."""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import settings

from tet_deploy.errors import MissingDependencyError
from tet_deploy.runtimes.loihi.interpreter import LavaPython, find_lava_python

settings.register_profile("any machine", deadline=None)  # how long an example takes says how busy the machine is
settings.load_profile("any machine")

WEB = Path(__file__).parent / "exporters" / "web"
_FOREIGN_TESTS = Path(__file__).parent / "tracing" / "foreign"
_NEED = {  # what cannot be imported without a library; `make test-pythons` installs neither
    "torch": [
        "benchmarks",
        "experiments",
        "fuzz",
        "links",
        "models",
        "nn",
        *(
            f"test_{name}.py"
            for name in ("arguments", "examples", "file_kinds", "frames", "node_agreement", "normalization", "overwriting")
        ),
        "runtimes/test_torch_model.py",
        "tracing",
        "training",
        "versions/test_trainings.py",
    ],
    "tonic": [
        *(
            f"data/test_{name}.py"
            for name in ("aedat2", "catalogue", "digits", "event_camera", "event_files", "event_folder")
        ),
        *(f"data/test_{name}.py" for name in ("event_frames", "event_pipeline", "event_sets")),
    ],
    **{
        framework: [f"tracing/foreign/{path.name}" for path in sorted(_FOREIGN_TESTS.glob(f"test_{framework}*.py"))]
        for framework in ("spikingjelly", "snntorch")
    },
}
_FOREIGN = ("spikingjelly", "snntorch")  # frameworks whose networks we take, as of benchmarks/requirements.txt
_missing = [library for library in _NEED if find_spec(library) is None]
collect_ignore = [path for library in _missing for path in _NEED[library]]


def pytest_configure():
    """Frameworks that TET_DEPLOY_REQUIRE_FOREIGN=1 asks for must be there, beside torch; without it they have no tests."""
    lacking = [library for library in _FOREIGN if library in _missing and "torch" not in _missing]
    if lacking and os.environ.get("TET_DEPLOY_REQUIRE_FOREIGN") == "1":
        raise pytest.UsageError(
            f"TET_DEPLOY_REQUIRE_FOREIGN=1, but {' and '.join(lacking)} cannot be imported. "
            "Run: pip install --no-deps -r benchmarks/requirements.txt"
        )


def pytest_report_header():
    """Say what is left out."""
    return [f"without {library}, left out: {' '.join(_NEED[library])}" for library in _missing]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """Weights that a test draws of torch's own generator do not depend on the tests before it."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


def pytest_terminal_summary(terminalreporter, exitstatus, config):
    """Say how a run that failed is had again; pytest-randomly says it at the top, which `-q` leaves out."""
    seed = config.getoption("randomly_seed", None)
    if exitstatus and seed is not None:
        terminalreporter.write_line(f"The same order again: --randomly-seed={seed}")


@pytest.fixture(scope="session")
def lava_python() -> LavaPython:
    """The interpreter that runs Lava; without one the test is skipped, or fails where TET_DEPLOY_REQUIRE_LAVA=1."""
    try:
        return find_lava_python()
    except MissingDependencyError as error:
        if os.environ.get("TET_DEPLOY_REQUIRE_LAVA") == "1":
            pytest.fail(f"TET_DEPLOY_REQUIRE_LAVA=1, but {error}")
        pytest.skip(str(error))


def _without_web(why):
    """Skip, or fail where a web page is required."""
    (pytest.fail if os.environ.get("TET_DEPLOY_REQUIRE_WEB") else pytest.skip)(why)


@pytest.fixture(scope="session")
def in_web():
    """Runs a script of tests/exporters/web under node with a job, and gives what it told.

    npm puts its packages there, as the lock file says. One at a time, in whichever process: they share the folder.
    """
    import fcntl

    if shutil.which("node") is None or shutil.which("npm") is None:
        _without_web("needs node and npm")

    def run(*script, job=None):
        with (WEB / "package-lock.json").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            _install_web(lock.read())
            place = WEB / "node_modules" / ".browser"  # Chromium unpacks itself into the folder for temporary files
            place.mkdir(exist_ok=True)
            done = _node(["node", *script], input=json.dumps(job), env={**os.environ, "TMPDIR": str(place)})
        if done.returncode and "launch" in done.stderr:
            _without_web(f"Chromium does not start here: {done.stderr[-300:]}")
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    return run


def _install_web(wanted):
    ready = WEB / "node_modules" / ".ready"
    if not ready.exists() or ready.read_text() != wanted:
        done = _node(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"])
        if done.returncode:
            _without_web(f"npm could not install what tests/exporters/web/package-lock.json names: {done.stderr[-300:]}")
        ready.write_text(wanted)


def _node(command, **options):
    return subprocess.run(command, cwd=WEB, capture_output=True, text=True, timeout=300, **options)
