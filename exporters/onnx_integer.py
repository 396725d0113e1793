"""A quantized network in ONNX, integer for integer: the messages, the neurons of a Loihi core, and the readout.

Values are channels-last, see `onnx_synapses`, but where convolutions are in floats; outputs are channels-first, as
everywhere else. Neurons are in int32, or in float32 where it holds their integers.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import singledispatch

import numpy as np
from onnx import TensorProto

from tet_deploy import dynamics
from tet_deploy.contracts import ProbeNames
from tet_deploy.errors import GraphError
from tet_deploy.exporters.onnx_builder import OnnxBuilder, beside, own
from tet_deploy.exporters.onnx_float32_lif import float32_holds, float_form, float_lif_function
from tet_deploy.exporters.onnx_float_convolutions import convolves_in_float, float_current
from tet_deploy.exporters.onnx_integer_neurons import (
    fixed_point_current_function,
    fixed_point_integrator_function,
    fixed_point_lif_function,
)
from tet_deploy.exporters.onnx_sum_pool import pooled_shape, sum_pool, unfolded
from tet_deploy.exporters.onnx_synapses import LARGEST_OPERAND, Messages, need_within, synaptic_sums
from tet_deploy.ir.certificates import certificate
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import (
    LIF,
    Add,
    Conv,
    CubaLIF,
    Flatten,
    Input,
    LeakyReadout,
    Linear,
    Node,
    Population,
    Quantization,
    Readout,
)
from tet_deploy.ir.shapes import Shape
from tet_deploy.ir.values import Value, total, values
from tet_deploy.meaning import current_of
from tet_deploy.onnx_file import FRAMES, LOGITS, READOUT, READOUT_STATE, output_of
from tet_deploy.ranges import KINDS, SATURATED, WRAPPED, Possible, possible

_CHANNELS_LAST, _CHANNELS_FIRST = [0, 1, 3, 4, 2], [0, 1, 4, 2, 3]


@dataclass
class _Network:
    build: OnnxBuilder
    graph: Graph
    probes: ProbeNames
    states: bool
    counted: Possible
    sent: Mapping[str, Value]
    values: dict[str, Messages] = field(default_factory=dict)
    unit: str = ""
    in_floats: bool = False  # maps are float32 and channels-first, see `onnx_float_convolutions`

    def is_turned(self, name: str) -> bool:
        """Whether what a node sends lies channels-last, and not as its shape says."""
        return len(self.graph.shapes[name]) == 3 and not self.in_floats

    def bounds(self, node: Population) -> Value:
        """Those of the sum over the node's synapses."""
        bounds = total([self.sent[name] for name in node.inputs])
        need_within(node, "largest possible sum over its synapses", int(bounds.magnitude), dynamics.largest_total(node))
        return bounds

    def presynaptic(self, node: Population) -> str:
        """The sum over the node's synapses, int32."""
        sums, gains = self._ports(node)
        for source, gain in gains.items():
            wide = self.build.op("Cast", [source], own(node, f"wide{len(sums)}"), to=TensorProto.INT32)
            factor = self.build.constant(own(node, f"gain{len(sums)}"), gain.astype(np.int32))
            sums.append(self.build.op("Mul", [wide, factor], own(node, f"gained{len(sums)}")))
        return self.build.added(sums, own(node, "presynaptic"))

    def current(self, node: LIF, offset: np.ndarray) -> str:
        """offset - 64 * the same sum, float32.

        ONNX Runtime makes one operator of a product and what follows it, if it cannot know the scale, nor share it.
        """
        build, (sums, gains) = self.build, self._ports(node)
        if self.bounds(node).magnitude > dynamics.LARGEST_SYNAPTIC_SUM:
            sums, gains = [_wrapped_once(node, self.presynaptic(node), self.bounds(node), self)], {}
        unit = np.full(self.graph.shapes[node.name][:1], -(2**dynamics.FRACTION_BITS), np.float32)
        terms: list[str] = []
        for source, gain in [*((source, None) for source in sums), *gains.items()]:
            index = len(terms)
            factor = build.constant(own(node, f"unit{index}"), unit if gain is None else (unit * gain).astype(np.float32))
            if gain is None:
                factor = build.op("Mul", [self.one(), factor], own(node, f"scale{index}"))
            real = build.op("Cast", [source], own(node, f"real{index}"), to=TensorProto.FLOAT)
            terms.append(build.op("Mul", [real, factor], own(node, f"term{index}")))
        by_channel = np.broadcast_to(offset, unit.shape).astype(np.float32)
        terms[0] = build.op("Add", [terms[0], build.constant(own(node, "offset"), by_channel)], own(node, "biased"))
        return build.added(terms, own(node, "current"))

    def one(self) -> str:
        """1, worked out from the number of steps: ONNX Runtime merges operators only where a scale is no constant."""
        if not self.unit:
            steps = self.build.op("Squeeze", [self.build.op("Shape", [FRAMES], "/steps", start=0, end=1)], "/steps_of_run")
            real = self.build.op("Cast", [steps], "/steps_float", to=TensorProto.FLOAT)
            self.unit = self.build.op("Min", [real, self.build.scalar(1, np.float32)], "/one")
        return self.unit

    def _ports(self, node: Population) -> tuple[list[str], dict[str, np.ndarray]]:
        """Sums, int32, and messages with what multiplies them, by channel: parts of one identity become one."""
        sums, gains = [], dict[str, np.ndarray]()
        for name in node.inputs:
            port = self.values[name]
            if port.gain is None:
                sums.append(port.tensor)
            else:
                gains[port.tensor] = gains.get(port.tensor, 0) + port.gain
        return sums, gains


