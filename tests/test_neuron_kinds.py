"""A kind of neuron that somebody adds is refused by name wherever nobody has said what it is there."""

import dataclasses

import numpy as np
import pytest

import tet_deploy as td
from tet_deploy import counting
from tet_deploy.errors import GraphError
from tet_deploy.ir import shapes
from tet_deploy.ir.certificates import certificates
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import LIF, Spiking
from tet_deploy.passes import snap_to_grid
from tet_deploy.testing import random_float_network, random_frames, random_quantized_network


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Resonator(Spiking):
    """A kind that only has a shape."""


@pytest.fixture(autouse=True)
def _shape_rule():
    shapes._shape.register(Resonator)(lambda node, x, *others: x)


def with_resonators(graph):
    """The same network with every LIF exchanged."""
    nodes = [
        Resonator(name=node.name, inputs=node.inputs, bias=node.bias, quantization=node.quantization)
        if isinstance(node, LIF)
        else node
        for node in graph
    ]
    return Graph(tuple(nodes))


def onnx(graph, frames, folder):
    td.export(graph, folder / "net.onnx", to="onnx")


def lava(graph, frames, folder):
    td.export(graph, folder / "net.lava", to="lava")


def nir(graph, frames, folder):
    pytest.importorskip("h5py")
    td.export(graph, folder / "net.nir", to="nir")


def energy(graph, frames, folder):
    spikes = {
        node.name: np.zeros((*frames.shape[:2], *graph.shapes[node.name]), np.uint8) for node in graph.of_kind(Spiking)
    }
    readout = np.zeros((*frames.shape[:2], *graph.shapes[graph.readout.name]))
    counting.estimate(graph, td.Recording(spikes=spikes, readout=readout, runtime="none"), frames)


def finetuning(graph, frames, folder):
    pytest.importorskip("torch")
    from tet_deploy.training.quantized import QuantizedNetwork

    network = random_float_network(np.random.default_rng(0), encoding="events", layers=2)
    QuantizedNetwork(with_resonators(td.quantize(network, frames)), with_resonators(network))


FLOAT, INTEGERS = [random_float_network], [random_quantized_network]
CASES = [
    ("reference", FLOAT + INTEGERS, lambda graph, frames, folder: td.run(graph, frames), "no equation"),
    ("onnx", FLOAT + INTEGERS, onnx, "no ONNX form"),
    ("lava", INTEGERS, lava, "no Lava process"),
    ("nir", FLOAT, nir, "no NIR form"),
    ("quantize", FLOAT, lambda graph, frames, folder: td.quantize(graph, frames), "no form in a Loihi core"),
    ("finetuning", INTEGERS, finetuning, "cannot be trained in integers"),
    ("certificates", INTEGERS, lambda graph, frames, folder: certificates(graph), "no bound is known"),
    ("energy", FLOAT + INTEGERS, energy, "nothing is known of what a Resonator costs"),
]


@pytest.mark.parametrize(("make", "use", "said"), [(m, use, said) for _, makes, use, said in CASES for m in makes])
def test_nothing_is_guessed(make, use, said, tmp_path):
    """The error names the node and its kind, and says what is missing."""
    rng = np.random.default_rng(0)
    graph = with_resonators(make(rng, encoding="events", layers=2))
    with pytest.raises(GraphError, match=rf"node 'layer0.lif': .*{said}.*|node 'layer0.lif': .*Resonator.*{said}"):
        use(graph, random_frames(graph, rng), tmp_path)


def test_what_depends_on_spikes_alone_takes_any_kind():
    """Snapping asks for nothing but that spikes are 0 or 1."""
    graph = with_resonators(random_float_network(np.random.default_rng(0), layers=2))
    assert [node.kind for node in snap_to_grid(graph)] == [node.kind for node in graph]
