"""Folding pooling into the next layer is exact, or refused."""

import dataclasses

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tet_deploy.errors import GraphError
from tet_deploy.ir.graph import chain
from tet_deploy.ir.nodes import LIF, AvgPool, Conv, Flatten, Input, Linear, Readout
from tet_deploy.passes import fold_pooling
from tet_deploy.runtimes.reference import ReferenceRuntime


def dyadic(rng, *shape):
    """Weights on a grid of 1/16, so that sums in float64 are exact for windows of 1, 2, 4, 8 elements."""
    return rng.integers(-24, 25, shape) / 16


def network(rng, size, kernel, stride, conv):
    nodes = [
        Input(name="input", shape=(2, *size)),
        Conv(name="conv1", weight=dyadic(rng, 3, 2, 3, 3), padding=(1, 1)),
        LIF(name="lif1"),
        AvgPool(name="pool1", kernel=kernel, stride=stride),
        conv,
        LIF(name="lif2"),
        AvgPool(name="pool2", kernel=(2, 2), stride=(1, 1)),
        Flatten(name="flat"),
    ]
    shape = chain([*nodes, Readout(name="r")]).shapes["flat"]
    return chain([*nodes, Linear(name="fc", weight=dyadic(rng, 4, *shape)), Readout(name="readout")])


@settings(max_examples=60)
@given(data=st.data())
def test_folding_leaves_every_spike_unchanged(data):
    """In float64, spikes, potentials and readout are equal for every geometry that is not refused."""
    pair = st.tuples(st.sampled_from([1, 2, 4]), st.sampled_from([1, 2]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    size = data.draw(st.tuples(st.integers(6, 12), st.integers(6, 12)))
    kernel = data.draw(pair)
    stride = data.draw(st.one_of(st.just(kernel), pair))
    conv = Conv(
        name="conv2",
        weight=dyadic(rng, 4, 3, *data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))),
        bias=dyadic(rng, 4),
        stride=data.draw(st.tuples(st.integers(1, 2), st.integers(1, 2))),
        padding=data.draw(st.tuples(st.integers(0, 1), st.integers(0, 1))),
        dilation=data.draw(st.tuples(st.integers(1, 2), st.integers(1, 2))),
    )
    try:
        graph = network(rng, size, kernel, stride, conv)
    except GraphError:
        assume(False)  # the drawn kernels do not fit the drawn map
    tiles = [kernel[i] == stride[i] and size[i] % kernel[i] == 0 for i in (0, 1)]
    exact = all(tiles[i] or conv.padding[i] == 0 for i in (0, 1))
    if not exact:
        with pytest.raises(GraphError, match=r"'pool1': folding into 'conv2'.*needs windows that tile"):
            fold_pooling(graph)
        return
    folded = fold_pooling(graph)
    assert not folded.of_kind(AvgPool)
    frames = rng.integers(-32, 33, (4, 2, 2, *size)) / 16
    before, after = (ReferenceRuntime(g, dtype=np.float64).run(frames) for g in (graph, folded))
    for name in ("lif1", "lif2"):
        assert np.array_equal(before.spikes[name], after.spikes[name])
        assert np.array_equal(before.potentials[name], after.potentials[name])
    assert np.array_equal(before.readout, after.readout)


def test_windows_of_nine_round_within_float_precision():
    """A 3 x 3 window divides by 9, which rounds: potentials then agree within rounding."""
    rng = np.random.default_rng(3)
    conv = Conv(name="conv2", weight=dyadic(rng, 4, 3, 2, 2), padding=(1, 1))
    graph = network(rng, (9, 9), (3, 3), (3, 3), conv)
    frames = rng.integers(-32, 33, (3, 2, 2, 9, 9)) / 16
    before, after = (ReferenceRuntime(g, dtype=np.float64).run(frames) for g in (graph, fold_pooling(graph)))
    assert np.abs(before.readout - after.readout).max() < 1e-12  # some dozen float64 roundings


def test_a_pool_in_front_of_neurons_is_refused():
    """Only convolutions and linear layers can absorb a pool."""
    graph = chain(
        [
            Input(name="input", shape=(1, 4, 4)), AvgPool(name="pool", kernel=(2, 2), stride=(2, 2)), LIF(name="lif"),
            Flatten(name="f"), Linear(name="fc", weight=np.ones((2, 4))), Readout(name="r"),
        ]
    )  # fmt: skip
    with pytest.raises(GraphError, match=r"'pool'.*'lif' is a LIF"):
        fold_pooling(graph)


@pytest.mark.parametrize("padding", [(0, 0), (1, 1)])
def test_a_sum_pool_folds_without_the_division(padding):
    """A depthwise convolution of ones goes where a layer is behind it; in front of neurons, or with a cost, it stays."""
    rng = np.random.default_rng(4)
    averaged = network(rng, (8, 8), (2, 2), (2, 2), Conv(name="conv2", weight=dyadic(rng, 4, 3, 3, 3), padding=padding))
    ones = np.ones((3, 1, 2, 2), np.float32)
    pool = Conv(name="pool1", inputs=("lif1",), weight=ones, stride=(2, 2), groups=3, dense_macs=0)
    graph = averaged.replace({"pool1": pool})
    folded = fold_pooling(graph)
    assert [node.name for node in folded.of_kind(Conv)] == ["conv1", "conv2"]
    frames = rng.integers(-32, 33, (4, 2, 2, 8, 8)) / 16
    before, after = (ReferenceRuntime(g, dtype=np.float64).run(frames) for g in (graph, folded))
    assert before.spikes["lif2"].any() and np.array_equal(before.potentials["lif2"], after.potentials["lif2"])
    assert np.array_equal(before.readout, after.readout)
    costly = dataclasses.replace(pool, dense_macs=None)
    assert len(fold_pooling(averaged.replace({"pool1": costly})).of_kind(Conv)) == 3
    in_front_of_neurons = chain(
        [Input(name="input", shape=(3, 4, 4)), dataclasses.replace(pool, inputs=()), LIF(name="lif"), Flatten(name="f"),
         Linear(name="fc", weight=np.ones((2, 12))), Readout(name="r")]
    )  # fmt: skip
    assert fold_pooling(in_front_of_neurons) is in_front_of_neurons
