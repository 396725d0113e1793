"""Choose the scale of one population: the one whose integers follow the float neuron best on calibration frames.

All synapses into a population share its scale s. Each candidate is tried on so many samples that all together cost about one
pass over them; the best then runs over all of them, which gives the spikes that the layers behind are calibrated on, and
shows how near its sums came to wrapping.
"""

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
from tet_deploy.ir.shapes import output_shape
from tet_deploy.passes.messages import Messages

THRESHOLD_BITS = 17
READOUT_BITS = 32
# Scales tried, relative to the one that maps the largest weight to 127. Above 1 the largest weights are clipped; far below
# 1 weights get coarse, but a large bias or threshold may leave no other choice.
RELATIVE_SCALES = (0.15, 0.25, 0.4, 0.55, 0.7, 0.8, 0.9, 0.95, 1.0, 1.1, 1.25, 1.45, 1.7)
_MOST_PARTS = 8  # synapse nodes that add up to one layer
_FEW, _MANY = 2**17, 2**21  # values on which a candidate is judged: at least, and at most, if there are as many
_AT_ONCE = 2**21  # values that a pass over all samples holds at a time


@dataclass(frozen=True, kw_only=True)
class Port:
    """One float synapse node, and the integers that reach it on the calibration frames.

    Attributes
    ----------
    messages
        What it receives.
    scale
        Messages per unit of the float network; 1 for spikes.
    """

    node: Conv | Linear
    messages: Messages
    scale: float


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
    clipped
        Share of the weights that were clipped.
    error
        Mean squared difference of the membrane potential (of a readout, of what it sends) to the float population's, on the
        samples that it was judged on.
    sent
        What the population sends; None for a readout.
    largest_sum
        Largest magnitude of a presynaptic sum on all samples.
    """

    scale: float
    weights: tuple[tuple[np.ndarray, ...], ...]
    population: Population
    clipped: float
    error: float = math.inf
    sent: Messages | None = None
    largest_sum: int = 0


def calibrate(node: Population, ports: Sequence[Port], limit: int) -> Fit:
    """The best integers for a population, with what it sends on the calibration frames.

    Parameters
    ----------
    node
        A float population.
    ports
        Its synapses, in the order of its inputs.
    limit
        Largest magnitude of a weight's integer.

    Raises
    ------
    GraphError
        No scale fits weights, bias and threshold into the chip's integers without wrapping.
    """
    scales = [ratio * base for base in _base_scales(ports, limit) for ratio in RELATIVE_SCALES]
    candidates = [fit for scale in scales if (fit := _integers(node, ports, scale, limit)) is not None]
    seen = _read(ports, 0, _samples_judged(ports, len(candidates)))
    target = _shown(node, _float_input(ports, seen))[1]
    fits = [found for fit in candidates if (found := _judge(fit, ports, seen, target)) is not None]
    for fit in sorted(fits, key=lambda fit: fit.error):
        if (finished := _run_all(fit, ports)) is not None:
            return finished
    largest = max(float(np.abs(port.node.weight).max()) for port in ports)
    bias = total_bias([port.node for port in ports])
    raise GraphError(
        f"node {node.name!r}: no scale fits its weights (largest {largest:.3g}), bias (largest "
        f"{0 if bias is None else np.abs(bias).max():.3g}) and threshold into the chip's integers without wrapping on the "
        "calibration frames. Retrain with weight decay, or scale the input."
    )


def _samples_judged(ports: Sequence[Port], candidates: int) -> int:
    """So many that all candidates together cost about one pass over the samples."""
    messages, values = ports[0].messages, _values(ports)
    share = -(-messages.samples // max(1, candidates))
    return min(max(share, -(-_FEW // values)), max(1, _MANY // values), messages.samples)


def _values(ports: Sequence[Port]) -> int:
    """Values of one sample over all steps, on the widest edge: messages or membrane potentials."""
    return ports[0].messages.steps * max(math.prod(shape) for shape in (_shape(ports), *(p.messages.shape for p in ports)))


def _shape(ports: Sequence[Port]) -> tuple[int, ...]:
    return output_shape(ports[0].node, (ports[0].messages.shape,))


def _read(ports: Sequence[Port], start: int, stop: int) -> list[np.ndarray]:
    """What each port receives of some samples: integers [T, B, ...]."""
    return [port.messages.read(start, stop) for port in ports]


def _float_input(ports: Sequence[Port], seen: Sequence[np.ndarray]) -> np.ndarray:
    """Presynaptic input [T, B, ...] of the float population, fed by what the integer network sends."""
    total: np.ndarray | None = None
    for port, messages in zip(ports, seen, strict=True):
        part = _over_time(port.node, messages) / port.scale
        total = part if total is None else total + part
    assert total is not None
    bias = total_bias([port.node for port in ports])
    return total if bias is None else total + dynamics.per_channel(bias, total.ndim - 1)


def total_bias(nodes: Sequence[Conv | Linear]) -> np.ndarray | None:
    """The bias of all synapse nodes of a population together, float64 [C]; None where there is none."""
    found = [node.bias.astype(np.float64) for node in nodes if node.bias is not None]
    return None if not found else np.sum(found, axis=0)


def _base_scales(ports: Sequence[Port], limit: int) -> list[float]:
    """The scale that maps the largest weight to the limit; beside identities also the one of the other weights alone."""

    def base(chosen: Sequence[Port]) -> float:
        return limit * min(port.scale / max(float(np.abs(port.node.weight).max()), 1e-12) for port in chosen)

    others = [port for port in ports if not is_uniform(port.node)]
    return sorted({base(chosen) for chosen in (ports, others) if chosen})


def _integers(node: Population, ports: Sequence[Port], scale: float, limit: int) -> Fit | None:
    """The population at one scale; None where the chip's integers cannot hold threshold or bias."""
    uniform = [is_uniform(port.node) and len(ports) > 1 for port in ports]
    population = _population(node, total_bias([port.node for port in ports]), scale)
    if population is None:
        return None
    exact = [np.rint(port.node.weight.astype(np.float64) * (scale / port.scale)) for port in ports]
    if any(same and np.abs(array).max() > _MOST_PARTS * limit for array, same in zip(exact, uniform, strict=True)):
        return None
    weights = tuple(
        _added_up(array, limit) if same else (np.clip(array, -limit, limit).astype(np.int8),)
        for array, same in zip(exact, uniform, strict=True)
    )
    clipped = sum(int((np.abs(array) > limit).sum()) for array, same in zip(exact, uniform, strict=True) if not same)
    return Fit(scale=scale, weights=weights, population=population, clipped=clipped / sum(array.size for array in exact))


