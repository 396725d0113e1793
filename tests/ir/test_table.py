import numpy as np

from tet_deploy.ir.graph import chain
from tet_deploy.ir.nodes import LIF, Conv, Flatten, Input, Linear, Quantization, Readout
from tet_deploy.ir.table import graph_rows


def test_rows_say_kind_shape_parameters_bits_and_fan_out():
    """Each node's row holds what was built, with the smallest and largest fan-out of a padded convolution."""
    eight = Quantization(scale=10.0)
    graph = chain(
        [
            Input(name="input", shape=(2, 4, 4), quantization=eight),
            Conv(name="conv", weight=np.ones((3, 2, 3, 3), dtype=np.int8), padding=(1, 1), quantization=eight),
            LIF(name="lif", bias=np.zeros(3, dtype=np.int16), quantization=Quantization(scale=10.0, bits=17)),
            Flatten(name="flatten"),
            Linear(name="fc", weight=np.ones((5, 48), dtype=np.int8), quantization=eight),
            Readout(name="readout", quantization=eight),
        ]
    )
    rows = {row["node"]: row for row in graph_rows(graph)}
    assert rows["conv"] == {
        "node": "conv",
        "kind": "Conv",
        "inputs": "input",
        "shape": "3x4x4",
        "settings": "kernel 3x3, padding 1x1",
        "parameters": 54,
        "bits": 8,
        "fan_out": "12 to 27",
    }
    assert (rows["lif"]["bits"], rows["lif"]["parameters"]) == (17, 3)
    assert (rows["fc"]["fan_out"], rows["fc"]["parameters"], rows["fc"]["shape"]) == ("5", 240, "5")
    assert rows["flatten"]["bits"] is None


def test_numbers_of_channels_and_a_normalizing_input_are_told():
    """Arrays by their range, and that frames go in raw."""
    ones = np.ones(2, dtype=np.float32)
    graph = chain(
        [
            Input(name="input", shape=(2,), mean=ones, deviation=ones),
            Linear(name="fc", weight=np.eye(2, dtype=np.float32)),
            LIF(name="lif", decay=np.array([0.25, 0.5]), threshold=np.array([1.0, 2.0])),
            Readout(name="readout"),
        ]
    )
    rows = {row["node"]: row["settings"] for row in graph_rows(graph)}
    assert rows["input"] == "encoding analog, normalizes its frames"
    assert rows["lif"] == "decays 0.25 to 0.5, thresholds 1 to 2"


def test_a_float_network_shows_the_width_of_its_floats():
    """Without quantization, bits are those of the arrays."""
    weight = np.ones((2, 3), dtype=np.float32)
    graph = chain([Input(name="input", shape=(3,)), Linear(name="fc", weight=weight), Readout(name="readout")])
    assert [row["bits"] for row in graph_rows(graph)] == [None, 32, None]
