import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from network_shapes import conv, linear, network, units, weight

import tet_deploy as td
from tet_deploy.chips.limits import CHIPS, LOIHI1
from tet_deploy.chips.tables import resource_text
from tet_deploy.errors import ArgumentError, GraphError
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import LIF, Add, Conv, Flatten, Input, Linear, Readout
from tet_deploy.testing import random_float_network, random_quantized_network


def mnist() -> Graph:
    return network((784,), linear("fc1", 128, 784), linear("fc2", 64, 128), linear("fc3", 10, 64, last=True))


def residual(bits: int = 8) -> Graph:
    """A sum of spikes from neurons and from what lies a layer before them."""
    nodes = [
        Input(name="input", shape=(2, 4, 4), quantization=units()),
        Conv(name="conv1", inputs=("input",), weight=weight(3, 2, 1, 1), quantization=units(bits)),
        LIF(name="lif1", inputs=("conv1",), threshold=50, quantization=units()),
        Conv(name="conv2", inputs=("lif1",), weight=weight(3, 3, 1, 1), quantization=units(bits)),
        LIF(name="lif2", inputs=("conv2",), threshold=50, quantization=units()),
        Add(name="add", inputs=("lif1", "lif2")),
        Flatten(name="flatten", inputs=("add",)),
        Linear(name="fc", inputs=("flatten",), weight=weight(2, 48), quantization=units(bits)),
        Readout(name="readout", inputs=("fc",), quantization=units()),
    ]
    return Graph(tuple(nodes))


def test_the_published_mlp_takes_five_cores():
    """784-128-64-10 takes 5 cores of a Loihi 2, as published: 3, 1 and 1; its input's frames come from outside."""
    found = td.map_resources(mnist(), "loihi2")
    assert [share.cores for share in found.shares.values()] == [3, 1, 1]
    assert found.fits and found.cores == 5 and found.chips == 1


def test_relays_and_sums_take_cores():
    """A sum of spikes and the relay that a short branch waits in are populations with identity synapses."""
    found = td.map_resources(residual(), "loihi2")
    assert list(found.shares) == ["lif1", "lif1/late1", "lif2", "add", "readout"]
    assert [found.shares[name].demand.kind for name in ("lif1/late1", "add")] == ["relay", "sum"]
    assert [one.source for one in found.shares["add"].demand.projections] == ["lif1/late1", "lif2"]
    assert found.shares["add"].demand.neurons == 48 and found.cores == 5
    assert [strike.node for strike in found.strikes["latency"]] == ["lif1"]
    assert found.shares["readout"].demand.projections[0].message_bits == 3


def test_what_spikes_cannot_carry_is_refused():
    """On Loihi 1 neither images nor sums of spikes enter a synapse; the way out is named."""
    found = td.map_resources(residual(), "loihi1")
    assert not found.fits
    image, sums = found.problems
    assert image.node == "input" and "--encoder host" in image.message
    assert sums.node == "add" and "reach 2, which takes 2 bits of 1" in sums.message and "Use Loihi 2" in sums.message
    assert td.map_resources(residual(), "loihi2").fits


def test_a_neuron_with_too_many_inputs_names_who_sends_them():
    """5000 inputs are more than the axons of a Loihi 1 core, by 904; no split of the population helps."""
    graph = network((50, 10, 10), [Flatten(name="flatten")], linear("fc", 7, 5000, last=True))
    (problem,) = [found for found in td.map_resources(graph, "loihi1").problems if found.node == "readout"]
    assert problem.limit == "input axons" and (problem.needed, problem.most) == (5000, 4096)
    for words in ("population 'readout'", "5,000", "904 more than the 4,096", "published", "'input'", "--width"):
        assert words in problem.message
    assert td.map_resources(graph, "loihi2").fits


