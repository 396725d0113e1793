"""Does a layer compute what its node means? Value by value over all steps, up to float rounding.

The node is evaluated by `meaning`, in float64, on what the layer was given. What the layer gave may then differ by the
rounding of its own arithmetic, and by that of the node's arrays, which are float32 copies. The bound on both is derived for
each kind of node: a sum of n products, in whatever order, is off by at most n * unit * (|w1 x1| + ... + |wn xn|) (Higham,
Accuracy and Stability of Numerical Algorithms, 2002, section 3.1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import singledispatch

import numpy as np

from tet_deploy import dynamics
from tet_deploy.dynamics import per_channel
from tet_deploy.errors import GraphError
from tet_deploy.ir.nodes import (
    LEAKY,
    LIF,
    Add,
    AvgPool,
    BatchNorm,
    Conv,
    CubaLIF,
    Flatten,
    LeakyReadout,
    Linear,
    Node,
    Readout,
    SoftResetLIF,
)
from tet_deploy.meaning import State, evaluate

STORED = 2.0**-24  # a number kept as float32 is off by at most this share of it
DOUBLE = 2.0**-53  # the same of float64, and of each operation in it


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Where a layer and its node differ by more than rounding explains.

    Attributes
    ----------
    node
        Name of the node.
    step, sample, neuron
        Where: step and sample from 0, index of the neuron, (c, h, w) or (n,).
    expected, found
        What the node means there, and what the layer gave; spikes as 0 and 1.
    rounding
        How far rounding may move the value, or for a spike the membrane potential.
    distance
        For a spike: membrane potential, before the reset, minus threshold. None for other values.
    """

    node: str
    step: int
    sample: int
    neuron: tuple[int, ...]
    expected: float
    found: float
    rounding: float
    distance: float | None = None

    def __str__(self) -> str:
        if self.distance is None:
            what = f"gives {self.found:.6g}, its node {self.expected:.6g}: {abs(self.found - self.expected):.2g} away"
        else:
            side = "above" if self.distance > 0 else "below"
            what = (
                f"{'fires' if self.found else 'is silent'} where its potential is {abs(self.distance):.2g} {side} threshold"
            )
        where = f"neuron {self.neuron}, step {self.step}, sample {self.sample}"
        return f"{what} ({where}); float rounding explains {self.rounding:.1g}"


def node_difference(
    node: Node, inputs: Sequence[np.ndarray], found: np.ndarray, *, unit: float = DOUBLE
) -> Difference | None:
    """The first place where values that a layer gave are not those of its node.

    Parameters
    ----------
    node
        Of a float network.
    inputs
        What the layer was given, [T, B, ...] for each input of the node.
    found
        What it gave, [T, B, ...].
    unit
        Rounding unit of the layer's arithmetic: 2**-53 for float64, 2**-24 for float32.

    Returns
    -------
    Difference or None
        None where all values agree up to rounding, and all spikes but those within rounding of the threshold.
    """
    if isinstance(node, LEAKY):
        return _neurons_difference(node, inputs[0], found, unit)
    state: State = {}
    carried: np.ndarray | float = 0.0  # how far what a leaky readout keeps may be off
    for step, frames in enumerate(zip(*inputs, strict=True)):
        x = [np.asarray(frame, np.float64) for frame in frames]
        kept = np.abs(state.get(node.name, np.zeros(())))
        expected, bound = evaluate(node, x, state), rounding(node, x, unit)
        if isinstance(node, LeakyReadout):
            bound = carried = node.decay * (carried + 3 * unit * kept) + bound
        with np.errstate(invalid="ignore"):  # both may be infinite
            wrong = ~(np.abs(found[step] - expected) <= bound) & ~np.equal(found[step], expected)
        if wrong.any():
            sample, *neuron = place = _first(wrong)
            return Difference(
                node=node.name,
                step=step,
                sample=sample,
                neuron=tuple(neuron),
                expected=float(expected[place]),
                found=float(found[step][place]),
                rounding=float(np.broadcast_to(bound, wrong.shape)[place]),
            )
    return None


