"""Linear layers without neurons between them become one that computes the same."""

import dataclasses
import itertools

import numpy as np
import pytest

from tet_deploy.errors import GraphError
from tet_deploy.ir.graph import Graph, chain
from tet_deploy.ir.nodes import LIF, Add, Input, Linear, Readout
from tet_deploy.ir.shapes import dense_macs
from tet_deploy.passes import fold, fold_linear
from tet_deploy.runtimes.reference import ReferenceRuntime


def network(biases, rng):
    """input - fc1 - lif - three linear layers - readout."""
    sizes = (6, 8, 12, 5, 4)
    layers = [
        Linear(name=f"fc{i + 1}", weight=rng.normal(size=(b, a)), bias=rng.normal(size=b) if biases[i] else None)
        for i, (a, b) in enumerate(itertools.pairwise(sizes))
    ]
    return chain([Input(name="input", shape=(6,)), layers[0], LIF(name="lif"), *layers[1:], Readout(name="readout")])


@pytest.mark.parametrize("biases", [(0, 0, 0, 0), (1, 1, 1, 1), (0, 1, 0, 0), (1, 0, 0, 1)])
def test_readouts_stay_and_one_layer_is_left(biases):
    """Spikes are equal and readouts within rounding; what the layers cost without spikes is not forgotten."""
    rng = np.random.default_rng(0)
    graph, frames = network(biases, rng), rng.normal(size=(5, 3, 6))
    folded = fold_linear(graph)
    assert [node.name for node in folded] == ["input", "fc1", "lif", "fc2", "readout"]
    assert dense_macs(folded["fc2"], (4,)) == 8 * 12 + 12 * 5 + 5 * 4
    assert (folded["fc2"].bias is None) == (not any(biases[1:]))
    before, after = (ReferenceRuntime(each, dtype=np.float64).run(frames) for each in (graph, folded))
    assert np.array_equal(before.spikes["lif"], after.spikes["lif"])
    np.testing.assert_allclose(after.readout, before.readout, atol=1e-12)
    assert fold_linear(folded) is folded
    assert fold(graph)["fc2"].weight.shape == (4, 8)


def test_a_layer_that_is_needed_elsewhere_is_named():
    """Both sums would be needed."""
    rng = np.random.default_rng(1)
    graph = network((0, 0, 0, 0), rng)
    both = Graph(
        (
            *(node for node in graph if node.name not in ("fc3", "fc4", "readout")),
            Linear(name="fc3", inputs=("fc2",), weight=rng.normal(size=(12, 12))),
            Add(name="sum", inputs=("fc2", "fc3")),
            dataclasses.replace(graph.readout, inputs=("sum",)),
        )
    )
    with pytest.raises(GraphError, match=r"node 'fc3': cannot fold into 'fc2', whose output also feeds sum\."):
        fold_linear(both)
