"""From a torch model to a graph."""

import tet_deploy.nn  # noqa: F401  # first: it says what to install where torch is missing
from tet_deploy.tracing.trace import trace

__all__ = ["trace"]
