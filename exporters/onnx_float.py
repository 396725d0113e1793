"""A float network in ONNX: stateless layers once over the merged [T*B] axis, each LIF a scan over T."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import singledispatch

import numpy as np
from onnx import FunctionProto, TensorProto

from tet_deploy.contracts import ProbeNames
from tet_deploy.errors import GraphError
from tet_deploy.exporters.onnx_builder import FRAMES_TB, OnnxBuilder, own
from tet_deploy.exporters.onnx_float_neurons import integrator_function, lif_function, other_reset_function
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import LIF, Add, Conv, CubaLIF, Flatten, Input, LeakyReadout, Linear, Node, Readout, SoftResetLIF
from tet_deploy.ir.shapes import Shape
from tet_deploy.ir.unfold_pooling import Layer, unfold_pooling
from tet_deploy.meaning import current_of
from tet_deploy.onnx_file import LOGITS, READOUT, READOUT_STATE, output_of


@dataclass
class _Network:
    build: OnnxBuilder
    graph: Graph
    probes: ProbeNames
    states: bool
    values: dict[str, str] = field(default_factory=dict)  # node -> ONNX value [T*B, *shape], float32

    def unmerged(self, node: Node, value: str, shape: Shape, output: str) -> str:
        """[T*B, *shape] -> [T, B, *shape]."""
        target = self.build.op("Concat", [FRAMES_TB, self.build.integers(shape)], own(node, "shape"), axis=0)
        return self.build.op("Reshape", [value, target], output)

    def summed(self, node: Node) -> str:
        """What the node's inputs send, added up."""
        return self.build.added([self.values[name] for name in node.inputs], own(node, "summed"))

    def merged(self, value: str, shape: Shape, output: str) -> str:
        """[T, B, *shape] -> [T*B, *shape]."""
        return self.build.op("Reshape", [value, self.build.integers([-1, *shape])], output)

    def pooled(self, node: Layer, source: str) -> tuple[str, Layer]:
        """What a node sends, pooled, and the layer behind the pool, where an average pool was folded into the layer."""
        windows, layer = unfold_pooling(node, self.graph.shapes[source])
        if layer is node:
            return self.values[source], node
        return self.build.pooled(node, self.values[source], windows), layer


def add_float_network(build: OnnxBuilder, graph: Graph, probes: ProbeNames, states: bool) -> None:
    """Append the whole network to the ONNX graph.

    Raises
    ------
    GraphError
        A kind of node that has no ONNX form here.
    """
    network = _Network(build, graph, probes, states)
    for node in graph:
        network.values[node.name] = _emit(node, network)
    build.drop_unused()  # a flatten that a pool has replaced


@singledispatch
def _emit(node: Node, network: _Network) -> str:
    raise GraphError(
        f"node {node.name!r}: a {node.kind} has no ONNX form; Conv, Linear, Flatten, Add and LIF have. "
        "Use the reference runtime for it."
    )


@_emit.register
def _(node: Input, network: _Network) -> str:
    return network.merged(network.build.normalized(node), node.shape, own(node, "merged"))


@_emit.register
def _(node: Conv, network: _Network) -> str:
    source = node.inputs[0]
    if _passes_on(node):
        return network.values[source]
    value, node = network.pooled(node, source)
    return network.build.convolution(node, [value, *_parameters(node, network.build)])


@_emit.register
def _(node: Linear, network: _Network) -> str:
    build, source = network.build, network.graph[node.inputs[0]]
    value, layer = network.values[source.name], node
    if isinstance(source, Flatten) and len(network.graph.shapes[source.inputs[0]]) == 3:
        pooled, layer = network.pooled(node, source.inputs[0])
        if layer is not node:
            value = build.op("Flatten", [pooled], own(node, "flat"), axis=1)
    return build.op("Gemm", [value, *_parameters(layer, build)], own(node, "current"), transB=1)


@_emit.register
def _(node: Flatten, network: _Network) -> str:
    return network.build.op("Flatten", [network.values[node.inputs[0]]], own(node, "flat"), axis=1)


@_emit.register
def _(node: Add, network: _Network) -> str:
    return network.summed(node)


