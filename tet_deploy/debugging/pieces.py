"""What sets one network's population apart from another's, as pieces that add up.

Both are given the same potential before a step and the same spikes. The potential after it, before any reset, then differs
by a sum: what each rounding, clipping and wrapping adds. A piece can be taken away by itself, which is what ablation does.

    u(found) = u(expected) + weight rounding + weight clipping + ... + decay + wrap + saturation

All in units of the float network, in float64.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tet_deploy import dynamics
from tet_deploy.debugging import causes
from tet_deploy.debugging.currents import Current, unwrapped
from tet_deploy.debugging.observed import Flow
from tet_deploy.debugging.synapses import Port, bias, ports, unlimited
from tet_deploy.ir.nodes import LEAKY, ON_CHIP, CubaLIF, LeakyReadout, Population, SoftResetLIF
from tet_deploy.ir.values import fraction_bits
from tet_deploy.meaning import through_current
from tet_deploy.passes.snap_to_grid import SIGNIFICANT_BITS
from tet_deploy.units import along, threshold, unit

_MOST_LEVELS = 2**12  # more regular values than that are no rounding that anybody chose


@dataclass(frozen=True, kw_only=True, eq=False)
class Pieces:
    """A population of one network beside that of another, over all steps, [T, B, *shape].

    Attributes
    ----------
    expected
        Distance to the threshold before the reset, of the network that is right; of a readout, what it sends.
    added
        By cause, what the other network adds to it.
    """

    expected: np.ndarray
    added: Mapping[str, np.ndarray]

    @property
    def found(self) -> np.ndarray:
        """Distance to the threshold in the other network."""
        return np.asarray(sum(self.added.values(), start=self.expected))

    def shares(self, where: np.ndarray) -> dict[str, float]:
        """The share of the difference that each cause explains there; they add up to 1, and may lie outside 0..1."""
        total = (self.found - self.expected)[where]
        power = float(np.dot(total, total))
        return {cause: float(np.dot(array[where], total)) / power if power else 0.0 for cause, array in self.added.items()}


def pieces(expected: Population, right: Flow, found: Population, other: Flow, before: np.ndarray) -> Pieces:
    """Take apart what one population of two networks makes of the same spikes.

    Parameters
    ----------
    expected, right
        The population as it should be, and what its network sends.
    found, other
        The same of the other network, which has no batch norm.
    before
        The potential before each step, [T, B, *shape], in units of the float network.
    """
    theirs, ours = ports(found, other), ports(expected, right)
    added: dict[str, np.ndarray] = {}
    own, flows = Current.of(expected, right), Current.of(found, other)
    if theirs is not None and ours is not None and _alike(ours, theirs):
        sums = np.zeros(())
        for name, port in theirs.items():
            for cause, part in _port_pieces(ours[name], port).items():
                added[cause] = added.get(cause, 0.0) + flows.linear(part)
            sums = sums + ours[name].sums(ours[name].layer.weight, ours[name].sent * ours[name].ratio)
        shifted = causes.BIAS if own.takes_bias == flows.takes_bias else causes.BIAS_BEHIND
    else:
        sums = _sums(expected, right, ours)
        turned = expected.quantization is not None and found.quantization is None
        shifted = causes.QUANTIZATION if turned else causes.FOLDING
        added[shifted] = flows.linear(_sums(found, other, theirs) - sums)
    meant, given = (
        np.broadcast_to(along(bias(node, layers or {}), sums.ndim), sums.shape)
        for node, layers in ((expected, ours), (found, theirs))
    )
    current = own.charge(sums, meant) + own.truncated
    before_bias = dataclasses.replace(own, share=flows.share)
    added[shifted] = added.get(shifted, 0.0) + flows.charge(0.0, given) - before_bias.charge(0.0, meant)
    if own.share or flows.share:  # what is added to a current goes on with it
        added[causes.DECAY] = before_bias.charge(sums, meant) + flows.truncated - current
    keeps = isinstance(expected, LEAKY) and isinstance(found, LEAKY)
    if keeps or isinstance(expected, LeakyReadout) or isinstance(found, LeakyReadout):
        kept = _decay(expected, before)
        added[causes.DECAY] = added.get(causes.DECAY, 0.0) + _decay(found, before) - kept
        current = current + kept
    if keeps:
        assert isinstance(expected, LEAKY) and isinstance(found, LEAKY)
        current, added = _without_lost_steps(current, added, _loses(expected, before), _loses(found, before))
        current = current - along(threshold(expected), current.ndim)
        moved = along(threshold(expected) - threshold(found), current.ndim)
        added[causes.THRESHOLD] = np.broadcast_to(moved, current.shape)
    if found.quantization is not None and theirs is not None:
        added |= _limits(found, other, current, added, keeps)
    return Pieces(expected=current, added=added)


def _alike(ours: Mapping[str, Port], theirs: Mapping[str, Port]) -> bool:
    """Whether the same layers end there, fed by maps of the same shape."""
    return list(ours) == list(theirs) and all(ours[name].sent.shape == theirs[name].sent.shape for name in ours)


def _sums(population: Population, flow: Flow, found: Mapping[str, Port] | None) -> np.ndarray:
    """The presynaptic input, without the bias where layers are known, in units of the float network."""
    if found is None:
        return flow.presynaptic(population).astype(np.float64)
    return np.asarray(sum(port.sums(port.layer.weight, port.sent * port.ratio) for port in found.values()))


def _port_pieces(right: Port, found: Port) -> dict[str, np.ndarray]:
    """What one layer adds."""
    same = right.layer.weight.shape == found.layer.weight.shape
    added: dict[str, np.ndarray] = {}
    messages = right.sent * right.ratio
    moved = right.sums(right.layer.weight, messages)
    if not same or _geometry(right) != _geometry(found):
        elsewhere = found.sums(right.layer.weight if same else found.layer.weight, messages)
        if elsewhere.shape != moved.shape:
            elsewhere = np.zeros_like(moved)
        added[causes.BORDER] = elsewhere - moved
        if not same:
            return added
    for cause, part in _weight_pieces(right.layer.weight, found).items():
        added[cause] = found.sums(part, messages)
    for cause, part in _message_pieces(right, found).items():
        added[cause] = found.sums(found.layer.weight, part)
    return added


def _geometry(port: Port) -> tuple[object, ...]:
    layer = port.layer
    return tuple(getattr(layer, name, None) for name in ("stride", "padding", "dilation", "groups"))


def _weight_pieces(right: np.ndarray, port: Port) -> dict[str, np.ndarray]:
    change = port.layer.weight - right
    if not change.any():
        return {}
    limit = np.minimum(port.limit, np.abs(port.layer.weight).max())
    clipped = (np.abs(right) > limit) & (np.abs(port.layer.weight) >= limit * (1 - 1e-9)) & (np.abs(change) > port.step / 2)
    step = np.where(port.step > 0, port.step, _grid(port.layer.weight))
    rounded = ~(clipped & (np.abs(change) > step / 2)) & (np.abs(change) <= step * (0.5 + 1e-6))
    clipped &= ~rounded
    parts = {
        causes.WEIGHT_CLIPPING: np.where(clipped, change, 0.0),
        causes.WEIGHT_ROUNDING: np.where(rounded, change, 0.0),
        causes.WEIGHTS: np.where(clipped | rounded, 0.0, change),
    }
    return {cause: part for cause, part in parts.items() if part.any()}


def _grid(array: np.ndarray) -> np.ndarray:
    """The distance of the coarsest regular values, from 0 on, that hold an array; 0 where there are none."""
    levels = np.unique(np.abs(array))
    levels = levels[levels > 0]
    step = np.diff(levels, prepend=0.0).min(initial=np.inf)
    if levels.size and np.abs(levels / step - np.rint(levels / step)).max() < 1e-3 and levels[-1] < step * _MOST_LEVELS:
        return np.asarray(step)
    bits = fraction_bits(array, most=SIGNIFICANT_BITS)  # of float32, as snapping leaves weights
    return np.asarray(0.0 if bits is None else 2.0**-bits)


def _message_pieces(right: Port, found: Port) -> dict[str, np.ndarray]:
    """What reaches the layer: cut off at the largest message, rounded to whole ones, or read in other units."""
    change, limit = (found.sent - right.sent) * right.ratio, np.abs(found.sent).max()
    clipped = (np.abs(right.sent) > limit) & (np.abs(found.sent) >= limit * (1 - 1e-9))
    parts = {
        causes.MESSAGE_CLIPPING: np.where(clipped, change, 0.0),
        causes.INPUT_ROUNDING: np.where(clipped, 0.0, change),
        causes.INPUT_SCALE: found.sent * _clear(found.ratio - right.ratio),
    }
    return {cause: part for cause, part in parts.items() if part.any()}


def _clear(difference: float) -> float:
    """0 where it is the rounding of two quotients."""
    return difference if abs(difference) > 1e-9 else 0.0


def _decay(node: Population, before: np.ndarray) -> np.ndarray:
    """What is left of the potential; 0 of a readout that keeps none."""
    if not isinstance(node, (*LEAKY, LeakyReadout)):
        return np.zeros_like(before)
    if isinstance(node, (*ON_CHIP, LeakyReadout)) and node.quantization is not None:
        scale = along(unit(node), before.ndim)
        share = along(1 - dynamics.decay_v(node) / dynamics.DECAY_ONE, before.ndim)
        return np.asarray(np.trunc(np.rint(before * scale) * share) / scale)
    kept = np.asarray(before * along(node.decay, before.ndim))
    if not isinstance(node, SoftResetLIF) or node.reset == "subtract":
        return kept
    limit = along(threshold(node), before.ndim)
    return np.asarray(kept - limit * dynamics.COMPARISONS[node.comparison](before, limit))


def _loses(node: Population, before: np.ndarray) -> np.ndarray:
    """The steps after a spike in which nothing flows in, as the reset comes late."""
    if not isinstance(node, CubaLIF) or node.reset == "zero":
        return np.zeros(before.shape, bool)
    return np.asarray(dynamics.COMPARISONS[node.comparison](before, along(threshold(node), before.ndim)))


def _without_lost_steps(
    current: np.ndarray, added: dict[str, np.ndarray], right: np.ndarray, found: np.ndarray
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The potential and what is added to it, where either is 0 in some steps: nothing else counts there."""
    lost = right | found
    if not lost.any():
        return current, added
    own, theirs = np.where(right, 0.0, current), np.where(found, 0.0, current + sum(added.values()))
    added = {cause: np.where(lost, 0.0, part) for cause, part in added.items()}
    added[causes.DECAY] = np.where(lost, theirs - own, added[causes.DECAY])
    return own, added


def _limits(
    found: Population, flow: Flow, expected: np.ndarray, added: Mapping[str, np.ndarray], keeps: bool
) -> dict[str, np.ndarray]:
    """What 24 bit take away: sums that wrap, potentials that are held at the limit."""
    scale = along(unit(found), expected.ndim)
    arriving, whole = flow.presynaptic(found), unlimited(found, flow)
    if isinstance(found, CubaLIF):
        wrap = (through_current(found, arriving) - unwrapped(found, whole)) / scale
    else:
        sums = np.left_shift(arriving, dynamics.FRACTION_BITS)
        wrap = ((dynamics.wrap_once(sums) if keeps else sums) - np.left_shift(whole, dynamics.FRACTION_BITS)) / scale
    if not keeps:
        return {causes.WRAP: wrap}
    assert isinstance(found, ON_CHIP)
    potential = (expected + sum(added.values()) + wrap + along(threshold(found), expected.ndim)) * scale
    held = np.clip(potential, -(dynamics.STATE_LIMIT - 1), None)  # above, it fires whether it is held or not
    return {causes.WRAP: wrap, causes.SATURATION: (held - potential) / scale}
