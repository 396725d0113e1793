"""Synapse nodes that add up to one layer are known as its parts, whatever other layers are called."""

import dataclasses
from importlib.util import find_spec

import numpy as np
import pytest

import tet_deploy as td
from tet_deploy.batches import FrameBatches
from tet_deploy.debugging import diagnosis_of
from tet_deploy.errors import GraphError
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import LIF, Conv, Flatten, Input, Linear, Readout
from tet_deploy.ir.parts import part_names, whole_name
from tet_deploy.links.sensitivity import sensitivities, with_one_quantized
from tet_deploy.testing import random_float_network, random_frames

PLAIN = ("first", "second", "third", "fourth", "fifth")
CONFUSING = ("block", "block.part2", "block.part2.conv", "block.part3", "participant.part2")


@pytest.mark.filterwarnings("ignore::tet_deploy.errors.TetDeployWarning")  # of decays and scales, which are random
def test_what_quantization_splits_is_one_layer():
    """Each node of a quantized network belongs to a node of the float one, by its name; some are split, into up to eight."""
    most = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        graph = random_float_network(rng)
        try:
            quantized = td.quantize(graph, random_frames(graph, rng, steps=5, samples=8), rounding_limit=100)
        except GraphError:  # no scale fits
            continue
        wholes = [whole_name(quantized, node.name) for node in quantized]
        assert {*wholes} == {node.name for node in graph}
        for name in set(wholes):
            parts = [node.name for node, whole in zip(quantized, wholes, strict=True) if whole == name]
            assert parts == part_names(name, len(parts))
            most = max(most, len(parts))
    assert 2 <= most <= 8


def residual(names, rng):
    """Two populations of two layers each, the first two layers of other kernels, the second two alike in all but weights."""
    first, second, third, fourth, fifth = names

    def conv(name, source, channels, size):
        weight = (rng.integers(-16, 17, (4, channels, size, size)) / 16).astype(np.float32)
        return Conv(name=name, inputs=(source,), weight=weight, padding=(size // 2, size // 2))

    return Graph(
        (
            Input(name="input", shape=(2, 6, 6), encoding="events"),
            conv(first, "input", 2, 3),
            conv(second, "input", 2, 1),
            LIF(name="lif1", inputs=(first, second)),
            conv(third, "lif1", 4, 3),
            conv(fourth, "lif1", 4, 3),
            LIF(name="lif2", inputs=(third, fourth)),
            Flatten(name="flatten", inputs=("lif2",)),
            Linear(name=fifth, inputs=("flatten",), weight=rng.normal(size=(3, 144)).astype(np.float32)),
            Readout(name="readout", inputs=(fifth,)),
        )
    )


def test_a_layer_may_be_called_as_a_part_would_be():
    """Beside an identity that is split: parts take the next free names, and every node belongs to a layer of the network."""
    rng = np.random.default_rng(0)
    names = ("x", "x.part2", "x.part4", "y", "z")
    graph = residual(names, rng)
    eye = np.eye(4, 2, dtype=np.float32)[:, :, None, None]
    graph = graph.replace(
        {
            "x": dataclasses.replace(graph["x"], weight=eye, padding=(0, 0)),
            "x.part2": dataclasses.replace(graph["x.part2"], weight=graph["x.part2"].weight / 32),
        }
    )
    frames = rng.poisson(0.5, (6, 8, 2, 6, 6)).astype(np.float32)
    quantized = td.quantize(graph, frames, bits=4)
    parts = [node.name for node in quantized if whole_name(quantized, node.name) == "x"]
    assert parts[:3] == ["x", "x.part3", "x.part5"]
    assert {whole_name(quantized, node.name) for node in quantized} == {node.name for node in graph}
    if find_spec("onnxruntime"):  # not in the interpreter beside Lava
        assert td.validate(quantized, frames, runtimes=["reference", "onnx"])["onnx"].equal
    assert sensitivities(graph, quantized, FrameBatches.of(graph, frames))


@pytest.fixture
def both():
    """The same network twice, with names that say nothing and with such that quantization gives, and its integers."""
    frames = np.random.default_rng(1).poisson(0.5, (6, 8, 2, 6, 6)).astype(np.float32)
    graphs = [residual(names, np.random.default_rng(0)) for names in (PLAIN, CONFUSING)]
    return frames, [(graph, td.quantize(graph, frames, bits=3)) for graph in graphs]


def test_layers_that_are_called_like_parts_are_layers_by_themselves(both):
    """Each is its own whole, also where it ends beside the layer that its name begins with and receives the same."""
    for graph in both[1][1]:
        assert [whole_name(graph, node.name) for node in graph] == [node.name for node in graph]


def test_the_debugger_finds_the_same_whatever_layers_are_called(both):
    """Causes, their shares and flipped spikes; the way out names the layer."""
    frames, ((graph, int3), (confusing, confusing_int3)) = both
    expected = diagnosis_of(graph, td.run(int3, frames), frames, described=int3)
    found = diagnosis_of(confusing, td.run(confusing_int3, frames), frames, described=confusing_int3)
    assert expected.causes
    assert found.flips == expected.flips
    renamed = dict(zip(PLAIN, CONFUSING, strict=True))
    for cause, same in zip(found.causes, expected.causes, strict=True):
        mend = same.mend
        for plain, name in renamed.items():
            mend = mend.replace(f"{plain}=8", f"{name}=8").replace(f"keep {plain} ", f"keep {name} ")
        assert cause == dataclasses.replace(same, mend=mend)


def test_sensitivities_are_the_same_whatever_layers_are_called(both):
    """One population in integers has the same weights, and what it costs is the same."""
    frames, ((graph, int3), (confusing, confusing_int3)) = both
    for population in ("lif1", "lif2", "readout"):
        expected = with_one_quantized(graph, int3, population)
        found = with_one_quantized(confusing, confusing_int3, population)
        for plain, name in zip(PLAIN, CONFUSING, strict=True):
            np.testing.assert_array_equal(found[name].weight, expected[plain].weight)
    costs = [sensitivities(*pair, FrameBatches.of(pair[0], frames)) for pair in both[1]]
    assert [(each.node, each.deviation.readout) for each in costs[0]] == [
        (each.node, each.deviation.readout) for each in costs[1]
    ]
