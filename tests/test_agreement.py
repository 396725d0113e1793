"""Every runtime in the table agrees with the reference, value for value."""

import dataclasses

import numpy as np
import pytest

import tet_deploy as td
from tet_deploy.ir.nodes import Spiking
from tet_deploy.pipeline import equality_expected
from tet_deploy.runtimes import RUNTIMES
from tet_deploy.testing import random_float_network, random_frames, random_quantized_network
from tet_deploy.validation import compare

OTHERS = [name for name in RUNTIMES if name != "reference"]


@pytest.fixture
def runtime(request):
    if request.param == "lava":
        request.getfixturevalue("lava_python")
    return request.param


@pytest.mark.parametrize("runtime", OTHERS, indirect=True)
@pytest.mark.parametrize(("seed", "currents"), [(0, False), (1, False), (2, False), (3, True), (4, True)])
def test_quantized_networks_run_equally_everywhere(runtime, seed, currents):
    """Spikes, membrane potentials and readout of a network from float weights through `quantize` are equal integers."""
    rng = np.random.default_rng(seed)
    graph = td.lower(random_float_network(rng, currents=currents))
    int8 = td.quantize(graph, random_frames(graph, rng, 4, 16), rounding_limit=np.inf if currents else 0.25)
    frames = random_frames(graph, rng, 5, 3)
    agreement = td.validate(int8, frames, runtimes=["reference", runtime])[runtime]
    assert agreement.equal, str(agreement.first)
    values = sum(int(np.prod(int8.shapes[lif.name])) for lif in int8.of_kind(Spiking))
    assert agreement.compared == 5 * 3 * (2 * values + int8.shapes["readout"][0])


@pytest.mark.parametrize("seed", range(12))
def test_snapped_float_networks_run_equally_on_onnx(seed):
    """On the grid, float32 spikes, potentials and readout are equal bit for bit."""
    rng = np.random.default_rng(seed)
    graph = td.lower(random_float_network(rng, grid=20))
    frames = random_frames(graph, rng, 6, 5)
    assert equality_expected(graph, frames)
    agreement = td.validate(graph, frames, runtimes=["reference", "onnx"])["onnx"]
    assert agreement.equal, str(agreement.first)


def test_a_wrong_network_is_noticed():
    """A single changed weight shows up as a divergence with its place."""
    rng = np.random.default_rng(0)
    graph = random_quantized_network(rng, layers=2)
    frames = random_frames(graph, rng, 5, 8)
    expected = td.run(graph, frames)
    conv = graph["layer0.conv"]
    weight = np.array(conv.weight)
    weight[0, 0, 0, 0] = 127 if weight[0, 0, 0, 0] < 0 else -127
    changed = graph.replace({"layer0.conv": dataclasses.replace(conv, weight=weight)})
    agreement = compare(expected, td.run(changed, frames, runtime="onnx"))
    assert not agreement.equal
    assert agreement.first.node == "layer0.lif"


def test_off_the_grid_equality_is_not_promised():
    """Frames that are not multiples of the grid's step make no promise for float networks."""
    rng = np.random.default_rng(0)
    graph = td.lower(random_float_network(rng, encoding="analog"))
    assert not equality_expected(graph, random_frames(graph, rng) / 3)
