"""Bits of weights: one number for all, or by the names of synapse nodes."""

import numpy as np
import pytest

import tet_deploy as td
from tet_deploy.errors import ArgumentError
from tet_deploy.ir.nodes import WEIGHTED
from tet_deploy.passes.widths import parsed, widths
from tet_deploy.testing import random_float_network, random_frames

RNG = np.random.default_rng(3)
GRAPH = next(
    graph
    for graph in (random_float_network(RNG, encoding="events", layers=2) for _ in range(100))
    if [node.name for node in graph if isinstance(node, WEIGHTED)] == ["layer0.conv", "layer1.conv", "fc"]
)
FRAMES = random_frames(GRAPH, RNG, steps=4, samples=8)
NAMES = ("layer0.conv", "layer1.conv", "fc")

GOOD = {
    "all": (3, (3, 3, 3)),
    "one": ({"fc": 2}, (8, 8, 2)),
    "a default": ({"layer0.conv": 8, "default": 4}, (8, 4, 4)),
    "none": ({}, (8, 8, 8)),
    "numpy's own number": (np.int64(3), (3, 3, 3)),
}


@pytest.mark.parametrize("case", GOOD)
def test_each_node_has_its_bits(case):
    """The weights keep within their width, and use it; the file says it."""
    bits, expected = GOOD[case]
    assert tuple(widths(GRAPH, bits)[name] for name in NAMES) == expected
    quantized = td.quantize(GRAPH, FRAMES, bits=bits)
    for name, width in zip(NAMES, expected, strict=True):
        node = quantized[name]
        assert isinstance(node, WEIGHTED) and node.quantization.bits == width
        assert 2 ** (width - 1) - 1 >= np.abs(node.weight.astype(int)).max() >= 2 ** (width - 3)


def test_runtimes_agree_on_mixed_bits():
    """Eight, four and two bits in one network: ONNX Runtime equals the reference."""
    pytest.importorskip("onnx")  # the core's tests beside Lava do without
    mixed = td.quantize(GRAPH, FRAMES, bits={"layer0.conv": 8, "fc": 2, "default": 4})
    assert td.validate(mixed, FRAMES, runtimes=["reference", "onnx"])["onnx"].equal


def test_more_bits_where_it_matters_lower_the_deviation():
    """Two bits everywhere stray farther from the float network than eight in the first layer."""
    few, mixed = (td.quantize(GRAPH, FRAMES, bits=bits) for bits in (2, {"layer0.conv": 8, "default": 2}))
    name = "layer0.lif"
    before = td.run(GRAPH, FRAMES).spikes[name]
    assert np.mean(td.run(mixed, FRAMES).spikes[name] != before) < np.mean(td.run(few, FRAMES).spikes[name] != before)


BAD = {
    "no such node": ({"layer0.cnov": 4}, "no synapse node 'layer0.cnov'. Did you mean 'layer0.conv'"),
    "a population": ({"lif": 4}, "no synapse node 'lif'.*Its synapse nodes: 'layer0.conv, layer1.conv, fc'"),
    "no name": ({3: 4}, "no synapse node 3"),
    "too many": ({"fc": 9}, "bits of 'fc': must lie in 2..8.*got 9"),
    "too few": ({"default": 1}, "bits of 'default': must lie in 2..8"),
    "truth": (True, "must lie in 2..8"),
    "a fraction": (4.0, "must lie in 2..8.*got 4.0"),
    "a list": ([4], "must lie in 2..8"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_width_is_refused(case):
    """The name or the number, what it must be, and the nearest name."""
    bits, message = BAD[case]
    with pytest.raises(ArgumentError, match=message):
        td.quantize(GRAPH, FRAMES, bits=bits)


WORDS = {
    ("4",): 4,
    ("conv1=8",): {"conv1": 8},
    ("4", "conv1=8"): {"default": 4, "conv1": 8},
    ("4,conv1=8,conv2=6",): {"default": 4, "conv1": 8, "conv2": 6},
    ("4, conv1=8",): {"default": 4, "conv1": 8},
    ("a=b=3",): {"a=b": 3},
}


@pytest.mark.parametrize("words", WORDS)
def test_words_of_the_command_line(words):
    """A number is the default, NAME=NUMBER a node's; several words or commas between them."""
    assert parsed(list(words)) == WORDS[words]


@pytest.mark.parametrize(
    "words", [("",), ("conv1=",), ("=4",), ("conv1",), ("-4",), ("4,",), ("4", "5"), ("a=4", "a=5"), ("4.0",)]
)
def test_words_that_are_no_widths(words):
    """Each is refused, and not taken for another."""
    with pytest.raises(ArgumentError, match="bits: "):
        parsed(list(words))
