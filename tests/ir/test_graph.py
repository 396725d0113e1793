"""Graphs are verified when they are built."""

import dataclasses

import numpy as np
import pytest

from tet_deploy.dynamics import synaptic_sum
from tet_deploy.errors import GraphError
from tet_deploy.ir.graph import Graph, chain
from tet_deploy.ir.nodes import LIF, Add, Conv, Flatten, Input, Linear, Quantization, Readout
from tet_deploy.ir.shapes import fan_out


def small():
    return chain(
        [
            Input(name="input", shape=(2, 6, 5)),
            Conv(name="conv", weight=np.ones((4, 2, 3, 3), np.float32), padding=(1, 1)),
            LIF(name="lif"),
            Flatten(name="flat"),
            Linear(name="fc", weight=np.ones((3, 120), np.float32)),
            Readout(name="readout"),
        ]
    )


def test_shapes_follow_the_nodes():
    """Each node knows its output shape for one sample."""
    assert small().shapes == {
        "input": (2, 6, 5), "conv": (4, 6, 5), "lif": (4, 6, 5), "flat": (120,), "fc": (3,), "readout": (3,),
    }  # fmt: skip


def test_digest_depends_on_weights_and_not_on_metadata():
    """Two networks have one digest if and only if they compute the same."""
    graph = small()
    weight = np.ones((3, 120), np.float32)
    weight[0, 0] = 2
    assert graph.digest() == small().with_metadata(note="seen").digest()
    assert graph.digest() != graph.replace({"fc": Linear(name="fc", inputs=("flat",), weight=weight)}).digest()


def test_removing_a_node_connects_its_consumers_to_its_source():
    """`replace` with None bypasses a node."""
    assert small().replace({"lif": None})["flat"].inputs == ("conv",)


def test_arrays_are_read_only():
    """A node's arrays cannot be written to."""
    with pytest.raises(ValueError, match="read-only"):
        small()["fc"].weight[0, 0] = 5


def ones(*shape):
    return np.ones(shape, np.float32)


BAD_GRAPHS = {
    "channels": (lambda: [Conv(name="c", weight=ones(4, 3, 3, 3))], r"takes 3 channels; its input 'input' has 2"),
    "kernel too large": (lambda: [Conv(name="c", weight=ones(4, 2, 9, 9))], "between 1 and"),
    "absurd padding": (lambda: [Conv(name="c", weight=ones(4, 2, 3, 3), padding=(10**9, 10**9))], "padded input exceeds"),
    "bias": (lambda: [Conv(name="c", weight=ones(4, 2, 3, 3), bias=ones(5))], r"bias must have shape \(4,\)"),
    "stride": (lambda: [Conv(name="c", weight=ones(4, 2, 3, 3), stride=(0, 1))], "stride and dilation"),
    "NaN": (lambda: [Conv(name="c", weight=ones(4, 2, 3, 3) * np.nan)], "NaN or infinite"),
    "rank": (lambda: [Linear(name="fc", weight=ones(3, 60))], r"takes \[N\].*Flatten"),
    "decay": (lambda: [LIF(name="lif", decay=1.5)], r"decay must lie in \[0, 1\]"),
    "threshold": (lambda: [LIF(name="lif", threshold=0.0)], "threshold be positive"),
    "forward edge": (lambda: [LIF(name="lif", inputs=("later",))], "must come before"),
    "same name": (lambda: [LIF(name="input")], "unique"),
    "one summand": (lambda: [Add(name="add", inputs=("input",))], "at least 2 inputs; got 1"),
    "unused": (lambda: [LIF(name="a"), LIF(name="idle", inputs=("input",)), LIF(name="b", inputs=("a",))], "nothing uses"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_GRAPHS)
def test_impossible_graphs_are_refused(case):
    """An inconsistent graph cannot be built; the error names the node and the rule."""
    middle, message = BAD_GRAPHS[case]
    with pytest.raises(GraphError, match=message):
        chain([Input(name="input", shape=(2, 6, 5)), *middle(), Flatten(name="f"), Readout(name="readout")])


HALF_QUANTIZED = {
    "float weights": ("fc", {"weight": ones(3, 4)}, "holds integer weights and no bias"),
    "bias on synapses": ("fc", {"bias": np.zeros(3, np.int32)}, "holds integer weights and no bias"),
    "layer left out": ("fc", {"quantization": None}, "must be quantized like the readout"),
    "input left out": ("input", {"quantization": None}, "must be quantized like the readout"),
    "population left out": ("lif", {"quantization": None}, "must be quantized like the readout"),
    "fractional threshold": ("lif", {"threshold": 0.5}, "whole number; got 0.5"),
    "fractional bias": ("lif", {"bias": ones(4)}, "must hold integers"),
    "scale": ("lif", {"quantization": Quantization(scale=float("nan"))}, "positive scale"),
    "exponent": ("lif", {"quantization": Quantization(scale=1.0, bias_exponent=1000)}, "bias exponent"),
    "reset": ("lif", {"reset": "subtract"}, "reset must be 'zero'; got 'subtract'"),
}


@pytest.mark.parametrize("case", HALF_QUANTIZED)
def test_half_quantized_networks_are_refused(case):
    """What a runtime would overlook cannot be built: floats among integers, or a bias where none is read."""
    name, changes, message = HALF_QUANTIZED[case]
    q = Quantization(scale=1.0)
    nodes = [
        Input(name="input", shape=(4,), quantization=q),
        Linear(name="first", weight=np.ones((4, 4), np.int8), quantization=q),
        LIF(name="lif", threshold=3, quantization=q),
        Linear(name="fc", weight=np.ones((3, 4), np.int8), quantization=q),
        Readout(name="readout", quantization=q),
    ]
    graph = chain(nodes)
    with pytest.raises(GraphError, match=message):
        graph.replace({name: dataclasses.replace(graph[name], **changes)})


def test_the_bias_of_a_float_network_belongs_to_the_layer():
    """A bias on a float LIF would be overlooked, so it is refused."""
    with pytest.raises(GraphError, match="'lif': a float network's bias"):
        small().replace({"lif": LIF(name="lif", inputs=("conv",), bias=ones(4))})


def test_a_network_needs_a_readout():
    """A graph without a readout, or with two inputs, is refused."""
    with pytest.raises(GraphError, match="exactly one Readout"):
        Graph((Input(name="input", shape=(3,)), LIF(name="lif", inputs=("input",)), Readout(name="r", inputs=("lif",)))[:2])


@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "groups"), [(1, 1, 1, 1), (2, 0, 1, 2), (3, 2, 2, 1), (2, 1, 2, 2)]
)
def test_fan_out_counts_every_synapse(stride, padding, dilation, groups):
    """The fan-out map equals the number of outputs that each input element reaches, borders included."""
    weight = np.ones((4, 4 // groups, 3, 2))
    conv = Conv(name="c", weight=weight, stride=(stride, 1), padding=(padding, 1), dilation=(dilation, 1), groups=groups)
    found = np.broadcast_to(fan_out(conv, (4, 7, 6)), (4, 7, 6))
    for index in np.ndindex(4, 7, 6):
        x = np.zeros((1, 4, 7, 6))
        x[(0, *index)] = 1
        assert synaptic_sum(conv, x).sum() == found[index]
