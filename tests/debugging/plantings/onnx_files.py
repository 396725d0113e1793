"""A fault of an ONNX file."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from plantings.planted import Planted

import tet_deploy as td
from tet_deploy.contracts import Recording
from tet_deploy.debugging import causes
from tet_deploy.ir.nodes import LIF
from tet_deploy.onnx_file import output_of
from tet_deploy.testing import random_float_network, random_frames


def plant_comparison(rng, folder) -> Planted | None:
    """An ONNX file in which one population fires at its threshold already."""
    graph = random_float_network(rng, grid=1)
    frames = random_frames(graph, rng, steps=6, samples=4)
    frames = np.rint(frames)
    path = td.export(graph, folder / f"net{int(rng.integers(2**40))}.onnx", to="onnx", probes="all")
    model = onnx.load(path)
    calls = [node for node in model.graph.node if node.op_type.startswith("LIF")]
    right = td.run(graph, frames)
    names = [node.name for node in graph.of_kind(LIF)]
    for index in rng.permutation(len(calls)):
        if calls[index].op_type.startswith("LIFFromThreshold"):
            continue  # it fires there by right
        twin = onnx.FunctionProto()
        twin.CopyFrom(next(function for function in model.functions if function.name == calls[index].op_type))
        twin.name = "NotStrict"
        body = next(a.g for node in twin.node if node.op_type == "Scan" for a in node.attribute if a.HasField("g"))
        _fire_at_the_threshold(body)
        edited = onnx.ModelProto()
        edited.CopyFrom(model)
        edited.functions.append(twin)
        [node for node in edited.graph.node if node.op_type.startswith("LIF")][index].op_type = "NotStrict"
        found = _as_onnx_runs(edited, names, frames)
        if not td.pipeline.validation.compare(right, found).equal:
            return Planted(
                expected=graph, found=found, frames=frames, described=None, node=names[index], cause=causes.COMPARISON
            )
    return None


def _fire_at_the_threshold(step: onnx.GraphProto) -> None:
    """Not `u > threshold` but not `u < threshold`, which ONNX Runtime 1.19 knows the shape of."""
    nodes = []
    for node in step.node:
        if node.op_type != "Greater":
            nodes.append(node)
            continue
        nodes.append(onnx.helper.make_node("Less", node.input, ["below"]))
        nodes.append(onnx.helper.make_node("Not", ["below"], node.output))
    del step.node[:]
    step.node.extend(nodes)


def _as_onnx_runs(model: onnx.ModelProto, names, frames) -> Recording:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    outputs = [output.name for output in session.get_outputs()]
    found = dict(zip(outputs, session.run(None, {session.get_inputs()[0].name: frames}), strict=True))
    return Recording(
        spikes={name: found[output_of(name, "spikes")].astype(np.uint8) for name in names},
        potentials={name: found[output_of(name, "potentials")] for name in names},
        readout=found["readout"],
        runtime="onnx",
    )
