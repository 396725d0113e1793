"""Move weights to multiples of a power of two, so that float32 sums are exact and every runtime agrees in every spike.

If what reaches a synapse node are multiples of 2^-g and its weights are of 2^-k, every partial sum is a multiple of
2^-(k+g). As long as none exceeds 2^(24-k-g), float32 holds all of them exactly and the order of summation cannot matter.
The bound is that of everything that a population sums, over all its synapses, see `ir.values`.

Spikes are 0 or 1 (g = 0). Each population gets the finest grid that keeps the bound; the nearer the stated frames are to the
real ones, the finer it is.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tet_deploy.batches import FrameBatches, Source
from tet_deploy.contracts import Frames, network_frames
from tet_deploy.errors import DataError, GraphError
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import WEIGHTED, Conv, Linear, Node, Population
from tet_deploy.ir.spec import FLOAT
from tet_deploy.ir.values import ANALOG, EVENTS, FINEST, Value, sent_by, total, values
from tet_deploy.passes.step import step

SIGNIFICANT_BITS = 24  # of float32
METADATA_KEY = "frames_seen"
OFF_GRID = (
    "The frames lie off the network's grid, where float runtimes may differ by rounding. A network that normalizes them "
    "itself has no grid until it is quantized; of others td.snap_frames(graph, frames) puts them on it."
)
_ALLOWED_FOR = {  # where no frames are shown, or such that lie on no grid that leaves half of float32's bits to the weights
    "events": Value(kind=EVENTS, least=0.0, greatest=255.0, fraction_bits=0),
    "analog": Value(kind=ANALOG, least=-4.0, greatest=4.0, fraction_bits=8),
}
_LEAST_LEVELS = 64  # between 0 and the largest value of frames; rounded to fewer they would be other frames


@step(requires=FLOAT, ensures=FLOAT)
def snap_to_grid(graph: Graph, frames: Frames | Source | None = None) -> Graph:
    """Round weights and biases to the finest power-of-two grid on which float32 sums are exact.

    Parameters
    ----------
    graph
        A float network whose populations have synapses of their own, see `lower_residual`.
    frames
        Some that the network will see, [T, B, *shape], or a source of them: exactness then holds for frames up to twice as
        large on the same grid. Without any, or with frames on no grid, it holds for counts up to 255 (events) or for
        multiples of 1/256 up to 4 (analog), which costs precision where the real frames are smaller.

    Returns
    -------
    Graph
        `metadata["frames_seen"]` holds, as JSON, between which values the frames lay once they were normalized.

    Raises
    ------
    GraphError
        A population whose sums do not fit 24 bit on any useful grid.
    """
    shown = None if frames is None else FrameBatches.of(graph, frames).behind(graph.input).values()
    sent = values(graph, _declared(graph, shown))
    changes: dict[str, Node | None] = {}
    for node in graph:
        if isinstance(node, Population):
            changes |= _snapped(node, graph, sent)
    snapped = graph.replace(changes)
    if shown is None:
        return snapped
    return snapped.with_metadata(**{METADATA_KEY: json.dumps({"least": shown.least, "greatest": shown.greatest})})


def frames_fit(graph: Graph, frames: Frames | Source) -> bool:
    """Whether every float32 sum of the network is exact for these frames, in any order; recomputed from the weights."""
    return _fits(graph, FrameBatches.of(graph, frames).behind(graph.input).values())


def _fits(graph: Graph, frames: Value) -> bool:
    sent = values(graph, frames)
    sums = [sent[node.name] for node in graph if isinstance(node, WEIGHTED)]
    sums += [total([sent[name] for name in node.inputs]) for node in graph if isinstance(node, Population)]
    return all(
        summed.fraction_bits is not None and summed.magnitude <= 2.0 ** (SIGNIFICANT_BITS - summed.fraction_bits)
        for summed in sums
    )


def snap_frames(graph: Graph, frames: Frames) -> np.ndarray:
    """Round frames to the grid of a lowered network, so that all its runtimes agree in every bit.

    A float network needs it for frames that are not whole numbers or coarse fractions, such as normalised images: those lie
    on no grid, float32 sums then depend on their order, and runtimes may differ by rounding. A quantized network, which
    rounds its input itself, and frames that lie on the grid already need nothing.

    Parameters
    ----------
    graph
        From `lower`.
    frames
        [T, B, *shape].

    Returns
    -------
    np.ndarray
        float32 [T, B, *shape]: multiples of 2^-k for the largest k, at most 12, with which every sum is exact.

    Raises
    ------
    DataError
        Frames larger than the network's grid allows for, or a network whose weights lie on no grid, as before `lower`.

    Examples
    --------
    >>> np.array_equal(td.snap_frames(graph, frames), frames)  # of events: counts lie on the grid already
    True
    """
    batches = FrameBatches.of(graph, array := network_frames(graph, frames))
    found = snapped(graph, batches)
    return array if found is batches else found.frames()


def snapped(graph: Graph, frames: FrameBatches) -> FrameBatches:
    """The same samples, rounded as `snap_frames` says when they are read; one grid for all of their source.

    Raises
    ------
    DataError
        As from `snap_frames`.
    """
    if graph.is_quantized:
        return frames
    if graph.input.mean is not None:
        raise DataError(
            f"frames: the input {graph.input.name!r} normalizes frames itself, which leaves them on no grid. Quantize the "
            "network; or give td.trace the model without its normalization, and frames that are normalized already."
        )
    seen = dataclasses.replace(frames, start=0, stop=len(frames.source)).values()
    if _fits(graph, seen):
        return frames
    for bits in range(SIGNIFICANT_BITS // 2, -1, -1):
        least, greatest = _multiples(np.array([seen.least, seen.greatest]), bits)
        rounded = dataclasses.replace(seen, least=float(least), greatest=float(greatest), fraction_bits=bits)
        if seen.magnitude * 2.0**bits >= _LEAST_LEVELS and _fits(graph, rounded):
            return dataclasses.replace(frames, source=_Rounded(frames.source, bits))
    raise DataError(
        f"frames: the network has no grid for values up to {seen.magnitude:.6g}, as fine as these. Lower it with frames as "
        "large and fine: td.lower(traced, frames)."
    )


@dataclass(frozen=True)
class _Rounded:
    """A source whose frames are rounded to multiples of 2^-bits."""

    source: Source
    bits: int

    @property
    def steps(self) -> int:
        return self.source.steps

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.source.shape)

    @property
    def labels(self) -> Any:
        return getattr(self.source, "labels", None)

    def __len__(self) -> int:
        return len(self.source)

    def batch(self, indices: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        frames, labels = self.source.batch(indices)
        return _multiples(frames, self.bits), labels


def _declared(graph: Graph, shown: Value | None) -> Value:
    """What the network's frames are taken to be: twice as large as those that were shown."""
    default = _ALLOWED_FOR["events" if graph.input.sends_counts else "analog"]
    if shown is None or shown.fraction_bits is None or shown.fraction_bits > SIGNIFICANT_BITS // 2:
        return default
    largest = 2.0 * max(shown.magnitude, 2.0**-shown.fraction_bits)
    return dataclasses.replace(shown, least=-largest if default.least < 0 else 0.0, greatest=largest)


