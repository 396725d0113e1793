"""How far a population strays from what the float one does on the same frames, channel by channel.

    neurons  share of the spikes that differ + mean squared difference of the membrane potentials, in thresholds
    readout  mean squared difference of what it sends, as a share of how far its classes lie apart

A membrane potential counts between -1 and 1 threshold: farther below, it decides no spike for a while, and channels whose
potentials are huge would decide everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch

import numpy as np

from tet_deploy import dynamics
from tet_deploy.errors import GraphError
from tet_deploy.ir.nodes import LIF, CubaLIF, LeakyReadout, Output, Population, Readout
from tet_deploy.meaning import through_current


@dataclass(frozen=True, eq=False)
class Trajectory:
    """What a population sent at each step, and its membrane potentials after it: [T, B, *shape] both."""

    sent: np.ndarray
    potentials: np.ndarray

    @classmethod
    def of(cls, node: Population, presynaptic: np.ndarray) -> Trajectory:
        """Run one population, float or quantized, over all steps of its presynaptic input [T, B, *shape]."""
        v, sent, potentials = np.zeros_like(presynaptic[0]), [], []
        for current in through_current(node, presynaptic):
            out, v = dynamics.step(node, v, current)
            sent.append(out)
            potentials.append(v)
        return cls(np.stack(sent), np.stack(potentials))

    def in_units(self, unit: np.ndarray) -> Trajectory:
        """Of a population whose channels count in these units [C] per unit of the float one's."""
        wide = dynamics.per_channel(unit, self.sent.ndim - 1)
        sent = self.sent if self.sent.dtype == bool else self.sent / wide
        return Trajectory(sent, self.potentials / wide)


@singledispatch
def ties(node: Population, presynaptic: np.ndarray, seen: Trajectory) -> int:
    """How many potentials of a population reach the threshold exactly, before the reset; its input is [T, B, ...]."""
    return 0


@ties.register(LIF)
@ties.register(CubaLIF)
def _(node: LIF | CubaLIF, presynaptic: np.ndarray, seen: Trajectory) -> int:
    before = np.concatenate([np.zeros_like(seen.potentials[:1]), seen.potentials[:-1]])
    reached = before * dynamics.per_channel(node.decay, before.ndim - 1) + through_current(node, presynaptic)
    return int(np.count_nonzero(reached == dynamics.per_channel(node.threshold, before.ndim - 1)))


@singledispatch
def deviation(node: Population, expected: Trajectory, found: Trajectory) -> np.ndarray:
    """Mean deviation of each channel [C] from what is expected, in the units of the float population `node`."""
    raise GraphError(f"node {node.name!r}: a {node.kind} has no form in a Loihi core's integers.")


@deviation.register(LIF)
@deviation.register(CubaLIF)
def _(node: LIF | CubaLIF, expected: Trajectory, found: Trajectory) -> np.ndarray:
    flips = _over_channels(expected.sent != found.sent)
    threshold = dynamics.per_channel(node.threshold, expected.potentials.ndim - 1)
    before, after = (np.clip(seen.potentials / threshold, -1, 1) for seen in (expected, found))
    return np.asarray(flips + _over_channels((after - before) ** 2))


@deviation.register(Readout)
@deviation.register(LeakyReadout)
def _(node: Readout | LeakyReadout, expected: Trajectory, found: Trajectory) -> np.ndarray:
    apart = expected.sent - expected.sent.mean(axis=2, keepdims=True)
    return np.asarray(_over_channels((found.sent - expected.sent) ** 2) / max(float(np.mean(apart**2)), 1e-12))


def _over_channels(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.mean(values, axis=tuple(axis for axis in range(values.ndim) if axis != 2), dtype=np.float64))


def share_differing(node: Population, expected: Trajectory, found: Trajectory) -> float:
    """Share of the spikes that differ; of a readout, of the decisions."""
    if isinstance(node, Output):
        return float(np.mean(expected.sent.mean(axis=0).argmax(axis=1) != found.sent.mean(axis=0).argmax(axis=1)))
    return float(np.mean(expected.sent != found.sent))