def _neurons_difference(
    node: LIF | SoftResetLIF | CubaLIF, current: np.ndarray, found: np.ndarray, unit: float
) -> Difference | None:
    """Spikes that differ though the membrane potential lies farther from the threshold than rounding explains."""
    decay, threshold = (per_channel(each, current.ndim - 1) for each in (node.decay, node.threshold))
    v = np.zeros(current.shape[1:])
    bound = np.zeros(current.shape[1:])  # on the membrane potential
    held, held_bound = np.zeros_like(v), np.zeros_like(v)  # of a synaptic current
    for step, arriving in enumerate(np.asarray(current, np.float64)):
        presynaptic, off = arriving, np.zeros(())
        if isinstance(node, CubaLIF):
            held_bound = node.current_decay * (held_bound + 3 * unit * np.abs(held)) + 3 * unit * np.abs(arriving)
            presynaptic, off = dynamics.synaptic_current(node, held, arriving), held_bound
            held = presynaptic
        bound = decay * bound + off + 3 * unit * (decay * np.abs(v) + np.abs(presynaptic))
        u = dynamics.compared(node, v, presynaptic)
        distance, spikes = u - threshold, dynamics.step(node, v, presynaptic)[0]
        differs = np.not_equal(found[step], spikes)
        slack = bound + unit * threshold
        close = (np.abs(distance) <= slack) & np.isin(found[step], (0, 1))
        if (differs & ~close).any():
            sample, *neuron = place = _first(differs & ~close)
            return Difference(
                node=node.name,
                step=step,
                sample=sample,
                neuron=tuple(neuron),
                expected=float(spikes[place]),
                found=float(found[step][place]),
                rounding=float(slack[place]),
                distance=float(distance[place]),
            )
        v = dynamics.after_reset(node, v, u, found[step])  # from here on as the layer
        bound = np.where(found[step], 0, bound) if node.reset == "zero" else slack + unit * threshold
    return None


def _first(wrong: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(wrong)), wrong.shape))


@singledispatch
def rounding(node: Node, inputs: Sequence[np.ndarray], unit: float) -> np.ndarray | float:
    """How far a layer's values may lie from its node's, for inputs [B, ...]; broadcasts against the output."""
    raise GraphError(f"node {node.name!r}: there is no rule for how a {node.kind} rounds.")


@rounding.register(Conv)
@rounding.register(Linear)
def _(node: Conv | Linear, inputs: Sequence[np.ndarray], unit: float) -> np.ndarray | float:
    (x,) = inputs
    fan_in = node.weight[0].size + 1  # terms of each sum, the bias among them
    total = np.abs(node.weight.astype(np.float64)).reshape(len(node.weight), -1).sum(axis=1) * np.abs(x).max()  # at most
    if node.bias is not None:
        total = total + np.abs(node.bias)
    return per_channel(total * (fan_in * unit + STORED), x.ndim)


@rounding.register
def _(node: BatchNorm, inputs: Sequence[np.ndarray], unit: float) -> np.ndarray | float:
    (x,) = inputs
    gain = np.abs(node.gamma.astype(np.float64)) / np.sqrt(node.variance.astype(np.float64) + node.epsilon)
    gain, mean, beta = (per_channel(np.abs(vector), x.ndim) for vector in (gain, node.mean, node.beta))
    total = gain * (np.abs(x) + mean) + beta
    # stored: gamma and mean or beta, and half of the variance's, under the root; arithmetic: eight operations at most
    return np.asarray(total * (8 * unit + 2.5 * STORED))


@rounding.register
def _(node: AvgPool, inputs: Sequence[np.ndarray], unit: float) -> np.ndarray | float:
    return np.asarray(evaluate(node, [np.abs(inputs[0])], {}) * (math.prod(node.kernel) + 1) * unit)


@rounding.register
def _(node: Add, inputs: Sequence[np.ndarray], unit: float) -> np.ndarray | float:
    return np.asarray(sum(np.abs(x) for x in inputs) * (len(inputs) - 1) * unit)


@rounding.register(Flatten)
@rounding.register(Readout)
def _(node: Flatten | Readout, inputs: Sequence[np.ndarray], unit: float) -> np.ndarray | float:
    return 0.0


@rounding.register
def _(node: LeakyReadout, inputs: Sequence[np.ndarray], unit: float) -> np.ndarray | float:
    """Of one step; what it keeps is off as well."""
    return np.asarray(sum(np.abs(x) for x in inputs) * (len(inputs) + 1) * unit)
