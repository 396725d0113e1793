"""What a chip's widths make of a neuron's own parameters: decay (12 bit), threshold (17 bit) and bias (13 bit << 0..7).

The error is told as a share of the threshold, of a neuron that a steady input brings there in the T steps of the calibration
frames. With g(c, d) what a steady input of 1 adds up to, through a current of decay c if there is one (0 if not):

    decay      |g(c', d') / g(c, d) - 1|        c' and d' are what 12 bit hold
               + g(0, d') / (64 threshold')     each step cuts off up to 1/64 of the potential
               + g(c', d') / (64 threshold')    and of the current
    threshold  |threshold' / s - threshold| / threshold
    bias       g(0, d') * max |b' / s - b| / threshold     b as the potential is to have it, see `fit.held_bias`

A neuron that fires at its threshold, ">=", may be held one mantissa lower, which is exact where its sums are whole numbers.
Of a leaky readout the first quotient alone counts, which is a share of its potential.
Resets and inputs that come and go make the error smaller than that. Weights are not rounded here but in `calibrate`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from tet_deploy import dynamics
from tet_deploy.errors import GraphError, QuantizationWarning, warn
from tet_deploy.ir.nodes import LIF, CubaLIF, LeakyReadout

TOLD = 0.05  # of the threshold; larger errors are told
REFUSED = 0.25  # and these refused, unless the caller sets another limit


@dataclass(frozen=True, kw_only=True)
class Rounding:
    """A neuron's parameters as the chip holds them, and their errors over T steps as shares of the threshold.

    Attributes
    ----------
    steps
        T.
    decay, current_decay
        As held: multiples of 1/4096. Without a current the latter is 0.
    """

    steps: int
    decay: float
    current_decay: float
    decay_error: float
    threshold_error: float
    bias_error: float

    @property
    def error(self) -> float:
        """All of them together."""
        return self.decay_error + self.threshold_error + self.bias_error


def rounding(trained: LIF | CubaLIF, held: LIF | CubaLIF, bias: np.ndarray | None, steps: int) -> Rounding:
    """What rounding makes of a float neuron's parameters, at worst; its bias is given as `fit.held_bias` makes it.

    Of decays that differ between channels it is that of the worst.

    The neuron has one threshold; the integers that hold it may have one for each channel.
    """
    if isinstance(trained.decay, np.ndarray):
        each = [dataclasses.replace(trained, decay=float(decay)) for decay in np.unique(trained.decay)]
        found = [(node.decay, rounding(node, held, bias, steps)) for node in each]
        return max(found, key=lambda pair: (pair[0] != pair[1].decay == 1.0, pair[1].error))[1]
    assert held.quantization is not None
    scale, decay = np.asarray(held.quantization.scale), 1 - int(dynamics.decay_v(trained)) / dynamics.DECAY_ONE
    current_decay = 1 - dynamics.decay_u(trained) / dynamics.DECAY_ONE
    gain, kept_gain = _gain(trained_current_decay(trained), trained.decay, steps), _gain(current_decay, decay, steps)
    alone = _gain(0.0, decay, steps)  # of what the potential is given by itself
    cut = (alone * (0 < decay < 1) + kept_gain * (current_decay > 0)) / 2**dynamics.FRACTION_BITS
    exact = trained.threshold * scale
    below = np.clip(exact - held.threshold, 0, trained.comparison == ">=")
    off = 0.0
    if bias is not None and held.bias is not None:
        shifted = dynamics.shifted_bias(held.bias, held.quantization.bias_exponent) / 2**dynamics.FRACTION_BITS
        rounded = np.abs(held.bias) < dynamics.LARGEST_BIAS_MANTISSA  # the others were clipped, which is counted elsewhere
        off = float(np.abs(shifted / scale - bias).max(where=rounded, initial=0.0))
    return Rounding(
        steps=steps,
        decay=decay,
        current_decay=current_decay,
        decay_error=abs(kept_gain / gain - 1) + cut / float(np.min(held.threshold)),
        threshold_error=float(np.max(np.abs(held.threshold + below - exact) / exact)),
        bias_error=alone * off / float(np.min(trained.threshold)),
    )


def _trained_decay(node: LIF | CubaLIF | LeakyReadout, found: Rounding) -> float:
    """The decay that was rounded so; of several the farthest from it that is."""
    decays = np.unique(node.decay)
    same = decays[
        np.minimum(np.rint((1 - decays) * dynamics.DECAY_ONE), dynamics.DECAY_ONE - 1)
        == round((1 - found.decay) * dynamics.DECAY_ONE)
    ]
    return float(same[np.argmax(np.abs(same - found.decay))])


def trained_current_decay(node: LIF | CubaLIF | LeakyReadout) -> float:
    """0 where there is no current: what arrives lives one step."""
    return node.current_decay if isinstance(node, CubaLIF) else 0.0


def _gain(current_decay: float, decay: float, steps: int) -> float:
    powers = np.arange(steps, dtype=np.float64)
    return float(np.sum(decay ** powers[::-1] * np.cumsum(current_decay**powers)))


def readout_rounding(trained: LeakyReadout, steps: int) -> Rounding:
    """The same of a leaky readout, of which only the decay is rounded: a share of the potential itself."""
    decay = 1 - int(dynamics.decay_v(trained)) / dynamics.DECAY_ONE
    error = abs(_gain(0.0, decay, steps) / _gain(0.0, trained.decay, steps) - 1)
    return Rounding(steps=steps, decay=decay, current_decay=0.0, decay_error=error, threshold_error=0.0, bias_error=0.0)


def check_rounding(node: LIF | CubaLIF | LeakyReadout, found: Rounding, limit: float) -> None:
    """Tell what rounding changed, where that is more than little.

    Warns
    -----
    QuantizationWarning
        The error exceeds `TOLD`, a decay below 1 became 1, or that of a current did not stay 1, which matters sooner or
        later.

    Raises
    ------
    GraphError
        The error exceeds the limit.
    """
    became = (
        found.decay != _trained_decay(node, found) and found.decay == 1.0
    ) or found.current_decay < trained_current_decay(node) == 1.0
    if not became and found.error <= min(TOLD, limit):
        return
    shares = {"decay": found.decay_error, "threshold": found.threshold_error, "bias": found.bias_error}
    worst = "decay" if became else max(shares, key=lambda name: shares[name])
    what, of = ("its decay", "itself") if isinstance(node, LeakyReadout) else ("decay, threshold and bias", "the threshold")
    message = (
        f"node {node.name!r}: {_change(node, found, worst)}; over {found.steps} steps rounding {what} moves a steady "
        f"potential by {found.error:.2g} of {of}. {_WAYS_OUT[worst]}"
    )
    if found.error > limit:
        raise GraphError(f"{message} rounding_limit={limit:g} refuses it; a larger one lets it pass.")
    warn(message, QuantizationWarning)


def _change(node: LIF | CubaLIF | LeakyReadout, found: Rounding, worst: str) -> str:
    if worst != "decay":
        return f"its {worst} is coarse in the chip's integers"
    decays = {
        "decay": (_trained_decay(node, found), found.decay),
        "current_decay": (trained_current_decay(node), found.current_decay),
    }
    name, (trained, held) = max(decays.items(), key=lambda decay: abs(decay[1][0] - decay[1][1]))
    change = f"{name} {trained:g} is {round(held * dynamics.DECAY_ONE)}/{dynamics.DECAY_ONE} in the chip's 12 bit"
    if trained != held == 1.0:
        return f"{change}: it never leaks"
    return f"{change}, the most that a current keeps" if held != trained == 1.0 else change


_WAYS_OUT = {
    "decay": "Retrain with a decay that is a multiple of 1/4096; that of a current lies below 1.",
    "threshold": "Retrain with smaller weights for the threshold.",
    "bias": "Retrain with a smaller bias for the threshold.",
}


def as_summary(found: Rounding) -> dict[str, float]:
    """For the metadata of a quantized network."""
    return dataclasses.asdict(found)