def _snapped(population: Population, graph: Graph, sent: Mapping[str, Value]) -> dict[str, Node | None]:
    """The population's synapses on a common grid of their sums, the finest that float32 leaves."""
    synapses = [(node, sent[node.inputs[0]]) for name in population.inputs if isinstance(node := graph[name], WEIGHTED)]
    reach = total([sent_by(node, x) for node, x in synapses]).magnitude
    finest = SIGNIFICANT_BITS - (math.ceil(math.log2(reach)) if reach else 0)
    for bits in (finest, finest - 1):  # rounding up may pass the bound by a hair
        if all(x.fraction_bits is not None and bits >= x.fraction_bits for _, x in synapses):
            moved = [(_rounded(node, bits, x), x) for node, x in synapses]
            if total([sent_by(node, x) for node, x in moved]).magnitude <= 2.0 ** (SIGNIFICANT_BITS - bits):
                return {node.name: node for node, _ in moved}
    raise GraphError(
        f"node {population.name!r}: its sums reach {reach:.3g} and do not fit {SIGNIFICANT_BITS} bit on any useful grid. "
        "Check the weights, or show `lower` frames that the network will really see."
    )


def _rounded(node: Conv | Linear, bits: int, x: Value) -> Conv | Linear:
    """The node with weights such that its sums, of inputs on x's grid, and its biases are multiples of 2^-bits."""
    assert x.fraction_bits is not None
    finest = min(bits - x.fraction_bits, FINEST)
    bias = None if node.bias is None else _multiples(node.bias, finest + x.fraction_bits)
    return dataclasses.replace(node, weight=_multiples(node.weight, finest), bias=bias)


def _multiples(array: np.ndarray, bits: int) -> np.ndarray:
    """The nearest multiples of 2^-bits, float32."""
    return np.asarray(np.rint(array.astype(np.float64) * 2.0**bits) / 2.0**bits, dtype=np.float32)
