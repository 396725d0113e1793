"""Layers for training spiking networks with torch, time-major: [T, B, ...]."""

from tet_deploy.errors import MissingDependencyError

try:
    import torch  # noqa: F401  # models, training and tracing import this package first: here they hear what to install
except ModuleNotFoundError as error:
    raise MissingDependencyError("models, training and tracing need torch. Run: pip install 'tet-deploy[train]'") from error

from tet_deploy.nn.backends import use_backend
from tet_deploy.nn.fire_sum import fire_sum
from tet_deploy.nn.lif import LIF, lif
from tet_deploy.nn.lif_by_steps import lif_by_steps
from tet_deploy.nn.sequence import sees_time
from tet_deploy.nn.surrogate import surrogate_gradient
from tet_deploy.nn.time_major import TimeMajor

__all__ = ["LIF", "TimeMajor", "fire_sum", "lif", "lif_by_steps", "sees_time", "surrogate_gradient", "use_backend"]