def add_integer_network(build: OnnxBuilder, graph: Graph, probes: ProbeNames, states: bool, ranges: bool) -> None:
    """Append the whole quantized network to the ONNX graph; with `ranges`, outputs that count what left its range.

    Raises
    ------
    GraphError
        A kind of node that has no ONNX form here, or integers beyond what the chip holds.
    """
    network = _Network(build, graph, probes, states, possible(graph) if ranges else dict.fromkeys(KINDS, ()), values(graph))
    counts = network.counted[WRAPPED] or network.counted[SATURATED]
    network.in_floats = not counts and convolves_in_float(graph, network.sent)
    for node in graph:
        network.values[node.name] = _emit(node, network)
    build.drop_unused()  # a flatten that a pool has replaced


@singledispatch
def _emit(node: Node, network: _Network) -> Messages:
    raise GraphError(
        f"node {node.name!r}: a quantized {node.kind} has no ONNX form; Conv, Linear, Flatten, Add and neurons have. "
        "Use the reference runtime for it."
    )


@_emit.register
def _(node: Input, network: _Network) -> Messages:
    """`dynamics.to_messages`, then the positive and, where frames have one, the negative part side by side."""
    build, name, quantization = network.build, node.name, _quantization(node)
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
def _(node: Conv | Linear, network: _Network) -> Messages:
    if network.in_floats and isinstance(node, Conv):
        return Messages("")  # the neurons behind it append it
    layer, x, sent, shape = _unpooled(node, network)
    shapes = shape, network.graph.shapes[node.name]
    return synaptic_sums(layer, x, sent, shapes, network.build, node.name in network.counted[WRAPPED])


def _unpooled(node: Conv | Linear, network: _Network) -> tuple[Conv | Linear, Messages, Value, Shape]:
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
def _(node: Add, network: _Network) -> Messages:
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
def _(node: Flatten, network: _Network) -> Messages:
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
def _(node: LIF | CubaLIF, network: _Network) -> Messages:
    build, name, quantization = network.build, node.name, _quantization(node)
    need_within(node, "threshold", int(np.max(node.threshold)), dynamics.LARGEST_THRESHOLD)
    need_within(node, "bias exponent", quantization.bias_exponent, dynamics.LARGEST_BIAS_EXPONENT)
    threshold = np.asarray(node.threshold).astype(np.int32) << dynamics.FRACTION_BITS
    bias = np.atleast_1d(dynamics.shifted_bias(node.bias, quantization.bias_exponent)).astype(np.int32)
    potentials = [own(node, "membrane")] if name in network.probes.potentials else []
    saturated = [output_of(name, SATURATED)] if name in network.counted[SATURATED] else []
    messages = own(node, "messages")
    outputs = [messages, *potentials, *saturated]
    if isinstance(node, LIF) and not saturated and float32_holds(node):
        after = _fire_in_float(node, threshold, bias, outputs, network)
    else:
        after = _fire_in_integers(node, threshold, bias, outputs, network)
    if potentials:
        _show(potentials[0], output_of(name, "potentials"), node, ["T", "B"], TensorProto.INT32, network)
    if name in network.probes.spikes:
        _show(messages, output_of(name, "spikes"), node, ["T", "B"], TensorProto.UINT8, network)
    for output in saturated:
        build.output(output, TensorProto.INT64, ["T", "B"])
    _show_after(after, node, name, network)
    return Messages(messages)


