"""Choose the scale of one population: the one whose integers follow the float neuron best on calibration frames.

All synapses into a population share its scale s, or that of their channel (see `passes.threshold_classes`). Scales a factor
of two apart are tried over all that the chip can hold, then finer ones around the best. What counts is the deviation (see
`passes.deviation`): spikes that differ from the float population's, fed by the same messages, then its membrane potential.
Candidates are judged on the same samples, taken evenly from all, and on so many that together they cost about one pass over
them; the best then runs over all, which gives the spikes that the layers behind are calibrated on, and shows how near its
sums came to wrapping.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tet_deploy import dynamics
from tet_deploy.errors import GraphError
from tet_deploy.ir.nodes import ON_CHIP, Output, Population
from tet_deploy.ir.shapes import output_shape
from tet_deploy.meaning import over_time
from tet_deploy.passes.deviation import Trajectory, deviation, share_differing, ties
from tet_deploy.passes.fit import Fit, Port, fits, populations, total_bias
from tet_deploy.passes.messages import Messages
from tet_deploy.passes.scales import Scales, scales, snapped
from tet_deploy.passes.threshold_classes import Candidate, try_classes
from tet_deploy.units import MANTISSA, ByChannel

_FINER = (2.0**0.5, 2.0**0.25, 2.0**0.125)  # factors tried around the best, one after the other
_TIE = 1e-6  # deviations that differ by less, relatively, are equal: sums of floats depend on their order
_FEW, _MANY = 2**20, 2**24  # values on which all candidates are judged: at least, and at most, if there are as many
_AT_ONCE = 2**21  # values that a pass over all samples holds at a time


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """The integers that were taken, and what they do on the calibration frames.

    Attributes
    ----------
    deviation
        From the float population, on the samples that it was judged on: see `passes.deviation`.
    differing
        Share of the spikes, or of a readout's decisions, that differ there.
    ties
        Share of the float potentials that reach the threshold exactly there, where ">" and ">=" differ.
    sent
        What the population sends; None for a readout.
    largest_sum
        Largest magnitude of a presynaptic sum, or of a synaptic current in the same units, on all samples.
    least_potential
        Of the membrane potentials on all samples, in 64ths of a weight mantissa; 0 of a readout, which keeps none.
    """

    fit: Fit
    deviation: float
    differing: float
    ties: float
    sent: Messages | None
    largest_sum: int
    least_potential: int


def calibrate(node: Population, ports: Sequence[Port], threshold_classes: int = 1) -> Calibrated:
    """The best integers for a population, with what it sends on the calibration frames.

    Parameters
    ----------
    node
        A float population with one threshold, see `fit.with_one_threshold`.
    ports
        Its synapses, in the order of its inputs.
    threshold_classes
        How many scales, and so thresholds in integers, its channels may have at most.

    Raises
    ------
    GraphError
        No scale fits weights, bias and threshold into the chip's integers without wrapping.
    """
    populations(node, None, 1.0)  # refuses what has no integers
    rough = _Judge(node, ports, candidates=60)
    interval = scales(node, ports, rough.seen)
    for scale in interval.coarse():
        rough.try_scale(scale)
    judge = _Judge(node, ports, candidates=10 if threshold_classes == 1 else 20)
    for candidate in rough.ranking(interval)[:1]:
        judge.try_scale(candidate.fit.scale)
    for factor in _FINER:
        for best in judge.ranking(interval)[:1]:
            for scale in (best.fit.scale / factor, best.fit.scale * factor):
                if interval.least <= scale <= interval.greatest:
                    judge.try_scale(scale)
    if threshold_classes > 1 and isinstance(node, ON_CHIP):
        try_classes(judge, rough.candidates(), threshold_classes)
    least_that_wraps = math.inf
    for candidate in judge.ranking(interval) + rough.ranking(interval):
        if np.max(candidate.fit.scale) < least_that_wraps:
            sent, largest, least = _run_all(candidate.fit, ports)
            if largest <= dynamics.LARGEST_SYNAPTIC_SUM:
                return Calibrated(
                    fit=candidate.fit,
                    deviation=candidate.deviation,
                    differing=candidate.differing,
                    ties=judge.ties,
                    sent=sent,
                    largest_sum=largest,
                    least_potential=least,
                )
            least_that_wraps = float(np.max(candidate.fit.scale))
    raise GraphError(
        f"node {node.name!r}: its sums do not fit the chip's 24 bit at any scale: with weights of 1 they are still "
        f"{rough.least_sum / dynamics.LARGEST_SYNAPTIC_SUM:.3g} times too large on the calibration frames. "
        "Split the layer, prune its weights, or send it smaller frames."
    )


class _Judge:
    """Tries scales, each on the same samples; remembers those that do not wrap there."""

    def __init__(self, node: Population, ports: Sequence[Port], candidates: int) -> None:
        self.node, self.ports = node, ports
        self.seen = _judged(ports, candidates)
        presynaptic = float_input(ports, self.seen)
        self.expected = Trajectory.of(node, presynaptic)
        self.ties = ties(node, presynaptic, self.expected) / presynaptic.size
        self.tried: dict[ByChannel, list[Candidate]] = {}
        self.least_sum = math.inf

    def candidates(self) -> list[Candidate]:
        """All that were tried and do not wrap."""
        return [candidate for found in self.tried.values() for candidate in found]

    def try_scale(self, scale: ByChannel) -> list[Candidate]:
        """What the population is at this scale: nothing where it wraps, several where it rounds in more than one way."""
        scale = snapped(self.node, scale)
        if scale in self.tried:
            return self.tried[scale]
        self.tried[scale] = found = []
        sums: np.ndarray | None = None
        for fit in fits(self.node, self.ports, scale):
            sums = _integer_input(fit, self.ports, self.seen) if sums is None else sums  # they differ in their biases alone
            largest = largest_sum(fit.population, sums)
            self.least_sum = min(self.least_sum, largest)
            if largest <= dynamics.LARGEST_SYNAPTIC_SUM:
                unit = np.broadcast_to(np.asarray(scale) * MANTISSA, sums.shape[2:3])
                shown = Trajectory.of(fit.population, sums).in_units(unit)
                errors = deviation(self.node, self.expected, shown)
                found.append(Candidate(fit, errors, share_differing(self.node, self.expected, shown)))
        return found

    def ranking(self, interval: Scales) -> list[Candidate]:
        """The least deviation first; of those that tie, what clips least and lies nearest to the usual scale."""

        def order(candidate: Candidate) -> tuple[float, ...]:
            scale = np.asarray(candidate.fit.scale)
            away = float(np.mean(np.abs(np.log(scale / interval.usual))))
            return (candidate.fit.clipped_biases, candidate.fit.clipped_weights, away, -float(np.mean(scale)))

        left, ranked = self.candidates(), []
        while left:
            least = min(candidate.cost for candidate in left)
            tied = [candidate for candidate in left if candidate.cost <= least * (1 + _TIE) + 1e-12]
            ranked += sorted(tied, key=order)
            left = [candidate for candidate in left if candidate not in tied]
        return ranked


def _judged(ports: Sequence[Port], candidates: int) -> list[np.ndarray]:
    """What each port receives of the samples that candidates are judged on: integers [T, B, ...].

    So many that these candidates together cost one pass over all samples; evenly from all, which may be sorted.
    """
    messages, values = ports[0].messages, _values(ports) * candidates
    share, few, many = -(-messages.samples // candidates), -(-_FEW // values), max(1, _MANY // values)
    count = min(max(share, few), many, messages.samples)
    chosen = [index * messages.samples // count for index in range(count)]
    return [np.concatenate([port.messages.read(index, index + 1) for index in chosen], axis=1) for port in ports]


def _values(ports: Sequence[Port]) -> int:
    """Values of one sample over all steps, on the widest edge: messages or membrane potentials."""
    return ports[0].messages.steps * max(math.prod(shape) for shape in (_shape(ports), *(p.messages.shape for p in ports)))


def _shape(ports: Sequence[Port]) -> tuple[int, ...]:
    return output_shape(ports[0].node, (ports[0].messages.shape,))


def float_input(ports: Sequence[Port], seen: Sequence[np.ndarray]) -> np.ndarray:
    """Presynaptic input [T, B, ...] of the float population, fed by what the integer network sends."""
    total: np.ndarray | None = None
    for port, messages in zip(ports, seen, strict=True):
        part = over_time(dataclasses.replace(port.node, bias=None), [messages]) / port.scale
        total = part if total is None else total + part
    assert total is not None
    bias = total_bias([port.node for port in ports])
    return total if bias is None else total + dynamics.per_channel(bias, total.ndim - 1)


def _integer_input(fit: Fit, ports: Sequence[Port], seen: Sequence[np.ndarray]) -> np.ndarray:
    """Presynaptic sums, int64 [T, B, ...]; no port wraps, as none of its sums exceeds a population's."""
    total: np.ndarray | None = None
    for port, messages, weights in zip(ports, seen, fit.weights, strict=True):
        whole = sum(array.astype(np.int64) for array in weights)  # several add up to one layer's
        layer = dataclasses.replace(port.node, weight=np.asarray(whole), bias=None)
        part = over_time(layer, [messages]).astype(np.int64)
        total = part if total is None else total + part
    assert total is not None
    return total


