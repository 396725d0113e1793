"""Write a network as one ONNX file that runs for any number of steps and samples.

Input `frames` float32 [T, B, *shape]. Outputs `readout` [T, B, K] (float32, or int64 in units of 64 * scale), `logits`
[B, K] (float32, its mean over time in the float network's units), and for each probed LIF `<name>.spikes` uint8 and
`<name>.potentials` (float32 or int32, after the reset), both [T, B, *shape]. Every other value's name begins with a slash.
The metadata entry `tet_deploy.sha256` is the SHA-256 of the file with 64 zeros in its place.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from tet_deploy.arguments import flag, whole
from tet_deploy.errors import MissingDependencyError

try:
    import onnx
    from onnx import helper
except ModuleNotFoundError as error:
    raise MissingDependencyError(
        "exporting to ONNX needs the package onnx. Install it: pip install 'tet-deploy[onnx]'."
    ) from error

from tet_deploy._version import __version__
from tet_deploy.contracts import ProbeNames, Probes, populations, probe_names
from tet_deploy.exporters.onnx_builder import OnnxBuilder
from tet_deploy.exporters.onnx_float import add_float_network
from tet_deploy.exporters.onnx_integer import add_integer_network
from tet_deploy.exporters.onnx_scan import DOMAIN, DOMAIN_VERSION, OPSET
from tet_deploy.exporters.onnx_texts import explain, for_others, metadata_for_people
from tet_deploy.files import written_whole
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.spec import DEPLOYABLE, check
from tet_deploy.onnx_file import FRAMES, ONNX_FILE, metadata_of, sealed

OLDEST_OPSET = 17


def to_onnx(
    graph: Graph,
    path: str | os.PathLike[str],
    *,
    probes: Probes = "none",
    stream: bool = False,
    states: bool = False,
    ranges: bool = False,
    opset: int = OPSET,
    licence: str = "",
    classes: Sequence[str] = (),
) -> Path:
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
    stream
        Write the graph of a step: each population's membrane potential, synaptic current and a leaky readout's get an
        input `<name>.before` and an output `<name>.after`, [B, *shape], so that a run goes on where another ended. This is
        what `td.Stream(path)` and `OnnxRuntime.step` need; whole runs work as before.
    states
        The same, by its earlier name.
    ranges
        Add outputs `<name>.wrapped` and `<name>.saturated`, int64 [T, B], where values can leave the chip's range.
    opset
        The version of ONNX's operators that the file uses, from 17 to the newest that the package onnx knows.
    licence
        Under which others may use the network, for the metadata.
    classes
        Names of the classes in the order of the readout, for the metadata and the doc strings.

    Returns
    -------
    Path
        The file, equal byte for byte for equal networks. Its metadata_props say where it came from, and hold a checksum
        of the whole file, which our runtime verifies.

    Raises
    ------
    ArgumentError
        An opset, licence or class names that cannot be.
    GraphError
        The network is not deployable, or holds a node or an integer that has no exact ONNX form.
    ArtifactError
        The folder does not exist or cannot be written, or another kind of file lies there.

    Examples
    --------
    >>> to_onnx(graph, "net.onnx", probes="all").name
    'net.onnx'
    >>> from tet_deploy.runtimes.onnx_session import OnnxRuntime
    >>> OnnxRuntime("net.onnx").run(frames).decisions.shape
    (3,)
    """
    check(graph, DEPLOYABLE)
    stream, states, ranges = flag("stream", stream), flag("states", states), flag("ranges", ranges)
    opset = whole("opset", opset, least=OLDEST_OPSET, greatest=onnx.defs.onnx_opset_version())
    graph = for_others(graph)
    metadata = {
        **metadata_for_people(graph, classes=classes, licence=licence, opset=opset),
        **metadata_of(graph, __version__),
    }
    model = _model(graph, probe_names(populations(graph), probes), stream or states, ranges, opset)
    helper.set_model_props(model, metadata)
    explain(model, graph, metadata)
    onnx.checker.check_model(model, full_check=True)
    with written_whole(path, ONNX_FILE) as temporary:
        temporary.write_bytes(sealed(model.SerializeToString(deterministic=True)))
    return Path(path)


def _model(graph: Graph, probes: ProbeNames, states: bool, ranges: bool, opset: int) -> onnx.ModelProto:
    build = OnnxBuilder(opset)
    if graph.is_quantized:
        add_integer_network(build, graph, probes, states, ranges)
    else:
        add_float_network(build, graph, probes, states)
    frames = helper.make_tensor_value_info(FRAMES, onnx.TensorProto.FLOAT, ["T", "B", *graph.input.shape])
    imported = helper.make_opsetid("", opset)
    for function in build.functions.values():
        function.opset_import[0].CopyFrom(imported)
    return helper.make_model(
        helper.make_graph(
            build.nodes,
            "network",
            [frames, *build.inputs],
            build.outputs,
            initializer=list(build.constants.values()),
            value_info=list(build.declared.values()),
        ),
        opset_imports=[imported, helper.make_opsetid(DOMAIN, DOMAIN_VERSION)],
        functions=list(build.functions.values()),
        ir_version=helper.find_min_ir_version_for([imported]),
        producer_name="tet_deploy",
        producer_version=__version__,
    )
