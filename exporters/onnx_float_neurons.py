"""The neurons of `dynamics.py` in float32 as ONNX functions, see `onnx_scan`.

The reset is `u - u * s`: a `Where` costs far more in ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Sequence

from onnx import AttributeProto, FunctionProto, NodeProto, TensorProto, helper

from tet_deploy.exporters.onnx_scan import Scan, attribute, scanning_function, what_is_seen

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
    scan = Scan("input", TensorProto.FLOAT, {"integrated": ("held", TensorProto.FLOAT)})
    nodes = [attribute("decay", AttributeProto.FLOAT), scan.over(step)]
    return scanning_function("Integrator", "v = decay * v + I", ["input"], nodes, scan, states)


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
    attributes = [attribute(field, AttributeProto.FLOAT) for field in ("decay", "threshold") if field not in by_channel]
    scan = Scan("current", TensorProto.FLOAT, what_is_seen(TensorProto.FLOAT, TensorProto.FLOAT, potentials))
    return scanning_function(name, equation, inputs, [*attributes, scan.over(step)], scan, states)
