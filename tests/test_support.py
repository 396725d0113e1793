"""What is said to be supported is what works."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import tet_deploy as td
from tet_deploy import support
from tet_deploy.errors import ArgumentError, GraphError
from tet_deploy.exporters import EXPORTERS
from tet_deploy.ir import nodes, shapes
from tet_deploy.ir.graph import Graph, chain
from tet_deploy.ir.nodes import LIF, Conv, Flatten, Input, Linear, Quantization, Readout, Spiking
from tet_deploy.testing import random_float_network, random_frames

pytest.importorskip("onnx")
UNITS = Quantization(scale=1.0)
DOCS = Path(__file__).parents[1] / "docs" / "supported.md"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Resonator(Spiking):
    """A kind that only has a shape."""


@pytest.fixture
def resonators(monkeypatch):
    """A network of them, with their kind among those that are known."""
    shapes._shape.register(Resonator)(lambda node, x, *others: x)
    monkeypatch.setitem(nodes.KINDS, "Resonator", Resonator)
    graph = random_float_network(np.random.default_rng(0), layers=2)
    exchanged = [Resonator(name=node.name, inputs=node.inputs) if isinstance(node, LIF) else node for node in graph]
    return Graph(tuple(exchanged))


def three_faults() -> Graph:
    """Quantized: a weight, a threshold and messages that no Loihi core holds."""
    weight = np.full((3, 2, 2, 2), 5, np.int8)
    weight[0, 0, 0, 0] = -128
    return chain(
        [
            Input(name="input", shape=(2, 4, 4), quantization=Quantization(scale=1.0, bits=25)),
            Conv(name="conv", weight=weight, quantization=UNITS),
            LIF(name="lif", threshold=131072, quantization=UNITS),
            Flatten(name="flatten"),
            Linear(name="fc", weight=np.ones((2, 27), np.int8), quantization=UNITS),
            Readout(name="readout", quantization=UNITS),
        ]
    )


def test_every_yes_is_kept(tmp_path):
    """Networks of all deployable kinds run, are quantized, counted and exported, as the table says."""
    cells, seen = support.supported(), set()
    for seed in range(6):
        rng = np.random.default_rng(seed)
        graph = random_float_network(rng)
        frames = random_frames(graph, rng)
        quantized = td.quantize(graph, frames, rounding_limit=10)
        for name, entry in EXPORTERS.items():
            for form, network in (("float", graph), ("integers", quantized)):
                if form in entry.rules:
                    td.export(network, tmp_path / f"{seed}.{name}.{form}{entry.suffix}", to=name)
        td.energy(quantized, frames)
        seen |= {node.kind for node in graph}
    assert seen == {kind for kind, found in cells.items() if set(found.values()) == {support.YES}}


def test_every_no_is_kept(resonators):
    """A kind of which nobody has said anything is refused by every stage but by those that ask for no kind."""
    cells = support.supported()["Resonator"]
    assert set(cells.values()) == {support.NO}
    with pytest.raises(GraphError, match="Resonator"):
        td.run(resonators, random_frames(resonators, np.random.default_rng(0)))


def test_all_faults_are_told_at_once():
    """The weight, the threshold and the messages, each by its node, with what the exporter says."""
    found = support.faults(three_faults(), "lava")
    assert [fault.node for fault in found] == ["input", "conv", "lif"]
    for fault, words in zip(found, ("message bits", "weight", "threshold mantissa"), strict=True):
        assert words in fault.message
        with pytest.raises(GraphError):
            td.export(three_faults(), "never", to="lava")
    assert not Path("never").exists()


@pytest.mark.parametrize("target", EXPORTERS)
def test_what_can_be_exported_has_no_fault(target):
    """Random networks, float and quantized, traced or lowered."""
    rng = np.random.default_rng(1)
    graph = random_float_network(rng)
    quantized = td.quantize(graph, random_frames(graph, rng), rounding_limit=10)
    for network, form in ((graph, "float"), (quantized, "integers")):
        if form in EXPORTERS[target].rules or form == "float":
            assert support.faults(network, target) == []


@pytest.mark.parametrize("target", EXPORTERS)
def test_kinds_that_nobody_takes_are_named(resonators, target):
    """Each node of them, whether the target is for floats or for integers."""
    wanted = [node.name for node in resonators if isinstance(node, Resonator)]
    assert list(dict.fromkeys(fault.node for fault in support.faults(resonators, target))) == wanted


def test_an_unknown_target_is_refused():
    """With the names of those that there are."""
    with pytest.raises(ArgumentError, match=r"target .loihi3.: .* onnx, lava, nir"):
        support.faults(three_faults(), "loihi3")


def test_the_command_says_it_and_leaves_with_1(tmp_path):
    """For people a line each, for machines a list; 0 where nothing is refused."""
    runner = pytest.importorskip("typer.testing").CliRunner()
    from tet_deploy.cli import app

    path = str(td.save(three_faults(), tmp_path / "net.safetensors"))
    found = runner.invoke(app, ["inspect", path, "--target", "lava"])
    assert found.exit_code == 1 and found.stdout.count("node '") == 3
    found = runner.invoke(app, ["inspect", path, "--target", "lava", "--json"])
    assert found.exit_code == 1
    assert [fault["node"] for fault in json.loads(found.stdout)["faults"]] == ["input", "conv", "lif"]
    graph = random_float_network(np.random.default_rng(2))
    path = str(td.save(graph, tmp_path / "good.safetensors"))
    assert runner.invoke(app, ["inspect", path, "--target", "onnx"]).exit_code == 0


def test_the_docs_show_the_table():
    """As the command prints it."""
    shown = "\n".join(f"    {line}" for line in support.support_table().fit(120).splitlines())
    assert shown in DOCS.read_text()
    if support.sources()["torch layers"]:
        for names in support.sources().values():
            assert all(f"`{name}`" in DOCS.read_text() for name in names)
