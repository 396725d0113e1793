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
from tet_deploy.errors import GraphError, cut
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import (
    LIF,
    ON_CHIP,
    Conv,
    CubaLIF,
    LeakyReadout,
    Linear,
    Population,
    Quantization,
    Readout,
    SoftResetLIF,
)
from tet_deploy.passes.messages import Messages
from tet_deploy.units import ByChannel

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
    adds_up
        Whether its weights may be spread over several synapse nodes: those of an identity beside other ports.
    """

    node: Conv | Linear
    messages: Messages
    scale: float
    limit: int
    adds_up: bool = False


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A population in integers.

    Attributes
    ----------
    scale
        Integer units per unit of membrane potential: one number, or one for each channel.
    weights
        For each port int8 weights; several arrays where they have to add up, each to a synapse node of its own.
    population
        With integer threshold and bias; its inputs are still those of the float population.
    clipped_weights, clipped_biases
        Share of the weights, and of the channels' biases, that were clipped.
    """

    scale: ByChannel
    weights: tuple[tuple[np.ndarray, ...], ...]
    population: Population
    clipped_weights: float
    clipped_biases: float


def total_bias(nodes: Sequence[Conv | Linear]) -> np.ndarray | None:
    """The bias of all synapse nodes of a population together, float64 [C]; None where there is none."""
    found = [node.bias.astype(np.float64) for node in nodes if node.bias is not None]
    return None if not found else np.sum(found, axis=0)


def held_bias(node: Population, ports: Sequence[Port]) -> np.ndarray | None:
    """What a population adds to its potential in each step for the biases of its synapses, float64 [C].

    A chip adds it behind the synaptic current. There it stands for what flows through the current of a float neuron, on the
    mean of the T steps:  b * mean over t of (1 + current_decay + ... + current_decay^(t-1)).
    """
    bias = total_bias([port.node for port in ports])
    if bias is None or not isinstance(node, CubaLIF):
        return bias
    return np.asarray(bias * np.cumsum(node.current_decay ** np.arange(ports[0].messages.steps)).mean())


def is_uniform(node: Conv | Linear) -> bool:
    """Whether all weights but zeros are equal, as those of an identity are."""
    used = node.weight[node.weight != 0]
    return used.size > 0 and bool((used == used[0]).all())


def with_one_threshold(node: Population, ports: Sequence[Port]) -> tuple[Population, list[Port], np.ndarray | float]:
    """The same neurons with one threshold in all channels, and their units of potential for one of the population's.

    A neuron with hard reset does not notice what it is measured in, so each channel is measured by its threshold.
    """
    if not isinstance(node, ON_CHIP) or not isinstance(node.threshold, np.ndarray):
        return node, list(ports), 1.0
    one = float(np.median(node.threshold))
    units = one / node.threshold.astype(np.float64)
    return dataclasses.replace(node, threshold=one), [_measured(port, units) for port in ports], units


def _measured(port: Port, units: np.ndarray) -> Port:
    layer, bias = port.node, port.node.bias
    weight = layer.weight * by_output(units, layer.weight.ndim)
    return dataclasses.replace(
        port, node=dataclasses.replace(layer, weight=weight, bias=None if bias is None else bias * units)
    )


def by_output(values: np.ndarray | float, ndim: int) -> np.ndarray:
    """Shape values [O] so that they broadcast against weights [O, ...] of that many axes; a number stays one."""
    array = np.asarray(values, np.float64)
    return array if array.ndim == 0 else array.reshape(-1, *(1,) * (ndim - 1))


def fits(node: Population, ports: Sequence[Port], scale: ByChannel) -> list[Fit]:
    """The population at one scale: none where the chip cannot hold it; several where it can be rounded in several ways.

    Small biases may be held finer than all of them, and the threshold of a neuron that fires at it one below.
    """
    exact = [
        np.rint(port.node.weight.astype(np.float64) * by_output(np.asarray(scale) / port.scale, port.node.weight.ndim))
        for port in ports
    ]
    spread = [port.adds_up for port in ports]
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
        for population, clipped in populations(node, held_bias(node, ports), scale)
    ]


def _added_up(weight: np.ndarray, limit: int) -> tuple[np.ndarray, ...]:
    """int8 arrays, as alike as they can be, that add up to the weights."""
    count = max(1, math.ceil(float(np.abs(weight).max()) / limit))
    bounds = [np.rint(weight * (index / count)) for index in range(count + 1)]
    return tuple((after - before).astype(np.int8) for before, after in itertools.pairwise(bounds))


