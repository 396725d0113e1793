"""Neurons of a quantized network in ONNX: in float32 where it holds their integers, else in int32."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from tet_deploy import dynamics
from tet_deploy.exporters.onnx_builder import OnnxBuilder, beside, own
from tet_deploy.exporters.onnx_float32_lif import float32_holds, float_form, float_lif_function
from tet_deploy.exporters.onnx_float_convolutions import float_current
from tet_deploy.exporters.onnx_integer_network import IntegerNetwork, quantization_of
from tet_deploy.exporters.onnx_integer_neurons import fixed_point_current_function, fixed_point_lif_function
from tet_deploy.exporters.onnx_synapses import Messages, need_within
from tet_deploy.ir.certificates import certificate
from tet_deploy.ir.nodes import LIF, CubaLIF
from tet_deploy.ir.values import Value
from tet_deploy.meaning import current_of
from tet_deploy.onnx_file import output_of
from tet_deploy.ranges import SATURATED, WRAPPED


def fire(node: LIF | CubaLIF, network: IntegerNetwork) -> Messages:
    """Append a population, and what is shown of it; returns its spikes."""
    build, name, quantization = network.build, node.name, quantization_of(node)
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
        network.show(potentials[0], output_of(name, "potentials"), node, ["T", "B"], TensorProto.INT32)
    if name in network.probes.spikes:
        network.show(messages, output_of(name, "spikes"), node, ["T", "B"], TensorProto.UINT8)
    for output in saturated:
        build.output(output, TensorProto.INT64, ["T", "B"])
    network.show_after(after, node, name)
    return Messages(messages)


def _fire_in_float(
    node: LIF, threshold: np.ndarray, bias: np.ndarray, outputs: list[str], network: IntegerNetwork
) -> list[str]:
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
        current = _current(node, offset, network)
        build.declare(current, TensorProto.FLOAT, ["T", "B", *rest, channels])
    before, after = network.state(node, node.name)
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


def _current(node: LIF, offset: np.ndarray, network: IntegerNetwork) -> str:
    """offset - 64 * the sum over the node's synapses, float32.

    ONNX Runtime makes one operator of a product and what follows it, if it cannot know the scale, nor share it.
    """
    build, (sums, gains) = network.build, network.ports(node)
    if network.bounds(node).magnitude > dynamics.LARGEST_SYNAPTIC_SUM:
        sums, gains = [_wrapped_once(node, network.presynaptic(node), network.bounds(node), network)], {}
    unit = np.full(network.graph.shapes[node.name][:1], -(2**dynamics.FRACTION_BITS), np.float32)
    terms: list[str] = []
    for source, gain in [*((source, None) for source in sums), *gains.items()]:
        index = len(terms)
        factor = build.constant(own(node, f"unit{index}"), unit if gain is None else (unit * gain).astype(np.float32))
        if gain is None:
            factor = build.op("Mul", [network.one(), factor], own(node, f"scale{index}"))
        real = build.op("Cast", [source], own(node, f"real{index}"), to=TensorProto.FLOAT)
        terms.append(build.op("Mul", [real, factor], own(node, f"term{index}")))
    by_channel = np.broadcast_to(offset, unit.shape).astype(np.float32)
    terms[0] = build.op("Add", [terms[0], build.constant(own(node, "offset"), by_channel)], own(node, "biased"))
    return build.added(terms, own(node, "current"))


def _fire_in_integers(
    node: LIF | CubaLIF, threshold: np.ndarray, bias: np.ndarray, outputs: list[str], network: IntegerNetwork
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
    before, after = network.state(node, name)
    build.call(function, [*inputs, *before], [*outputs, *after], **attributes)
    return after


def _through_current(node: CubaLIF, sums: str, bounds: Value, network: IntegerNetwork) -> str:
    """`dynamics.synaptic_current` over time, in 64ths of a mantissa; without the wrap where it cannot happen."""
    build, name, held = network.build, node.name, own(node, "current")
    certified = certificate(node, bounds)
    always = (2 * dynamics.STATE_LIMIT) >> dynamics.FRACTION_BITS  # from sums so large one wrap always leads back
    reach = dynamics.STATE_LIMIT if bounds.magnitude <= always else 2**31
    counted = [output_of(name, WRAPPED)] if name in network.counted[WRAPPED] else []
    before, after = network.state(node, current_of(name))
    function = fixed_point_current_function(wraps=not certified.cannot_wrap, counted=bool(counted), states=network.states)
    build.call(
        function,
        [sums, _kept_share(dynamics.decay_u(node), reach, own(node, "current_share"), build), *before],
        [held, *counted, *after],
    )
    for output in counted:
        build.output(output, TensorProto.INT64, ["T", "B"])
    network.show_after(after, node, current_of(name))
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


def _wrapped_once(node: LIF, sums: str, bounds: Value, network: IntegerNetwork) -> str:
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
