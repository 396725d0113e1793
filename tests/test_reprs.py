"""What is printed of our values is short and says what they are; arrays stand as type and shape."""

import dataclasses

import numpy as np
import pytest

import tet_deploy as td
from tet_deploy import data
from tet_deploy.ir.nodes import KINDS
from tet_deploy.reporting import ReportData, SampleView
from tet_deploy.testing import random_frames, random_quantized_network
from tet_deploy.validation import compare

RNG = np.random.default_rng(0)
INT8 = random_quantized_network(RNG, layers=2).with_metadata(model="own")
FRAMES = random_frames(INT8, RNG, 3, 40)
RECORDING = td.run(INT8, FRAMES)
AGREEMENT = td.validate(INT8, FRAMES, runtimes=["reference", "onnx"])["onnx"]
ENERGY = td.energy(INT8, FRAMES)
LABELS = np.zeros(40, int)
OWN = data.from_arrays(
    name="own", train_frames=FRAMES, train_labels=LABELS, test_frames=FRAMES, test_labels=LABELS,
    encoding="events", seed=0, classes=2,
)  # fmt: skip
VALUES = {  # what it is, and words that its repr holds
    "graph": (INT8, ("own, quantized network of", INT8.digest()[:16])),
    "recording": (RECORDING, ("reference, 40 samples of 3 steps", "layer0.lif")),
    "agreement": (AGREEMENT, ("onnx equals reference", f"{AGREEMENT.compared:,} values over 40 samples")),
    "energy": (ENERGY, ("nJ by 45nm-int8", "nJ by 45nm-fp32", "40 samples of 3 steps")),
    "traffic": (ENERGY.traffic, ("layers=",)),
    "data": (OWN, ("name='own'", "<float32 [3, 40, ")),
    "frames": (data.LabelledFrames(frames=FRAMES), ("<float32 [3, 40, ",)),
    "sample": (SampleView.of(RECORDING, FRAMES, 0), ("spikes=<of layer0.lif, layer1.lif>",)),
    "report data": (ReportData(title="t", energy=ENERGY, graph=INT8), ("title='t'", "<EnergyReport", "<Graph")),
}


@pytest.mark.parametrize("name", VALUES)
def test_reprs_are_short(name):
    """No array is dumped, and what one wants to know is there."""
    value, words = VALUES[name]
    assert all(word in repr(value) for word in words)
    assert len(repr(value)) < 900 and "array(" not in repr(value) and "\n" not in repr(value)


def test_every_kind_of_node_has_a_short_repr():
    """The parameters that are not the usual ones, arrays as type and shape."""
    assert all("__repr__" in vars(kind) for kind in KINDS.values())
    for node in INT8:
        assert len(repr(node)) < 300 and repr(node).startswith(f"{node.kind}(name={node.name!r}")
    assert "weight=<int8 [" in repr(INT8["layer0.conv"])


def test_printing_shows_tables():
    """print(graph) is the table of `inspect`, print(energy) that of `energy`, both at most 100 wide."""
    for value, words in ((INT8, ("layer0.conv", "fan-out")), (ENERGY, ("event", "45nm-int8", "45nm-fp32"))):
        assert all(word in str(value) for word in words)
        assert all(len(line) <= 100 for line in str(value).split("\n"))


def test_a_difference_is_told_with_its_place():
    """print(agreement) counts what differs and says where it began."""
    other = dataclasses.replace(RECORDING, readout=RECORDING.readout + 1, runtime="other")
    text = str(compare(RECORDING, other))
    assert "other differs from reference in 0 spikes, 0 potentials and" in text and "first divergence" in text


@pytest.mark.parametrize("value", [INT8, ENERGY, AGREEMENT], ids=["graph", "energy", "agreement"])
def test_notebooks_get_html(value):
    """A table in HTML, with what the text shows."""
    assert value._repr_html_().startswith("<table>") and value._repr_html_().endswith("</table>")