@_emit.register(LIF)
@_emit.register(SoftResetLIF)
@_emit.register(CubaLIF)
def _(node: LIF | SoftResetLIF | CubaLIF, network: _Network) -> str:
    build, name, shape = network.build, node.name, network.graph.shapes[node.name]
    current = network.unmerged(node, network.summed(node), shape, own(node, "current"))
    build.declare(current, TensorProto.FLOAT, ["T", "B", *shape])
    if isinstance(node, CubaLIF):
        before, after = _state(current_of(name), shape, network)
        function, held = integrator_function(states=network.states), own(node, "synaptic_current")
        build.call(function, [current, *before], [held, *after], decay=float(node.current_decay))
        current = held
        build.declare(current, TensorProto.FLOAT, ["T", "B", *shape])
    potentials = name in network.probes.potentials
    outputs = [own(node, "fired"), *([output_of(name, "potentials")] if potentials else [])]
    before, after = _state(name, shape, network)
    inputs, attributes = [current], dict[str, float]()
    for key, value in (("decay", node.decay), ("threshold", node.threshold)):
        if isinstance(value, np.ndarray):
            by_channel = value.astype(np.float32).reshape(-1, *(1,) * (len(shape) - 1))
            inputs.append(build.constant(own(node, key), by_channel))
        else:
            attributes[key] = float(value)
    given = [key for key in ("decay", "threshold") if key not in attributes]
    function = _function(node, given, potentials=potentials, states=network.states)
    build.call(function, [*inputs, *before], [*outputs, *after], **attributes)
    if potentials:
        build.output(outputs[1], TensorProto.FLOAT, ["T", "B", *shape])
    if name in network.probes.spikes:
        spikes = build.op("Cast", [outputs[0]], output_of(name, "spikes"), to=TensorProto.UINT8)
        build.output(spikes, TensorProto.UINT8, ["T", "B", *shape])
    return network.merged(outputs[0], shape, own(node, "merged"))


def _state(name: str, shape: Shape, network: _Network) -> tuple[list[str], list[str]]:
    """The input that a state of that name begins with, and the output that it ends in, where the network has states."""
    if not network.states:
        return [], []
    build, after = network.build, output_of(name, "after")
    before = build.input(output_of(name, "before"), TensorProto.FLOAT, ["B", *shape])
    build.output(after, TensorProto.FLOAT, ["B", *shape])
    return [before], [after]


def _function(node: LIF | SoftResetLIF | CubaLIF, by_channel: list[str], **options: bool) -> FunctionProto:
    if node.reset == "zero":
        return lif_function(node.comparison, by_channel, **options)
    return other_reset_function(node.reset, node.comparison, by_channel, **options)


@_emit.register(Readout)
@_emit.register(LeakyReadout)
def _(node: Readout | LeakyReadout, network: _Network) -> str:
    build, classes = network.build, network.graph.shapes[node.name][0]
    if isinstance(node, LeakyReadout):
        current = network.unmerged(node, network.summed(node), (classes,), own(node, "current"))
        build.declare(current, TensorProto.FLOAT, ["T", "B", classes])
        before, after = _state(READOUT_STATE, (classes,), network)
        function, readout = integrator_function(states=network.states), READOUT
        build.call(function, [current, *before], [readout, *after], decay=float(node.decay))
    else:
        readout = network.unmerged(node, network.summed(node), (classes,), READOUT)
    build.mean_over_time(readout, LOGITS)
    build.output(READOUT, TensorProto.FLOAT, ["T", "B", classes])
    build.output(LOGITS, TensorProto.FLOAT, ["B", classes])
    return readout


def _passes_on(node: Conv) -> bool:
    """Whether it gives what it takes, as the direct connection of a residual block does."""
    alone = node.weight.shape[1:] == (1, 1, 1) and node.groups == len(node.weight) and node.bias is None
    return alone and (node.stride, node.padding) == ((1, 1), (0, 0)) and bool((node.weight == 1).all())


def _parameters(node: Conv | Linear, build: OnnxBuilder) -> list[str]:
    arrays = {"weight": node.weight} if node.bias is None else {"weight": node.weight, "bias": node.bias}
    for what, array in arrays.items():
        if np.abs(array).max() > np.finfo(np.float32).max:
            raise GraphError(f"node {node.name!r}: {what} must fit float32; its largest is {np.abs(array).max():.3g}.")
    return [build.constant(own(node, what), array.astype(np.float32)) for what, array in arrays.items()]
