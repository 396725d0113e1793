"""What a neuron's constants mean in each framework that writes NIR files.

NIR states tau dv/dt = v_leak - v + r I and says neither how it is integrated nor by which dt; each framework has its own
step, and writes its constants so that they come back right. Ours is

    u = decay * v + I ; spike = u > threshold (or >=) ; v = 0

With `decay` and `gain` of the framework's own step, v' = decay * v + gain * I, the weights stay as they are and the
threshold is (v_threshold - v_reset) / gain. Formulas and comparisons were measured, spike by spike, against SpikingJelly
2.0.0, snnTorch 1.0.0, norse 1.1.0 and Rockpool 3.1.0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tet_deploy.importing.nir.fields import NirNode

STEP = 1e-4  # seconds; what most exporters take for dt
_GAIN_SLACK, _SLACK = 1e-5, 2e-7  # of constants that went through float32
_EXACT = 1e-12  # of constants that did not


class Leak(NamedTuple):
    """One step of a neuron without spikes: v' = decay * v + gain * I."""

    decay: float
    gain: float


@dataclass(frozen=True)
class Source:
    """A framework, and how it writes its neurons.

    Attributes
    ----------
    tell
        How its files are known.
    leak
        From a node, its tau, r and dt to `Leak`.
    integrate
        From a node, its r and dt to the gain of an IF neuron; None where it writes none.
    dt
        Seconds, where neither caller nor file say it; NaN where the constants do.
    comparison
        Of the potential with the threshold at a spike.
    reset
        "file" where v_reset says it, "subtract" where neurons always do that; None where both are written alike.
    subtract
        Which of `ir.nodes.SOFT_RESETS` its neurons have, if they subtract and nobody says more; None if no file has such.
    rests_at_reset
        Whether neurons begin and rest at v_reset, so that it need not be 0.
    current_reset
        The `reset` of its CubaLIF neurons, if they reset to zero and nobody says more; None where it is not known how they
        make a step.
    batched
        Whether shapes begin with the axes of batch and time.
    says_neurons
        Whether the metadata of each neuron say its decay, threshold and comparison.
    """

    name: str
    tell: str
    leak: Callable[[NirNode, float, float, float], Leak]
    integrate: Callable[[NirNode, float, float], float] | None
    dt: float = STEP
    comparison: str = ">"
    reset: str | None = "file"
    subtract: str | None = "subtract"
    rests_at_reset: bool = False
    current_reset: str | None = None
    batched: bool = False
    says_neurons: bool = False


def _euler(node: NirNode, tau: float, r: float, dt: float) -> Leak:
    return Leak(_snapped(1 - dt / tau, tau, r), _snapped_gain(r * dt / tau, tau, r))


def _euler_integrate(node: NirNode, r: float, dt: float) -> float:
    return _snapped_gain(r * dt, r)


def _spikingjelly(node: NirNode, tau: float, r: float, dt: float) -> Leak:
    """tau * dt, with r = 1 where the input decays too (decay_input), else tau."""
    leak = _euler(node, tau, r, dt)
    if r != 1 and leak.gain != 1:
        raise _other_step(node, f"r = {r:g} and tau = {tau:g}", "r is 1 or tau/dt", dt, tau / r)
    return leak


def _spikingjelly_integrate(node: NirNode, r: float, dt: float) -> float:
    gain = _euler_integrate(node, r, dt)
    if gain != 1:
        raise _other_step(node, f"r = {r:g}", "r is 1/dt", dt, 1 / r)
    return gain


def _snntorch(node: NirNode, tau: float, r: float, dt: float) -> Leak:
    """tau = dt / (1 - beta), r = tau / dt."""
    leak = _euler(node, tau, r, dt)
    if leak.gain != 1:
        raise _other_step(node, f"r = {r:g} and tau = {tau:g}", "r is tau/dt", dt, tau / r)
    return leak


def _norse(node: NirNode, tau: float, r: float, dt: float) -> Leak:
    """norse multiplies by dt where it should not (its issue 411): tau is dt / tau_mem_inv."""
    if tau >= dt:
        raise node.refused(
            f"tau = {tau:g} is none that norse 1.1 writes, which is dt times the time constant; with dt = {dt:g} that would "
            f"be {tau / dt:g} seconds",
            f"If {tau:g} is the time constant itself, say source='nir' and dt; else say the dt of the network.",
        )
    _need_one_number(node)
    decay = _snapped(1 - dt * dt / tau, tau, r)
    return Leak(decay, _snapped_gain(r * (1 - decay), r))


