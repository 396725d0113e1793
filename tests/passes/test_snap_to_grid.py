"""On a dyadic grid, float32 sums are exact whatever their order."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tet_deploy.errors import GraphError
from tet_deploy.ir.nodes import WEIGHTED
from tet_deploy.passes.snap_to_grid import frames_fit, snap_to_grid
from tet_deploy.testing import random_float_network


def unsnapped(rng):
    """A random network whose weights lie on no grid."""
    graph = random_float_network(rng)
    changes = {
        node.name: dataclasses.replace(node, weight=(node.weight * 1.2345).astype(np.float32))
        for node in graph
        if isinstance(node, WEIGHTED)
    }
    return graph.replace(changes)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_every_order_of_summation_gives_the_same_float32(seed):
    """Sums in float32, in the given and in random order, equal the float64 sum, at the largest inputs allowed."""
    rng = np.random.default_rng(seed)
    graph = snap_to_grid(unsnapped(rng))
    grid = json.loads(graph.metadata["grid"])
    for index, node in enumerate(node for node in graph if isinstance(node, WEIGHTED)):
        limit, bits = (grid["input_limit"], grid["input_fraction_bits"]) if index == 0 else (1, 0)
        for row in range(len(node.weight)):
            weights = node.weight[row].ravel()
            x = rng.integers(-limit * 2**bits, limit * 2**bits + 1, weights.size) / 2**bits
            terms = np.append(weights.astype(np.float64) * x, 0 if node.bias is None else node.bias[row])
            assert np.array_equal(terms, terms.astype(np.float32))
            for _ in range(3):
                total = np.float32(0)
                for term in rng.permutation(terms).astype(np.float32):
                    total += term
                assert float(total) == terms.sum()


def test_snapping_moves_weights_by_half_a_grid_step_at_most():
    """The weight error is at most 2^-(k+1), with the k that the metadata reports."""
    before = unsnapped(np.random.default_rng(5))
    after = snap_to_grid(before)
    for name, bits in json.loads(after.metadata["grid"])["weight_fraction_bits"].items():
        assert np.abs(before[name].weight - after[name].weight).max() <= 2.0 ** -(bits + 1)
        assert bits >= 8


def test_frames_off_the_grid_are_recognised():
    """`frames_fit` tells whether exactness is promised for given frames."""
    graph = snap_to_grid(
        random_float_network(np.random.default_rng(0), encoding="analog"), input_limit=1, input_fraction_bits=4
    )
    frames = np.full((1, 1, *graph.input.shape), 0.5, np.float32)
    assert frames_fit(graph, frames)
    assert not frames_fit(graph, frames / 10)
    assert not frames_fit(graph, frames * 4)


def test_a_layer_that_fits_no_grid_is_refused():
    """Weights so large that even whole numbers overflow 24 bit are named."""
    graph = random_float_network(np.random.default_rng(0))
    huge = dataclasses.replace(graph["fc"], weight=graph["fc"].weight * 1e9)
    with pytest.raises(GraphError, match="'fc': its sums reach"):
        snap_to_grid(graph.replace({"fc": huge}))
