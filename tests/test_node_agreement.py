"""A layer and its node agree up to float rounding, and what differs by more is found where it is."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tet_deploy import dynamics
from tet_deploy.errors import GraphError
from tet_deploy.ir.nodes import (
    KINDS,
    LIF,
    SOFT_RESETS,
    Add,
    AvgPool,
    BatchNorm,
    Conv,
    CubaLIF,
    Flatten,
    Input,
    LeakyReadout,
    Linear,
    Output,
    Readout,
    SoftResetLIF,
    Spiking,
)
from tet_deploy.ir.spec import TRACED
from tet_deploy.meaning import evaluate
from tet_deploy.nn import lif
from tet_deploy.node_agreement import DOUBLE, node_difference, rounding
from tet_deploy.tracing import stimuli

SINGLE = 2.0**-24
scales = st.sampled_from([1e-9, 1e-3, 1.0, 1e3, 1e9])
seeds = st.integers(0, 2**32 - 1)


def numbers(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(("dtype", "unit"), [(torch.float32, SINGLE), (torch.float64, DOUBLE)])
@settings(max_examples=20)
@given(seed=seeds, scale=scales, offset=scales)
def test_torch_layers_lie_within_the_bound(dtype, unit, seed, scale, offset):
    """Convolution, linear layer, batch norm and average pool of torch, in its own arithmetic, for inputs of any size."""
    rng = np.random.default_rng(seed)
    conv = Conv(name="c", weight=numbers(rng, 6, 40, 3, 3) * np.float32(scale), bias=numbers(rng, 6), padding=(1, 1))
    linear = Linear(name="l", weight=numbers(rng, 7, 300), bias=numbers(rng, 7) * np.float32(offset))
    norm = BatchNorm(
        name="n",
        mean=numbers(rng, 40) * np.float32(offset),
        variance=np.float32(scale) * numbers(rng, 40) ** 2,
        gamma=numbers(rng, 40),
        beta=numbers(rng, 40),
        epsilon=1e-5,
    )
    pool = AvgPool(name="p", kernel=(3, 2), stride=(1, 2))

    def tensor(array):
        return torch.tensor(array, dtype=dtype)

    image, vector = tensor(scale * numbers(rng, 2, 40, 6, 6)), tensor(numbers(rng, 3, 300))
    with torch.no_grad():
        given = {
            conv: (image, nn.functional.conv2d(image, tensor(conv.weight), tensor(conv.bias), padding=1)),
            linear: (vector, nn.functional.linear(vector, tensor(linear.weight), tensor(linear.bias))),
            norm: (
                image,
                nn.functional.batch_norm(
                    image, *(tensor(getattr(norm, name)) for name in ("mean", "variance", "gamma", "beta")), eps=norm.epsilon
                ),
            ),
            pool: (image, nn.functional.avg_pool2d(image, (3, 2), (1, 2))),
        }
    for node, (x, y) in given.items():
        assert node_difference(node, [x[None].numpy()], y[None].numpy(), unit=unit) is None


@pytest.mark.parametrize(("dtype", "unit"), [(torch.float32, SINGLE), (torch.float64, DOUBLE)])
@settings(max_examples=40)
@given(seed=seeds, decay=st.floats(0, 1), threshold=st.sampled_from([1e-6, 0.3, 1.0, 1e6]), grid=st.booleans())
def test_spikes_agree_but_where_rounding_decides(dtype, unit, seed, decay, threshold, grid):
    """In both precisions, over many steps, also where potentials meet the threshold exactly."""
    current = np.random.default_rng(seed).uniform(-1, 2, (40, 2, 30)) * threshold
    current = (np.round(current / threshold * 4) / 4 * threshold if grid else current).astype(np.float32)
    spikes = lif(torch.tensor(current, dtype=dtype), decay, threshold).numpy()
    assert node_difference(LIF(name="n", decay=decay, threshold=threshold), [current], spikes, unit=unit) is None


def test_a_spike_that_rounding_decided_is_taken_over():
    """The layer's own spike resets the node too, so that what follows is compared and not lost."""
    node = LIF(name="n", decay=1.0, threshold=1.0)
    current = np.array([1 + 1e-9, 0.6, 0.6]).reshape(3, 1, 1)  # in float32 the first does not fire: its potential is 1
    found = lif(torch.tensor(current, dtype=torch.float32), 1.0, 1.0).numpy()
    assert found.ravel().tolist() == [0, 1, 0]
    assert node_difference(node, [current], found, unit=SINGLE) is None
    later = found.copy()
    later[2] = 1
    assert node_difference(node, [current], later, unit=SINGLE).step == 2
    assert node_difference(node, [current], found, unit=DOUBLE).step == 0


