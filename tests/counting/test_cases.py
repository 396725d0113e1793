"""Small networks written out in full, counted by an independent event-by-event loop in exact rationals."""

import json
from pathlib import Path

import numpy as np
import pytest

from tet_deploy.contracts import Recording
from tet_deploy.counting import count, estimate
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import LIF, AvgPool, Conv, Flatten, Input, Linear, Readout
from tet_deploy.runtimes.reference import ReferenceRuntime

DOCUMENT = json.loads((Path(__file__).parent / "energy_cases.json").read_text())
CASES = [pytest.param(case, id=case["id"]) for case in DOCUMENT["cases"]]
COLUMNS = {  # the cases' names: ours
    "events": "events",
    "synops": "synops",
    "synops_eff": "synops_effective",
    "bias_adds": "bias_additions",
    "pool_adds": "pool_additions",
    "neuron_updates": "neuron_updates",
    "spikes": "spikes",
}


def build(case):
    shape = tuple(np.shape(case["input_T_B_C_H_W"])[2:])
    nodes = [Input(name="input", shape=shape)]
    for plain in case["nodes_as_trained"]:
        nodes.append(MAKERS[plain["op"]](plain, {"name": plain["name"], "inputs": (plain["in"],)}, case))
    return Graph((*nodes, Readout(name="readout", inputs=(nodes[-1].name,))))


def array(values):
    return np.array(values, dtype=np.float32)


def make_conv(plain, common, case):
    geometry = {name: tuple(plain[name]) for name in ("stride", "padding", "dilation")}
    weight, bias = array(plain["weight"]), array(plain["bias"])
    return Conv(**common, weight=weight, bias=bias, groups=plain["groups"], **geometry)


MAKERS = {
    "conv": make_conv,
    "linear": lambda plain, common, case: Linear(**common, weight=array(plain["weight"]), bias=array(plain["bias"])),
    "lif": lambda plain, common, case: LIF(**common, decay=case["tau"], threshold=case["vth"]),
    "avgpool": lambda plain, common, case: AvgPool(**common, kernel=(plain["k"],) * 2, stride=(plain["s"],) * 2),
    "flatten": lambda plain, common, case: Flatten(**common),
}


def recorded(case):
    """Graph, frames, and the recording that the case itself holds."""
    graph, frames = build(case), array(case["input_T_B_C_H_W"])
    samples = case["expected"]
    spikes = {
        name: np.stack([np.array(sample["spikes"][name], dtype=np.uint8) for sample in samples], axis=1)
        for name in samples[0]["spikes"]
    }
    readout = np.zeros((*frames.shape[:2], *graph.shapes["readout"]), dtype=np.float32)
    return graph, frames, Recording(spikes=spikes, readout=readout, runtime="case")


@pytest.mark.parametrize("case", CASES)
def test_spikes_are_those_of_the_reference(case):
    """The graph built from a case fires exactly as the case says, so the counts below are of the right network."""
    graph, frames, recording = recorded(case)
    found = ReferenceRuntime(graph).run(frames)
    for name, spikes in recording.spikes.items():
        np.testing.assert_array_equal(found.spikes[name], spikes)
    assert found.readout.mean(axis=0)[0].tolist() == case["expected"][0]["readout_mean"]


@pytest.mark.parametrize("case", CASES)
def test_every_count_of_every_layer_and_step(case):
    """Each count equals the event-by-event loop's, per layer, step and sample."""
    graph, recording, frames = order(recorded(case))
    traffic, checked = count(graph, recording, frames), 0
    for sample, expected in enumerate(case["expected"]):
        report = estimate(graph, recording.sample(sample, sample + 1), frames[:, sample : sample + 1])
        additions, by_event, dense = report.additions(), report.multiplications("event"), report.multiplications("dense")
        for entry in expected["per_layer_step"]:
            row = traffic.layers.index(entry["layer"])
            at, place = (row, entry["t"], entry["b"]), (row, entry["t"])
            assert traffic.kinds[row] == entry["kind"]
            for theirs, ours in COLUMNS.items():
                assert traffic[ours][at] == entry.get(theirs, 0), (entry["layer"], theirs)
            if entry["kind"] != "lif":
                assert (additions[place], by_event[place], dense[place]) == (
                    entry["ac"],
                    entry["mac_event"],
                    entry["mac_dense"],
                )
                assert traffic["mac_padded"][at] == entry["mac_padded"]
                assert traffic.input_mean[at] == pytest.approx(entry["in_mean"], rel=1e-14)  # one division in float64
            checked += 1
    assert checked == len(traffic.layers) * recording.steps * recording.samples


@pytest.mark.parametrize("case", CASES)
def test_every_named_energy(case):
    """Each named energy equals that of the exact rationals, rounded once to float64."""
    arguments = order(recorded(case))
    expected = case["expected"][0]["energy_pj"]
    found = estimate(*arguments).summary()["energy_pj"]
    found["pool_mac"] = estimate(*arguments, pool_policy="mac").mean("dense_in")
    assert found == pytest.approx(expected, rel=1e-12)  # sums of a dozen float64 products
    assert list(found)[:5] == ["event", "dense_in", "rate", "full", "ann"]


@pytest.mark.parametrize("case", CASES)
def test_totals(case):
    """The summary's counts are the totals of the case."""
    expected = case["expected"][0]["totals"]
    counts = estimate(*order(recorded(case))).summary()["counts"]
    assert counts["additions"] == expected["ac"]
    assert counts["synops_effective"] == expected["synops_eff"]
    for name in ("mac_event", "mac_dense", "mac_padded", "neuron_updates", "spikes"):
        assert counts[name] == expected[name]


def order(recorded_case):
    graph, frames, recording = recorded_case
    return graph, recording, frames
