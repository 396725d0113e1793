"""The neuron of a Loihi core in float32, exact: half the time of its integers in ONNX Runtime.

All is a whole number: membrane potentials and currents within 2^24, where float32 holds every one. The function computes
w = -v, so that a reset is one operator, ThresholdedRelu: w where w > -threshold - 1, else 0.

    decay 1     w keeps its value
    decay 1/2   truncate(w / 2) is the whole number nearest to w * HALF: of an odd w the product lies below |w| / 2, by less
                than 1/2. Adding -LIFT rounds to it, since float32 holds whole numbers only from 2^23 to 2^24, and the
                current brings the LIFT back; where v can be held at its limit both may not fit 24 bits, and Round rounds.

Sums so large that one wrap leaves them outside 24 bit are rounded, by far less than what they lie beyond the limits: such a
neuron fires, or is held. Other decays make products of up to 35 bits, and stay integers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import FunctionProto, NodeProto, TensorProto, helper

from tet_deploy import dynamics
from tet_deploy.exporters.onnx_scan import Scan, scanning_function, what_is_seen
from tet_deploy.ir.certificates import Certificate
from tet_deploy.ir.nodes import LIF

HALF = float(np.nextafter(np.float32(0.5), np.float32(0)))
LIFT = 3 * 2**22  # the middle between 2^23 and 2^24: |w * HALF| < 2^22
_HALVES, _KEEPS = dynamics.DECAY_ONE // 2, 0  # 12-bit decays

_node = helper.make_node


@dataclass(frozen=True)
class FloatForm:
    """How a step goes: whether it halves, and whether it holds potentials at the lower limit."""

    halves: bool
    held: bool

    @property
    def lift(self) -> int:
        """What the current brings besides."""
        return LIFT if self.halves and not self.held else 0


def float32_holds(node: LIF) -> bool:
    """Whether float32 computes the node's integers without rounding, whatever its current."""
    return bool(np.isin(dynamics.decay_v(node), (_HALVES, _KEEPS)).all() and np.ptp(dynamics.decay_v(node)) == 0)


def float_form(node: LIF, certified: Certificate) -> FloatForm:
    """The form for a node that `float32_holds`."""
    return FloatForm(halves=dynamics.decay_v(node).max() == _HALVES, held=not certified.cannot_saturate)


def float_lif_function(
    form: FloatForm, threshold: int | None, *, potentials: bool, states: bool, to_floats: bool
) -> FunctionProto:
    """`dynamics.fixed_point_lif_step` over time, of -v, fed by `lift` - shifted current - bias; spikes are uint8 or floats.

    One for each shifted threshold, as the evaluator of ONNX refers to no attribute of a call from inside a scan; or, without
    one, an input `fires_below`, -threshold, by channel.
    """
    step, constants, kept = [], [], "v"
    if form.halves:
        constants.append(_float("half", HALF))
        step.append(_node("Mul", ["v", "half"], ["product"]))
        if form.held:
            step.append(_node("Round", ["product"], ["kept"]))
        else:
            constants.append(_float("lowered", -LIFT))
            step.append(_node("Add", ["product", "lowered"], ["kept"]))
        kept = "kept"
    step.append(_node("Add", [kept, "x"], ["unlimited" if form.held else "w"]))
    if form.held:
        constants.append(_float("limit", -dynamics.LOWEST_POTENTIAL))
        step.append(_node("Min", ["unlimited", "limit"], ["w"]))
    kind = TensorProto.FLOAT if to_floats else TensorProto.UINT8
    name, inputs = f"FixedPointLIFInFloat{'s' if to_floats else ''}", ["current"]
    if threshold is None or not to_floats:
        step += [_node("Less", ["w", "fires_below"], ["fires"]), _node("Cast", ["fires"], ["spike"], to=kind)]
    if threshold is None:
        name, inputs = f"{name}ByChannel", ["current", "fires_below"]
        if to_floats:
            step += [_node("Mul", ["w", "spike"], ["removed"]), _node("Sub", ["w", "removed"], ["v_next"])]
        else:
            step += [
                _node("Not", ["fires"], ["stays"]),
                _node("Cast", ["stays"], ["left"], to=TensorProto.FLOAT),
                _node("Mul", ["w", "left"], ["v_next"]),
            ]
    else:
        name += f"Above{threshold}"
        step.append(_node("ThresholdedRelu", ["w"], ["v_next"], alpha=float(-threshold - 1)))
        constants += [] if to_floats else [_float("fires_below", -threshold)]
    name += ("Halved" if form.halves else "") + ("Held" if form.held else "")
    total = f"{'truncate(v / 2)' if form.halves else 'v'} + I"
    limited = f"max({total}, {dynamics.LOWEST_POTENTIAL})" if form.held else total
    fed = f"{LIFT} - I" if form.lift else "-I"
    equation = (
        f"v = {limited} ; spike = v > {'threshold' if threshold is None else threshold} ; v = 0 where it spikes.  "
        f"In whole numbers that float32 holds, of w = -v; current = {fed}"
    )
    scan = Scan("current", TensorProto.FLOAT, what_is_seen(kind, TensorProto.FLOAT, potentials))
    if threshold is None or not to_floats:
        return scanning_function(name, equation, inputs, [*constants, scan.over(step)], scan, states)
    # Of all steps at once and of whole numbers: min(max(-w - threshold, 0), 1).
    fires = _node("HardSigmoid", ["compared"], ["spikes"], alpha=-1.0, beta=float(-threshold))
    compared = {"compared": ("w", kind)} | {key: value for key, value in scan.seen.items() if key != "spikes"}
    nodes = [*constants, Scan(scan.x, scan.state_type, compared).over(step), fires]
    return scanning_function(name, equation, inputs, nodes, scan, states)


def _float(name: str, value: float) -> NodeProto:
    return _node("Constant", [], [name], value=helper.make_tensor(name, TensorProto.FLOAT, [], [value]))
