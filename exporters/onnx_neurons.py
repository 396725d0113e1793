"""The neuron of `dynamics.py` as ONNX functions: one step inside a Scan over time.

A Scan keeps T and B free, and ONNX Runtime inlines the function. The reset is `u - u * s`: a `Where` costs far more there.
Before 1.24 a Scan fails at run time where the shape of its input was not inferred, so the exporter states it.
Both functions take [T, B, ...] and give spikes, and on request membrane potentials after the reset, of the same shape. On
request they begin with a given membrane potential [B, ...] and give the last one, so that a run can go on.
"""

from __future__ import annotations

from collections.abc import Sequence

from onnx import AttributeProto, FunctionProto, NodeProto, TensorProto, helper

from tet_deploy import dynamics

DOMAIN, DOMAIN_VERSION = "tet_deploy", 1
OPSET = 21

_node = helper.make_node


def lif_function(*, potentials: bool, states: bool) -> FunctionProto:
    """`dynamics.lif_step` over time in float32; attributes `decay` and `threshold`; spikes are float32."""
    step = [
        _node("Mul", ["v", "decay"], ["kept"]),
        _node("Add", ["kept", "x"], ["u"]),
        _node("Greater", ["u", "threshold"], ["fires"]),
        _node("Cast", ["fires"], ["spike"], to=TensorProto.FLOAT),
        _node("Mul", ["u", "spike"], ["removed"]),
        _node("Sub", ["u", "removed"], ["v_next"]),
    ]
    attributes = [_attribute("decay", AttributeProto.FLOAT), _attribute("threshold", AttributeProto.FLOAT)]
    return _over_time("LIF", step, TensorProto.FLOAT, TensorProto.FLOAT, ["current"], attributes, potentials, states)


def fixed_point_lif_function(*, potentials: bool, states: bool) -> FunctionProto:
    """`dynamics.fixed_point_lif_step` over time in int32, fed by synaptic sums that are wrapped already; spikes are uint8.

    Inputs besides the sums: `bias`, shifted, broadcasts along the last axis; `share` = (4096 - decay_v) / 4096 in a float
    type in which v * share is exact. Attribute: `threshold`, shifted.

    No value leaves int32: |v| < 2^23, |x| <= 2^23 so that |x << 6| <= 2^29, |bias| <= 2^22 (16 bit << 7).

    The upper limit of v needs no operator: a larger v exceeds every 17-bit threshold << 6, so it fires and is reset.
    """
    step = [
        # A Cast to an integer truncates toward zero, as the chip does. Faster than Div.
        _node("CastLike", ["v", "share"], ["v_float"]),
        _node("Mul", ["v_float", "share"], ["product"]),
        _node("Cast", ["product"], ["kept"], to=TensorProto.INT32),
        _node("Mul", ["x", "fraction"], ["u"]),
        _node("Add", ["kept", "bias"], ["biased"]),
        _node("Add", ["biased", "u"], ["unlimited"]),
        _node("Max", ["unlimited", "lowest"], ["v_full"]),
        _node("Greater", ["v_full", "threshold"], ["fires"]),
        _node("Cast", ["fires"], ["spike"], to=TensorProto.UINT8),
        _node("Cast", ["fires"], ["fired"], to=TensorProto.INT32),
        _node("Mul", ["v_full", "fired"], ["removed"]),
        _node("Sub", ["v_full", "removed"], ["v_next"]),
    ]
    attributes = [
        _attribute("threshold", AttributeProto.INT, "threshold_int64"),
        _node("Cast", ["threshold_int64"], ["threshold"], to=TensorProto.INT32),
        _int32("fraction", 2**dynamics.FRACTION_BITS),
        _int32("lowest", -(dynamics.STATE_LIMIT - 1)),
    ]
    inputs = ["sums", "bias", "share"]
    return _over_time("FixedPointLIF", step, TensorProto.INT32, TensorProto.UINT8, inputs, attributes, potentials, states)


def _over_time(
    name: str,
    step: Sequence[NodeProto],
    state_type: int,
    spike_type: int,
    inputs: Sequence[str],
    constants: Sequence[NodeProto],
    potentials: bool,
    states: bool,
) -> FunctionProto:
    """A function that scans `step` (v, x -> v_next, spike) over the first axis of its first input.

    It begins with v = 0; with `states`, with its last input, `before`, and its last output, `after`, is what v then is.
    """
    step, scanned = list(step), [helper.make_tensor_value_info("spike", spike_type, None)]
    outputs = ["spikes"]
    if potentials:
        name = f"{name}WithPotentials"
        step.append(_node("Identity", ["v_next"], ["potential"]))
        scanned.append(helper.make_tensor_value_info("potential", state_type, None))
        outputs.append("potentials")
    body = helper.make_graph(
        step,
        "step",
        [helper.make_tensor_value_info(value, state_type, None) for value in ("v", "x")],
        [helper.make_tensor_value_info("v_next", state_type, None), *scanned],
    )
    zeros = [
        _node("Shape", [inputs[0]], ["step_shape"], start=1),
        _node("ConstantOfShape", ["step_shape"], ["before"], value=helper.make_tensor("zero", state_type, [1], [0])),
    ]
    scan = _node("Scan", ["before", inputs[0]], ["after", *outputs], body=body, num_scan_inputs=1)
    nodes = [*constants, *([] if states else zeros), scan]
    if states:
        name, inputs, outputs = f"{name}WithStates", [*inputs, "before"], [*outputs, "after"]
    attributes = sorted({a.ref_attr_name for node in constants for a in node.attribute if a.ref_attr_name})
    return helper.make_function(
        DOMAIN, name, list(inputs), outputs, nodes, [helper.make_opsetid("", OPSET)], attributes=attributes
    )


def _attribute(name: str, kind: AttributeProto.AttributeType, output: str | None = None) -> NodeProto:
    """A constant whose value is the attribute of that name in the function's call."""
    node = _node("Constant", [], [output or name])
    value = {AttributeProto.FLOAT: "value_float", AttributeProto.INT: "value_int"}[kind]
    node.attribute.append(AttributeProto(name=value, ref_attr_name=name, type=kind))
    return node


def _int32(name: str, value: int) -> NodeProto:
    return _node("Constant", [], [name], value=helper.make_tensor(name, TensorProto.INT32, [], [value]))