def largest_sum(population: Population, sums: np.ndarray) -> int:
    """The largest magnitude of sums [T, B, ...], or of the current that they flow into, in mantissas."""
    largest, current = 0, np.zeros_like(sums[0])
    for step in sums:
        current = dynamics.unwrapped_current(population, current, step)
        largest = max(largest, int(np.abs(current).max()))
    return -(-largest >> dynamics.FRACTION_BITS)


def _run_all(fit: Fit, ports: Sequence[Port]) -> tuple[Messages | None, int, int]:
    """What the fit sends on all samples, its largest sum and its least potential; it stops at a sum that would wrap."""
    largest, least, sends = 0, 0, not isinstance(fit.population, Output)
    sent = Messages(ports[0].messages.steps, _shape(ports))
    size = max(1, _AT_ONCE // _values(ports))
    for start in range(0, ports[0].messages.samples, size):
        sums = _integer_input(fit, ports, [port.messages.read(start, start + size) for port in ports])
        largest = max(largest, largest_sum(fit.population, sums))
        if largest > dynamics.LARGEST_SYNAPTIC_SUM:
            break
        if sends:
            found = Trajectory.of(fit.population, sums)
            sent.append(found.sent)
            least = min(least, int(found.potentials.min()))
    return sent if sends else None, largest, least
