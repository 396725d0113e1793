"""Folding batch norm (eq. 6) leaves the network's function as it was."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tet_deploy.errors import GraphError
from tet_deploy.ir.graph import Graph, chain
from tet_deploy.ir.nodes import LIF, Add, BatchNorm, Conv, Flatten, Input, Linear, Readout
from tet_deploy.passes import fold_batch_norm
from tet_deploy.runtimes.reference import ReferenceRuntime

ROUNDING = 1e-9  # float64 sums of some dozen terms of size 1 to 10 round by far less


def norm(rng, name, channels):
    return BatchNorm(
        name=name,
        mean=rng.normal(size=channels),
        variance=rng.uniform(0.1, 3, channels),
        gamma=rng.normal(1, 0.5, channels),
        beta=rng.normal(0.3, 0.5, channels),
        epsilon=1e-5,
    )


def network(seed, conv_bias):
    rng = np.random.default_rng(seed)
    conv = Conv(
        name="conv", weight=rng.normal(size=(4, 2, 3, 3)), bias=rng.normal(size=4) if conv_bias else None, padding=(1, 1)
    )
    linear = Linear(name="fc", weight=rng.normal(size=(5, 4 * 6 * 6)) / 10, bias=rng.normal(size=5) if conv_bias else None)
    return chain(
        [
            Input(name="input", shape=(2, 6, 6)), conv, norm(rng, "bn", 4), LIF(name="lif"), Flatten(name="flat"),
            linear, norm(rng, "bn2", 5), Readout(name="readout"),
        ]
    )  # fmt: skip


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32), conv_bias=st.booleans())
def test_folding_leaves_every_spike_unchanged(seed, conv_bias):
    """In float64 every spike is unchanged, and every potential and readout within rounding, unless a margin is smaller."""
    graph = network(seed, conv_bias)
    frames = np.random.default_rng(seed + 1).normal(size=(4, 2, 2, 6, 6))
    folded = fold_batch_norm(graph)
    assert not folded.of_kind(BatchNorm)
    before, after = (ReferenceRuntime(g, dtype=np.float64).run(frames) for g in (graph, folded))
    margin = np.abs(before.potentials["lif"] - 1.0).min()  # silent side; a spike's own margin is checked by equality
    if margin > ROUNDING:
        assert np.array_equal(before.spikes["lif"], after.spikes["lif"])
        assert np.abs(before.potentials["lif"] - after.potentials["lif"]).max() < ROUNDING
        assert np.abs(before.readout - after.readout).max() < ROUNDING


def test_a_graph_without_batch_norm_is_returned_as_it_is():
    """The pass returns the very same graph when it has nothing to do."""
    graph = fold_batch_norm(network(0, True))
    assert fold_batch_norm(graph) is graph


def test_a_convolution_with_other_consumers_is_refused():
    """Folding would change what the other consumer sees."""
    rng = np.random.default_rng(0)
    nodes = (
        Input(name="input", shape=(2, 4, 4)),
        Conv(name="conv", inputs=("input",), weight=rng.normal(size=(2, 2, 1, 1))),
        norm(rng, "bn", 2).__class__(**{**vars(norm(rng, "bn", 2)), "inputs": ("conv",)}),
        LIF(name="lif", inputs=("conv",)),
        LIF(name="lif2", inputs=("bn",)),
        Flatten(name="f1", inputs=("lif",)),
        Flatten(name="f2", inputs=("lif2",)),
        Linear(name="fc1", inputs=("f1",), weight=np.ones((3, 32))),
        Linear(name="fc2", inputs=("f2",), weight=np.ones((3, 32))),
    )
    graph = Graph((*nodes, Add(name="add", inputs=("fc1", "fc2")), Readout(name="readout", inputs=("add",))))
    with pytest.raises(GraphError, match="'bn': cannot fold into 'conv', whose output also feeds lif"):
        fold_batch_norm(graph)


def test_a_batch_norm_without_a_convolution_is_refused():
    """A batch norm on spikes has nothing to fold into; nor has one on frames that others take as they come."""
    rng = np.random.default_rng(0)
    last = [Flatten(name="f"), Linear(name="fc", weight=np.ones((3, 32))), Readout(name="readout")]
    graph = chain([Input(name="input", shape=(2, 4, 4)), LIF(name="lif"), norm(rng, "bn", 2), *last])
    with pytest.raises(GraphError, match=r"'bn'.*fed by 'lif', a LIF"):
        fold_batch_norm(graph)
    bn = dataclasses.replace(norm(rng, "bn", 2), inputs=("input",))
    nodes = chain([Input(name="input", shape=(2, 4, 4)), *last]).nodes
    both = Add(name="add", inputs=("input", "bn"))
    graph = Graph((nodes[0], bn, both, Flatten(name="f", inputs=("add",)), *nodes[2:]))
    with pytest.raises(GraphError, match=r"'bn'.*fed by 'input', a Input"):
        fold_batch_norm(graph)


def test_a_batch_norm_of_frames_is_the_inputs():
    """(x - mean) / deviation of the frames gives what the batch norm did."""
    rng = np.random.default_rng(0)
    last = [Flatten(name="f"), Linear(name="fc", weight=np.ones((3, 32))), Readout(name="readout")]
    graph = chain([Input(name="input", shape=(2, 4, 4)), norm(rng, "bn", 2), *last])
    frames = rng.normal(size=(2, 3, 2, 4, 4)).astype(np.float32)
    folded = fold_batch_norm(graph)
    assert [node.kind for node in folded] == ["Input", "Flatten", "Linear", "Readout"]
    before, after = (ReferenceRuntime(each, dtype=np.float64).run(frames).readout for each in (graph, folded))
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5)  # mean and deviation are float32
