"""First causes are told from what follows on them, and what rounding explains from what it does not."""

import dataclasses
import json

import numpy as np
import pytest

import tet_deploy as td
from tet_deploy.ir.graph import chain
from tet_deploy.ir.nodes import LIF, SOFT_RESETS, CubaLIF, Input, Linear, Readout, SoftResetLIF
from tet_deploy.links.flips import flips
from tet_deploy.links.link import of_graph
from tet_deploy.links.pair import Pair
from tet_deploy.testing import random_float_network, random_frames


def both(a, b, frames):
    """Links of two networks, and what each records, in units of the float network."""
    links = Pair(of_graph(a), of_graph(b))
    return links, *(link.in_float_units(td.run(link.graph, frames)) for link in links)


def sparse_network(rng, decay):
    """Two layers, half of their weights 0."""
    weights = [np.where(rng.random(shape) < 0.5, 0, rng.normal(0, 0.8, shape)) for shape in ((6, 5), (7, 6), (3, 7))]
    nodes = [Input(name="input", shape=(5,))]
    for index, weight in enumerate(weights):
        nodes.append(Linear(name=f"w{index}", weight=weight.astype(np.float32)))
        nodes.append(LIF(name=f"lif{index}", decay=decay) if index < 2 else Readout(name="readout"))
    return chain(nodes)


@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
def test_first_causes_are_those_of_a_slow_loop(decay):
    """Neuron by neuron: since both fired together, no synapse brought a spike that differed, and its own were the same."""
    rng = np.random.default_rng(3)
    graph = sparse_network(rng, decay)
    weight = graph["w0"].weight + rng.normal(0, 0.1, graph["w0"].weight.shape) * (graph["w0"].weight != 0)
    other = graph.replace(
        {
            "w0": dataclasses.replace(graph["w0"], weight=weight.astype(np.float32)),
            "lif1": dataclasses.replace(graph["lif1"], threshold=0.6),
        }
    )
    frames = rng.uniform(0, 2, (12, 40, 5)).astype(np.float32)
    links, one, two = both(graph, other, frames)
    found = flips(links, one, two, frames)
    sources = {"lif0": (None, "w0"), "lif1": ("lif0", "w1")}
    total = {}
    for name, (source, layer) in sources.items():
        expected = np.zeros(one.spikes[name].shape, bool)
        for b in range(40):
            for n in range(expected.shape[2]):
                touched = False
                for t in range(12):
                    for i in range(graph[layer].weight.shape[1]):
                        if source and graph[layer].weight[n, i] != 0:
                            touched |= bool(one.spikes[source][t, b, i] != two.spikes[source][t, b, i])
                    s, r = one.spikes[name][t, b, n], two.spikes[name][t, b, n]
                    expected[t, b, n] = s != r and not touched
                    touched = (touched or s != r) and not (s and r) and decay != 0
        assert np.array_equal(found[name].first_causes, expected)
        total[name] = (int(expected.sum()), int((one.spikes[name] != two.spikes[name]).sum()))
    assert all(causes > 0 for causes, _ in total.values())
    assert total["lif1"][0] < total["lif1"][1]


@pytest.mark.parametrize("reset", SOFT_RESETS)
def test_a_soft_reset_forgets_nothing(reset):
    """Each neuron of the first layer differs by itself once at most, however often both fire together afterwards."""
    rng = np.random.default_rng(3)
    graph = sparse_network(rng, 0.75)
    soft = SoftResetLIF(name="lif0", inputs=("w0",), decay=0.75, reset=reset)
    graph = graph.replace({"lif0": soft})
    other = graph.replace({"lif0": dataclasses.replace(soft, threshold=0.9)})
    frames = rng.uniform(0, 2, (12, 40, 5)).astype(np.float32)
    links, one, two = both(graph, other, frames)
    differs = one.spikes["lif0"] != two.spikes["lif0"]
    causes = flips(links, one, two, frames)["lif0"].first_causes
    assert np.array_equal(causes, differs & (np.cumsum(differs, axis=0) == 1))
    assert 0 < causes.sum() < differs.sum()


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("seed", range(8))
def test_rounding_explains_all_that_rounding_does(seed, bits):
    """Branches, sums, pools and all: where no weight was clipped, every first cause lies within the bound."""
    rng = np.random.default_rng(seed)
    graph = td.lower(random_float_network(rng, grid=12))
    frames = random_frames(graph, rng, 5, 12)
    int8 = td.quantize(graph, frames, bits=bits, rounding_limit=1e9)
    links, one, two = both(graph, int8, frames)
    said = json.loads(int8.metadata["quantization"])
    for name, found in flips(links, one, two, frames).items():
        if said[name]["clipped_weights"] == 0:
            assert np.array_equal(found.explained, found.first_causes), name


