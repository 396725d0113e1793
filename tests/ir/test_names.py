"""What a node may be called is said once and holds everywhere."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tet_deploy.errors import GraphError
from tet_deploy.exporters.lava_plan import lava_plan
from tet_deploy.ir.artifact import load, save
from tet_deploy.ir.graph import Graph, chain
from tet_deploy.ir.names import LONGEST_NAME, check_name
from tet_deploy.ir.nodes import LIF, Input, Linear, Quantization, Readout

GOOD = [
    "a",
    "0",
    "_",
    "block1.lif",
    "größe.0",
    "layer-1",
    "3x3",
    "a..b",
    "a:0@1+2",
    "层1",
    "नेटवर्क",
    "lif_2",
    "x" * LONGEST_NAME,
]
BAD = {
    "": "has 0 characters",
    "x" * (LONGEST_NAME + 1): "has 201 characters",
    "x" * 10**6: "has 1000000 characters",
    "../../../evil": r"holds '/'",
    "/abs": "holds '/'",
    "a//b": "holds '/'",
    "./c": "holds '/'",
    "a\\b": "holds",
    "..": "begins with '.'",
    "-x": "begins with '-'",
    "\u0301a": r"begins with '\\u0301'",
    "a,b": "holds ','",
    "a b": "holds ' '",
    "a[0]": r"holds '\['",
    "a\nb": r"holds '\\n'",
    "a\0": r"holds '\\x00'",
    "a\ud800": r"holds '\\ud800'",
    "a\u202eb": r"holds '\\u202e'",
}


def _network(name: str) -> Graph:
    """Quantized; one LIF of that name."""
    unit, eye = Quantization(scale=1.0), np.eye(2, dtype=np.int8)
    return chain(
        [
            Input(name="input", shape=(2,), quantization=unit),
            Linear(name="first", weight=eye, quantization=unit),
            LIF(name=name, threshold=1, bias=np.ones(2, dtype=np.int16), quantization=unit),
            Linear(name="second", weight=eye, quantization=unit),
            Readout(name="output", quantization=unit),
        ]
    )


@pytest.mark.parametrize("name", GOOD, ids=ascii)
def test_allowed_names_survive_files_and_plans(name, tmp_path):
    """A network whose node has an allowed name is saved, loaded and planned for Lava under that name."""
    graph = load(save(_network(name), tmp_path / "net.safetensors"))
    assert name in graph.shapes
    arrays = tmp_path / "arrays.npz"
    np.savez(arrays, **lava_plan(graph).arrays)
    with np.load(arrays) as file:
        assert f"{name}.bias" in file


@pytest.mark.parametrize("name", BAD, ids=lambda name: ascii(name)[:20])
def test_other_names_are_refused(name):
    """A graph with any other name cannot be built; one short line says what is allowed, what was found and the way out."""
    with pytest.raises(GraphError, match=BAD[name]) as caught:
        _network(name)
    message = str(caught.value)
    assert "letters and digits" in message and "Rename the node" in message
    assert "\n" not in message and len(message.encode()) < 600


@given(st.text(max_size=6))
def test_no_allowed_name_holds_a_separator(name):
    """Whatever passes is printable, encodes as UTF-8 and holds no slash, comma, blank, quote or bracket."""
    try:
        check_name(name)
    except GraphError:
        return
    assert name.encode() and name[0] not in ".-:+@" and not set(name) & set("/\\,;|'\"`()[]{}<>*?$%&=# \t\n\0")
    assert all(sign.isprintable() for sign in name)
