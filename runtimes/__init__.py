"""Runtimes by name: each executes one deployed form of a network."""

from typing import NamedTuple


class RuntimeEntry(NamedTuple):
    """Where a runtime lives and what it executes."""

    location: str  # "module:class", imported on use so that each needs its own libraries only
    form: str  # "graph", or the name of the exporter whose output it executes


RUNTIMES = {
    "reference": RuntimeEntry("tet_deploy.runtimes.reference:ReferenceRuntime", "graph"),
    "onnx": RuntimeEntry("tet_deploy.runtimes.onnx_session:OnnxRuntime", "onnx"),
    "lava": RuntimeEntry("tet_deploy.runtimes.loihi.session:LavaRuntime", "lava"),
    "lava-numpy": RuntimeEntry("tet_deploy.runtimes.loihi.session:LavaNumpyRuntime", "lava"),
}
TORCH_MODEL = "tet_deploy.runtimes.torch_model:TorchRuntime"  # in no table: it runs no graph, it is a network itself
