"""Backends that a test runs on."""

import pytest

from tet_deploy.errors import MissingDependencyError
from tet_deploy.nn import use_backend


@pytest.fixture(scope="session")
def c_backend():
    """The C backend's name; it is compiled here, outside any test's time, or the test skipped without a compiler."""
    try:
        with use_backend("c"):
            return "c"
    except MissingDependencyError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session", params=["c", "torch"])
def backend(request):
    """The name of each backend that runs on a CPU."""
    return request.getfixturevalue("c_backend") if request.param == "c" else request.param
