"""Fixtures that more than one area needs."""

import os

import pytest

from tet_deploy.errors import MissingDependencyError
from tet_deploy.runtimes.loihi.interpreter import LavaPython, find_lava_python


@pytest.fixture(scope="session")
def lava_python() -> LavaPython:
    """The interpreter that runs Lava; without one the test is skipped, or fails where TET_DEPLOY_REQUIRE_LAVA=1."""
    try:
        return find_lava_python()
    except MissingDependencyError as error:
        if os.environ.get("TET_DEPLOY_REQUIRE_LAVA") == "1":
            pytest.fail(f"TET_DEPLOY_REQUIRE_LAVA=1, but {error}")
        pytest.skip(str(error))