def is_uniform(node: Conv | Linear) -> bool:
    """Whether all weights but zeros are equal, as those of an identity are."""
    used = node.weight[node.weight != 0]
    return used.size > 0 and bool((used == used[0]).all())


def _added_up(weight: np.ndarray, limit: int) -> tuple[np.ndarray, ...]:
    """int8 arrays, as alike as they can be, that add up to the weights."""
    count = max(1, math.ceil(float(np.abs(weight).max()) / limit))
    bounds = [np.rint(weight * (index / count)) for index in range(count + 1)]
    return tuple((after - before).astype(np.int8) for before, after in itertools.pairwise(bounds))


@singledispatch
def _population(node: Population, bias: np.ndarray | None, scale: float) -> Population | None:
    """The population with integer parameters; None where the chip cannot hold them."""
    raise GraphError(f"node {node.name!r}: a {node.kind} has no form in a Loihi core's integers.")


@_population.register
def _(node: Readout, bias: np.ndarray | None, scale: float) -> Population | None:
    shifted = np.zeros(1) if bias is None else bias * scale * 2.0**dynamics.FRACTION_BITS
    if np.abs(shifted).max() > np.iinfo(np.int32).max:
        return None
    integers = None if bias is None else np.rint(shifted).astype(np.int32)
    return dataclasses.replace(node, bias=integers, quantization=Quantization(scale=scale, bits=READOUT_BITS))


