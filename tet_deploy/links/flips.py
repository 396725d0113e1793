"""Spikes that differ between two links: which of them have no cause before them, and which of those rounding explains.

A neuron has a cause before it if, since both sides last fired together, a spike that it receives differed, or its own did.
What is left are first causes: the same went in, and another spike came out. Its potential may then be off by

    E(t) = decay * E(t-1) + e(t),  0 after both have fired,

where e(t) bounds what rounding does in one step: half a step of each weight whose synapse was used, of the bias and of the
input's messages; what 12 bit hold of the decay; and float arithmetic as in `node_agreement`. What flows into a synaptic
current moves that in the same way, and no spike resets it. A first cause farther from the threshold than that is no matter
of rounding.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import singledispatch
from typing import NamedTuple

import numpy as np

from tet_deploy import dynamics
from tet_deploy.contracts import Recording
from tet_deploy.errors import GraphError
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import (
    LIF,
    Add,
    AvgPool,
    BatchNorm,
    Conv,
    CubaLIF,
    Flatten,
    Input,
    LeakyReadout,
    Linear,
    Node,
    Population,
    Readout,
    Spiking,
)
from tet_deploy.ir.normalization import normalized
from tet_deploy.ir.values import fraction_bits
from tet_deploy.links.link import Link
from tet_deploy.links.measure import Flips, distances_of
from tet_deploy.links.pair import Pair
from tet_deploy.meaning import over_time
from tet_deploy.node_agreement import rounding
from tet_deploy.units import MANTISSA, along, real_bias, real_weight, unit


def flips(pair: Pair, first: Recording, second: Recording, frames: np.ndarray) -> dict[str, Flips] | None:
    """What is known of the spikes that differ in each population; None where neither link's network is at hand.

    Parameters
    ----------
    first, second
        Recordings of the links in units of the float network.
    frames
        What both were shown, float32 [T, B, *shape].
    """
    graph = pair.graphs[0] or pair.graphs[1]
    if graph is None or not all(n.name in first.spikes and n.name in second.spikes for n in graph.of_kind(Spiking)):
        return None
    differs = {node.name: first.spikes[node.name] != second.spikes[node.name] for node in graph.of_kind(Spiking)}
    reach = _Reach(graph, differs)
    found = {}
    for node in graph.of_kind(Spiking):
        together = _begins_anew(node, first, second)
        causes = _first_causes(differs[node.name], reach.of_inputs(node), together, _remembers(node))
        found[node.name] = Flips(first_causes=causes)
    bounds = [
        _Bounds(graph, link, first, frames) for graph, link in zip(pair.graphs, pair, strict=True) if graph is not None
    ]
    if len(bounds) < 2:
        return found
    thresholds = (pair.first.thresholds, pair.second.thresholds)
    for name, known in found.items():
        distances = distances_of(name, first, second, thresholds)
        if distances is None:
            return found
        near = np.zeros(known.first_causes.shape, bool)
        samples = np.flatnonzero(known.first_causes.any(axis=(0, *range(2, near.ndim))))
        if len(samples):
            together = _begins_anew(graph[name], first, second)[:, samples]
            within = _accumulated([bound.of(name, samples) for bound in bounds], together)
            near[:, samples] = known.first_causes[:, samples] & (distances[:, samples] <= within)
        found[name] = dataclasses.replace(known, explained=near)
    return found


def _begins_anew(node: Node, first: Recording, second: Recording) -> np.ndarray:
    """Where both fired, which makes a neuron of hard reset forget what differed."""
    return np.asarray((first.spikes[node.name] > 0) & (second.spikes[node.name] > 0) & isinstance(node, LIF))


def _remembers(node: Spiking) -> bool:
    return not isinstance(node, LIF) or bool(np.any(np.asarray(node.decay) != 0))


def _first_causes(differs: np.ndarray, reached: np.ndarray, together: np.ndarray, remembers: bool) -> np.ndarray:
    """Where spikes differ, nothing that reached the neuron did, and it is as it was when both last fired together."""
    touched, causes = np.zeros(differs.shape[1:], bool), np.zeros_like(differs)
    for step, here in enumerate(differs):
        touched = touched | reached[step]
        causes[step] = here & ~touched
        touched = (touched | here) & ~together[step] if remembers else np.zeros_like(touched)
    return causes


class _Reach:
    """Where a spike that differs reaches what a node sends in the same step, bool [T, B, *shape]."""

    def __init__(self, graph: Graph, differs: Mapping[str, np.ndarray]) -> None:
        self.graph, self._found = graph, dict(differs)
        self._axes = next(iter(differs.values())).shape[:2] if differs else (0, 0)

    def of_inputs(self, node: Node) -> np.ndarray:
        """Where it reaches any of a node's inputs that are summed."""
        parts = [self._of(name) for name in node.inputs]
        return np.asarray(np.logical_or.reduce(parts))

    def _of(self, name: str) -> np.ndarray:
        if name not in self._found:
            node = self.graph[name]
            found = np.zeros((*self._axes, *self.graph.shapes[name]), bool)
            sources = [] if isinstance(node, Input) else [self._of(source) for source in node.inputs]
            samples = np.flatnonzero(sum(source.any(axis=(0, *range(2, source.ndim))) for source in sources))
            if len(samples):
                found[:, samples] = _passed_on(node, [source[:, samples] for source in sources])
            self._found[name] = found
        return self._found[name]


