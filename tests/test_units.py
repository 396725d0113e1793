"""What a quantized network holds stands for the float network's numbers, rounded."""

import numpy as np
import pytest

import tet_deploy as td
from tet_deploy.ir.nodes import LIF, WEIGHTED, Population
from tet_deploy.testing import random_float_network, random_frames
from tet_deploy.units import (
    along,
    by_channel,
    float_thresholds,
    of_channel,
    real_bias,
    real_weight,
    threshold,
    unit,
    units,
    weight_scale,
)

pytestmark = pytest.mark.filterwarnings("ignore::tet_deploy.errors.TetDeployWarning")  # of decays and scales, at random


@pytest.fixture(scope="module", params=range(6))
def both(request):
    """A float network, and its integers."""
    rng = np.random.default_rng(request.param)
    graph = random_float_network(rng, layers=3)
    return graph, td.quantize(graph, random_frames(graph, rng, samples=8), rounding_limit=100)


def test_weights_are_rounded_or_cut_off(both):
    """By half a step where they are not the largest that there are; those of a float network stand as they are."""
    graph, quantized = both
    for node in graph:
        if isinstance(node, WEIGHTED):
            held = quantized[node.name]
            np.testing.assert_array_equal(real_weight(node), node.weight)
            inside = np.abs(held.weight.astype(int)) < 127
            off = np.abs(real_weight(held) - node.weight) * weight_scale(held)
            assert off[inside].max() <= 0.5 + 1e-6  # of the quotient


def test_thresholds_and_biases_are_rounded(both):
    """By half of an integer's step; the bias stands on the population, that of a float network on its synapses."""
    graph, quantized = both
    for node in graph.of_kind(Population):
        held, bias = quantized[node.name], graph[node.inputs[0]].bias
        assert real_bias(node) is None
        mantissas = np.rint(bias * unit(held) / 2**held.quantization.bias_exponent)
        inside = np.abs(mantissas) < 4095
        off = np.abs(real_bias(held) - bias) * unit(held) / 2**held.quantization.bias_exponent
        assert off[inside].max(initial=0) <= 0.5 + 1e-6
        if isinstance(node, LIF):
            assert (threshold(node) == node.threshold).all()
            most = 0.5 if node.comparison == ">" else 1.5  # a chip knows ">" alone, for which one less may be meant
            assert (np.abs(threshold(held) - node.threshold) <= 64 * most / unit(held) + 1e-9).all()


def test_a_graphs_units_are_those_of_its_populations(both):
    """The readout's stand under its kind's name; 1 throughout in a float network."""
    graph, quantized = both
    assert set(units(graph).values()) == {1.0}
    expected = {node.name: by_channel(64 * np.asarray(node.quantization.scale)) for node in quantized.of_kind(LIF)}
    assert units(quantized) == {**expected, "readout": 64 * quantized.readout.quantization.scale}
    assert float_thresholds(quantized) == {node.name: by_channel(threshold(node)) for node in quantized.of_kind(LIF)}


@pytest.mark.parametrize("value, channels", [(3.0, [3, 3]), ((3.0, 4.0), [3, 4]), (np.array([3, 4], np.float32), [3, 4])])
def test_one_number_or_one_for_each_channel(value, channels):
    """Either goes with an array [T, B, C, ...], and gives the number of a channel."""
    for shape in ((5, 6, 2), (5, 6, 2, 3, 4)):
        wide = np.broadcast_to(along(value, len(shape)), shape)
        assert wide.dtype == np.float64
        for channel, number in enumerate(channels):
            assert (wide[:, :, channel] == number).all()
            assert of_channel(value, channel) == number