@_population.register
def _(node: LIF, bias: np.ndarray | None, scale: float) -> Population | None:
    shifted = np.zeros(1) if bias is None else bias * scale * 2.0**dynamics.FRACTION_BITS
    exponent, threshold = _bias_exponent(shifted), np.rint(node.threshold * scale)
    if exponent is None or not 1 <= threshold <= dynamics.LARGEST_THRESHOLD:
        return None
    return dataclasses.replace(
        node,
        threshold=int(threshold),
        bias=None if bias is None else np.rint(shifted / 2**exponent).astype(np.int16),
        quantization=Quantization(scale=scale, bits=THRESHOLD_BITS, bias_exponent=exponent),
    )


def _bias_exponent(shifted: np.ndarray) -> int | None:
    """Smallest exponent whose mantissas fit 13 bit; None if even the largest does not."""
    for exponent in range(dynamics.LARGEST_BIAS_EXPONENT + 1):
        if np.abs(np.rint(shifted / 2**exponent)).max() <= dynamics.LARGEST_BIAS_MANTISSA:
            return exponent
    return None


def _judge(fit: Fit, ports: Sequence[Port], seen: Sequence[np.ndarray], target: np.ndarray) -> Fit | None:
    sums = _integer_input(fit, ports, seen)
    if np.abs(sums).max() > dynamics.LARGEST_SYNAPTIC_SUM:
        return None
    shown = _shown(fit.population, sums)[1] / (2.0**dynamics.FRACTION_BITS * fit.scale)
    return dataclasses.replace(fit, error=float(np.mean((shown - target) ** 2)))


def _run_all(fit: Fit, ports: Sequence[Port]) -> Fit | None:
    """The fit with what it sends on all samples; None where a sum would wrap."""
    largest, sends = 0, not isinstance(fit.population, Readout)
    sent = Messages(ports[0].messages.steps, _shape(ports))
    size = max(1, _AT_ONCE // _values(ports))
    for start in range(0, ports[0].messages.samples, size):
        sums = _integer_input(fit, ports, _read(ports, start, start + size))
        largest = max(largest, int(np.abs(sums).max()))
        if largest > dynamics.LARGEST_SYNAPTIC_SUM:
            return None
        if sends:
            sent.append(_shown(fit.population, sums)[0])
    return dataclasses.replace(fit, sent=sent if sends else None, largest_sum=largest)


def _integer_input(fit: Fit, ports: Sequence[Port], seen: Sequence[np.ndarray]) -> np.ndarray:
    """Presynaptic sums, int64 [T, B, ...]; no port wraps, as none of its sums exceeds a population's."""
    total: np.ndarray | None = None
    for port, messages, weights in zip(ports, seen, fit.weights, strict=True):
        whole = sum(array.astype(np.int64) for array in weights)  # several add up to one layer's
        part = _over_time(dataclasses.replace(port.node, weight=np.asarray(whole)), messages).astype(np.int64)
        total = part if total is None else total + part
    assert total is not None
    return total


def _over_time(layer: Conv | Linear, messages: np.ndarray) -> np.ndarray:
    """Synaptic sums [T, B, ...] of all steps at once."""
    sums = dynamics.synaptic_sum(layer, messages.reshape(-1, *messages.shape[2:]))
    return sums.reshape(*messages.shape[:2], *sums.shape[1:])


def _shown(node: Population, presynaptic: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a population sends at each step, and what it shows: its membrane potential, or, of a readout, what it sends."""
    v, sent, potentials = np.zeros_like(presynaptic[0]), [], []
    for current in presynaptic:
        out, v = dynamics.step(node, v, current)
        sent.append(out)
        potentials.append(v)
    return np.stack(sent), np.stack(sent if isinstance(node, Readout) else potentials)