@singledispatch
def populations(node: Population, bias: np.ndarray | None, scale: ByChannel) -> list[tuple[Population, float]]:
    """The population with integer parameters, and the share of its biases that were clipped; more than one way, or none."""
    if isinstance(node, SoftResetLIF):
        raise GraphError(
            f"node {node.name!r}: reset must be 'zero' in a Loihi core's integers; got {node.reset!r}. Retrain with "
            "reset='zero', or use the reference or ONNX runtime with the float network."
        )
    raise GraphError(f"node {node.name!r}: a {node.kind} has no form in a Loihi core's integers.")


def check_populations(graph: Graph) -> None:
    """See before long work that every population of a float network is of a kind that has integers.

    Raises
    ------
    GraphError
        The first that is not, with the names of all others.
    """
    refused: dict[str, GraphError] = {}
    for node in graph.of_kind(Population):
        try:
            populations(node, None, 1.0)
        except GraphError as error:
            refused[node.name] = error
    if refused:
        first, *others = refused
        alike = f" Not taken either: {cut(', '.join(map(repr, others)))}." if others else ""
        raise GraphError(f"{refused[first]}{alike}")


@populations.register(Readout)
@populations.register(LeakyReadout)
def _(node: Readout | LeakyReadout, bias: np.ndarray | None, scale: ByChannel) -> list[tuple[Population, float]]:
    shifted = np.zeros(1) if bias is None else bias * np.asarray(scale) * 2.0**dynamics.FRACTION_BITS
    if np.abs(shifted).max() > np.iinfo(np.int32).max:
        return []
    integers = None if bias is None else np.rint(shifted).astype(np.int32)
    return [(dataclasses.replace(node, bias=integers, quantization=Quantization(scale=scale, bits=READOUT_BITS)), 0.0)]


@populations.register(LIF)
@populations.register(CubaLIF)
def _(node: LIF | CubaLIF, bias: np.ndarray | None, scale: ByChannel) -> list[tuple[Population, float]]:
    if node.reset != "zero":
        raise GraphError(
            f"node {node.name!r}: reset must be 'zero' in a Loihi core's integers; got {node.reset!r}, which loses the step "
            "after a spike. Retrain with snnTorch's Synaptic(..., reset_mechanism='zero', reset_delay=False) or "
            "SpikingJelly's CUBALIFNode, or use the reference or ONNX runtime with the float network."
        )
    found: list[tuple[Population, float]] = []
    for threshold in _thresholds(node, scale):
        found += _with_threshold(node, threshold, bias, scale)
    return found


def _thresholds(node: LIF | CubaLIF, scale: ByChannel) -> list[np.ndarray]:
    """The mantissas that may stand for the threshold; for ">=" also the largest below it, exact where sums are whole."""
    exact = np.asarray(node.threshold * np.asarray(scale))
    mantissas = [np.rint(exact)] if node.comparison == ">" else [np.rint(exact), np.ceil(exact) - 1]
    return [found for found in mantissas if found.min() >= 1 and found.max() <= dynamics.LARGEST_THRESHOLD]


def _with_threshold(
    node: LIF | CubaLIF, threshold: np.ndarray, bias: np.ndarray | None, scale: ByChannel
) -> list[tuple[Population, float]]:
    """The neurons in integers, with one exponent for their biases or another."""
    shifted = np.zeros(1) if bias is None else bias * np.asarray(scale) * 2.0**dynamics.FRACTION_BITS
    decisive = _DECISIVE * threshold * 2.0**dynamics.FRACTION_BITS
    bounds = (_LARGEST_BIAS, np.minimum(decisive, _LARGEST_BIAS))
    exponents = {_bias_exponent(np.clip(shifted, -most, most)) for most in bounds}
    held_threshold = int(threshold.flat[0]) if (threshold == threshold.flat[0]).all() else threshold.astype(np.int32)
    found: list[tuple[Population, float]] = []
    for exponent in sorted(exponents, reverse=True):
        mantissas, most = np.rint(shifted / 2**exponent), dynamics.LARGEST_BIAS_MANTISSA
        integers = None if bias is None else np.clip(mantissas, -most, most).astype(np.int16)
        units = Quantization(scale=scale, bits=THRESHOLD_BITS, bias_exponent=exponent)
        held = dataclasses.replace(node, threshold=held_threshold, bias=integers, quantization=units, comparison=">")
        found.append((held, float(np.mean(np.abs(mantissas) > most))))
    return found


def _bias_exponent(shifted: np.ndarray) -> int:
    """Smallest exponent whose mantissas fit 13 bit."""
    most = dynamics.LARGEST_BIAS_MANTISSA
    fitting = (e for e in range(dynamics.LARGEST_BIAS_EXPONENT) if np.abs(np.rint(shifted / 2**e)).max() <= most)
    return next(fitting, dynamics.LARGEST_BIAS_EXPONENT)