def test_what_rounding_does_is_seen_at_all(networks, frames):
    """The test above is of something: four bits make first causes in the model's network, and most are explained."""
    found = td.compare(networks["snapped"], networks["int4"], frames)
    total = found.total
    assert found.causes and found.rounding
    assert 0 < total.explained <= total.first_causes < total.differing
    assert found.unexplained == total.first_causes - total.explained


FAULTS = {
    "a clipped weight": lambda node: dataclasses.replace(node, weight=np.clip(node.weight, -20, 20)),
    "weights of another channel": lambda node: dataclasses.replace(node, weight=node.weight[::-1]),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_what_rounding_cannot_do_is_told(fault, networks, frames):
    """A network with a fault in its first layer flips spikes far from the threshold, which spread."""
    int8 = networks["int8"]
    found = td.compare(networks["snapped"], int8.replace({"0": fault(int8["0"])}), frames)
    node = found.nodes["2"]
    assert node.differing > node.first_causes > 100
    assert node.first_causes - node.explained > node.first_causes / 2
    assert found.total.differing > node.differing  # what follows on it, which is no first cause


def test_folding_is_float_rounding(model, networks, frames):
    """Between a model and its forms before snapping no first cause is unexplained, whatever lies at the threshold."""
    for form in ("traced", "folded"):
        found = td.compare(model, networks[form], frames)
        assert found.rounding
        assert found.unexplained == 0


def test_a_potential_at_the_threshold_is_explained():
    """Where a sum lies on the threshold, one rounding decides; the distance is 0 and within the bound."""
    nodes = (
        Input(name="input", shape=(1,)),
        Linear(name="w", inputs=("input",), weight=np.float32([[1.0]])),
        LIF(name="lif", inputs=("w",)),
        Linear(name="out", inputs=("lif",), weight=np.float32([[1.0]])),
        Readout(name="readout", inputs=("out",)),
    )
    graph = chain(nodes)
    near = graph.replace(
        {"w": dataclasses.replace(graph["w"], weight=np.float32([[np.nextafter(np.float32(1), np.float32(2))]]))}
    )
    found = td.compare(graph, near, np.ones((3, 2, 1), np.float32))
    assert found.nodes["lif"].differing == 2 * 2
    assert (found.nodes["lif"].first_causes, found.nodes["lif"].explained) == (4, 4)  # between them both fire


def test_without_a_network_at_hand_nothing_is_claimed(folder, networks, frames):
    """A file without its network: first causes from the other's, no word on rounding; of the same network, both."""
    found = td.compare(networks["snapped"], folder / "int8.onnx", frames)
    assert (found.causes, found.rounding) == (True, False)
    found = td.compare(folder / "int8.onnx", folder / "int8.onnx", frames)
    assert (found.causes, found.rounding) == (False, False)
    assert td.compare(networks["int8"], folder / "int8.onnx", frames).rounding


@pytest.mark.parametrize(("bits", "biased"), [(8, False), (4, False), (8, True)])
def test_rounding_explains_what_a_current_carries_on(bits, biased):
    """Of neurons with a synaptic current, each first cause lies within what rounding, and a bias behind it, can do."""
    rng = np.random.default_rng(5)
    graph = sparse_network(rng, 0.75)
    fields = {"current_decay": 0.8, "decay": 0.75, "threshold": 2.0}
    changes = {name: CubaLIF(name=name, inputs=graph[name].inputs, **fields) for name in ("lif0", "lif1")}
    if biased:
        changes["w0"] = dataclasses.replace(graph["w0"], bias=rng.normal(0, 0.2, 6).astype(np.float32))
    graph = graph.replace(changes)
    frames = rng.uniform(0, 1, (12, 60, 5)).astype(np.float32)
    links, one, two = both(graph, td.quantize(graph, frames, bits=bits), frames)
    found = flips(links, one, two, frames)
    assert sum(each.first_causes.sum() for each in found.values()) > 3
    assert all(np.array_equal(each.first_causes, each.explained) for each in found.values())
    planted = graph.replace({"lif1": dataclasses.replace(graph["lif1"], threshold=1.0)})
    links, one, two = both(graph, planted, frames)
    assert flips(links, one, two, frames)["lif1"].explained.sum() == 0