@singledispatch
def _magnitudes(node: Node) -> Node:
    """The node as it passes on magnitudes: its factors without their signs, and nothing added."""
    raise GraphError(f"node {node.name!r}: nothing is known of how far a {node.kind} passes on what differs.")


@_magnitudes.register(Conv)
@_magnitudes.register(Linear)
def _(node: Conv | Linear) -> Node:
    return dataclasses.replace(node, weight=np.abs(real_weight(node)), bias=None, quantization=None)


@_magnitudes.register
def _(node: BatchNorm) -> Node:
    none = np.zeros_like(node.mean)
    return dataclasses.replace(node, mean=none, beta=none, gamma=np.abs(node.gamma))


@_magnitudes.register(AvgPool)
@_magnitudes.register(Flatten)
@_magnitudes.register(Add)
@_magnitudes.register(Readout)
@_magnitudes.register(LeakyReadout)
def _(node: Node) -> Node:
    return node


def _passed_on(node: Node, masks: Sequence[np.ndarray]) -> np.ndarray:
    """Where a node's output depends on any of what is marked; a weight of 0 passes nothing on."""
    if isinstance(node, (Conv, Linear)) and node.weight.all():
        return _used(node, masks[0]) > 0
    return _sum_of_magnitudes(node, masks) > 0


def _sum_of_magnitudes(node: Node, inputs: Sequence[np.ndarray]) -> np.ndarray:
    return over_time(_magnitudes(node), inputs)


class _Step(NamedTuple):
    """What bounds a population's error in one step, [T, B, *shape], what it keeps of the last one, and of its threshold."""

    error: np.ndarray
    decay: float
    threshold: np.ndarray


