"""The first layer on the host: its spikes enter the network, which then knows messages of one bit alone."""

import json

import numpy as np
import pytest

import tet_deploy as td
from tet_deploy.errors import ArgumentError, ArtifactError, GraphError
from tet_deploy.exporters.lava_host import host_part
from tet_deploy.exporters.lava_plan import lava_plan
from tet_deploy.exporters.to_lava import to_lava
from tet_deploy.ir.graph import Graph, chain
from tet_deploy.ir.nodes import LIF, Conv, Flatten, Input, Linear, Quantization, Readout
from tet_deploy.runtimes.loihi.bundle.loihi_engine.regions import cut
from tet_deploy.runtimes.loihi.bundle.loihi_engine.simulation import all_nodes
from tet_deploy.runtimes.loihi.session import LavaNumpyRuntime, LavaRuntime
from tet_deploy.runtimes.reference import ReferenceRuntime
from tet_deploy.testing import random_frames, random_quantized_network

UNITS = Quantization(scale=1.0)


def assert_equal(found, expected):
    assert np.array_equal(found.readout, expected.readout)
    for kind in ("spikes", "potentials"):
        observed, wanted = getattr(found, kind), getattr(expected, kind)
        assert list(observed) == list(wanted)
        assert all(np.array_equal(observed[name], wanted[name]) for name in wanted), kind


def drawn(seed, steps=5, samples=2):
    rng = np.random.default_rng(seed)
    graph = random_quantized_network(rng, layers=2 + seed % 2, currents=seed % 2 == 0)
    frames = random_frames(graph, rng, steps, samples)
    return graph, frames, ReferenceRuntime(graph).run(frames)


def branches(shortcut: str) -> Graph:
    """Two branches behind the first layer, or a shortcut from the input around it."""
    nodes = [
        Input(name="input", shape=(3, 4, 4), quantization=UNITS),
        Conv(name="conv1", inputs=("input",), weight=np.full((3, 3, 1, 1), 9, np.int8), quantization=UNITS),
        LIF(name="lif1", inputs=("conv1",), threshold=50, quantization=UNITS),
        Conv(name="conv2", inputs=("lif1",), weight=np.full((3, 3, 1, 1), 30, np.int8), quantization=UNITS),
        Conv(name="short", inputs=(shortcut,), weight=np.full((3, 3, 1, 1), 7, np.int8), quantization=UNITS),
        LIF(name="lif2", inputs=("conv2", "short"), threshold=50, quantization=UNITS),
        Flatten(name="flatten", inputs=("lif2",)),
        Linear(name="fc", inputs=("flatten",), weight=np.full((2, 48), 3, np.int8), quantization=UNITS),
        Readout(name="readout", inputs=("fc",), quantization=UNITS),
    ]
    return Graph(tuple(nodes))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("stock", [False, True])
def test_lava_gets_spikes_and_records_all(lava_python, tmp_path, seed, stock):
    """With the bundle's models and with Lava's own: spikes and potentials of the host's populations are recorded too."""
    graph, frames, expected = drawn(seed)
    bundle = to_lava(graph, tmp_path / "net.lava", encoder="host", period=8 if seed % 2 else None)
    runtime = LavaRuntime(bundle, lava_python.path, stock=stock, timeout=120, processes=2)
    assert_equal(runtime.run(frames), expected)


@pytest.mark.parametrize("seed", range(8))
def test_without_lava(tmp_path, seed):
    """The numpy engine gives the same."""
    graph, frames, expected = drawn(seed + 10)
    assert_equal(LavaNumpyRuntime(to_lava(graph, tmp_path / "net.lava", encoder="host")).run(frames), expected)


