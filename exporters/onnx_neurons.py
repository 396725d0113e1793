"""The neuron of `dynamics.py` as ONNX functions: one step inside a Scan over time.

A Scan keeps T and B free, and ONNX Runtime inlines the function. The reset is `u - u * s`: a `Where` costs far more there.
Before 1.24 a Scan fails at run time where the shape of its input was not inferred, so the exporter states it.
All functions take [T, B, ...] and give spikes, and on request membrane potentials after the reset, of the same shape. Decay
and threshold are attributes; those that `by_channel` names are inputs behind the first, which broadcast against a step. On
request they begin with a given membrane potential [B, ...] and give the last one, so that a run can go on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onnx import AttributeProto, FunctionProto, GraphProto, NodeProto, TensorProto, helper

from tet_deploy import dynamics

DOMAIN, DOMAIN_VERSION = "tet_deploy", 1
OPSET = 21  # onnx 1.16, ONNX Runtime 1.19 and later

_node = helper.make_node


def lif_function(comparison: str, by_channel: Sequence[str], *, potentials: bool, states: bool) -> FunctionProto:
    """`dynamics.lif_step` over time in float32; attributes `decay` and `threshold`; spikes are float32."""
    step = [
        _node("Mul", ["v", "decay"], ["kept"]),
        _node("Add", ["kept", "x"], ["u"]),
        *_reaches("u", comparison, "spike"),
        _node("Mul", ["u", "spike"], ["removed"]),
        _node("Sub", ["u", "removed"], ["v_next"]),
    ]
    equation = f"u = decay * v + I ; spike = u {comparison} threshold ; v = 0 where it spikes, u elsewhere"
    return _float_function("LIF", equation, step, comparison, by_channel, potentials, states)


def other_reset_function(
    reset: str, comparison: str, by_channel: Sequence[str], *, potentials: bool, states: bool
) -> FunctionProto:
    """The same of `dynamics.compared` and `after_reset`, for neurons that do not reset to zero at once."""
    owed = [
        *_reaches("v", comparison, "owed"),
        _node("Mul", ["threshold", "owed"], ["late"]),
        _node("Sub", ["w", "late"], ["u"]),
    ]
    zeroed = [*_reaches("v", comparison, "owed"), _node("Mul", ["w", "owed"], ["late"]), _node("Sub", ["w", "late"], ["u"])]
    settled = [_node("Sub", ["spike", "owed"], ["settled"]), _node("Mul", ["threshold", "settled"], ["removed"])]
    name, owed, removed = {
        "subtract": ("SoftResetLIF", [_node("Identity", ["w"], ["u"])], [_node("Mul", ["threshold", "spike"], ["removed"])]),
        "subtract-delayed": ("DelayedSoftResetLIF", owed, []),
        "subtract-twice": ("TwiceSoftResetLIF", owed, settled),
        "zero-delayed": ("DelayedZeroLIF", zeroed, []),
    }[reset]
    step = [
        _node("Mul", ["v", "decay"], ["kept"]),
        _node("Add", ["kept", "x"], ["w"]),
        *owed,
        *_reaches("u", comparison, "spike"),
        *removed,
        _node("Sub", ["u", "removed"], ["v_next"]) if removed else _node("Identity", ["u"], ["v_next"]),
    ]
    equation = {
        "subtract": f"u = decay * v + I ; spike = u {comparison} threshold ; v = u - threshold * spike",
        "subtract-delayed": f"owed = v {comparison} threshold ; u = decay * v + I - threshold * owed ; "
        f"spike = u {comparison} threshold ; v = u",
        "subtract-twice": f"owed = v {comparison} threshold ; u = decay * v + I - threshold * owed ; "
        f"spike = u {comparison} threshold ; v = u - threshold * (spike - owed)",
        "zero-delayed": f"owed = v {comparison} threshold ; u = 0 where owed, decay * v + I elsewhere ; "
        f"spike = u {comparison} threshold ; v = u",
    }[reset]
    return _float_function(name, equation, step, comparison, by_channel, potentials, states)


def integrator_function(*, states: bool) -> FunctionProto:
    """v = decay * v + input over time in float32; attribute `decay`. It gives v of each step.

    That is `dynamics.synaptic_current`, and a leaky readout.
    """
    step = [
        _node("Mul", ["v", "decay"], ["kept"]),
        _node("Add", ["kept", "x"], ["v_next"]),
        _node("Identity", ["v_next"], ["held"]),
    ]
    scan = _Scan("input", TensorProto.FLOAT, {"integrated": ("held", TensorProto.FLOAT)})
    nodes = [_attribute("decay", AttributeProto.FLOAT), scan.over(step)]
    return _function("Integrator", "v = decay * v + I", ["input"], nodes, scan, states)


def fixed_point_integrator_function(*, states: bool) -> FunctionProto:
    """A quantized leaky readout of `dynamics.step` over time in int64; attribute `kept`, 4096 - decay_v."""
    step = [
        _node("Mul", ["v", "kept"], ["product"]),
        _node("Div", ["product", "one"], ["left"]),  # of integers: it truncates toward zero
        _node("Add", ["left", "x"], ["v_next"]),
        _node("Identity", ["v_next"], ["held"]),
    ]
    one = helper.make_tensor("one", TensorProto.INT64, [], [dynamics.DECAY_ONE])
    scan = _Scan("input", TensorProto.INT64, {"integrated": ("held", TensorProto.INT64)})
    nodes = [_attribute("kept", AttributeProto.INT), _node("Constant", [], ["one"], value=one), scan.over(step)]
    equation = "v = truncate(v * kept / 4096) + I, in int64"
    return _function("FixedPointIntegrator", equation, ["input"], nodes, scan, states)


def _reaches(value: str, comparison: str, output: str) -> list[NodeProto]:
    """1 where a value passes the threshold, else 0.

    u >= threshold is said as not u < threshold: ONNX Runtime 1.19 does not know the shape of a GreaterOrEqual in a Scan.
    """
    truth, below = f"{output}_is", f"{output}_is_not"
    compared = {
        ">": [_node("Greater", [value, "threshold"], [truth])],
        ">=": [_node("Less", [value, "threshold"], [below]), _node("Not", [below], [truth])],
    }[comparison]
    return [*compared, _node("Cast", [truth], [output], to=TensorProto.FLOAT)]


def _float_function(
    name: str,
    equation: str,
    step: Sequence[NodeProto],
    comparison: str,
    by_channel: Sequence[str],
    potentials: bool,
    states: bool,
) -> FunctionProto:
    name = {">": name, ">=": f"{name}FromThreshold"}[comparison]
    name += {(): "", ("threshold",): "ByChannel", ("decay",): "DecayByChannel"}.get(tuple(by_channel), "AllByChannel")
    inputs = ["current", *by_channel]
    attributes = [_attribute(field, AttributeProto.FLOAT) for field in ("decay", "threshold") if field not in by_channel]
    scan = _Scan("current", TensorProto.FLOAT, _seen(TensorProto.FLOAT, TensorProto.FLOAT, potentials))
    return _function(name, equation, inputs, [*attributes, scan.over(step)], scan, states)


def fixed_point_current_function(*, wraps: bool, counted: bool, states: bool) -> FunctionProto:
    """`dynamics.synaptic_current` over time in int32, fed by synaptic sums; it gives the current of each step.

    Input besides the sums: `share` = (4096 - decay_u) / 4096 in a float type in which current * share is exact. Where it
    `wraps` it does so once, either way; `counted` adds an output of how many did, int64 [T, B]. No value leaves int32, see
    `dynamics.largest_total`.
    """
    step = [
        *_kept_of("v"),
        _node("Mul", ["x", "fraction"], ["shifted"]),
        _node("Add", ["kept", "shifted"], ["whole"]),
        *(_wrap_once("whole", "v_next") if wraps else [_node("Identity", ["whole"], ["v_next"])]),
        _node("Identity", ["v_next"], ["held"]),
    ]
    constants = [_int32("fraction", 2**dynamics.FRACTION_BITS)]
    if wraps:
        limit = dynamics.STATE_LIMIT
        constants += [_int32("limit", limit), _int32("inside", 1 - limit), _int32("period", 2 * limit)]
    seen = {"current": ("held", TensorProto.INT32)}
    name = "FixedPointCurrentThatWraps" if wraps else "FixedPointCurrent"
    if counted:
        name, seen = f"{name}Counted", {**seen, "wrapped": ("left", TensorProto.INT64)}
        step += [
            _node("Or", ["is_above", "is_below"], ["is_left"]),
            _node("Cast", ["is_left"], ["ones"], to=TensorProto.INT64),
            _node("Flatten", ["ones"], ["flat"], axis=1),
            _node("ReduceSum", ["flat", "last_axis"], ["left"], keepdims=0),
        ]
        constants.append(_last_axis())
    scan = _Scan("sums", TensorProto.INT32, seen)
    equation = f"c = {'wrap(' if wraps else ''}truncate(c * share) + (sums << 6){'), once, into 24 bit' if wraps else ''}"
    return _function(name, equation, ["sums", "share"], [*constants, scan.over(step)], scan, states)


def _kept_of(state: str) -> list[NodeProto]:
    """What is `kept` of a state; a Cast to an integer truncates toward zero, as the chip does. Faster than Div."""
    return [
        _node("CastLike", [state, "share"], ["v_float"]),
        _node("Mul", ["v_float", "share"], ["product"]),
        _node("Cast", ["product"], ["kept"], to=TensorProto.INT32),
    ]


def _wrap_once(value: str, output: str) -> list[NodeProto]:
    """value - 2^24 * ((value > 2^23) - (value <= -2^23)): no value lies on both sides, nor comes to the other."""
    return [
        _node("Greater", [value, "limit"], ["is_above"]),
        _node("Less", [value, "inside"], ["is_below"]),
        _node("Cast", ["is_above"], ["above"], to=TensorProto.INT32),
        _node("Cast", ["is_below"], ["below"], to=TensorProto.INT32),
        _node("Sub", ["above", "below"], ["times"]),
        _node("Mul", ["times", "period"], ["excess"]),
        _node("Sub", [value, "excess"], [output]),
    ]


def fixed_point_lif_function(
    *, by_channel: bool, potentials: bool, states: bool, saturated: bool, shifted: bool = False
) -> FunctionProto:
    """`dynamics.fixed_point_lif_step` over time in int32, fed by synaptic sums that are wrapped already; spikes are uint8.

    With `shifted` they are currents, which are not shifted again.

    Inputs besides the sums: `bias`, shifted, broadcasts along the last axis; `share` = (4096 - decay_v) / 4096 in a float
    type in which v * share is exact. Attribute: `threshold`, shifted.

    No value leaves int32: |v| < 2^23, |x| <= 2^23 so that |x << 6| <= 2^29, |bias| <= 2^22 (16 bit << 7).

    The upper limit of v needs no operator: a larger v exceeds every 17-bit threshold << 6, so it fires and is reset.

    With `saturated`, an output behind the potentials tells how many were held at the lower limit, int64 [T, B]. A first scan
    does not hold them but looks at the least of each step, which costs the same; only where one lies below the limit a
    second one holds and counts.
    """
    threshold = [
        _attribute("threshold", AttributeProto.INT, "threshold_int64"),
        _node("Cast", ["threshold_int64"], ["threshold"], to=TensorProto.INT32),
    ]
    constants = [
        *([] if by_channel else threshold),
        *([] if shifted else [_int32("fraction", 2**dynamics.FRACTION_BITS)]),
        _int32("lowest", dynamics.LOWEST_POTENTIAL),
    ]
    scan = _Scan("sums", TensorProto.INT32, _seen(TensorProto.UINT8, TensorProto.INT32, potentials))
    name, inputs = "FixedPointLIF", ["sums", "bias", "share"]
    if by_channel:
        name, inputs = "FixedPointLIFByChannel", ["sums", "threshold", "bias", "share"]
    if shifted:
        name = f"{name}OfCurrent"
    equation = (
        f"v = max(truncate(v * share) + {'sums' if shifted else '(sums << 6)'} + bias, {dynamics.LOWEST_POTENTIAL}) ; "
        "spike = v > threshold ; v = 0 where it spikes"
    )
    if not saturated:
        return _function(name, equation, inputs, [*constants, scan.over(_fixed_point_step(shifted))], scan, states)
    counted = _Scan("sums", TensorProto.INT32, {**scan.seen, "saturated": ("held", TensorProto.INT64)})
    nodes = [*constants, *_counted_where_held(scan, counted, states, shifted)]
    return _function(f"{name}Counted", equation, inputs, nodes, counted, states)


def _fixed_point_step(shifted: bool, limited: bool = True) -> list[NodeProto]:
    """v, x -> v_next, spike; if not `limited`, v may fall below what 24 bit hold."""
    return [
        *_kept_of("v"),
        _node("Identity", ["x"], ["u"]) if shifted else _node("Mul", ["x", "fraction"], ["u"]),
        _node("Add", ["kept", "bias"], ["biased"]),
        _node("Add", ["biased", "u"], ["unlimited" if limited else "v_full"]),
        *([_node("Max", ["unlimited", "lowest"], ["v_full"])] if limited else []),
        _node("Greater", ["v_full", "threshold"], ["fires"]),
        _node("Cast", ["fires"], ["spike"], to=TensorProto.UINT8),
        _node("Cast", ["fires"], ["fired"], to=TensorProto.INT32),
        _node("Mul", ["v_full", "fired"], ["removed"]),
        _node("Sub", ["v_full", "removed"], ["v_next"]),
    ]


def _counted_where_held(scan: _Scan, counted: _Scan, states: bool, shifted: bool) -> list[NodeProto]:
    """What `counted` gives: that of a scan without the lower limit, and zeros, if no potential has fallen below it."""
    least = {**scan.seen, "least_by_step": ("least", TensorProto.INT32)}
    quick = [*_fixed_point_step(shifted, limited=False), _node("ReduceMin", ["v_full"], ["least"], keepdims=0)]
    count = [
        *_fixed_point_step(shifted),
        _node("Less", ["unlimited", "lowest"], ["is_held"]),
        _node("Cast", ["is_held"], ["ones"], to=TensorProto.INT64),
        _node("Flatten", ["ones"], ["flat"], axis=1),
        _node("ReduceSum", ["flat", "last_axis"], ["held"], keepdims=0),
    ]
    outputs = {name: kind for name, (_, kind) in counted.seen.items()} | ({"after": scan.state_type} if states else {})
    zero = helper.make_tensor("zero", TensorProto.INT64, [1], [0])
    again = counted.over(count, "counted/")
    passed = [_node("Identity", [f"quick/{name}"], [f"passed/{name}"]) for name in outputs if name != "saturated"]
    none = _node("ConstantOfShape", ["layout"], ["passed/saturated"], value=zero)
    return [
        _node("Shape", [scan.x], ["layout"], start=0, end=2),
        _last_axis(),
        _Scan(scan.x, scan.state_type, least).over(quick, "quick/"),
        _node("ReduceMin", ["quick/least_by_step"], ["least_of_all"], keepdims=0),
        _node("Less", ["least_of_all", "lowest"], ["any_held"]),
        _node(
            "If",
            ["any_held"],
            list(outputs),
            then_branch=_branch([again], {f"counted/{name}": kind for name, kind in outputs.items()}),
            else_branch=_branch([*passed, none], {f"passed/{name}": kind for name, kind in outputs.items()}),
        ),
    ]


def _last_axis() -> NodeProto:
    return _node("Constant", [], ["last_axis"], value=helper.make_tensor("last_axis", TensorProto.INT64, [1], [1]))


def _branch(nodes: Sequence[NodeProto], outputs: Mapping[str, int]) -> GraphProto:
    infos = [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()]
    return helper.make_graph(list(nodes), "branch", [], infos)


def _seen(spike_type: int, state_type: int, potentials: bool) -> dict[str, tuple[str, int]]:
    """What a scan gives of each step: by output the value of a step, and its type."""
    spikes = {"spikes": ("spike", spike_type)}
    return spikes | ({"potentials": ("potential", state_type)} if potentials else {})


@dataclass(frozen=True)
class _Scan:
    """A step (v, x -> v_next and what is seen of it) over the first axis of `x`, from the state `before` to `after`."""

    x: str
    state_type: int
    seen: Mapping[str, tuple[str, int]]

    def over(self, step: Sequence[NodeProto], prefix: str = "") -> NodeProto:
        """The scan of such a step; its outputs are `after` and what is seen, behind the prefix."""
        step = [*step]
        if "potentials" in self.seen:
            step.append(_node("Identity", ["v_next"], ["potential"]))
        body = helper.make_graph(
            step,
            "step",
            [helper.make_tensor_value_info(value, self.state_type, None) for value in ("v", "x")],
            [
                helper.make_tensor_value_info(value, kind, None)
                for value, kind in (("v_next", self.state_type), *self.seen.values())
            ],
        )
        outputs = [f"{prefix}{name}" for name in ("after", *self.seen)]
        return _node("Scan", ["before", self.x], outputs, body=body, num_scan_inputs=1)


def _function(
    name: str, equation: str, inputs: Sequence[str], nodes: Sequence[NodeProto], scan: _Scan, states: bool
) -> FunctionProto:
    """A function that gives what a scan sees; its doc string is the equation of a step.

    It begins with v = 0; with `states`, with its last input, `before`, and its last output, `after`, is what v then is.
    """
    name, outputs = f"{name}WithPotentials" if "potentials" in scan.seen else name, [*scan.seen]
    zeros = [
        _node("Shape", [scan.x], ["step_shape"], start=1),
        _node("ConstantOfShape", ["step_shape"], ["before"], value=helper.make_tensor("zero", scan.state_type, [1], [0])),
    ]
    if states:
        name, inputs, outputs, zeros = f"{name}WithStates", [*inputs, "before"], [*outputs, "after"], []
    attributes = sorted({a.ref_attr_name for node in nodes for a in node.attribute if a.ref_attr_name})
    imports = [helper.make_opsetid("", OPSET)]
    begins = "before" if states else "0"
    return helper.make_function(
        DOMAIN,
        name,
        list(inputs),
        outputs,
        [*zeros, *nodes],
        imports,
        attributes=attributes,
        doc_string=f"In each step over the first axis, from {begins} on:  {equation}",
    )


def _attribute(name: str, kind: AttributeProto.AttributeType, output: str | None = None) -> NodeProto:
    """A constant whose value is the attribute of that name in the function's call."""
    node = _node("Constant", [], [output or name])
    value = {AttributeProto.FLOAT: "value_float", AttributeProto.INT: "value_int"}[kind]
    node.attribute.append(AttributeProto(name=value, ref_attr_name=name, type=kind))
    return node


def _int32(name: str, value: int) -> NodeProto:
    return _node("Constant", [], [name], value=helper.make_tensor(name, TensorProto.INT32, [], [value]))
