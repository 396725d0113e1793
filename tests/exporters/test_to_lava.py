import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from tet_deploy.errors import GraphError
from tet_deploy.exporters.to_lava import to_lava
from tet_deploy.ir.graph import Graph, chain
from tet_deploy.ir.nodes import LIF, Conv, Flatten, Input, Linear, Quantization, Readout
from tet_deploy.testing import random_float_network

UNITS = Quantization(scale=1.0)


def small_network(**changes: dict[str, object]) -> Graph:
    """Two channels of 4 x 5, one conv, one linear; `changes` name a node and its fields."""
    nodes = [
        Input(name="input", shape=(2, 4, 5), encoding="analog", quantization=UNITS),
        Conv(name="conv", weight=np.arange(-18, 18, dtype=np.int8).reshape(3, 2, 2, 3), quantization=UNITS),
        LIF(name="lif", threshold=50, bias=np.array([-3, 0, 9], np.int16), quantization=UNITS),
        Flatten(name="flatten"),
        Linear(name="fc", weight=np.arange(-27, 27, dtype=np.int8).reshape(2, 27), quantization=UNITS),
        Readout(name="readout", bias=np.array([100000, -7], np.int32), quantization=UNITS),
    ]
    return chain([dataclasses.replace(node, **changes.get(node.name, {})) for node in nodes])


def read(bundle: Path) -> tuple[dict, dict[str, np.ndarray]]:
    with np.load(bundle / "arrays.npz") as arrays:
        return json.loads((bundle / "plan.json").read_text()), dict(arrays)


def test_weights_are_flipped_and_laid_out_width_first(tmp_path):
    """Lava convolves in the mathematical sense on [W, H, C]; a Linear reads its inputs in that order."""
    graph = small_network()
    _, arrays = read(to_lava(graph, tmp_path / "net.lava"))
    conv, fc = graph["conv"].weight, graph["fc"].weight
    assert arrays["conv.weight"].shape == (3, 3, 2, 2)
    assert arrays["conv.weight"][2, 0, 1, 1] == conv[2, 1, 0, 2]
    channel, row, column = 2, 1, 0
    assert arrays["fc.weight"][1, column * 9 + row * 3 + channel] == fc[1, channel * 9 + row * 3 + column]


def test_plan_names_the_network_it_was_made_from(tmp_path):
    """The plan carries the digest, the versions and the metadata, and only the first layer takes graded messages."""
    graph = small_network().with_metadata(recipe="tet")
    plan, _ = read(to_lava(graph, tmp_path / "net.lava"))
    assert plan["digest"] == graph.digest()
    assert plan["metadata"] == {"recipe": "tet"}
    assert plan["versions"]["lava-nc"] == "0.10.0"
    assert plan["files"].keys() | {"plan.json"} == {
        path.relative_to(tmp_path / "net.lava").as_posix() for path in tmp_path.rglob("*") if path.is_file()
    }
    assert [(node["kind"], node.get("message_bits")) for node in plan["nodes"]] == [("conv", 8), ("lif", None), ("dense", 0)]


def test_wide_graded_linear_becomes_a_conv(tmp_path):
    """Lava's Dense does not wrap into 24 bit, so a Linear whose sums may wrap is exported as a Conv, which does."""
    nodes = [
        Input(name="input", shape=(600,), quantization=UNITS),
        Linear(name="fc", weight=np.full((2, 600), 127, np.int8), quantization=UNITS),
        Readout(name="readout", quantization=UNITS),
    ]
    plan, arrays = read(to_lava(chain(nodes), tmp_path / "net.lava"))
    assert plan["nodes"][0]["kind"] == "conv"
    assert arrays["fc.weight"].shape == (2, 1, 1, 600)


@pytest.mark.parametrize(
    ("node", "changes", "complaint"),
    [
        ("conv", {"weight": np.full((3, 2, 2, 3), -128, np.int8)}, "weight must be .* -127..127 .* got -128"),
        ("conv", {"weight": np.full((3, 2, 2, 3), 300, np.int16)}, "got 300"),
        ("conv", {"padding": (0, 130), "stride": (1, 90)}, "padding.* 0..127 .* got 130"),
        ("lif", {"threshold": 131072}, "threshold mantissa .* 1..131071 .* got 131072"),
        ("lif", {"threshold": np.array([5, 131072, 5])}, "threshold mantissa .* 1..131071 .* got 131072"),
        ("lif", {"bias": np.array([0, 0, 4096], np.int16)}, "bias mantissa .* -4096..4095 .* got 4096"),
        ("lif", {"bias": np.array([0, -4097, 0], np.int16)}, "got -4097"),
        ("lif", {"bias": np.array([0, 0, 40000], np.int32)}, "got 40000"),
        ("lif", {"quantization": Quantization(scale=1.0, bias_exponent=8)}, "bias exponent .* 0..7 .* got 8"),
        ("lif", {"reset": "subtract"}, "reset must be 'zero'"),
        ("input", {"quantization": Quantization(scale=1.0, bits=25)}, "message bits .* got 25"),
        ("readout", {"quantization": Quantization(scale=1.0, bias_exponent=1)}, "bias exponent of a readout"),
    ],
)
def test_what_lava_does_not_check_is_refused(tmp_path, node, changes, complaint):
    """Each limit of a Loihi core that Lava lets pass silently stops the export with the node's name; nothing is written."""
    bad = {node: changes}
    if "stride" in changes:  # the map grows with the padding; make the Linear fit
        bad["fc"] = {"weight": np.zeros((2, 27), np.int8)}
    with pytest.raises(GraphError, match=f"node '{node}': .*{complaint}"):
        to_lava(small_network(**bad), tmp_path / "net.lava")
    assert not list(tmp_path.iterdir())


def test_float_networks_are_refused(tmp_path):
    """A network that was not quantized stops with the way out."""
    with pytest.raises(GraphError, match="needs a quantized network"):
        to_lava(random_float_network(np.random.default_rng(0)), tmp_path / "net.lava")
