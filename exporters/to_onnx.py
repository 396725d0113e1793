"""Write a network as one ONNX file that runs for any number of steps and samples.

Input `frames` float32 [T, B, *shape]. Outputs `readout` [T, B, K] (float32, or int64 in units of 64 * scale), `logits`
[B, K] (float32, its mean over time in the float network's units), and for each probed LIF `<name>.spikes` uint8 and
`<name>.potentials` (float32 or int32, after the reset), both [T, B, *shape].
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from tet_deploy.errors import MissingDependencyError

try:
    import onnx
    from onnx import helper
except ModuleNotFoundError as error:
    raise MissingDependencyError(
        "exporting to ONNX needs the package onnx. Install it: pip install 'tet_deploy[onnx]'."
    ) from error

from tet_deploy._version import __version__
from tet_deploy.contracts import ProbeNames, Probes, populations, probe_names
from tet_deploy.exporters.onnx_builder import FRAMES, OnnxBuilder
from tet_deploy.exporters.onnx_float import add_float_network
from tet_deploy.exporters.onnx_integer import add_integer_network
from tet_deploy.exporters.onnx_neurons import DOMAIN, DOMAIN_VERSION, OPSET
from tet_deploy.files import written_whole
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.spec import DEPLOYABLE, check

FORMAT = 1  # of the metadata and of the names of inputs and outputs; the ONNX runtime reads it
IR_VERSION = 10  # with opset 21: onnx 1.16, ONNX Runtime 1.18 and later


def to_onnx(graph: Graph, path: str | os.PathLike[str], *, probes: Probes = "none") -> Path:
    """Write a deployable network, float or quantized, to an ONNX file, whole or not at all.

    Parameters
    ----------
    graph
        The network.
    path
        The file to write.
    probes
        LIF nodes whose spikes and membrane potentials become outputs: "all", "spikes", "none" or names. A runtime computes
        those that it is asked for only, but potentials that are outputs always cost memory.

    Returns
    -------
    Path
        The file, equal byte for byte for equal networks. Its metadata_props say where it came from.

    Raises
    ------
    GraphError
        The network is not deployable, or holds a node or an integer that has no exact ONNX form.
    ArtifactError
        The folder does not exist or cannot be written.

    Examples
    --------
    >>> to_onnx(graph, "net.onnx", probes="all")  # doctest: +SKIP
    >>> OnnxRuntime("net.onnx").run(frames).decisions  # doctest: +SKIP
    """
    check(graph, DEPLOYABLE)
    model = _model(graph, probe_names(populations(graph), probes))
    onnx.checker.check_model(model, full_check=True)
    with written_whole(path) as temporary:
        temporary.write_bytes(model.SerializeToString(deterministic=True))
    return Path(path)


def _model(graph: Graph, probes: ProbeNames) -> onnx.ModelProto:
    build = OnnxBuilder()
    add_network = add_integer_network if graph.is_quantized else add_float_network
    add_network(build, graph, probes)
    frames = helper.make_tensor_value_info(FRAMES, onnx.TensorProto.FLOAT, ["T", "B", *graph.input.shape])
    model = helper.make_model(
        helper.make_graph(build.nodes, "network", [frames], build.outputs, list(build.constants.values())),
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, DOMAIN_VERSION)],
        functions=list(build.functions.values()),
        ir_version=IR_VERSION,
        producer_name="tet_deploy",
        producer_version=__version__,
    )
    helper.set_model_props(model, _provenance(graph))
    return model


def _provenance(graph: Graph) -> dict[str, str]:
    """What the runtime needs to know, and where the network came from."""
    shapes = {name: list(graph.shapes[name]) for name in populations(graph)}
    return {
        "tet_deploy.format": str(FORMAT),
        "tet_deploy.version": __version__,
        "tet_deploy.graph_digest": graph.digest(),
        "tet_deploy.input": json.dumps({"shape": list(graph.input.shape), "encoding": graph.input.encoding}),
        "tet_deploy.populations": json.dumps(shapes),
        "tet_deploy.metadata": json.dumps(dict(graph.metadata), sort_keys=True),
    }
