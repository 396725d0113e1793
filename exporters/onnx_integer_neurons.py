"""The neuron of `dynamics.py` in a Loihi core's integers as ONNX functions, see `onnx_scan`."""

from __future__ import annotations

from onnx import AttributeProto, FunctionProto, NodeProto, TensorProto, helper

from tet_deploy import dynamics
from tet_deploy.exporters.onnx_scan import Scan, attribute, branch, scanning_function, what_is_seen

_node = helper.make_node


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
    scan = Scan("sums", TensorProto.INT32, seen)
    equation = f"c = {'wrap(' if wraps else ''}truncate(c * share) + (sums << 6){'), once, into 24 bit' if wraps else ''}"
    return scanning_function(name, equation, ["sums", "share"], [*constants, scan.over(step)], scan, states)


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
        attribute("threshold", AttributeProto.INT, "threshold_int64"),
        _node("Cast", ["threshold_int64"], ["threshold"], to=TensorProto.INT32),
    ]
    constants = [
        *([] if by_channel else threshold),
        *([] if shifted else [_int32("fraction", 2**dynamics.FRACTION_BITS)]),
        _int32("lowest", dynamics.LOWEST_POTENTIAL),
    ]
    scan = Scan("sums", TensorProto.INT32, what_is_seen(TensorProto.UINT8, TensorProto.INT32, potentials))
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
        return scanning_function(name, equation, inputs, [*constants, scan.over(_fixed_point_step(shifted))], scan, states)
    counted = Scan("sums", TensorProto.INT32, {**scan.seen, "saturated": ("held", TensorProto.INT64)})
    nodes = [*constants, *_counted_where_held(scan, counted, states, shifted)]
    return scanning_function(f"{name}Counted", equation, inputs, nodes, counted, states)


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


def _counted_where_held(scan: Scan, counted: Scan, states: bool, shifted: bool) -> list[NodeProto]:
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
        Scan(scan.x, scan.state_type, least).over(quick, "quick/"),
        _node("ReduceMin", ["quick/least_by_step"], ["least_of_all"], keepdims=0),
        _node("Less", ["least_of_all", "lowest"], ["any_held"]),
        _node(
            "If",
            ["any_held"],
            list(outputs),
            then_branch=branch([again], {f"counted/{name}": kind for name, kind in outputs.items()}),
            else_branch=branch([*passed, none], {f"passed/{name}": kind for name, kind in outputs.items()}),
        ),
    ]


def fixed_point_integrator_function(*, states: bool) -> FunctionProto:
    """A quantized leaky readout of `dynamics.step` over time in int64; attribute `kept`, 4096 - decay_v."""
    step = [
        _node("Mul", ["v", "kept"], ["product"]),
        _node("Div", ["product", "one"], ["left"]),  # of integers: it truncates toward zero
        _node("Add", ["left", "x"], ["v_next"]),
        _node("Identity", ["v_next"], ["held"]),
    ]
    one = helper.make_tensor("one", TensorProto.INT64, [], [dynamics.DECAY_ONE])
    scan = Scan("input", TensorProto.INT64, {"integrated": ("held", TensorProto.INT64)})
    nodes = [attribute("kept", AttributeProto.INT), _node("Constant", [], ["one"], value=one), scan.over(step)]
    equation = "v = truncate(v * kept / 4096) + I, in int64"
    return scanning_function("FixedPointIntegrator", equation, ["input"], nodes, scan, states)


def _last_axis() -> NodeProto:
    return _node("Constant", [], ["last_axis"], value=helper.make_tensor("last_axis", TensorProto.INT64, [1], [1]))


def _int32(name: str, value: int) -> NodeProto:
    return _node("Constant", [], [name], value=helper.make_tensor(name, TensorProto.INT32, [], [value]))
