"""Choose the scale of the input's messages, which hold 8 bit: for what most frames are, not for their largest value.

Frames that a power of two turns into whole numbers of up to 127 are sent exactly. For others several scales are tried, from
the one that clips nothing to the one that clips a twentieth of the values that are not 0; what counts is how far the
populations behind the input then stray from what they do on the frames themselves (`passes.deviation`), all in floats, each
synapse node of the input alone. Clipping must make that better by a tenth. Event counts are clipped at 127 unless a scale
below 1 is better by as much: it rounds single events away, and is told.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tet_deploy import dynamics
from tet_deploy.batches import FrameBatches
from tet_deploy.errors import DataError, QuantizationWarning, warn
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import WEIGHTED, Conv, Flatten, Linear, Node, Population, Quantization
from tet_deploy.ir.values import EVENTS, Value
from tet_deploy.meaning import over_time
from tet_deploy.passes.deviation import Trajectory, deviation
from tet_deploy.passes.fit import populations

LARGEST = 127
_BEYOND = (1e-5, 1e-4, 1e-3, 0.01, 0.02, 0.05)  # shares of the values that are not 0 that a candidate clips
_SMALLER = 0.8  # a candidate that clips leaves at most this of the range of the one before
_BETTER = 0.9  # a scale that clips, or that rounds events away, must deviate by less than this times the other
_JUDGED = 2**20  # values of the input on which scales are judged
_AT_ONCE = 2**22
_DROPPED = 15  # bits of a float32 that the histogram does not tell apart: it knows values to 0.4 %


def input_units(graph: Graph, frames: FrameBatches, seen: Value) -> Quantization:
    """What the messages of a float network's input stand for.

    Parameters
    ----------
    frames
        Those to calibrate on.
    seen
        Their bounds and their grid.

    Warns
    -----
    QuantizationWarning
        Event counts are so large that they are sent at a scale below 1.

    Raises
    ------
    DataError
        All frames are zero.
    """
    if seen.magnitude == 0:
        raise DataError("calibration frames: must not be all zero. Take some that the network will really see.")
    for power in range(8):
        if seen.magnitude * 2**power <= LARGEST and seen.fraction_bits is not None and seen.fraction_bits <= power:
            return Quantization(scale=float(2**power))
    tried = [Quantization(scale=LARGEST / value) for value in _reached(frames, seen.magnitude)]
    if seen.kind == EVENTS:
        tried = [Quantization(scale=1.0), *(units for units in tried if units.one_scale < 1)]
    taken = _best(graph, frames, tried)
    if seen.kind == EVENTS and (scale := taken.one_scale) < 1:
        lost = int(np.floor(0.5 / scale))
        warn(
            f"input {graph.input.name!r}: event counts up to {seen.greatest:g} are sent at a scale of {scale:.3g}, "
            f"which changes least of what the first populations do; counts up to {lost} are sent as 0. "
            "Cut the frames into more steps to keep them.",
            QuantizationWarning,
        )
    return taken


def _reached(frames: FrameBatches, magnitude: float) -> list[float]:
    """The magnitudes beyond which such shares of the values that are not 0 lie, from a histogram, however they are split."""
    counts = np.zeros(2 ** (32 - _DROPPED), np.int64)
    for part in frames.batches(max(1, _AT_ONCE // (frames.steps * int(np.prod(frames.shape))))):
        found = np.abs(part.frames().astype(np.float32, copy=False)).ravel()
        counts += np.bincount(found.view(np.uint32) >> _DROPPED, minlength=len(counts))
    counts[0] = 0
    beyond = counts[::-1].cumsum()[::-1] - counts  # of larger bins
    bins = [int(np.argmax(beyond <= share * counts.sum())) for share in _BEYOND]
    edges = (np.asarray(bins, np.uint32) + np.uint32(1)) << np.uint32(_DROPPED)
    reached = [magnitude]
    for edge in edges.astype(np.uint32).view(np.float32).tolist():
        reached += [edge] if edge <= reached[-1] * _SMALLER else []
    return reached


def _best(graph: Graph, frames: FrameBatches, tried: list[Quantization]) -> Quantization:
    """The first of the candidates that no later one beats by far."""
    count = min(len(frames), max(1, _JUDGED // (frames.steps * int(np.prod(frames.shape)))))
    chosen = [index * len(frames) // count for index in range(count)]
    seen = np.concatenate([frames.part(index, index + 1).frames() for index in chosen], axis=1)
    expected = list(_behind(graph, seen.astype(np.float64)))
    taken, least = tried[0], np.inf
    for units in tried:
        shown = _behind(graph, dynamics.to_messages(seen, units) / units.scale)
        error = sum(
            float(np.mean(deviation(node, before, after)))
            for (node, before), (_, after) in zip(expected, shown, strict=True)
        )
        if error < _BETTER * least:
            taken, least = units, error
    return taken


def _behind(graph: Graph, frames: np.ndarray) -> Iterator[tuple[Population, Trajectory]]:
    """What each population behind the input does, fed by one synapse node of it alone."""
    for layer in _fed_by(graph, graph.input):
        (population,) = graph.consumers(layer.name)
        assert isinstance(population, Population)
        populations(population, None, 1.0)  # refuses what has no integers
        received = frames.reshape(*frames.shape[:2], *graph.shapes[layer.inputs[0]])
        yield population, Trajectory.of(population, over_time(layer, [received]))


def _fed_by(graph: Graph, node: Node) -> Iterator[Conv | Linear]:
    for consumer in graph.consumers(node.name):
        if isinstance(consumer, WEIGHTED):
            yield consumer
        elif isinstance(consumer, Flatten):
            yield from _fed_by(graph, consumer)
