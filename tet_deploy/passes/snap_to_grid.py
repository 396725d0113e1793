"""Move weights to multiples of a power of two, so that float32 sums are exact and every runtime agrees in every spike.

If the inputs of a layer are multiples of 2^-g and its weights of 2^-k, every partial sum is a multiple of 2^-(k+g). As long
as none exceeds 2^(24-k-g), float32 holds all of them exactly and the order of summation cannot matter:

    largest input * sum |w| + |b|  <=  2^(24 - k - g)          for each output channel

Spikes are 0 or 1 (g = 0). Each layer gets the finest grid that keeps the bound.
"""

from __future__ import annotations

import dataclasses
import json

import numpy as np

from tet_deploy.errors import GraphError
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import WEIGHTED, Conv, Flatten, Input, Linear, Node

SIGNIFICANT_BITS = 24  # of float32
EVENT_GRID = (255.0, 0)  # counts up to 255
ANALOG_GRID = (4.0, 8)  # multiples of 1/256 within -4..4
METADATA_KEY = "grid"


def snap_to_grid(graph: Graph, *, input_limit: float | None = None, input_fraction_bits: int | None = None) -> Graph:
    """Round weights and biases to the finest power-of-two grid on which float32 sums are exact.

    Parameters
    ----------
    graph
        A float network without batch norm and pooling.
    input_limit, input_fraction_bits
        The frames for which exactness is promised: multiples of 2^-input_fraction_bits up to input_limit in magnitude.
        Default: counts up to 255 for events, multiples of 1/256 up to 4 for analog frames.

    Raises
    ------
    GraphError
        A layer whose sums do not fit 24 bit on any useful grid.
    """
    limit, bits = EVENT_GRID if graph.input.encoding == "events" else ANALOG_GRID
    limit = limit if input_limit is None else max(input_limit, 1.0)
    bits = bits if input_fraction_bits is None else input_fraction_bits
    changes: dict[str, Node | None] = {}
    grids: dict[str, int] = {}
    for node in graph:
        if isinstance(node, WEIGHTED):
            analog = isinstance(_source(graph, node), Input)
            changes[node.name], grids[node.name] = _snapped(node, limit if analog else 1.0, bits if analog else 0)
    record = {"input_limit": limit, "input_fraction_bits": bits, "weight_fraction_bits": grids}
    return graph.replace(changes).with_metadata(**{METADATA_KEY: json.dumps(record)})


def frames_fit(graph: Graph, frames: np.ndarray) -> bool:
    """Whether frames lie on the grid for which the snapped graph promises exact float32 sums."""
    if METADATA_KEY not in graph.metadata:
        return False
    grid = json.loads(graph.metadata[METADATA_KEY])
    scaled = frames * 2.0 ** grid["input_fraction_bits"]
    return bool(np.abs(frames).max() <= grid["input_limit"] and np.array_equal(scaled, np.rint(scaled)))


def _source(graph: Graph, node: Node) -> Node:
    source = graph[node.inputs[0]]
    while isinstance(source, Flatten):
        source = graph[source.inputs[0]]
    return source


def _snapped(node: Conv | Linear, limit: float, input_bits: int) -> tuple[Conv | Linear, int]:
    for bits in range(SIGNIFICANT_BITS - input_bits, -1, -1):
        weight = _rounded(node.weight, bits)
        bias = None if node.bias is None else _rounded(node.bias, bits + input_bits)
        sums = limit * np.abs(weight).reshape(len(weight), -1).sum(axis=1) + (0 if bias is None else np.abs(bias))
        if sums.max() <= 2.0 ** (SIGNIFICANT_BITS - bits - input_bits):
            narrow = None if bias is None else bias.astype(np.float32)
            return dataclasses.replace(node, weight=weight.astype(np.float32), bias=narrow), bits
    raise GraphError(
        f"node {node.name!r}: its sums reach {sums.max():.3g} and do not fit {SIGNIFICANT_BITS} bit on any grid. "
        "Check the weights, or state smaller frames with input_limit and input_fraction_bits."
    )


def _rounded(array: np.ndarray, bits: int) -> np.ndarray:
    return np.asarray(np.rint(array.astype(np.float64) * 2.0**bits) / 2.0**bits)