def test_branches_behind_the_first_layer(lava_python, tmp_path):
    """A relay of the first layer's spikes stays on the chip."""
    graph = branches("lif1")
    frames = random_frames(graph, np.random.default_rng(0), 4, 2)
    bundle = to_lava(graph, tmp_path / "net.lava", encoder="host")
    expected = ReferenceRuntime(graph).run(frames)
    assert expected.spikes["lif2"].any()
    assert_equal(LavaRuntime(bundle, lava_python.path, timeout=120).run(frames), expected)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_host_is_a_region_of_its_own(count):
    """Only spikes leave it, and nothing enters; the other regions hold neither input nor first layer."""
    graph, _, _ = drawn(3)
    plan = lava_plan(graph)
    on_host = host_part(graph, "host")
    content = json.loads(json.dumps({"input": plan.input, "nodes": plan.nodes, "readout": plan.readout}))
    first, *others = cut(all_nodes(content), plan.arrays, count, on_host)
    assert [node["name"] for node in first.nodes] == ["input", *on_host]
    assert first.on_host and first.incoming == ()
    assert all(graph[name].kind in ("LIF", "CubaLIF") for name in first.outgoing)
    assert not any(region.on_host for region in others) and 1 <= len(others) <= count


def test_a_shortcut_from_the_input_is_refused(tmp_path):
    """Frames that flow around the first layer would have to enter the chip; the error names where."""
    with pytest.raises(GraphError, match=r"node 'lif2': the frames flow into it, beside 'conv2'"):
        to_lava(branches("input"), tmp_path / "net.lava", encoder="host")
    fc = Linear(name="fc", weight=np.ones((2, 4), np.int8), quantization=UNITS)
    first = Input(name="input", shape=(1, 2, 2), quantization=UNITS)
    with pytest.raises(GraphError, match="node 'readout': the frames flow into it, so that no first layer of neurons"):
        host_part(chain([first, Flatten(name="flatten"), fc, Readout(name="readout", quantization=UNITS)]), "host")


def test_a_first_layer_behind_a_flatten():
    """What frames flow into is found behind a Flatten, which is no part of it."""
    nodes = [
        Input(name="input", shape=(1, 2, 2), quantization=UNITS),
        Flatten(name="flatten"),
        Linear(name="fc1", weight=np.ones((3, 4), np.int8), quantization=UNITS),
        LIF(name="lif", threshold=3, quantization=UNITS),
        Linear(name="fc2", weight=np.ones((2, 3), np.int8), quantization=UNITS),
        Readout(name="readout", quantization=UNITS),
    ]
    assert host_part(chain(nodes), "host") == ("fc1", "lif")
    assert host_part(chain(nodes), None) == ()


@pytest.mark.parametrize("encoder", ["chip", "", 1, ["host"]])
def test_other_encoders(tmp_path, encoder):
    """There is one."""
    graph, _, _ = drawn(0)
    with pytest.raises(ArgumentError, match="encoder: must be 'host', or None"):
        td.export(graph, tmp_path / "net.lava", to="lava", encoder=encoder)


def test_a_part_that_was_put_into_the_plan(tmp_path, reseal):
    """A bundle with right checksums whose host's part is no first layer is refused."""
    graph, _, _ = drawn(1)
    bundle = to_lava(graph, tmp_path / "net.lava", encoder="host")
    good = json.loads((bundle / "plan.json").read_text())["host"]
    names = [node["name"] for node in json.loads((bundle / "plan.json").read_text())["nodes"]]
    for part in ([], "all", good[:1], good[1:], [*good, good[0]], [*good, "ghost"], names, [*good, names[2]], [[]], None):
        reseal(bundle, lambda plan, part=part: plan.update(host=part))
        with pytest.raises(ArtifactError, match="host"):
            LavaNumpyRuntime(bundle)


def test_a_chip_of_spikes_alone_then_takes_it():
    """Loihi 1 refuses frames of numbers; with the host's first layer it takes the rest, on fewer cores."""
    graph, _, _ = drawn(2)
    assert [problem.node for problem in td.map_resources(graph, "loihi1").problems] == [graph.input.name]
    found = td.map_resources(graph, "loihi1", encoder="host")
    assert found.fits and found.to_dict()["on_host"] == list(found.on_host)
    assert not set(found.on_host) & set(found.shares)
