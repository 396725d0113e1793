"""A population in integers: its weights, threshold and bias at given scales, and what of it a Loihi core can hold."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import singledispatch

import numpy as np

from tet_deploy import dynamics
from tet_deploy.errors import GraphError
from tet_deploy.ir.nodes import LIF, Conv, Linear, Population, Quantization, Readout
from tet_deploy.passes.messages import Messages

THRESHOLD_BITS = 17
READOUT_BITS = 32
MOST_PARTS = 8  # synapse nodes that add up to one layer
_LARGEST_BIAS = dynamics.LARGEST_BIAS_MANTISSA << dynamics.LARGEST_BIAS_EXPONENT  # in 1/64
_DECISIVE = 16  # thresholds; a neuron with a larger bias fires always or never


@dataclass(frozen=True, kw_only=True)
class Port:
    """One float synapse node, and the integers that reach it on the calibration frames.

    Attributes
    ----------
    messages
        What it receives.
    scale
        Messages per unit of the float network; 1 for spikes.
    limit
        Largest magnitude of a weight's integer.
    """

    node: Conv | Linear
    messages: Messages
    scale: float
    limit: int


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A population in integers.

    Attributes
    ----------
    scale
        Integer units per unit of membrane potential.
    weights
        For each port int8 weights; several arrays where they have to add up, each to a synapse node of its own.
    population
        With integer threshold and bias; its inputs are still those of the float population.
    clipped_weights, clipped_biases
        Share of the weights, and of the channels' biases, that were clipped.
    """

    scale: float
    weights: tuple[tuple[np.ndarray, ...], ...]
    population: Population
    clipped_weights: float
    clipped_biases: float


def total_bias(nodes: Sequence[Conv | Linear]) -> np.ndarray | None:
    """The bias of all synapse nodes of a population together, float64 [C]; None where there is none."""
    found = [node.bias.astype(np.float64) for node in nodes if node.bias is not None]
    return None if not found else np.sum(found, axis=0)


def adds_up(port: Port, ports: Sequence[Port]) -> bool:
    """Whether the port's weights may be spread over several synapse nodes: an identity's, beside other ports."""
    return len(ports) > 1 and is_uniform(port.node)


def is_uniform(node: Conv | Linear) -> bool:
    """Whether all weights but zeros are equal, as those of an identity are."""
    used = node.weight[node.weight != 0]
    return used.size > 0 and bool((used == used[0]).all())


def fits(node: Population, ports: Sequence[Port], scale: float) -> list[Fit]:
    """The population at one scale: none where the chip cannot hold it; several where it can be rounded in several ways.

    Small biases may be held finer than all of them, and the threshold of a neuron that fires at it one below.
    """
    exact = [np.rint(port.node.weight.astype(np.float64) * (scale / port.scale)) for port in ports]
    spread = [adds_up(port, ports) for port in ports]
    if not any(w.any() for w in exact) and any(port.node.weight.any() for port in ports):
        return []
    if any(same and np.abs(w).max() > MOST_PARTS * port.limit for w, same, port in zip(exact, spread, ports, strict=True)):
        return []
    weights = tuple(
        _added_up(w, port.limit) if same else (np.clip(w, -port.limit, port.limit).astype(np.int8),)
        for w, same, port in zip(exact, spread, ports, strict=True)
    )
    cut = sum(int((np.abs(w) > p.limit).sum()) for w, same, p in zip(exact, spread, ports, strict=True) if not same)
    return [
        Fit(
            scale=scale,
            weights=weights,
            population=population,
            clipped_weights=cut / sum(w.size for w in exact),
            clipped_biases=clipped,
        )
        for population, clipped in populations(node, total_bias([port.node for port in ports]), scale)
    ]


def _added_up(weight: np.ndarray, limit: int) -> tuple[np.ndarray, ...]:
    """int8 arrays, as alike as they can be, that add up to the weights."""
    count = max(1, math.ceil(float(np.abs(weight).max()) / limit))
    bounds = [np.rint(weight * (index / count)) for index in range(count + 1)]
    return tuple((after - before).astype(np.int8) for before, after in itertools.pairwise(bounds))


@singledispatch
def populations(node: Population, bias: np.ndarray | None, scale: float) -> list[tuple[Population, float]]:
    """The population with integer parameters, and the share of its biases that were clipped; more than one way, or none."""
    raise GraphError(f"node {node.name!r}: a {node.kind} has no form in a Loihi core's integers.")


@populations.register
def _(node: Readout, bias: np.ndarray | None, scale: float) -> list[tuple[Population, float]]:
    shifted = np.zeros(1) if bias is None else bias * scale * 2.0**dynamics.FRACTION_BITS
    if np.abs(shifted).max() > np.iinfo(np.int32).max:
        return []
    integers = None if bias is None else np.rint(shifted).astype(np.int32)
    return [(dataclasses.replace(node, bias=integers, quantization=Quantization(scale=scale, bits=READOUT_BITS)), 0.0)]


@populations.register
def _(node: LIF, bias: np.ndarray | None, scale: float) -> list[tuple[Population, float]]:
    found: list[tuple[Population, float]] = []
    for threshold in _thresholds(node, scale):
        found += _with_threshold(node, threshold, bias, scale)
    return found


def _thresholds(node: LIF, scale: float) -> list[int]:
    """The mantissas that may stand for the threshold; for ">=" also the largest below it, exact where sums are whole."""
    exact = node.threshold * scale
    mantissas = [round(exact)] if node.comparison == ">" else [round(exact), math.ceil(exact) - 1]
    return [mantissa for mantissa in dict.fromkeys(mantissas) if 1 <= mantissa <= dynamics.LARGEST_THRESHOLD]


def _with_threshold(node: LIF, threshold: int, bias: np.ndarray | None, scale: float) -> list[tuple[Population, float]]:
    """The neurons in integers, with one exponent for their biases or another."""
    shifted = np.zeros(1) if bias is None else bias * scale * 2.0**dynamics.FRACTION_BITS
    decisive = _DECISIVE * threshold * 2.0**dynamics.FRACTION_BITS
    exponents = {_bias_exponent(np.clip(shifted, -most, most)) for most in (_LARGEST_BIAS, min(decisive, _LARGEST_BIAS))}
    found: list[tuple[Population, float]] = []
    for exponent in sorted(exponents, reverse=True):
        mantissas, most = np.rint(shifted / 2**exponent), dynamics.LARGEST_BIAS_MANTISSA
        integers = None if bias is None else np.clip(mantissas, -most, most).astype(np.int16)
        units = Quantization(scale=scale, bits=THRESHOLD_BITS, bias_exponent=exponent)
        held = dataclasses.replace(node, threshold=threshold, bias=integers, quantization=units, comparison=">")
        found.append((held, float(np.mean(np.abs(mantissas) > most))))
    return found


def _bias_exponent(shifted: np.ndarray) -> int:
    """Smallest exponent whose mantissas fit 13 bit."""
    most = dynamics.LARGEST_BIAS_MANTISSA
    fitting = (e for e in range(dynamics.LARGEST_BIAS_EXPONENT) if np.abs(np.rint(shifted / 2**e)).max() <= most)
    return next(fitting, dynamics.LARGEST_BIAS_EXPONENT)
