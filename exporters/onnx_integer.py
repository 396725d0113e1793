"""A quantized network in ONNX, integer for integer: the messages, the neurons of a Loihi core, and the readout.

Values are channels-last, see `onnx_synapses`, but where convolutions are in floats; outputs are channels-first, as
everywhere else. Neurons are in int32, or in float32 where it holds their integers.
"""

from __future__ import annotations

import dataclasses
import math
from functools import singledispatch

import numpy as np
from onnx import TensorProto

from tet_deploy import dynamics
from tet_deploy.contracts import ProbeNames
from tet_deploy.errors import GraphError
from tet_deploy.exporters.onnx_builder import OnnxBuilder, own
from tet_deploy.exporters.onnx_float_convolutions import convolves_in_float
from tet_deploy.exporters.onnx_integer_network import IntegerNetwork, quantization_of
from tet_deploy.exporters.onnx_integer_neurons import fixed_point_integrator_function
from tet_deploy.exporters.onnx_integer_populations import fire
from tet_deploy.exporters.onnx_sum_pool import pooled_shape, sum_pool, unfolded
from tet_deploy.exporters.onnx_synapses import LARGEST_OPERAND, Messages, need_within, synaptic_sums
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import LIF, Add, Conv, CubaLIF, Flatten, Input, LeakyReadout, Linear, Node, Readout
from tet_deploy.ir.shapes import Shape
from tet_deploy.ir.values import Value, values
from tet_deploy.onnx_file import LOGITS, READOUT, READOUT_STATE, output_of
from tet_deploy.ranges import KINDS, SATURATED, WRAPPED, possible

_CHANNELS_LAST, _CHANNELS_FIRST = [0, 1, 3, 4, 2], [0, 1, 4, 2, 3]


def add_integer_network(build: OnnxBuilder, graph: Graph, probes: ProbeNames, states: bool, ranges: bool) -> None:
    """Append the whole quantized network to the ONNX graph; with `ranges`, outputs that count what left its range.

    Raises
    ------
    GraphError
        A kind of node that has no ONNX form here, or integers beyond what the chip holds.
    """
    counted = possible(graph) if ranges else dict.fromkeys(KINDS, ())
    network = IntegerNetwork(build, graph, probes, states, counted, values(graph))
    network.in_floats = not (counted[WRAPPED] or counted[SATURATED]) and convolves_in_float(graph, network.sent)
    for node in graph:
        network.values[node.name] = _emit(node, network)
    build.drop_unused()  # a flatten that a pool has replaced


@singledispatch
def _emit(node: Node, network: IntegerNetwork) -> Messages:
    raise GraphError(
        f"node {node.name!r}: a quantized {node.kind} has no ONNX form; Conv, Linear, Flatten, Add and neurons have. "
        "Use the reference runtime for it."
    )


@_emit.register
def _(node: Input, network: IntegerNetwork) -> Messages:
    """`dynamics.to_messages`, then the positive and, where frames have one, the negative part side by side."""
    build, name, quantization = network.build, node.name, quantization_of(node)
    limit = dynamics.largest_message(quantization)
    need_within(node, "largest message", limit, LARGEST_OPERAND)
    scaled, scale = build.normalized(node), quantization.one_scale
    if scale != 1:
        scaled = build.op("Mul", [scaled, build.scalar(scale, np.float32)], own(node, "scaled"))
    rounded = build.op("Round", [scaled], own(node, "rounded"))
    bounds = [build.scalar(-limit, np.float32), build.scalar(limit, np.float32)]
    messages = build.op("Clip", [rounded, *bounds], own(node, "messages"))
    if network.in_floats and len(node.shape) == 3:
        return Messages(messages)
    if len(node.shape) == 3:
        messages = build.op("Transpose", [messages], own(node, "channels_last"), perm=_CHANNELS_LAST)
    if network.sent[name].least == 0:
        return Messages(build.op("Cast", [messages], own(node, "parts"), to=TensorProto.UINT8))
    positive = build.op("Relu", [messages], own(node, "positive"))
    negative = build.op("Relu", [build.op("Neg", [messages], own(node, "negated"))], own(node, "negative"))
    both = build.op("Concat", [positive, negative], own(node, "both"), axis=-1)
    return Messages(build.op("Cast", [both], own(node, "parts"), to=TensorProto.UINT8), parts=2)


@_emit.register(Conv)
@_emit.register(Linear)
def _(node: Conv | Linear, network: IntegerNetwork) -> Messages:
    if network.in_floats and isinstance(node, Conv):
        return Messages("")  # the neurons behind it append it
    layer, x, sent, shape = _unpooled(node, network)
    shapes = shape, network.graph.shapes[node.name]
    return synaptic_sums(layer, x, sent, shapes, network.build, node.name in network.counted[WRAPPED])


