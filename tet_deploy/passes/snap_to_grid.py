"""Move weights to multiples of a power of two, so that float32 sums are exact and every runtime agrees in every spike.

If the inputs of a layer are multiples of 2^-g and its weights of 2^-k, every partial sum is a multiple of 2^-(k+g). As long
as none exceeds 2^(24-k-g), float32 holds all of them exactly and the order of summation cannot matter:

    largest input * sum |w| + |b|  <=  2^(24 - k - g)          for each output channel

Spikes are 0 or 1 (g = 0). Each layer gets the finest grid that keeps the bound; the nearer the stated frames are to the
real ones, the finer it is.
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import numpy as np

from tet_deploy.contracts import Frames, as_array, network_frames
from tet_deploy.errors import DataError, GraphError
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import WEIGHTED, Conv, Flatten, Input, Linear, Node

SIGNIFICANT_BITS = 24  # of float32
FINEST = 120  # fraction bits; float32 holds 2^-126 without denormals


class Grid(NamedTuple):
    """Values that are multiples of 2^-fraction_bits, up to a limit in magnitude."""

    limit: float
    fraction_bits: int


SPIKES = Grid(1.0, 0)
EVENTS = Grid(255.0, 0)  # what is allowed for where no frames are shown
ANALOG = Grid(4.0, 8)
_LEAST_LEVELS = 64  # between 0 and the largest value of frames; rounded to fewer they would be other frames


def grid_of(frames: Frames) -> Grid | None:
    """The coarsest grid that frames lie on; None if they lie on none that leaves half of float32's bits to the weights."""
    frames = as_array(frames)
    bits = fraction_bits(frames, SIGNIFICANT_BITS // 2)
    return None if bits is None else Grid(float(np.abs(frames).max()), bits)


def fraction_bits(array: np.ndarray, most: int = FINEST) -> int | None:
    """Smallest k such that all values are multiples of 2^-k; None if it exceeds `most`."""
    wide = array.astype(np.float64)
    for bits in range(most + 1):
        scaled = wide * 2.0**bits
        if np.array_equal(scaled, np.rint(scaled)):
            return bits
    return None


def snap_to_grid(graph: Graph, frames: Frames | None = None) -> Graph:
    """Round weights and biases to the finest power-of-two grid on which float32 sums are exact.

    Parameters
    ----------
    graph
        A float network without batch norm and pooling.
    frames
        Some that the network will see, [T, B, *shape]: exactness then holds for frames up to twice as large on the same
        grid. Without any, or with frames on no grid, it holds for counts up to 255 (events) or for multiples of 1/256 up to
        4 (analog), which costs precision where the real frames are smaller.

    Raises
    ------
    GraphError
        A layer whose sums do not fit 24 bit on any useful grid.
    """
    found = None if frames is None else grid_of(frames)
    default = EVENTS if graph.input.encoding == "events" else ANALOG
    grid = default if found is None else Grid(2.0 * max(found.limit, 2.0**-found.fraction_bits), found.fraction_bits)
    return graph.replace(
        {
            node.name: _snapped(node, grid if isinstance(_source(graph, node), Input) else SPIKES)
            for node in graph
            if isinstance(node, WEIGHTED)
        }
    )


def frames_fit(graph: Graph, frames: Frames) -> bool:
    """Whether every float32 sum of the network is exact for these frames, in any order; recomputed from the weights."""
    grid = grid_of(frames)
    return grid is not None and _fits(graph, grid)


def _fits(graph: Graph, grid: Grid) -> bool:
    return all(
        _is_exact(node, grid if isinstance(_source(graph, node), Input) else SPIKES)
        for node in graph
        if isinstance(node, WEIGHTED)
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
    >>> td.validate(graph, td.snap_frames(graph, frames))  # doctest: +SKIP
    """
    array = network_frames(graph, frames)
    if graph.is_quantized or frames_fit(graph, array):
        return array
    largest = np.abs(array).max()
    for bits in range(SIGNIFICANT_BITS // 2, -1, -1):
        if largest * 2.0**bits >= _LEAST_LEVELS and _fits(graph, Grid(float(_rounded(largest, bits)), bits)):
            return _rounded(array, bits).astype(np.float32)
    raise DataError(
        f"frames: the network has no grid for values up to {largest:.6g}. Lower it with frames as large as these: "
        "td.lower(traced, frames)."
    )


def _source(graph: Graph, node: Node) -> Node:
    source = graph[node.inputs[0]]
    while isinstance(source, Flatten):
        source = graph[source.inputs[0]]
    return source


def _is_exact(node: Conv | Linear, inputs: Grid) -> bool:
    bits = fraction_bits(node.weight)
    biases = 0 if node.bias is None else fraction_bits(node.bias)
    if bits is None or biases is None:
        return False
    finest = max(bits + inputs.fraction_bits, biases)
    return bool(_largest_sum(node.weight, node.bias, inputs.limit) <= 2.0 ** (SIGNIFICANT_BITS - finest))


def _largest_sum(weight: np.ndarray, bias: np.ndarray | None, limit: float) -> float:
    sums = limit * np.abs(weight.astype(np.float64)).reshape(len(weight), -1).sum(axis=1)
    return float((sums if bias is None else sums + np.abs(bias.astype(np.float64))).max())


def _snapped(node: Conv | Linear, inputs: Grid) -> Conv | Linear:
    largest = _largest_sum(node.weight, node.bias, inputs.limit)
    bits = SIGNIFICANT_BITS - inputs.fraction_bits - (math.ceil(math.log2(largest)) if largest else 0)
    for k in (min(bits, FINEST), min(bits, FINEST) - 1):  # rounding up may pass the bound by a hair
        weight = _rounded(node.weight, k)
        bias = None if node.bias is None else _rounded(node.bias, k + inputs.fraction_bits)
        if k >= 0 and _largest_sum(weight, bias, inputs.limit) <= 2.0 ** (SIGNIFICANT_BITS - k - inputs.fraction_bits):
            narrow = None if bias is None else bias.astype(np.float32)
            return dataclasses.replace(node, weight=weight.astype(np.float32), bias=narrow)
    raise GraphError(
        f"node {node.name!r}: its sums reach {largest:.3g} and do not fit {SIGNIFICANT_BITS} bit on any useful grid. "
        "Check the weights, or show `lower` frames that the network will really see."
    )


def _rounded(array: np.ndarray, bits: int) -> np.ndarray:
    return np.asarray(np.rint(array.astype(np.float64) * 2.0**bits) / 2.0**bits)
