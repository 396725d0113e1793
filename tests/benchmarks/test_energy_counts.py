"""The table of docs/energy.md is what its script makes, and what it says of other counters is all that lies between."""

import dataclasses
from fractions import Fraction
from pathlib import Path

import energy_counts
import energy_peers
import numpy as np
import pytest

import tet_deploy as td

PAGE = (Path(__file__).parents[2] / "docs" / "energy.md").read_text()


def needs(counter):
    """Peers that fit no other's versions are no dependency of the tests; syops' count is worked out without it, too."""
    there = all(map(energy_peers.installed, energy_peers.PEERS[counter]))
    return pytest.mark.skipif(not there, reason="benchmarks/requirements.txt says how to get it")


@pytest.fixture(scope="module")
def network():
    return energy_counts.network()


@pytest.fixture(scope="module")
def report(network):
    return td.energy(*network)


def test_the_page_shows_what_the_counters_say(network, report):
    """Each row that can be made here stands in the page's table, in that order."""
    rows = energy_counts.table(energy_counts.ours(report) | energy_peers.theirs(*network))
    page = iter(PAGE[PAGE.index(rows[0]) :].splitlines())
    assert [row for row in rows if row not in page] == []


@needs(energy_peers.spikingjelly)
def test_spikingjelly_differs_by_the_border_and_by_its_neurons(network, report):
    """Spikes are counted as ours are; under inference mode none is; neurons add five times in step 1, and then six."""
    said = energy_peers.spikingjelly(*network)
    padded = (report.traffic.of_kind("analog") * report.traffic["mac_padded"]).sum()
    own = (report.traffic["neuron_updates"].sum(axis=0) * [5, 6]).sum()
    assert list(said.values()) == [(None, (found := report.additions().sum())), (None, 0), (padded, found + own)]
    assert f"{padded:,}" == "6,912" and f"here {own:,} of the neurons' own" in PAGE


def test_syops_differs_by_the_border_the_biases_and_the_neurons(network, report):
    """What the page says of it adds up to its row: rates times padded synapses and biases, and an addition a neuron."""
    traffic, samples = report.traffic, report.samples
    border = biases = one_by_one = Fraction(0)
    for layer, (name, kind) in enumerate(zip(traffic.layers, traffic.kinds, strict=True)):
        for step in range(report.steps) if kind == "spike" else ():
            rate = Fraction(int(traffic["events"][layer, step]), int(traffic.input_size[layer]) * samples)
            border += rate * int(traffic["mac_padded"][layer, step]) - int(traffic["synops"][layer, step])
            bias = rate * int(traffic["bias_additions"][layer, step])
            biases, one_by_one = biases + (bias / samples if name == "fc" else bias), one_by_one + bias
    neurons, ours = int(traffic["neuron_updates"].sum()), int(report.additions().sum())
    analog = traffic.of_kind("analog")
    macs = int((analog * (traffic["mac_padded"] + traffic["bias_additions"])).sum())
    said = " ".join(PAGE.split())
    assert f"| syops | {macs:,} | {round(whole := ours + border + biases + neurons):,} |" in PAGE
    assert f"{float(whole):,.1f} additions are our {ours:,}, {int(border):,} in the padded border, {neurons:,} for" in said
    assert border.denominator == 1 and f"{float(biases):.1f} for biases" in said
    assert f"one sample give {float(whole - biases + one_by_one):,.1f}." in said


@needs(energy_peers.neurobench)
def test_neurobench_leaves_weights_of_zero_out(network):
    """As ours do where they are asked to; and above 2^24 its sums are no longer whole."""
    from neurobench.metrics.utils.layers import single_layer_MACs
    from torch import nn, ones

    graph, frames = network
    thinned = graph.replace({node.name: _thinned(node) for node in graph if hasattr(node, "weight")})
    said = energy_peers.neurobench(thinned, frames)["NeuroBench `SynapticOperations`"]
    report, whole = td.energy(thinned, frames, effective=True), td.energy(thinned, frames)
    assert said == (report.multiplications("event").sum(), report.additions().sum())
    assert said[1] < whole.additions().sum()
    layer = nn.Linear(4097, 4097, bias=False)
    assert single_layer_MACs(ones(1, 4097), layer)[0] == 4097**2 - 1


def _thinned(node):
    weight = np.array(node.weight)
    weight.flat[::3] = 0
    return dataclasses.replace(node, weight=weight)