class _Bounds:
    """How far rounding may move what the nodes of one network send, where its populations send what was recorded."""

    def __init__(self, graph: Graph, link: Link, recording: Recording, frames: np.ndarray) -> None:
        self.graph, self.precision = graph, link.precision
        self.recording, self.frames = recording, frames

    def of(self, name: str, samples: np.ndarray) -> _Step:
        """Those of a population in these samples."""
        node = self.graph[name]
        assert isinstance(node, Population)
        sums = [self._sent(source, samples) for source in node.inputs]
        potentials = self.recording.potentials[name][:, samples]
        before = np.abs(np.concatenate([np.zeros_like(potentials[:1]), potentials[:-1]]))
        error, size = sum(error for _, error in sums), sum(size for size, _ in sums)
        if isinstance(node, CubaLIF):
            error, size = self._through_current(node, *(np.broadcast_to(part, before.shape) for part in (error, size)))
        decay, threshold = float(np.max(getattr(node, "decay", 1.0))), np.zeros(())
        if node.quantization is None:
            error = error + 3 * self.precision * (decay * before + size)
            threshold = self.precision * along(getattr(node, "threshold", 0.0), potentials.ndim)
        else:
            fraction = 1 / along(unit(node), potentials.ndim)
            bias = 0.0 if node.bias is None else 0.5 * 2.0**node.quantization.bias_exponent
            error = error + (bias + 1) * fraction + 0.5 / dynamics.DECAY_ONE * before  # 1: what each step cuts off
            threshold = 0.5 * MANTISSA * fraction
        return _Step(np.asarray(error), decay, np.asarray(threshold))

    def _through_current(self, node: CubaLIF, error: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of the error of a synaptic current and of its size, [T, B, *shape].

        A chip adds the bias behind it, and lacks at first what it adds too much later: see `passes.fit.held_bias`, as if the
        network had been calibrated on as many steps as these.
        """
        share = node.current_decay
        current = _summed_up(size, share)
        before = np.concatenate([np.zeros_like(current[:1]), current[:-1]])
        if node.quantization is None:
            return _summed_up(error + 3 * self.precision * (share * before + size), share), current
        cut = 1 / along(unit(node), error.ndim) + 0.5 / dynamics.DECAY_ONE * before
        bias, gains = real_bias(node), np.cumsum(share ** np.arange(len(size)))
        shifted = np.abs(gains / gains.mean() - 1).reshape(-1, *(1,) * (error.ndim - 1))
        moved = 0.0 if bias is None else shifted * np.abs(along(bias, error.ndim))
        return _summed_up(error + cut, share) + moved, current

    def _sent(self, name: str, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Magnitudes of what a node sends in units of the float network, and how far rounding may move it."""
        node = self.graph[name]
        if isinstance(node, Spiking):
            spikes = self.recording.spikes[name][:, samples].astype(np.float64)
            return spikes, np.zeros(())
        if isinstance(node, Input):
            frames = np.abs(normalized(node, self.frames[:, samples]).astype(np.float64))
            if node.quantization is None:
                return frames, np.zeros(())
            off = np.abs(frames - np.rint(frames * node.quantization.scale) / node.quantization.scale)
            return frames, off + frames * 2.0**-24  # messages are rounded in float32
        sources = [self._sent(source, samples) for source in node.inputs]
        sizes, errors = [size for size, _ in sources], [error for _, error in sources]
        if isinstance(node, (Conv, Linear)):
            return self._weighted(node, sizes[0], errors[0])
        found, error = _sum_of_magnitudes(node, sizes) + _added(node, sizes[0].ndim), np.zeros(())
        if any(np.any(part) for part in errors):
            wide = [np.broadcast_to(part, size.shape) for part, size in zip(errors, sizes, strict=True)]
            error = _sum_of_magnitudes(node, wide)
        return found, error + self._arithmetic(node, sizes)

    def _weighted(self, node: Conv | Linear, size: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of a layer; the size, which only float rounding is a share of, as if all its weights were the largest."""
        used, largest = _used(node, size), _largest(node, size.ndim)
        found = largest * used + _added(node, size.ndim)
        total = _half_step(node, size.ndim) * used
        if np.any(error):
            wide = np.broadcast_to(error, size.shape)
            exact = isinstance(self.graph[node.inputs[0]], Input)  # what messages round is no trifle
            total = total + (_sum_of_magnitudes(node, [wide]) if exact else largest * _used(node, wide))
        return found, total if node.quantization is not None else total + self._arithmetic(node, [size])

    def _arithmetic(self, node: Node, sizes: Sequence[np.ndarray]) -> np.ndarray:
        """What float arithmetic and the storage of a node's numbers add."""
        own = np.asarray(rounding(node, [size.reshape(-1, *size.shape[2:]) for size in sizes], self.precision))
        if own.ndim and len(own) > 1:
            return own.reshape(*sizes[0].shape[:2], *own.shape[1:])
        return own[None] if own.ndim else own


def _added(node: Node, ndim: int) -> np.ndarray:
    """Magnitude of what a node adds to its sum."""
    if isinstance(node, BatchNorm):
        gain = np.abs(node.gamma.astype(np.float64)) / np.sqrt(node.variance.astype(np.float64) + node.epsilon)
        return along(np.abs(node.beta) + gain * np.abs(node.mean), ndim)
    bias = getattr(node, "bias", None)
    return np.zeros(()) if bias is None else along(np.abs(bias), ndim)


def _half_step(node: Conv | Linear, ndim: int) -> np.ndarray:
    """Half the distance of two neighbouring weights, in units of the float network."""
    if node.quantization is not None:
        return along(0.5 / np.asarray(node.quantization.scale), ndim)
    bits = fraction_bits(node.weight)
    return np.asarray(0.0 if bits is None else 2.0 ** -(bits + 1))


def _largest(node: Conv | Linear, ndim: int) -> np.ndarray:
    """The largest magnitude of the weights of each output channel, in units of the float network."""
    layer = _magnitudes(node)
    assert isinstance(layer, (Conv, Linear))
    return along(layer.weight.reshape(len(layer.weight), -1).max(axis=1), ndim)


def _used(node: Conv | Linear, sizes: np.ndarray) -> np.ndarray:
    """What reaches each neuron, all weights being 1; broadcasts against the output."""
    if isinstance(node, Linear):
        return np.asarray(sizes.sum(axis=-1, keepdims=True))
    groups, shape = node.groups, sizes.shape
    summed = sizes.reshape(*shape[:2], groups, -1, *shape[3:]).sum(axis=3, dtype=np.float64)
    ones = np.ones((groups, 1, *node.weight.shape[2:]))
    found = over_time(dataclasses.replace(node, weight=ones, bias=None, quantization=None), [summed])
    return found if groups == 1 else np.repeat(found, len(node.weight) // groups, axis=2)


def _summed_up(arriving: np.ndarray, share: float) -> np.ndarray:
    """What is arriving in each step and the share that is left of it, [T, B, *shape]."""
    found = np.array(arriving, np.float64)
    for step in range(1, len(found)):
        found[step] += share * found[step - 1]
    return found


def _accumulated(steps: Sequence[_Step], together: np.ndarray) -> np.ndarray:
    """E(t) and the thresholds' own rounding, [T, B, *shape]."""
    total = sum(np.broadcast_to(step.error, together.shape) for step in steps)
    decay, error = max(step.decay for step in steps), np.zeros(together.shape[1:])
    found = np.empty(together.shape)
    for step, added in enumerate(np.asarray(total)):
        error = decay * error + added
        found[step] = error
        error = np.where(together[step], 0.0, error)
    return np.asarray(found + sum(step.threshold for step in steps))
