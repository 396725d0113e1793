"""What could explain a population whose steps are not those that its network says: one guess after the other is tried.

Each gives the steps that it would make of the same potentials and spikes; the one that leaves the fewest differences is the
cause. None of them knows how the other runtime works.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np

from tet_deploy import dynamics
from tet_deploy.debugging import causes
from tet_deploy.debugging.observed import Flow, Steps
from tet_deploy.debugging.synapses import unlimited
from tet_deploy.ir.nodes import LIF, ON_CHIP, BatchNorm, Conv, CubaLIF, Input, Population, Spiking
from tet_deploy.meaning import over_time, through_current
from tet_deploy.units import along
from tet_deploy.wording import number_of

_SHIFTS = [shift for shift in itertools.product((-1, 0, 1), repeat=2) if any(shift)]


@dataclass(frozen=True, kw_only=True, eq=False)
class Guess:
    """One cause, more closely, and the steps that it would make."""

    cause: str
    detail: str
    steps: Steps


def steps_of(population: Population, presynaptic: np.ndarray, before: np.ndarray) -> Steps:
    """What a population makes of what reached it and of the potential before each step, [T, B, *shape]."""
    lead = before.shape[:2]
    flat = [array.reshape(-1, *array.shape[2:]) for array in (before, through_current(population, presynaptic))]
    sent, after = dynamics.step(population, *flat)
    if not isinstance(population, Spiking):
        return Steps(before=before, after=sent.reshape(before.shape), spikes=np.zeros(before.shape, bool))
    after = after.reshape(*lead, *after.shape[1:])
    return Steps(before=before, after=after, spikes=sent.reshape(after.shape).astype(bool))


def guesses(population: Population, flow: Flow, seen: Steps) -> Iterator[Guess]:
    """Everything that can be thought of, the simplest first.

    Parameters
    ----------
    population
        As its network says.
    flow
        What the network sends, see `Flow`.
    seen
        The steps that were recorded.
    """
    presynaptic, before = flow.presynaptic(population), seen.before

    def guess(cause: str, detail: str, current: np.ndarray = presynaptic, node: Population = population) -> Guess:
        return Guess(cause=cause, detail=detail, steps=steps_of(node, current, before))

    if _resets_at_once(population):
        full = _before_reset(population, presynaptic, before)
        other = dataclasses.replace(population, comparison=">" if population.comparison == ">=" else ">=")
        yield Guess(cause=causes.COMPARISON, detail="", steps=_fired(other, full, before))
    for late in (1, -1, 2, -2):
        by, delayed = number_of("step", late, "+"), steps_of(population, _delayed(population, flow, late), before)
        yield Guess(cause=causes.LATENCY, detail=by, steps=_started_late(delayed, late))
        for source in population.inputs if len(population.inputs) > 1 else ():
            yield guess(causes.LATENCY, f"{by} from {source!r}", _delayed(population, flow, late, only=source))
    if any(_batch_norms(population, flow)):
        yield guess(causes.BATCH_NORM, "", _with_batch_statistics(population, flow))
    if flow.graph.is_quantized:
        yield guess(causes.WRAP, "sums do not wrap here", unlimited(population, flow))
    yield from (guess(cause, detail, current) for cause, detail, current in _other_inputs(population, flow, seen))
    for source in population.inputs:
        yield from (guess(causes.BORDER, detail, current) for detail, current in _other_borders(population, flow, source))
    if _resets_at_once(population):
        for cause, detail, node in _other_constants(population, presynaptic, seen):
            yield guess(cause, detail, node=node)
    yield Guess(cause=causes.BIAS, detail="another one in some channels", steps=_with_offset(population, presynaptic, seen))


def _resets_at_once(population: Population) -> TypeGuard[LIF | CubaLIF]:
    """Whether it is a neuron whose spike sets its potential to 0 in the same step."""
    return isinstance(population, ON_CHIP) and population.reset == "zero"


def _fired(node: LIF | CubaLIF, full: np.ndarray, before: np.ndarray) -> Steps:
    """The steps that end in such potentials before the reset."""
    unit = 1 if node.quantization is None else 2**dynamics.FRACTION_BITS
    threshold = dynamics.per_channel(np.atleast_1d(np.asarray(node.threshold) * unit), full.ndim - 1).astype(full.dtype)
    spikes = dynamics.COMPARISONS[node.comparison](full, threshold)
    return Steps(before=before, after=np.where(spikes, full.dtype.type(0), full), spikes=spikes)


def _before_reset(node: LIF | CubaLIF, presynaptic: np.ndarray, before: np.ndarray) -> np.ndarray:
    """The potential after a step, had it no threshold."""
    highest = dynamics.STATE_LIMIT if node.quantization is not None else math.inf
    return steps_of(dataclasses.replace(node, threshold=highest), presynaptic, before).after


def _delayed(population: Population, flow: Flow, late: int, only: str | None = None) -> np.ndarray:
    """The presynaptic input if what its synapses are sent came so many steps later."""
    total = np.zeros((), flow.number)
    for name in population.inputs:
        total = total + (_resent(name, flow, lambda x: _shifted(x, late)) if only in (None, name) else flow[name])
    return total


def _started_late(steps: Steps, late: int) -> Steps:
    """The steps of a population that shows nothing before it begins."""
    begun = (np.arange(len(steps.after)) >= late).reshape(-1, *(1,) * (steps.after.ndim - 1))
    return Steps(before=steps.before, after=steps.after * begun, spikes=steps.spikes & begun)


def _shifted(array: np.ndarray, late: int) -> np.ndarray:
    moved = np.zeros_like(array)
    if late > 0:
        moved[late:] = array[:-late]
    else:
        moved[:late] = array[-late:]
    return moved


def _resent(name: str, flow: Flow, change) -> np.ndarray:  # type: ignore[no-untyped-def]
    """What a node sends if what populations and frames send to it is changed."""
    node = flow.graph[name]
    if isinstance(node, (Population, Input)):
        return np.asarray(change(flow[name]))
    return over_time(node, [_resent(source, flow, change) for source in node.inputs]).astype(flow.number)


def _batch_norms(population: Population, flow: Flow) -> Iterator[BatchNorm]:
    waiting = list(population.inputs)
    while waiting:
        node = flow.graph[waiting.pop()]
        if isinstance(node, BatchNorm):
            yield node
        if not isinstance(node, (Population, Input)):
            waiting += node.inputs


def _with_batch_statistics(population: Population, flow: Flow) -> np.ndarray:
    """The presynaptic input if batch norms took mean and variance from these samples."""

    def sent(name: str) -> np.ndarray:
        node = flow.graph[name]
        if isinstance(node, (Population, Input)):
            return flow[name]
        inputs = [sent(source) for source in node.inputs]
        if isinstance(node, BatchNorm):
            x = inputs[0].astype(np.float64)
            axes = tuple(axis for axis in range(x.ndim) if axis != 2)
            node = dataclasses.replace(node, mean=x.mean(axes), variance=x.var(axes))
        return over_time(node, inputs).astype(flow.number)

    return np.asarray(sum((sent(name) for name in population.inputs), start=np.zeros((), flow.number)))


def _other_inputs(population: Population, flow: Flow, seen: Steps) -> Iterator[tuple[str, str, np.ndarray]]:
    """Frames that were scaled, or cut off, before they came."""
    graph, frames = flow.graph, flow[flow.graph.input.name]
    if not any(_reaches_input(name, flow) for name in population.inputs):
        return

    def resent(change) -> np.ndarray:  # type: ignore[no-untyped-def]
        total = np.zeros((), flow.number)
        for name in population.inputs:
            total = total + (
                _resent(name, flow, lambda x: change(x) if x is frames else x) if _reaches_input(name, flow) else flow[name]
            )
        return total

    for factor in (*_factors(population, flow, seen), 2.0, 0.5, 4.0, 0.25, 255.0, 1 / 255, 127.0, 1 / 127):
        scaled = over_time(graph.input, [flow.frames * np.float32(factor)]).astype(flow.number)
        yield causes.INPUT_SCALE, f"frames times {factor:.4g}", resent(lambda _, scaled=scaled: scaled)
    largest = float(np.abs(frames).max())
    for bits in range(8):
        cut = 2.0**bits - 1 if bits > 1 else 1.0
        if cut < largest:
            yield causes.MESSAGE_CLIPPING, f"cut off at {cut:g}", resent(lambda x, cut=cut: np.clip(x, -cut, cut))


def _reaches_input(name: str, flow: Flow) -> bool:
    node = flow.graph[name]
    return isinstance(node, Input) or (
        not isinstance(node, Population) and any(_reaches_input(source, flow) for source in node.inputs)
    )


def _factors(population: Population, flow: Flow, seen: Steps) -> list[float]:
    """The factor on the presynaptic input that fits the potentials of silent neurons best."""
    presynaptic = flow.presynaptic(population)
    quiet = steps_of(population, np.zeros_like(presynaptic), seen.before)
    here = ~seen.spikes & ~quiet.spikes
    unit = 2.0**dynamics.FRACTION_BITS if flow.graph.is_quantized and not isinstance(population, CubaLIF) else 1.0
    x, y = through_current(population, presynaptic)[here] * unit, (seen.after.astype(np.float64) - quiet.after)[here]
    power = float(np.dot(x, x))
    factor = float(np.dot(x, y)) / power if power else 0.0
    return [factor] if factor > 0 else []


def _other_borders(population: Population, flow: Flow, source: str) -> Iterator[tuple[str, np.ndarray]]:
    """A convolution whose window lies a pixel beside where it should, or sees its border mirrored."""
    node = flow.graph[source]
    if not isinstance(node, Conv):
        return
    x, rest = flow[node.inputs[0]], flow.presynaptic(population) - flow[source]
    (high, wide), size, bare = node.padding, x.shape[-2:], dataclasses.replace(node, padding=(0, 0))
    around = np.pad(x, ((0, 0),) * 3 + ((high + 1, high + 1), (wide + 1, wide + 1)))
    for dy, dx in _SHIFTS:
        window = around[..., 1 - dy : 1 - dy + size[0] + 2 * high, 1 - dx : 1 - dx + size[1] + 2 * wide]
        yield f"{source!r} moved by {dy}, {dx}", rest + over_time(bare, [window]).astype(flow.number)
    for mode in ("edge", "reflect") if max(node.padding) and high < size[0] and wide < size[1] else ():
        padded = np.pad(x, ((0, 0),) * 3 + ((high, high), (wide, wide)), mode=mode)
        yield f"{source!r} padded by its {mode}", rest + over_time(bare, [padded]).astype(flow.number)


def _other_constants(node: LIF | CubaLIF, presynaptic: np.ndarray, seen: Steps) -> Iterator[tuple[str, str, LIF | CubaLIF]]:
    """Another decay or threshold, as the potentials show it."""
    bare = _before_reset(node, presynaptic, np.zeros_like(seen.before))
    silent = ~seen.spikes
    v, rest = seen.before[silent].astype(np.float64), (seen.after.astype(np.float64) - bare)[silent]
    power = float(np.dot(v, v))
    if power:
        decay = float(np.clip(np.dot(v, rest) / power, 0, 1))
        for rounded in dict.fromkeys((round(decay * 64) / 64, round(decay * dynamics.DECAY_ONE) / dynamics.DECAY_ONE)):
            yield causes.DECAY, f"decay {rounded:.6g}", dataclasses.replace(node, decay=rounded)
    full = _before_reset(node, presynaptic, seen.before)
    if seen.spikes.any() and silent.any():
        unit = 1 if node.quantization is None else 2**dynamics.FRACTION_BITS
        share = full / (along(node.threshold, full.ndim) * unit)  # of the threshold, one or that of the channel
        low, high = float(share[silent].max()), float(share[seen.spikes].min())
        level = np.asarray(node.threshold * (low + high) / 2)
        if node.quantization is not None:
            level = np.maximum(1, np.floor(node.threshold * high - 1 / unit))
        if low <= high:
            other = dataclasses.replace(node, threshold=level)
            detail = f"threshold {level:.6g}" if level.ndim == 0 else f"thresholds times {(low + high) / 2:.6g}"
            yield causes.THRESHOLD, detail, other


def _with_offset(population: Population, presynaptic: np.ndarray, seen: Steps) -> Steps:
    """The steps with the constant in each channel by which silent neurons fall short."""
    alone = steps_of(population, presynaptic, seen.before)
    short = np.where(seen.spikes | alone.spikes, np.nan, seen.after.astype(np.float64) - alone.after)
    channels = np.moveaxis(short, 2, 0).reshape(short.shape[2], -1)
    known = ~np.isnan(channels).all(axis=1)
    offset = np.zeros(len(channels))
    offset[known] = np.nanmedian(channels[known], axis=1)
    moved = dynamics.per_channel(offset, short.ndim - 1)
    if not _resets_at_once(population):
        return dataclasses.replace(alone, after=(alone.after + moved).astype(alone.after.dtype))
    full = _before_reset(population, presynaptic, seen.before)
    return _fired(population, (full + moved).astype(full.dtype), seen.before)
