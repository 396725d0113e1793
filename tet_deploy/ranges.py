"""What left the range of a chip's integers during a run: counted wherever no certificate rules it out.

    clipped     a message of the network's input that was held at the limit of its bits
    wrapped     a synaptic sum that left 24 bit, or a population's presynaptic sum that did once it was shifted by 6,
                or its synaptic current
    saturated   a membrane potential that was held at the lower limit of 24 bit

A potential above the upper limit is not counted: it exceeds every threshold, so that the neuron fires and is reset whether
it was held or not. A float network has no such range.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tet_deploy import dynamics
from tet_deploy.errors import GraphError
from tet_deploy.ir.certificates import Certificate, certificate
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import WEIGHTED, Conv, Input, Linear, Spiking
from tet_deploy.ir.normalization import normalized
from tet_deploy.ir.values import Value, total, values, weighted_bounds
from tet_deploy.reprs import short_repr

CLIPPED, WRAPPED, SATURATED = KINDS = ("clipped", "wrapped", "saturated")
Counts = Mapping[str, np.ndarray]
Possible = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranges:
    """How many values of each node left their range; a node that cannot has no entry.

    Attributes
    ----------
    clipped, wrapped, saturated
        By name of the node, int64 [T, B] in a `Recording` and [B] in a `Step`.
    unknown
        Nodes whose values may have left their range, which the runtime does not count.
    """

    clipped: Counts = field(default_factory=dict)
    wrapped: Counts = field(default_factory=dict)
    saturated: Counts = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    __repr__ = short_repr

    @property
    def left(self) -> frozenset[tuple[str, str]]:
        """Kind and node of each that has left its range."""
        return frozenset((kind, name) for kind in KINDS for name, count in getattr(self, kind).items() if count.any())

    def sample(self, start: int, stop: int) -> Ranges:
        """The part of a recording's that belongs to samples start..stop-1."""
        return joined([self], lambda parts: parts[0][:, start:stop])


def joined(parts: Sequence[Ranges], join: Callable[[list[np.ndarray]], np.ndarray]) -> Ranges:
    """What one runtime counted in several parts of a run, with each node's arrays put together by `join`."""
    counts = {
        kind: {name: join([getattr(part, kind)[name] for part in parts]) for name in getattr(parts[0], kind)}
        for kind in KINDS
    }
    return Ranges(**counts, unknown=parts[0].unknown)


def possible(graph: Graph) -> Possible:
    """The nodes of which no certificate says that their values cannot be clipped, wrapped or saturated, by kind."""
    if not graph.is_quantized:
        return dict.fromkeys(KINDS, ())
    sent = values(graph)
    found: dict[str, list[str]] = {CLIPPED: [graph.input.name], WRAPPED: [], SATURATED: []}
    for node in graph:
        if isinstance(node, WEIGHTED) and _may_wrap(node, sent[node.inputs[0]]):
            found[WRAPPED].append(node.name)
        elif isinstance(node, Spiking):
            certified = _certificate(node, total([sent[name] for name in node.inputs]))
            if certified is None or not certified.cannot_wrap:
                found[WRAPPED].append(node.name)
            if certified is None or not certified.cannot_saturate:
                found[SATURATED].append(node.name)
    return {kind: tuple(names) for kind, names in found.items()}


def _may_wrap(node: Conv | Linear, x: Value) -> bool:
    least, greatest = weighted_bounds(node.weight, x)
    return not -dynamics.STATE_LIMIT <= least.min() <= greatest.max() < dynamics.STATE_LIMIT


def _certificate(node: Spiking, presynaptic: Value) -> Certificate | None:
    """None for a kind of neuron of which no bound is known: it may do anything."""
    try:
        return certificate(node, presynaptic)
    except GraphError:
        return None


def per_sample(mask: np.ndarray, axes: int = 1) -> np.ndarray:
    """How many are true for each index of the leading axes: int64."""
    return np.asarray(np.count_nonzero(mask, axis=tuple(range(axes, mask.ndim))), dtype=np.int64)


def clipped_messages(node: Input, frames: np.ndarray, axes: int = 1) -> np.ndarray:
    """How many messages of a quantized input are held at the limit, for each index of the frames' leading axes."""
    assert node.quantization is not None
    y = normalized(node, frames)
    extremes = np.array([y.min(), y.max()])
    if not dynamics.is_clipped(extremes, node.quantization).any():  # no message lies beyond those of the extremes
        return np.zeros(y.shape[:axes], np.int64)
    return per_sample(dynamics.is_clipped(y, node.quantization), axes)