def _norse_integrate(node: NirNode, r: float, dt: float) -> float:
    _need_one_number(node)
    return r


def _need_one_number(node: NirNode) -> None:
    sizes = [np.size(node.fields[name]) for name in ("tau", "r", "v_threshold") if name in node]
    if max(sizes) > 1:
        raise node.refused(
            f"norse writes one number for all neurons of a layer; here are {max(sizes)}",
            "Say the source that wrote the file.",
        )


def _rockpool(node: NirNode, tau: float, r: float, dt: float) -> Leak:
    """r = e^-x / x with x = dt / tau, so that dt follows; decay = e^-x and the input is not scaled."""
    rule = "r is e^-x / x with x = dt / tau"
    if not 1e-6 < r < 1e12:
        raise node.refused(f"r = {r:g} is none that Rockpool writes, as {rule}", "Say the source that wrote the file.")
    x = _lambert(1 / r)
    if abs(x * tau - dt) > 1e-3 * dt:  # never where nobody said dt
        raise _other_step(node, f"r = {r:g} and tau = {tau:g}", rule, dt, x * tau)
    return Leak(math.exp(-x), 1.0)


SOURCES = {
    source.name: source
    for source in (
        Source(
            name="spikingjelly",
            tell="nodes such as '_0' and 'input_1', constants in float64",
            leak=_spikingjelly,
            integrate=_spikingjelly_integrate,
            comparison=">=",
            subtract=None,
            rests_at_reset=True,
            current_reset="zero",
        ),
        Source(
            name="snntorch",
            tell="r = tau / 0.0001",
            leak=_snntorch,
            integrate=None,
            reset=None,
            subtract="subtract-delayed",
            current_reset="zero-delayed",
        ),
        Source(
            name="norse",
            tell="constants of a single number, shapes that begin with the batch",
            leak=_norse,
            integrate=_norse_integrate,
            dt=1e-3,
            batched=True,
        ),
        Source(
            name="rockpool",
            tell="nodes such as '1_LIFNeuronTorch'",
            leak=_rockpool,
            integrate=None,
            dt=math.nan,
            comparison=">=",
            reset="subtract",
            batched=True,
        ),
        Source(
            name="tet_deploy",
            tell="an attribute 'producer' of the file; its neurons come back to the last bit",
            leak=_euler,
            integrate=_euler_integrate,
            says_neurons=True,
        ),
        Source(
            name="nir",
            tell="any other: Euler's steps of dt, as NIR's documentation has it",
            leak=_euler,
            integrate=_euler_integrate,
        ),
    )
}


def _other_step(node: NirNode, found: str, rule: str, dt: float, right: float) -> Exception:
    return node.refused(
        f"{found} do not belong to dt = {dt:g}, as {rule} in files of this source",
        f"Say dt={right:.6g}, with which they would, or another source.",
    )


def _snapped(decay: float, *constants: float) -> float:
    """The decay that was meant, where its constants went through float32: of 12 bits, or of 6 decimals."""
    slack = _SLACK if _coarse(*constants) else _EXACT
    if not -1 <= decay <= 1e6:  # none that is meant, and perhaps no finite number
        return decay
    return next((near for near in (round(decay * 4096) / 4096, round(decay, 6)) if abs(decay - near) <= slack), decay)


def _snapped_gain(gain: float, *constants: float) -> float:
    slack = _GAIN_SLACK if _coarse(*constants) else _EXACT
    return 1.0 if abs(gain - 1) <= slack else _snapped(gain, *constants)


def _coarse(*constants: float) -> bool:
    """Whether all are numbers of float32."""
    with np.errstate(over="ignore"):
        return all(float(np.float32(constant)) == constant for constant in constants)


def _lambert(z: float) -> float:
    """The w >= 0 with w e^w = z, by Newton's method; it begins above and comes down."""
    w = math.log1p(z)
    for _ in range(100):
        w -= (w - z * math.exp(-w)) / (1 + w)
    return w