@pytest.mark.parametrize(
    ("chip", "inputs", "kernel", "words"),
    [
        ("loihi1", 1000, 11, "it fits: `tet-deploy quantize --bits 6`"),
        ("loihi2", 1400, 3, "Its kernel has 9 elements for each channel of 'input'"),
    ],
)
def test_memory_says_whether_fewer_bits_help(chip, inputs, kernel, words):
    """A neuron whose weights fill more than a core is told the most bits that fit, or that no width of weights does."""
    graph = network((inputs, kernel, kernel), conv("conv", 2, inputs, kernel, kernel), [Flatten(name="flatten")],
                    linear("fc", 2, 2, last=True))  # fmt: skip
    problem = td.map_resources(graph, chip).problems[0]
    assert problem.node == "conv.lif" and problem.limit == "synaptic memory" and words in problem.message
    if "--bits" in words:
        narrow = graph.replace({"conv": dataclasses.replace(graph["conv"], quantization=units(6))})
        assert td.map_resources(narrow, chip).shares["conv.lif"].cores == 2


def test_too_many_cores_say_who_takes_them_and_what_helps():
    """A map of a million neurons takes more chips than one; the message counts, names and offers."""
    graph = network((2, 256, 256), conv("conv", 16, 2, 1, 1), conv("last", 1, 16, 64, 64, stride=(64, 64)),
                    [Flatten(name="f")], linear("fc", 2, 16, last=True))  # fmt: skip
    found = td.map_resources(graph, "loihi2")
    problem = found.problems[-1]
    assert problem.limit == "cores of a chip" and problem.node is None
    assert problem.needed == found.cores > 128 == problem.most
    assert f"--chips {found.chips}" in problem.message and "'conv.lif' takes" in problem.message
    with_chips = td.map_resources(graph, "loihi2", chips=found.chips)
    assert all(other.limit != "cores of a chip" for other in with_chips.problems)


def test_thresholds_split_a_population_of_loihi1():
    """Twelve thresholds take two cores where one would hold the neurons, and Loihi 2 does not mind."""
    graph = network((12,), linear("fc1", 12, 12), linear("fc2", 2, 12, last=True))
    many = graph.replace({"fc1.lif": LIF(name="fc1.lif", inputs=("fc1",), quantization=units(),
                                         threshold=np.arange(50, 62))})  # fmt: skip
    found = td.map_resources(many, "loihi1")
    assert found.shares["fc1.lif"].cores == 2 and "--threshold-classes 8" in found.strikes["thresholds"][0].way_out
    assert td.map_resources(many, "loihi2").shares["fc1.lif"].cores == 1


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.sampled_from(sorted(CHIPS)))
def test_what_fits_is_within_every_limit(seed, chip):
    """Whatever the network: no core is over a limit, boxes cover the population, and JSON and tables hold it all."""
    graph = random_quantized_network(np.random.default_rng(seed))
    found = td.map_resources(graph, chip)
    for share in found.shares.values():
        assert all(part <= 1 for part in share.fill(found.chip).values())
        assert share.cores * np.prod(share.box) >= share.demand.neurons
    assert json.loads(json.dumps(found.to_dict()))["cores"] == found.cores
    assert all(str(part) for part in resource_text(found, "net"))


def test_a_float_network_is_refused_with_the_way_out():
    """How many bits weights have decides what they take, so that a float network is not estimated."""
    with pytest.raises(GraphError, match="Quantize it"):
        td.map_resources(random_float_network(np.random.default_rng(0)), "loihi1")


@pytest.mark.parametrize(
    ("chip", "chips", "words"),
    [("loihi3", 1, "loihi1, loihi2"), (None, 1, "loihi1"), ("loihi1", 0, "1 or more"), ("loihi1", True, "1 or more")],
)
def test_bad_arguments(chip, chips, words):
    """A chip that there is not, and none at all, are refused."""
    with pytest.raises(ArgumentError, match=words):
        td.map_resources(mnist(), chip, chips=chips)


def test_limits_have_sources():
    """Every limit says where it comes from, and what is inferred says so."""
    for chip in CHIPS.values():
        assert all(limit.source and limit.value > 0 for limit in chip.limits.values())
    assert {limit.standing for limit in LOIHI1.limits.values()} == {"published"}
