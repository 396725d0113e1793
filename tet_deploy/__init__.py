"""tet_deploy: spiking networks from TET training to Lava, ONNX and an exact energy count.

>>> import tet_deploy as td
>>> graph = td.trace(model, input_shape=(2, 20, 20), encoding="events")  # doctest: +SKIP
>>> int8 = td.quantize(td.lower(graph), calibration=frames)  # doctest: +SKIP
>>> td.validate(int8, frames, runtimes=["reference", "onnx", "lava"])  # doctest: +SKIP

Importing this package needs numpy only; each name below imports what it needs when it is first used.
"""

import importlib
from pathlib import Path as _Path
from typing import TYPE_CHECKING, Any

from tet_deploy._version import __version__

_root = _Path(__file__).resolve().parent.parent
if (_root / "pyproject.toml").is_file() and (_root / "exporters").is_dir():
    # A checkout: exporters/, runtimes/ and models/ stand beside this folder. In an installed wheel they lie inside it.
    __path__.append(str(_root))

if TYPE_CHECKING:
    from tet_deploy.chips.resources import map_resources
    from tet_deploy.contracts import Recording
    from tet_deploy.deployment import export
    from tet_deploy.errors import RangeWarning, TetDeployError, TetDeployWarning
    from tet_deploy.importing.nir.load import load_nir
    from tet_deploy.ir.artifact import load, save
    from tet_deploy.ir.graph import Graph
    from tet_deploy.links.comparing import compare
    from tet_deploy.links.diagnosing import diagnose
    from tet_deploy.network_report import report
    from tet_deploy.passes import lower
    from tet_deploy.passes.quantize import quantize
    from tet_deploy.passes.snap_to_grid import snap_frames
    from tet_deploy.pipeline import energy, run, validate
    from tet_deploy.stopping import EarlyStop, early_stop
    from tet_deploy.stream import Stream
    from tet_deploy.tracing.trace import trace
    from tet_deploy.training.named_checkpoints import load_checkpoint
    from tet_deploy.validation import Agreement

_HOMES = {
    "Agreement": "tet_deploy.validation",
    "EarlyStop": "tet_deploy.stopping",
    "Graph": "tet_deploy.ir.graph",
    "RangeWarning": "tet_deploy.errors",
    "Recording": "tet_deploy.contracts",
    "Stream": "tet_deploy.stream",
    "TetDeployError": "tet_deploy.errors",
    "TetDeployWarning": "tet_deploy.errors",
    "compare": "tet_deploy.links.comparing",
    "diagnose": "tet_deploy.links.diagnosing",
    "early_stop": "tet_deploy.stopping",
    "energy": "tet_deploy.pipeline",
    "export": "tet_deploy.deployment",
    "load": "tet_deploy.ir.artifact",
    "load_checkpoint": "tet_deploy.training.named_checkpoints",
    "load_nir": "tet_deploy.importing.nir.load",
    "lower": "tet_deploy.passes",
    "map_resources": "tet_deploy.chips.resources",
    "quantize": "tet_deploy.passes.quantize",
    "report": "tet_deploy.network_report",
    "run": "tet_deploy.pipeline",
    "save": "tet_deploy.ir.artifact",
    "snap_frames": "tet_deploy.passes.snap_to_grid",
    "trace": "tet_deploy.tracing.trace",
    "validate": "tet_deploy.pipeline",
}

__all__ = [
    "Agreement",
    "EarlyStop",
    "Graph",
    "RangeWarning",
    "Recording",
    "Stream",
    "TetDeployError",
    "TetDeployWarning",
    "__version__",
    "compare",
    "diagnose",
    "early_stop",
    "energy",
    "export",
    "load",
    "load_checkpoint",
    "load_nir",
    "lower",
    "map_resources",
    "quantize",
    "report",
    "run",
    "save",
    "snap_frames",
    "trace",
    "validate",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tet_deploy' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