def _fire_in_float(node: LIF, threshold: np.ndarray, bias: np.ndarray, outputs: list[str], network: _Network) -> list[str]:
    """`float_lif_function`: w = -v, and so are its current and threshold."""
    build, graph, (channels, *rest) = network.build, network.graph, network.graph.shapes[node.name]
    form, to_floats = float_form(node, certificate(node, network.bounds(node))), network.in_floats and len(rest) > 0
    offset = form.lift - bias.astype(np.float64)
    if to_floats:
        current = float_current(
            node, offset, {name: x.tensor for name, x in network.values.items()}, network.sent, graph, build
        )
        build.declare(current, TensorProto.FLOAT, ["T", "B", channels, *rest])
    else:
        current = network.current(node, offset)
        build.declare(current, TensorProto.FLOAT, ["T", "B", *rest, channels])
    before, after = _state(node, node.name, network)
    states = [
        build.op("Neg", [build.op("Cast", [v], beside(v, "float"), to=TensorProto.FLOAT)], beside(v, "negative"))
        for v in before
    ]
    spikes, *held = [*outputs, *after]
    function = float_lif_function(
        form,
        None if threshold.ndim else int(threshold),
        potentials=node.name in network.probes.potentials,
        states=network.states,
        to_floats=to_floats,
    )
    inputs = [current]
    if threshold.ndim:
        below = (-threshold).astype(np.float32).reshape(-1, *((1,) * len(rest) if to_floats else ()))
        inputs.append(build.constant(own(node, "threshold"), below))
    build.call(function, [*inputs, *states], [spikes, *(beside(v, "negative") for v in held)])
    for v in held:
        build.op("Cast", [build.op("Neg", [beside(v, "negative")], beside(v, "float"))], v, to=TensorProto.INT32)
    return after


def _fire_in_integers(
    node: LIF | CubaLIF, threshold: np.ndarray, bias: np.ndarray, outputs: list[str], network: _Network
) -> list[str]:
    """`fixed_point_lif_function`."""
    build, name, (channels, *rest) = network.build, node.name, network.graph.shapes[node.name]
    sums, bounds = network.presynaptic(node), network.bounds(node)
    if isinstance(node, CubaLIF):
        build.declare(sums, TensorProto.INT32, ["T", "B", *rest, channels])
        sums = _through_current(node, sums, bounds, network)
    else:
        sums = _wrapped_once(node, sums, bounds, network)
    build.declare(sums, TensorProto.INT32, ["T", "B", *rest, channels])
    function = fixed_point_lif_function(
        by_channel=threshold.ndim > 0,
        potentials=name in network.probes.potentials,
        states=network.states,
        saturated=name in network.counted[SATURATED],
        shifted=isinstance(node, CubaLIF),
    )
    share = _kept_share(dynamics.decay_v(node), dynamics.STATE_LIMIT, own(node, "share"), build)
    inputs, attributes = [sums, build.constant(own(node, "bias"), bias), share], {}
    if threshold.ndim:
        inputs.insert(1, build.constant(own(node, "threshold"), threshold))
    else:
        attributes["threshold"] = int(threshold)
    before, after = _state(node, name, network)
    build.call(function, [*inputs, *before], [*outputs, *after], **attributes)
    return after


def _state(node: Population, held: str, network: _Network) -> tuple[list[str], list[str]]:
    """What a run with states begins with, an input [B, C, H, W] made channels-last, and the name of what it ends in."""
    if not network.states:
        return [], []
    build, shape = network.build, network.graph.shapes[node.name]
    state, which = build.input(output_of(held, "before"), TensorProto.INT32, ["B", *shape]), held.removeprefix(node.name)
    if network.is_turned(node.name):
        state = build.op("Transpose", [state], own(node, f"before{which}"), perm=[0, 2, 3, 1])
    return [state], [own(node, f"after{which}")]


def _show_after(after: list[str], node: Population, held: str, network: _Network) -> None:
    for value in after:
        _show(value, output_of(held, "after"), node, ["B"], TensorProto.INT32, network)


