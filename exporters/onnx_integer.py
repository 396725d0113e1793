"""A quantized network in ONNX, integer for integer: the messages, the LIF of a Loihi core in int32, and the readout.

Values are channels-last, see `onnx_synapses`; outputs are channels-first, as everywhere else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import singledispatch

import numpy as np
from onnx import TensorProto

from tet_deploy import dynamics
from tet_deploy.contracts import ProbeNames
from tet_deploy.errors import GraphError
from tet_deploy.exporters.onnx_builder import OnnxBuilder, own
from tet_deploy.exporters.onnx_neurons import fixed_point_lif_function
from tet_deploy.exporters.onnx_synapses import LARGEST_OPERAND, Value, need_within, synaptic_sums
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import LIF, Conv, Flatten, Input, Linear, Node, Quantization, Readout
from tet_deploy.onnx_file import FRAMES, LOGITS, READOUT, output_of

_CHANNELS_LAST, _CHANNELS_FIRST = [0, 1, 3, 4, 2], [0, 1, 4, 2, 3]


@dataclass
class _Network:
    build: OnnxBuilder
    graph: Graph
    probes: ProbeNames
    values: dict[str, Value] = field(default_factory=dict)


def add_integer_network(build: OnnxBuilder, graph: Graph, probes: ProbeNames) -> None:
    """Append the whole quantized network to the ONNX graph.

    Raises
    ------
    GraphError
        A kind of node that has no ONNX form here, or integers beyond what the chip holds.
    """
    network = _Network(build, graph, probes)
    for node in graph:
        network.values[node.name] = _emit(node, network)


@singledispatch
def _emit(node: Node, network: _Network) -> Value:
    raise GraphError(
        f"node {node.name!r}: a quantized {node.kind} cannot be exported to ONNX yet; feed-forward networks of Conv, "
        "Linear, Flatten and LIF can. Use the reference runtime for it."
    )


@_emit.register
def _(node: Input, network: _Network) -> Value:
    """`dynamics.to_messages`, then the positive and the negative part side by side."""
    build, quantization = network.build, _quantization(node)
    limit = 2 ** (quantization.bits - 1) - 1
    need_within(node, "largest message", limit, LARGEST_OPERAND)
    scaled = build.op("Mul", [FRAMES, build.scalar(quantization.scale, np.float32)], own(node, "scaled"))
    rounded = build.op("Round", [scaled], own(node, "rounded"))
    bounds = [build.scalar(-limit, np.float32), build.scalar(limit, np.float32)]
    messages = build.op("Clip", [rounded, *bounds], own(node, "messages"))
    if len(node.shape) == 3:
        messages = build.op("Transpose", [messages], own(node, "channels_last"), perm=_CHANNELS_LAST)
    positive = build.op("Relu", [messages], own(node, "positive"))
    negative = build.op("Relu", [build.op("Neg", [messages], own(node, "negated"))], own(node, "negative"))
    both = build.op("Concat", [positive, negative], own(node, "both"), axis=-1)
    return Value(build.op("Cast", [both], own(node, "parts"), to=TensorProto.UINT8), limit, parts=2)


@_emit.register(Conv)
@_emit.register(Linear)
def _(node: Conv | Linear, network: _Network) -> Value:
    return synaptic_sums(node, network.values[node.inputs[0]], network.graph.shapes[node.name], network.build)


@_emit.register
def _(node: Flatten, network: _Network) -> Value:
    """Neurons in the order (parts, C, H, W), as `Graph` counts them, and not channels-last."""
    build, x = network.build, network.values[node.inputs[0]]
    shape, tensor = network.graph.shapes[node.inputs[0]], x.tensor
    if len(shape) == 3:
        tensor = build.op("Transpose", [tensor], own(node, "channels_first"), perm=_CHANNELS_FIRST)
    size = int(np.prod(shape)) * x.parts
    return Value(build.op("Reshape", [tensor, build.integers([0, 0, size])], own(node, "flat")), x.largest, x.parts)


@_emit.register
def _(node: LIF, network: _Network) -> Value:
    build, name, quantization = network.build, node.name, _quantization(node)
    need_within(node, "threshold", int(node.threshold), dynamics.LARGEST_THRESHOLD)
    need_within(node, "bias exponent", quantization.bias_exponent, dynamics.LARGEST_BIAS_EXPONENT)
    sums = _wrapped_once(node, network.values[node.inputs[0]], build)
    channels, *rest = network.graph.shapes[name]
    build.declare(sums, TensorProto.INT32, ["T", "B", *rest, channels])
    bias = np.atleast_1d(dynamics.shifted_bias(node.bias, quantization.bias_exponent)).astype(np.int32)
    potentials = name in network.probes.potentials
    outputs = [own(node, "messages"), *([own(node, "membrane")] if potentials else [])]
    build.call(
        fixed_point_lif_function(potentials=potentials),
        [sums, build.constant(own(node, "bias"), bias), _kept_share(node, build)],
        outputs,
        threshold=int(node.threshold) << dynamics.FRACTION_BITS,
    )
    if potentials:
        _probe(node, network, outputs[1], "potentials", TensorProto.INT32)
    if name in network.probes.spikes:
        _probe(node, network, outputs[0], "spikes", TensorProto.UINT8)
    return Value(outputs[0], 1)


def _kept_share(node: LIF, build: OnnxBuilder) -> str:
    """(4096 - decay_v) / 4096 in a float type that holds its product with v, of 23 bits and a sign, without rounding.

    A power of two only moves the exponent, so float32 with its 24 bits does; any other share of 12 bits makes up to 35.
    """
    kept = dynamics.DECAY_ONE - dynamics.decay_v(node)
    power_of_two = kept & (kept - 1) == 0
    return build.scalar(kept / dynamics.DECAY_ONE, np.float32 if power_of_two else np.float64)


def _wrapped_once(node: LIF, sums: Value, build: OnnxBuilder) -> str:
    """`dynamics.wrap_once` before the shift by 6 instead of after it, left out where no sum can reach 2^17.

    (a << 6) > 2^23 is a > 2^17, and (a << 6) - 2^24 is (a - 2^18) << 6.
    """
    if sums.largest <= dynamics.LARGEST_SYNAPTIC_SUM:
        return sums.tensor
    limit = dynamics.STATE_LIMIT >> dynamics.FRACTION_BITS
    period = build.scalar(2 * limit, np.int32)
    above = build.op("Greater", [sums.tensor, build.scalar(limit, np.int32)], own(node, "above"))
    lowered = build.op("Sub", [sums.tensor, period], own(node, "lowered"))
    a = build.op("Where", [above, lowered, sums.tensor], own(node, "not_above"))
    below = build.op("LessOrEqual", [a, build.scalar(-limit, np.int32)], own(node, "below"))
    raised = build.op("Add", [a, period], own(node, "raised"))
    return build.op("Where", [below, raised, a], own(node, "wrapped"))


def _probe(node: LIF, network: _Network, tensor: str, what: str, dtype: int) -> None:
    """Make a channels-last value an output [T, B, C, H, W]."""
    shape, output = network.graph.shapes[node.name], output_of(node.name, what)
    if len(shape) == 3:
        network.build.op("Transpose", [tensor], output, perm=_CHANNELS_FIRST)
    else:
        network.build.op("Identity", [tensor], output)
    network.build.output(output, dtype, ["T", "B", *shape])


@_emit.register
def _(node: Readout, network: _Network) -> Value:
    build, name, sums = network.build, node.name, network.values[node.inputs[0]]
    classes = network.graph.shapes[name][0]
    wide = build.op("Cast", [sums.tensor], own(node, "int64"), to=TensorProto.INT64)
    shifted = build.op("Mul", [wide, build.scalar(2**dynamics.FRACTION_BITS, np.int64)], own(node, "shifted"))
    bias = np.zeros(1) if node.bias is None else node.bias
    build.op("Add", [shifted, build.constant(own(node, "bias"), bias.astype(np.int64))], READOUT)
    build.output(READOUT, TensorProto.INT64, ["T", "B", classes])
    # In double the sum over time is exact, so that logits do not depend on its order.
    real = build.op("Cast", [READOUT], own(node, "double"), to=TensorProto.DOUBLE)
    mean = build.op("ReduceMean", [real, build.integers([0])], own(node, "mean"), keepdims=0)
    unit = build.scalar(_quantization(node).scale * 2**dynamics.FRACTION_BITS, np.float64)
    build.op("Cast", [build.op("Div", [mean, unit], own(node, "scaled"))], LOGITS, to=TensorProto.FLOAT)
    build.output(LOGITS, TensorProto.FLOAT, ["B", classes])
    return sums


def _quantization(node: Input | LIF | Readout) -> Quantization:
    if node.quantization is None:
        raise GraphError(
            f"node {node.name!r}: lacks its quantization, the readout has one. Quantize the float network again."
        )
    return node.quantization
