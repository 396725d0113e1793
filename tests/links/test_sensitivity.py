"""The report quantizes one node at a time, and names the one that costs the most."""

import dataclasses

import numpy as np
import pytest

import tet_deploy as td
from tet_deploy.batches import FrameBatches
from tet_deploy.errors import GraphError
from tet_deploy.ir.graph import chain
from tet_deploy.ir.nodes import Input, Linear, Population, Readout
from tet_deploy.links.link import of_graph
from tet_deploy.links.sensitivity import advice, sensitivities, with_one_quantized
from tet_deploy.testing import random_float_network

pytestmark = pytest.mark.filterwarnings("ignore::tet_deploy.errors.TetDeployWarning")  # of four bits, which are meant


def test_one_population_is_rounded_and_nothing_else(networks):
    """Its weights, bias, threshold and decay are those of the integers; every other array is the float network's own."""
    snapped, int4 = networks["snapped"], networks["int4"]
    mixed = with_one_quantized(snapped, int4, "6")
    layer, held = mixed["4"], int4["6"]
    scale = held.quantization.scale
    assert np.array_equal(layer.weight, (int4["4"].weight / int4["4"].quantization.scale).astype(np.float32))
    bias = held.bias * 2.0**held.quantization.bias_exponent / (64 * scale)
    np.testing.assert_allclose(layer.bias, bias, rtol=1e-6)  # stored as float32
    assert mixed["6"].threshold == held.threshold / scale
    for node in snapped:
        if node.name not in ("4", "6"):
            assert mixed[node.name] is node


def test_a_rounded_population_fires_as_its_integers_do(networks, frames):
    """Where the input is exact, the first population's spikes are the integer network's; an integer's 1/64 aside."""
    snapped, int4 = networks["snapped"], networks["int4"]
    found = td.compare(with_one_quantized(snapped, int4, "2"), int4, frames).nodes["2"]
    lossy = td.compare(snapped, int4, frames).nodes["2"]
    assert lossy.differing > 100
    assert found.differing < lossy.differing / 50  # decays cut off at 1/64 of a mantissa


def coarse(node):
    """A layer whose integers are rounded to -127, 0 or 127."""
    return dataclasses.replace(node, weight=(np.rint(node.weight / 127.0) * 127).astype(np.int8))


@pytest.mark.parametrize("layer, population", [("0", "2"), ("4", "6"), ("7.branch.0", "7.lif"), ("10", "readout")])
def test_the_coarsest_node_is_the_dearest(layer, population, networks, frames):
    """Rounding one layer of an 8-bit network to three values puts its population first; each row is a run of its own."""
    snapped, int8 = networks["snapped"], networks["int8"]
    planted = int8.replace({layer: coarse(int8[layer])})
    batches, labels = FrameBatches.of(snapped, frames), np.arange(frames.shape[1]) % 5
    found = sensitivities(snapped, planted, batches, labels)
    assert found[0].node == population
    assert {each.node for each in found} == {node.name for node in snapped.of_kind(Population)} | {"input"}
    for each in found[:2]:
        mixed = with_one_quantized(snapped, planted, each.node)
        direct = td.compare(of_graph(snapped, "onnx"), of_graph(mixed, "onnx"), frames, labels)
        assert each.deviation.decisions == direct.decisions
        assert each.accuracy == direct.accuracy
        assert each.deviation.readout == direct.readout
    (of_input,) = (each for each in found if each.node == "input")
    assert of_input.deviation.readout.largest == 0  # counts are whole messages


def test_frames_that_messages_round_cost_something():
    """Where messages do not stand for the frames exactly, the input has its row."""
    rng = np.random.default_rng(0)
    weight = (rng.integers(-8, 9, (3, 5)) / 8).astype(np.float32)
    graph = chain([Input(name="input", shape=(5,)), Linear(name="w", weight=weight), Readout(name="readout")])
    x = rng.standard_normal((4, 12, 5)).astype(np.float32)
    int8 = td.quantize(graph, x)
    (of_input,) = (each for each in sensitivities(graph, int8, FrameBatches.of(graph, x)) if each.node == "input")
    assert of_input.deviation.readout.largest > 0


def test_the_advice_is_a_command(networks, frames):
    """At few bits: keep the dearest node's layers at 8; at 8 there are no more."""
    batches = FrameBatches.of(networks["snapped"], frames)
    found = sensitivities(networks["snapped"], networks["int4"], batches)
    dearest = next(each for each in found if each.layers)
    wider = ",".join(f"{name}=8" for name in dearest.layers)
    assert advice(found, "net.safetensors").endswith(f"tet-deploy quantize net.safetensors --bits 4,{wider}")
    assert "all 8 bits" in advice(sensitivities(networks["snapped"], networks["int8"], batches), "net.safetensors")


def test_another_network_is_refused(networks, frames):
    """The integers must be made from the floats."""
    rng = np.random.default_rng(0)
    other = td.quantize(td.lower(random_float_network(rng, layers=1, encoding="events")), np.ones((2, 2, 3, 8, 7)))
    with pytest.raises(GraphError):
        sensitivities(networks["snapped"], other, FrameBatches.of(networks["snapped"], frames))
