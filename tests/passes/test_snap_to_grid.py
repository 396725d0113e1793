"""On a dyadic grid, float32 sums are exact whatever their order."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tet_deploy.errors import GraphError
from tet_deploy.ir.nodes import WEIGHTED, Population
from tet_deploy.ir.values import fraction_bits, values
from tet_deploy.passes.snap_to_grid import frames_fit, snap_to_grid
from tet_deploy.testing import random_float_network, random_frames


def unsnapped(rng, **options):
    """A random network whose weights lie on no grid."""
    graph = random_float_network(rng, **options)
    changes = {
        node.name: dataclasses.replace(node, weight=(node.weight * 1.2345).astype(np.float32))
        for node in graph
        if isinstance(node, WEIGHTED)
    }
    return graph.replace(changes)


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32), shown=st.booleans())
def test_every_order_of_summation_gives_the_same_float32(seed, shown):
    """Sums in float32, in the given and in random order, equal the float64 sum, at the largest inputs allowed."""
    rng = np.random.default_rng(seed)
    before = unsnapped(rng)
    frames = random_frames(before, rng) if shown else None
    graph = snap_to_grid(before, frames)
    limit = 2 * np.abs(frames).max() if shown else {"events": 255, "analog": 4}[graph.input.encoding]
    bits = fraction_bits(frames) if shown else {"events": 0, "analog": 8}[graph.input.encoding]
    signed = graph.input.encoding == "analog"
    sent = values(graph)
    for population in graph.of_kind(Population):
        terms = []  # all that the first neuron sums, over all synapses
        for node in (graph[name] for name in population.inputs):
            source = sent[node.inputs[0]]
            from_input = source.kind in ("events", "analog")
            largest, steps = (limit, 2**bits) if from_input else (source.greatest, 1)
            least = -largest * steps if signed and from_input else 0
            weights = node.weight[0].ravel().astype(np.float64)
            terms.append(weights * rng.integers(least, largest * steps + 1, weights.size) / steps)
            terms.append([0 if node.bias is None else node.bias[0]])
        terms = np.concatenate(terms)
        assert np.array_equal(terms, terms.astype(np.float32))
        for _ in range(3):
            total = np.float32(0)
            for term in rng.permutation(terms).astype(np.float32):
                total += term
            assert float(total) == terms.sum()


def test_the_frames_shown_make_the_grid_finer():
    """Counts up to 9 leave four bits more to the weights than counts up to 255 would, and move them by less."""
    before = unsnapped(np.random.default_rng(5), layers=2)
    frames = np.full((1, 1, *before.input.shape), 9.0)
    name = next(node.name for node in before if isinstance(node, WEIGHTED))
    coarse, fine = snap_to_grid(before)[name].weight, snap_to_grid(before, frames)[name].weight
    assert fraction_bits(fine) >= fraction_bits(coarse) + 3
    errors = [np.abs(before[name].weight - weight).max() for weight in (coarse, fine)]
    assert errors[1] <= 2.0 ** -(fraction_bits(fine) + 1) < errors[0]


@pytest.mark.parametrize("factor", [1e-30, 1e-6, 1.0, 100.0])
def test_weights_of_any_size_keep_their_precision(factor):
    """The grid follows the weights: tiny ones do not vanish."""
    before = unsnapped(np.random.default_rng(5), layers=2)
    node = next(node for node in before if isinstance(node, WEIGHTED))
    scaled = dataclasses.replace(node, weight=node.weight * np.float32(factor), bias=node.bias * np.float32(factor))
    after = snap_to_grid(before.replace({node.name: scaled}))[node.name]
    assert np.abs(after.weight - scaled.weight).max() <= 1e-2 * np.abs(scaled.weight).max()  # 8 of 24 bits at the least


def test_frames_for_which_sums_are_not_exact_are_recognised():
    """`frames_fit` recomputes from weights and frames whether exactness is promised."""
    graph = random_float_network(np.random.default_rng(0), encoding="analog")
    frames = np.full((1, 1, *graph.input.shape), 0.5, np.float32)
    snapped = snap_to_grid(graph, frames)
    assert frames_fit(snapped, frames)
    assert frames_fit(snapped, frames * 2)
    assert not frames_fit(snapped, frames / 10)
    fractions = unsnapped(np.random.default_rng(0), encoding="analog")
    assert not frames_fit(fractions, np.full((1, 1, *fractions.input.shape), 0.5, np.float32))
    assert not frames_fit(snapped, frames * 2.0**20)


def test_a_layer_that_fits_no_grid_is_refused():
    """Weights so large that even whole numbers overflow 24 bit are named."""
    graph = random_float_network(np.random.default_rng(0))
    huge = dataclasses.replace(graph["fc"], weight=graph["fc"].weight * 1e9)
    with pytest.raises(GraphError, match="'readout': its sums reach"):
        snap_to_grid(graph.replace({"fc": huge}))
