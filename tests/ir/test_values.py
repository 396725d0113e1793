"""What is said of an edge holds for every value that ever flows on it."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tet_deploy.errors import GraphError
from tet_deploy.ir.certificates import certificates
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import LIF, Add, AvgPool, BatchNorm, Conv, Flatten, Input, Linear, Node, Population, Readout
from tet_deploy.ir.values import fraction_bits, total, value_of_frames, values
from tet_deploy.meaning import evaluate
from tet_deploy.testing import random_float_network, random_frames, random_quantized_network


def flowing(graph, frames):
    """Every node's output at every step, in float64 or integers: {name: [values of one step, ...]}."""
    state, seen = {}, {node.name: [] for node in graph}
    for frame in frames:
        found = {}
        for node in graph:
            inputs = [found[source] for source in node.inputs] or [frame.astype(np.float64)]
            found[node.name] = np.asarray(evaluate(node, inputs, state))
            if graph.is_quantized:
                found[node.name] = found[node.name].astype(np.int64)
            seen[node.name].append(found[node.name])
    return seen


def need_within(value, array, name):
    assert value.least <= array.min() <= array.max() <= value.greatest, name
    if value.fraction_bits is not None:
        assert np.array_equal(array * 2.0**value.fraction_bits, np.rint(array * 2.0**value.fraction_bits)), name


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32), quantized=st.booleans(), wrap=st.booleans())
def test_no_value_leaves_its_bounds_or_its_grid(seed, quantized, wrap):
    """On random networks with branches and sums, outputs and presynaptic sums keep to what `values` says."""
    rng = np.random.default_rng(seed)
    graph = random_quantized_network(rng, wrap=wrap) if quantized else random_float_network(rng)
    frames = random_frames(graph, rng) * np.float32(rng.choice([1, 40]))
    sent = values(graph, value_of_frames(frames, graph.input.encoding))
    seen = flowing(graph, frames)
    for node in graph:
        for array in seen[node.name]:
            need_within(sent[node.name], array, node.name)
        if isinstance(node, Population):
            for step in zip(*(seen[name] for name in node.inputs), strict=True):
                need_within(total([sent[name] for name in node.inputs]), sum(step), node.name)


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32))
def test_traced_kinds_keep_to_their_bounds(seed):
    """Batch norm, average pooling and sums of anything, on frames of any size."""
    rng = np.random.default_rng(seed)
    norm = {name: rng.normal(size=2) for name in ("mean", "gamma", "beta")}
    graph = Graph(
        (
            Input(name="input", shape=(2, 4, 4)),
            Conv(name="conv", inputs=("input",), weight=rng.normal(size=(2, 2, 3, 3)), padding=(1, 1)),
            BatchNorm(name="norm", inputs=("conv",), variance=rng.uniform(0.1, 2, 2), epsilon=1e-5, **norm),
            Add(name="sum", inputs=("norm", "input")),
            LIF(name="lif", inputs=("sum",)),
            Add(name="spikes", inputs=("lif", "lif")),
            AvgPool(name="pool", inputs=("spikes",), kernel=(2, 2), stride=(1, 1)),
            Flatten(name="flatten", inputs=("pool",)),
            Linear(name="fc", inputs=("flatten",), weight=rng.normal(size=(3, 18)), bias=rng.normal(size=3)),
            Readout(name="readout", inputs=("fc",)),
        )
    )
    frames = rng.normal(size=(3, 2, 2, 4, 4)).astype(np.float32)
    sent = values(graph, value_of_frames(frames, "analog"))
    for name, steps in flowing(graph, frames).items():
        slack = 1e-9 * (1 + sent[name].magnitude)  # float64 rounds the sums, and the bounds too
        loose = dataclasses.replace(sent[name], least=sent[name].least - slack, greatest=sent[name].greatest + slack)
        for array in steps:
            need_within(loose, array, name)
    assert [sent[name].kind for name in ("input", "conv", "sum", "lif", "spikes", "pool", "fc")] == [
        *("analog", "sum", "sum", "spike", "graded", "pooled", "sum")
    ]
    assert (sent["spikes"].greatest, sent["pool"].fraction_bits) == (2.0, 2)


def test_without_frames_a_float_input_has_no_bound():
    """Nothing is claimed of frames that nobody has described; weights of zero still pass nothing on."""
    nodes = (
        Input(name="input", shape=(2,)),
        Linear(name="fc", inputs=("input",), weight=np.array([[0.0, 0.0]]), bias=np.array([0.5])),
        Linear(name="gc", inputs=("input",), weight=np.array([[1.0, 0.0]])),
        Readout(name="readout", inputs=("fc", "gc")),
    )
    sent = values(Graph(nodes))
    assert (sent["fc"].least, sent["fc"].greatest) == (0.0, 0.5)
    assert (sent["gc"].least, sent["gc"].greatest) == (-np.inf, np.inf)


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=5))
def test_fraction_bits_are_the_coarsest_grid(numbers):
    """All numbers are multiples of 2^-k, and not all of 2^-(k-1)."""
    array = np.array(numbers)
    bits = fraction_bits(array)
    if bits is None:
        assert not np.array_equal(array * 2.0**120, np.rint(array * 2.0**120))
        return
    assert np.array_equal(array * 2.0**bits, np.rint(array * 2.0**bits))
    if bits:
        assert not np.array_equal(array * 2.0 ** (bits - 1), np.rint(array * 2.0 ** (bits - 1)))


def test_a_kind_without_a_rule_is_named():
    """Nothing is guessed of a node that nobody described."""

    @dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
    class Strange(Node):
        pass

    from tet_deploy.ir.values import sent_by

    with pytest.raises(GraphError, match="'odd': nothing is known of what a Strange sends"):
        sent_by(Strange(name="odd"))


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32), wrap=st.booleans())
def test_certificates_hold(seed, wrap):
    """A population that is certified never wraps and never reaches the lower limit, on frames of any size."""
    rng = np.random.default_rng(seed)
    graph = random_quantized_network(rng, wrap=wrap)
    state, found = {}, certificates(graph)
    for frame in random_frames(graph, rng, steps=12) * np.float32(rng.choice([1, 300])):
        sent = {}
        for node in graph:
            inputs = [sent[source] for source in node.inputs] or [frame]
            sent[node.name] = np.asarray(evaluate(node, inputs, state)).astype(np.int64)
            if isinstance(node, Population):
                if found[node.name].cannot_wrap:
                    assert np.abs(sum(inputs)).max() <= 2**17 - 1
                    assert (
                        found[node.name].least_sum <= sum(inputs).min() <= sum(inputs).max() <= found[node.name].greatest_sum
                    )
                if found[node.name].cannot_saturate and isinstance(node, LIF):
                    assert state[node.name].min() >= found[node.name].least_potential > -(2**23)


def test_a_float_network_has_no_certificates():
    """They are of integers."""
    with pytest.raises(GraphError, match=r"certificates are of a quantized network's integers"):
        certificates(random_float_network(np.random.default_rng(0)))
