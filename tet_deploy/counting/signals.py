"""What reached each layer, rebuilt from the frames and the recorded spikes; and exact sums over it."""

from __future__ import annotations

import math
from functools import singledispatch
from typing import NamedTuple

import numpy as np

from tet_deploy import dynamics
from tet_deploy.contracts import Recording
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import Add, AvgPool, Flatten, Input, Node, Spiking
from tet_deploy.ir.normalization import normalized


class Signal(NamedTuple):
    """What flows along an edge, [T, B, *shape]: values / divisor. An average over spikes stays integer that way."""

    values: np.ndarray
    divisor: int = 1


def signals(graph: Graph, recording: Recording, frames: np.ndarray) -> dict[str, Signal | None]:
    """The output of every node that the frames and the spikes determine; None for sums of products."""
    if frames.dtype.kind == "f":  # sums of a sample have one order then, however the frames lay in memory
        frames = np.ascontiguousarray(frames, dtype=np.float64)
    found: dict[str, Signal | None] = {}
    for node in graph:
        if isinstance(node, Input):
            y = normalized(node, frames)
            found[node.name] = Signal(dynamics.to_messages(y, node.quantization) if node.quantization else y)
        elif isinstance(node, Spiking):
            found[node.name] = Signal(recording.spikes[node.name])
        else:
            sources = [found[source] for source in node.inputs]
            known = [source for source in sources if source is not None]
            found[node.name] = _signal(node, *known) if len(known) == len(sources) else None
    return found


@singledispatch
def _signal(node: Node, *sources: Signal) -> Signal | None:
    """What the node sends on; layers, batch norm and readout would have to be run to tell."""
    return None


@_signal.register
def _(node: Flatten, source: Signal) -> Signal:
    steps, samples = source.values.shape[:2]
    return Signal(source.values.reshape(steps, samples, -1), source.divisor)


@_signal.register
def _(node: AvgPool, source: Signal) -> Signal:
    windows = np.lib.stride_tricks.sliding_window_view(source.values, node.kernel, axis=(-2, -1))
    windows = windows[..., :: node.stride[0], :: node.stride[1], :, :]
    return Signal(windows.sum(axis=(-2, -1), dtype=_sum_dtype(source.values)), source.divisor * math.prod(node.kernel))


@_signal.register
def _(node: Add, *sources: Signal) -> Signal:
    divisor = math.lcm(*(source.divisor for source in sources))
    parts: list[np.ndarray] = [
        source.values.astype(_sum_dtype(source.values)) * (divisor // source.divisor) for source in sources
    ]
    return Signal(np.sum(parts, axis=0), divisor)


def total(values: np.ndarray) -> np.ndarray:
    """Sum over the elements of each sample and step, [T, B]; int64 where the values are integers or booleans."""
    return np.asarray(values.sum(axis=tuple(range(2, values.ndim)), dtype=_sum_dtype(values)))


def weighted_total(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sum of values * weights over the elements of each sample and step, int64 [T, B].

    `weights` broadcasts against [*shape]. Axes along which it does not change are summed first: that is most of the work.
    """
    constant = tuple(axis + 2 for axis, size in enumerate(weights.shape) if size == 1)
    reduced = values.sum(axis=constant, dtype=np.int64)
    flat = reduced.reshape(*values.shape[:2], -1).astype(np.int64, copy=False)
    return np.asarray(flat @ weights.ravel())


def _sum_dtype(values: np.ndarray) -> type:
    return np.float64 if values.dtype.kind == "f" else np.int64
