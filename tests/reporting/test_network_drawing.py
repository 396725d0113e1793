import re
from xml.etree import ElementTree

import numpy as np
import pytest

from tet_deploy.exporters.lava_latency import schedule
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import LIF, Conv, Flatten, Input, Linear, Readout
from tet_deploy.reporting.network_drawing import network_drawing
from tet_deploy.testing import random_quantized_network


def residual():
    """A block with a shortcut that became an identity, and one with a layer in the shortcut."""
    weight, ones = np.ones((2, 2, 3, 3), dtype=np.float32), np.ones((2, 1, 1, 1), dtype=np.float32)
    return Graph(
        [
            Input(name="input", shape=(2, 4, 4)),
            Conv(name="conv1", inputs=("input",), weight=weight, padding=(1, 1)),
            LIF(name="lif1", inputs=("conv1",)),
            Conv(name="conv2", inputs=("lif1",), weight=weight, padding=(1, 1)),
            Conv(name="identity", inputs=("lif1",), weight=ones, groups=2),
            LIF(name="lif2", inputs=("conv2", "identity")),
            Flatten(name="flatten", inputs=("lif2",)),
            Linear(name="fc", inputs=("flatten",), weight=np.ones((3, 32), dtype=np.float32)),
            Readout(name="readout", inputs=("fc",)),
        ]
    )


def texts(svg):
    return [element.text for element in ElementTree.fromstring(svg).iter("text")]


def test_each_node_stands_there_with_its_facts():
    """Name, shape, bits, firing rate and latency, and what is none's is not said."""
    svg = network_drawing(residual(), {"lif1": 0.25}, {"lif1": 1, "conv1": 1})
    said = texts(svg)
    assert said[:4] == ["input", "2x4x4", "Input", None]
    assert said[8:12] == ["lif1", "2x4x4", "LIF, decay 0.5", "25.0 % firing · latency 1"]
    assert "identity" not in said and "flatten" not in said and "lif2" in said


def test_shortcuts_are_lines_at_the_side():
    """One line for the identity shortcut, none for a chain; it begins and ends at the right boxes."""
    curved = re.findall(r'd="M(\d+) (\d+)h\d+q8 0 8 8V(\d+)', network_drawing(residual(), {}, {}))
    rows = texts(network_drawing(residual(), {}, {}))[::4]
    assert len(curved) == 1
    assert [rows[int(y) // 56] for y in curved[0][1:]] == ["lif1", "lif2"]


@pytest.mark.parametrize("seed", range(8))
def test_any_network_is_drawn(seed):
    """Each drawn node but the first is reached by as many lines as it has different sources."""
    graph = random_quantized_network(np.random.default_rng(seed))
    svg = network_drawing(graph, {}, schedule(graph).latency)
    boxes = len(texts(svg)) // 4
    arrows = svg.count('fill="var(--quiet)"/><') + svg.count('fill="var(--c4)"/>')
    assert boxes >= 3 and arrows >= boxes - 1