def _through_current(node: CubaLIF, sums: str, bounds: Value, network: _Network) -> str:
    """`dynamics.synaptic_current` over time, in 64ths of a mantissa; without the wrap where it cannot happen."""
    build, name, held = network.build, node.name, own(node, "current")
    certified = certificate(node, bounds)
    always = (2 * dynamics.STATE_LIMIT) >> dynamics.FRACTION_BITS  # from sums so large one wrap always leads back
    reach = dynamics.STATE_LIMIT if bounds.magnitude <= always else 2**31
    counted = [output_of(name, WRAPPED)] if name in network.counted[WRAPPED] else []
    before, after = _state(node, current_of(name), network)
    function = fixed_point_current_function(wraps=not certified.cannot_wrap, counted=bool(counted), states=network.states)
    build.call(
        function,
        [sums, _kept_share(dynamics.decay_u(node), reach, own(node, "current_share"), build), *before],
        [held, *counted, *after],
    )
    for output in counted:
        build.output(output, TensorProto.INT64, ["T", "B"])
    _show_after(after, node, current_of(name), network)
    return held


def _kept_share(decay: np.ndarray | int, largest: int, name: str, build: OnnxBuilder) -> str:
    """(4096 - decay) / 4096, one or [C], in a float type that holds its product with such a state without rounding.

    A power of two only moves the exponent, so float32 with its 24 bits does for them; any other share of 12 bits makes up
    to 35 of 23, and 43 of 31.
    """
    kept = dynamics.DECAY_ONE - np.asarray(decay)
    dtype = np.float32 if (kept & (kept - 1) == 0).all() and largest <= 2**24 else np.float64
    share = (kept / dynamics.DECAY_ONE).astype(dtype)
    return build.constant(name, share) if share.ndim else build.scalar(float(share), dtype)


def _wrapped_once(node: LIF, sums: str, bounds: Value, network: _Network) -> str:
    """`dynamics.wrap_once` before the shift by 6 instead of after it, left out where no sum can reach 2^17.

    (a << 6) > 2^23 is a > 2^17, and (a << 6) - 2^24 is (a - 2^18) << 6.
    """
    if bounds.magnitude <= dynamics.LARGEST_SYNAPTIC_SUM:
        return sums
    build, limit = network.build, dynamics.STATE_LIMIT >> dynamics.FRACTION_BITS

    def wrap() -> str:
        period = build.scalar(2 * limit, np.int32)
        above = build.op("Greater", [sums, build.scalar(limit, np.int32)], own(node, "above"))
        lowered = build.op("Sub", [sums, period], own(node, "lowered"))
        a = build.op("Where", [above, lowered, sums], own(node, "not_above"))
        below = build.op("LessOrEqual", [a, build.scalar(-limit, np.int32)], own(node, "below"))
        raised = build.op("Add", [a, period], own(node, "raised"))
        return build.op("Where", [below, raised, a], own(node, "wrapped"))

    if node.name not in network.counted[WRAPPED]:
        return wrap()
    axes = len(network.graph.shapes[node.name])
    return build.wrapped(sums, (-limit + 1, limit), wrap, output_of(node.name, WRAPPED), axes)


def _show(tensor: str, output: str, node: Node, axes: list[int | str], dtype: int, network: _Network) -> None:
    """Make what a node holds or sends an output of this type, channels first behind the leading axes."""
    build, shape, lead = network.build, network.graph.shapes[node.name], len(axes)
    if network.is_turned(node.name):
        build.op("Transpose", [tensor], output, perm=[*range(lead), lead + 2, lead, lead + 1])
    else:
        build.op("Cast", [tensor], output, to=dtype)
    build.output(output, dtype, [*axes, *shape])


@_emit.register(Readout)
@_emit.register(LeakyReadout)
def _(node: Readout | LeakyReadout, network: _Network) -> Messages:
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
    unit = build.scalar(_quantization(node).one_scale * 2**dynamics.FRACTION_BITS, np.float64)
    build.op("Cast", [build.op("Div", [mean, unit], own(node, "scaled"))], LOGITS, to=TensorProto.FLOAT)
    build.output(LOGITS, TensorProto.FLOAT, ["B", classes])
    return Messages(sums)


def _integrate(node: LeakyReadout, arriving: str, network: _Network) -> None:
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


def _quantization(node: Input | Population) -> Quantization:
    if node.quantization is None:
        raise GraphError(
            f"node {node.name!r}: lacks its quantization, the readout has one. Quantize the float network again."
        )
    return node.quantization