def test_what_differs_is_told_where_and_by_how_much():
    """Step, sample, neuron, both values, and what rounding explains of it."""
    x = np.zeros((2, 3, 4, 5, 6))
    y = x.copy()
    y[1, 2, 3, 4, 5] = 0.25
    found = node_difference(Add(name="sum"), [x, x], y)
    assert (found.node, found.step, found.sample, found.neuron) == ("sum", 1, 2, (3, 4, 5))
    assert str(found) == "gives 0.25, its node 0: 0.25 away (neuron (3, 4, 5), step 1, sample 2); float rounding explains 0"
    v = np.full((3, 1, 2), 0.4)
    spikes, potential = [], np.zeros((1, 2))
    for current in v:
        fired, potential = dynamics.lif_step(potential, current, 0.5, 0.65)
        spikes.append(fired)
    spikes = np.stack(spikes).astype(np.float64)
    node = LIF(name="n", decay=0.5, threshold=0.65)
    assert node_difference(node, [v], spikes) is None
    spikes[2, 0, 1] = 0
    found = node_difference(node, [v], spikes)
    assert str(found).startswith("is silent where its potential is 0.05 above threshold (neuron (1,), step 2, sample 0)")
    spikes[2, 0, 1] = 2
    assert node_difference(node, [v], spikes).found == 2


def test_values_that_are_not_finite_agree_if_they_are_equal():
    """A sum may overflow in the layer and in the node; NaN agrees with nothing."""
    x = np.full((1, 1, 2), np.inf)
    assert node_difference(Flatten(name="f"), [x], x) is None
    assert node_difference(Flatten(name="f"), [x], x * np.nan) is not None


@settings(max_examples=40)
@given(seed=seeds, decay=st.floats(0, 1))
def test_what_a_leaky_readout_keeps_is_off_by_rounding_alone(seed, decay):
    """Over many steps in float32; a value that is farther off is found at its step, and so is another decay."""
    given = np.random.default_rng(seed).uniform(-1, 2, (40, 2, 30)).astype(np.float32)
    node, v, found = LeakyReadout(name="n", decay=decay), np.zeros((2, 30), np.float32), []
    for current in given:
        v = np.float32(decay) * v + current
        found.append(v)
    found = np.stack(found)
    assert node_difference(LeakyReadout(name="n", decay=float(np.float32(decay))), [given], found, unit=SINGLE) is None
    found[20, 1, 7] += 1e-2
    assert node_difference(node, [given], found, unit=SINGLE).step == 20
    other = LeakyReadout(name="n", decay=decay / 2 + 0.4)
    assert abs(other.decay - decay) < 0.01 or node_difference(other, [given], found, unit=SINGLE) is not None


def test_every_traceable_kind_has_a_bound():
    """All but the frames, which nothing feeds, and neurons, whose spikes are compared; others stop with an error."""
    have = {kind for kind in KINDS.values() if rounding.dispatch(kind) is not rounding.dispatch(object)}
    assert have == set(TRACED.kinds) - {Input, Spiking, Output} | {Readout, LeakyReadout}
    with pytest.raises(GraphError, match="node 'i': there is no rule for how a Input rounds"):
        node_difference(Input(name="i", shape=(2,)), [np.zeros((1, 1, 2))], np.zeros((1, 1, 2)))


@pytest.mark.parametrize("comparison", [">", ">="])
@pytest.mark.parametrize("kind", [*SOFT_RESETS, "current", "other current", "current, delayed"])
def test_kinds_of_neuron_are_told_from_every_other(kind, comparison):
    """Spikes of the node's own equation agree, in float32 too; those of any other kind do not."""
    nodes = {
        other: SoftResetLIF(name="lif", decay=0.7, threshold=0.65, reset=other, comparison=comparison)
        for other in SOFT_RESETS
    }
    nodes["zero"] = LIF(name="lif", decay=0.7, threshold=0.65, comparison=comparison)
    for other, decay in (("current", 0.5), ("other current", 0.6)):
        nodes[other] = CubaLIF(name="lif", current_decay=decay, decay=0.7, threshold=0.65, comparison=comparison)
    nodes["current, delayed"] = dataclasses.replace(nodes["current"], reset="zero-delayed")
    current = stimuli.currents(nodes[kind], (6, 4, 4))
    for other, node in nodes.items():
        for dtype, unit in ((np.float64, DOUBLE), (np.float32, SINGLE)):
            state, found = {}, []
            for presynaptic in current.astype(dtype):
                found.append(evaluate(node, [presynaptic], state).astype(dtype))
            difference = node_difference(nodes[kind], [current], np.stack(found), unit=unit)
            assert (difference is None) == (other == kind), (other, dtype, str(difference))