def _unpooled(node: Conv | Linear, network: IntegerNetwork) -> tuple[Conv | Linear, Messages, Value, Shape]:
    """A layer, what it gets, its bounds and its shape: behind the pool that was folded into the layer, if there is one."""
    graph, build, source = network.graph, network.build, network.graph[node.inputs[0]]
    pooled = graph[source.inputs[0]] if isinstance(node, Linear) and isinstance(source, Flatten) else source
    shape, as_it_is = graph.shapes[pooled.name], (network.values[source.name], network.sent[source.name])
    if len(shape) != 3:
        return node, *as_it_is, shape
    windows, layer, sent = unfolded(node, network.sent[pooled.name], shape)
    if layer is node:
        return node, *as_it_is, shape
    x = Messages(sum_pool(node, network.values[pooled.name].tensor, shape, windows, build, in_floats=network.in_floats))
    shape = pooled_shape(shape, windows)
    if isinstance(node, Linear):
        x = _flat(node, x, shape, network.is_turned(pooled.name), build)
    return layer, x, sent, shape


@_emit.register
def _(node: Add, network: IntegerNetwork) -> Messages:
    """Spikes are uint8, which ONNX Runtime adds as float32 or int32 only."""
    build, name = network.build, node.name
    need_within(node, "largest sum of spikes", int(network.sent[name].greatest), LARGEST_OPERAND)
    wide = [
        build.op("Cast", [network.values[source].tensor], own(node, f"wide{index}"), to=TensorProto.INT32)
        for index, source in enumerate(node.inputs)
    ]
    summed = build.added(wide, own(node, "summed"))
    return Messages(build.op("Cast", [summed], own(node, "messages"), to=TensorProto.UINT8))


@_emit.register
def _(node: Flatten, network: IntegerNetwork) -> Messages:
    build, x, source = network.build, network.values[node.inputs[0]], node.inputs[0]
    shape, turned = network.graph.shapes[source], network.is_turned(source)
    if len(shape) == 3 and not turned:
        x = dataclasses.replace(x, tensor=build.op("Cast", [x.tensor], own(node, "messages"), to=TensorProto.UINT8))
    return _flat(node, x, shape, turned, build)


def _flat(node: Node, x: Messages, shape: Shape, turned: bool, build: OnnxBuilder) -> Messages:
    """Neurons in the order (parts, C, H, W), as `Graph` counts them, where they are `turned` not channels-last."""
    tensor = x.tensor
    if turned:
        tensor = build.op("Transpose", [tensor], own(node, "channels_first"), perm=_CHANNELS_FIRST)
    size = math.prod(shape) * x.parts
    return Messages(build.op("Reshape", [tensor, build.integers([0, 0, size])], own(node, "flat")), x.parts)


@_emit.register(LIF)
@_emit.register(CubaLIF)
def _(node: LIF | CubaLIF, network: IntegerNetwork) -> Messages:
    return fire(node, network)


@_emit.register(Readout)
@_emit.register(LeakyReadout)
def _(node: Readout | LeakyReadout, network: IntegerNetwork) -> Messages:
    build, name, sums = network.build, node.name, network.presynaptic(node)
    network.bounds(node)
    classes = network.graph.shapes[name][0]
    wide = build.op("Cast", [sums], own(node, "int64"), to=TensorProto.INT64)
    shifted = build.op("Mul", [wide, build.scalar(2**dynamics.FRACTION_BITS, np.int64)], own(node, "shifted"))
    bias = np.zeros(1) if node.bias is None else node.bias
    biased = own(node, "biased") if isinstance(node, LeakyReadout) else READOUT
    build.op("Add", [shifted, build.constant(own(node, "bias"), bias.astype(np.int64))], biased)
    if isinstance(node, LeakyReadout):
        _integrate(node, biased, network)
    build.output(READOUT, TensorProto.INT64, ["T", "B", classes])
    # In double the sum over time is exact, so that logits do not depend on its order.
    real = build.op("Cast", [READOUT], own(node, "double"), to=TensorProto.DOUBLE)
    mean = build.mean_over_time(real, own(node, "mean"))
    unit = build.scalar(quantization_of(node).one_scale * 2**dynamics.FRACTION_BITS, np.float64)
    build.op("Cast", [build.op("Div", [mean, unit], own(node, "scaled"))], LOGITS, to=TensorProto.FLOAT)
    build.output(LOGITS, TensorProto.FLOAT, ["B", classes])
    return Messages(sums)


def _integrate(node: LeakyReadout, arriving: str, network: IntegerNetwork) -> None:
    """What is left of the last step's readout, and what arrives."""
    build, classes = network.build, network.graph.shapes[node.name][0]
    build.declare(arriving, TensorProto.INT64, ["T", "B", classes])
    before, after = ([output_of(READOUT_STATE, what)] if network.states else [] for what in ("before", "after"))
    for state in before:
        build.input(state, TensorProto.INT64, ["B", classes])
    for state in after:
        build.output(state, TensorProto.INT64, ["B", classes])
    function = fixed_point_integrator_function(states=network.states)
    build.call(function, [arriving, *before], [READOUT, *after], kept=dynamics.DECAY_ONE - int(dynamics.decay_v(node)))
