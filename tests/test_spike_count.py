"""A network that ends in neurons: its readout counts their spikes, and most spikes decide, on every runtime."""

import numpy as np
import pytest

import tet_deploy as td
from tet_deploy.counting import estimate
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import LIF, SOFT_RESETS, Conv, Flatten, Input, Linear, Output, Readout, SoftResetLIF
from tet_deploy.testing import random_float_network, random_frames
from tet_deploy.validation import compare


def counting(rng, kind=LIF, **fields):
    """A random network whose classes are neurons, as traced: the readout takes what they send."""
    layers = [node for node in random_float_network(rng, layers=2) if not isinstance(node, Output)]
    last = kind(name="last", inputs=(layers[-1].name,), threshold=0.5, **fields)
    return Graph((*layers, last, Readout(name="readout", inputs=("last",))))


@pytest.mark.parametrize("runtime", ["reference", "onnx", "lava"])
@pytest.mark.parametrize("steps", [1, 5])
def test_the_readout_is_the_spikes(runtime, steps, request):
    """Each step's readout is that step's spikes: 1 in floats, 64 in a chip's integers, whose identity has weights of 1."""
    if runtime == "lava":
        request.getfixturevalue("lava_python")
    rng = np.random.default_rng(0)
    lowered = td.lower(counting(rng))
    frames = random_frames(lowered, rng, 5, 16)
    int8 = td.quantize(lowered, frames)
    assert np.array_equal(int8["readout.identity"].weight, np.eye(len(int8["readout.identity"].weight)))
    for graph, unit in ((lowered, 1), (int8, 64)) if runtime != "lava" else ((int8, 64),):
        found = td.run(graph, frames[:steps], runtime=runtime)
        assert 0 < found.spikes["last"].mean() < 1
        assert np.array_equal(found.readout, unit * found.spikes["last"].astype(np.int64))
    assert compare(td.run(int8, frames[:steps]), found).equal


@pytest.mark.parametrize("reset", SOFT_RESETS)
def test_neurons_of_soft_reset_may_stand_last(reset):
    """In floats, on the reference and on ONNX."""
    rng = np.random.default_rng(0)
    graph = td.lower(counting(rng, SoftResetLIF, reset=reset))
    frames = random_frames(graph, rng, 5, 8)
    assert td.validate(graph, frames, runtimes=["reference", "onnx"])["onnx"].equal
    found = td.run(graph, frames)
    assert np.array_equal(found.readout, found.spikes["last"])


def test_most_spikes_decide_and_the_first_class_of_several():
    """Counts that tie give the first of their classes, whatever T is, in floats, in integers and step by step."""
    counts = [[1, 3, 3], [0, 0, 0], [2, 1, 2], [0, 1, 3]]
    decided = [1, 0, 0, 2]
    nodes = [Input(name="input", shape=(3,), encoding="events"), Linear(name="fc", inputs=("input",), weight=np.eye(3))]
    last = LIF(name="last", inputs=("fc",), decay=0.0, threshold=0.5)
    graph = td.lower(Graph((*nodes, last, Readout(name="readout", inputs=("last",)))))
    frames = np.zeros((3, 4, 3), np.float32)
    for sample, row in enumerate(counts):
        for neuron, count in enumerate(row):
            frames[3 - count :, sample, neuron] = 1
    for network in (graph, td.quantize(graph, frames)):
        for runtime in ("reference", "onnx"):
            recording = td.run(network, frames, runtime=runtime)
            assert recording.spikes["last"].sum(axis=0).tolist() == counts
            assert recording.decisions_by_step[-1].tolist() == decided
            stream = td.Stream(network, samples=4, runtime=runtime)
            for frame in frames:
                stream.step(frame)
            assert stream.decisions.tolist() == decided


@pytest.mark.parametrize("stage", ["lowered", "quantized"])
def test_lowering_changes_no_energy(stage):
    """As traced the readout takes spikes, lowered through an identity: the same, under every convention."""
    rng = np.random.default_rng(1)
    traced = counting(rng)
    frames = random_frames(traced, rng, 5, 8)
    deployed = td.lower(traced)
    recording = td.run(deployed, frames, probes="spikes")
    before = estimate(traced, recording, frames, table="45nm-fp32")
    if stage == "quantized":
        deployed = td.quantize(deployed, frames)
        recording = td.run(deployed, frames, probes="spikes")
        spikes = recording.spikes["last"].sum()
        assert estimate(deployed, recording, frames).traffic["residual_additions"].sum() == spikes > 0
        return
    after = estimate(deployed, recording, frames, table="45nm-fp32")
    assert {name: after.mean(name) for name in after.names} == pytest.approx(
        {name: before.mean(name) for name in before.names},
        rel=1e-12,  # float64 sums in another order
    )
    assert after.mean("full") > after.mean("event")


def test_maps_are_counted_neuron_by_neuron():
    """Neurons of an image behind a Flatten: each is a class."""
    rng = np.random.default_rng(2)
    weight = (rng.integers(-4, 5, (2, 1, 2, 2)) / 4).astype(np.float32)
    graph = Graph(
        (
            Input(name="input", shape=(1, 3, 3), encoding="events"),
            Conv(name="conv", inputs=("input",), weight=weight),
            LIF(name="last", inputs=("conv",), threshold=0.5),
            Flatten(name="flat", inputs=("last",)),
            Readout(name="readout", inputs=("flat",)),
        )
    )
    frames = random_frames(graph, rng, 4, 6)
    found = td.run(td.quantize(td.lower(graph), frames), frames, runtime="onnx")
    assert np.array_equal(found.readout, 64 * found.spikes["last"].reshape(4, 6, 8).astype(np.int64))
