"""Fixtures that more than one area needs."""

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

from tet_deploy.errors import MissingDependencyError
from tet_deploy.runtimes.loihi.interpreter import LavaPython, find_lava_python

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


@pytest.fixture(scope="session")
def lava_python() -> LavaPython:
    """The interpreter that runs Lava; without one the test is skipped, or fails where TET_DEPLOY_REQUIRE_LAVA=1."""
    try:
        return find_lava_python()
    except MissingDependencyError as error:
        if os.environ.get("TET_DEPLOY_REQUIRE_LAVA") == "1":
            pytest.fail(f"TET_DEPLOY_REQUIRE_LAVA=1, but {error}")
        pytest.skip(str(error))
