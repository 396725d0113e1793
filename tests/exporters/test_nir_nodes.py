"""A node in a NIR file computes what ours does, however readers compare and multiply."""

import dataclasses

import numpy as np
import pytest
from nir_written import READERS, differing, exported, image_network, neuron_network, with_neurons

import tet_deploy as td
from tet_deploy.errors import GraphError
from tet_deploy.ir.nodes import LIF, Conv
from tet_deploy.testing import random_float_network, random_frames

h5py = pytest.importorskip("h5py", reason="writes NIR files")
DT = 1e-4
DECAYS = (0.0, 0.3, 0.5, 0.6, 0.75, 0.9, 0.99, 1 - 1 / 1.7, 1.0)


@pytest.mark.parametrize("comparison", [">", ">="])
@pytest.mark.parametrize("decay", DECAYS)
def test_potentials_that_meet_the_threshold(decay, comparison, tmp_path):
    """On a coarse grid many do, and no reader takes one for a spike that is none, or the other way round."""
    differ = 0
    for seed in range(3):
        rng = np.random.default_rng(seed)
        graph = random_float_network(rng, grid=2, layers=2, encoding="events")
        graph, other = (
            with_neurons(graph, decay=decay, comparison=each) for each in (comparison, {">": ">=", ">=": ">"}[comparison])
        )
        frames = random_frames(graph, rng, 6, 2)
        path = td.export(graph, tmp_path / "net.nir", to="nir")
        assert [differing(graph, path, frames, reader) for reader in READERS] == [0, 0, 0]
        ours, theirs = (td.run(each, frames, runtime="reference") for each in (graph, other))
        differ += sum(int((ours.spikes[name] != theirs.spikes[name]).sum()) for name in ours.spikes)
    assert differ > 20


def test_the_form_of_a_neuron(tmp_path):
    """tau = dt / (1 - decay), r = 1, one number for each neuron, and what was meant in the metadata."""
    node = exported(neuron_network(decay=0.75, threshold=0.7), tmp_path)["nodes"]["lif"]
    assert node["type"] == b"LIF"
    expected = {"tau": DT / 0.25, "r": 1, "v_leak": 0, "v_reset": 0, "v_threshold": np.float32(0.7) * 0.25}
    for name, value in expected.items():
        assert node[name].shape == (3,) and (node[name] == value).all(), name
    assert node["metadata"] == {"dt": DT, "decay": 0.75, "threshold": 0.7, "comparison": b">"}
    node = exported(neuron_network(decay=1.0, threshold=0.7, comparison=">="), tmp_path)["nodes"]["lif"]
    assert node["type"] == b"IF" and "tau" not in node
    assert (node["r"] == 1 / DT).all()
    assert (node["v_threshold"] == np.nextafter(np.float32(0.7), np.float32(0))).all()
    assert node["metadata"]["comparison"] == b">="
    forgets = exported(neuron_network(decay=0.0), tmp_path)["nodes"]["lif"]
    assert ((forgets["tau"] / DT > 1) & (forgets["tau"] / DT < 1 + 1e-15)).all()  # SpikingJelly refuses 1


@pytest.mark.parametrize("decay", [*DECAYS, 1 / 4096, 4095 / 4096, 0.123456, 0.987654321, float(np.float32(0.8))])
def test_decays_and_thresholds_come_back(decay, tmp_path):
    """A decay to the float32 that is computed with, a threshold that is on no grid to the last bit."""
    for threshold in (0.7, 1e-20, 3.3e20, 1.0000001):
        path = td.export(neuron_network(decay=decay, threshold=threshold), tmp_path / "net.nir", to="nir")
        (node,) = td.load_nir(path, source="nir").of_kind(LIF)
        assert np.float32(node.decay) == np.float32(decay)
        assert node.threshold == np.float32(threshold)


def test_a_neuron_comes_back_to_the_last_bit(tmp_path):
    """Its decay, its comparison and its thresholds, also those that no float32 is."""
    for fields in (
        {"decay": 1 - 1 / 1.7, "threshold": 0.7, "comparison": ">="},
        {"decay": 1.0, "threshold": np.array([0.1, 1, 1e20])},
        {"decay": 0.0, "threshold": 1.0},
        {"decay": 1e-13, "threshold": 1.0},
    ):
        path = td.export(neuron_network(**fields), tmp_path / "net.nir", to="nir")
        (node,) = td.load_nir(path, source="tet_deploy").of_kind(LIF)
        expected = LIF(name="lif", **fields)
        assert (node.decay, node.comparison) == (expected.decay, expected.comparison)
        assert np.array_equal(node.threshold, expected.threshold)
    rng = np.random.default_rng(0)
    cube = image_network(Conv(name="conv", weight=rng.integers(-8, 9, (4, 2, 5, 3)) / np.float32(8)))  # to [4, 4, 4]
    cube = with_neurons(cube, threshold=np.array([0.25, 0.5, 1, 2], np.float32))
    path = td.export(cube, tmp_path / "net.nir", to="nir")
    assert [differing(cube, path, random_frames(cube, rng), reader) for reader in READERS] == [0, 0, 0]


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("v_threshold", np.full(3, 0.51), "its constants give a decay of 0.5 and a threshold from 1.02.*say 0.5 and 1"),
        ("tau", np.full(3, 4e-4), "its constants give a decay of 0.75.*If it was edited, say source='nir'"),
        ("metadata/comparison", "<", "its metadata must say '>' or '>='"),
        ("metadata/decay", None, "decay must hold numbers"),
        ("metadata", None, "its metadata must say '>' or '>='"),
    ],
)
def test_constants_and_metadata_must_agree(place, value, message, tmp_path):
    """A file that was edited is not read as it was before; as NIR's text has it, it is."""
    path = td.export(neuron_network(), tmp_path / "net.nir", to="nir")
    with h5py.File(path, "r+") as file:
        del file["node/nodes/lif"][place]
        if value is not None:
            file["node/nodes/lif"][place] = value
    with pytest.raises(GraphError, match=f"node 'lif': {message}"):
        td.load_nir(path, source="tet_deploy")
    assert td.load_nir(path, source="nir").of_kind(LIF)


def test_a_line_is_written_in_squares(tmp_path):
    """A kernel of 1 x 3 gets rows of zeros, as NIR takes a kernel's height for its width; one of 1 x 2 stays, for readers
    that do not infer shapes."""
    rng = np.random.default_rng(0)
    for kernel, padding, written in (((1, 3), (0, 2), (3, 3)), ((1, 2), (0, 1), (1, 2)), ((2, 2), (1, 0), (2, 2))):
        weight = rng.integers(-8, 9, (4, 2, *kernel)).astype(np.float32) / 8
        conv = Conv(name="conv", weight=weight, padding=padding, dilation=(3, 2), stride=(1, 2))
        graph = image_network(conv)
        node = exported(graph, tmp_path)["nodes"]["conv"]
        assert node["weight"].shape[2:] == written
        assert node["input_shape"].tolist() == [8, 6]
        assert differing(graph, tmp_path / "net.nir", random_frames(graph, rng), "nir") == 0


def test_groups_are_blocks_of_a_dense_kernel(tmp_path):
    """With the same sums, and groups 1, as NIR's inference knows no groups."""
    weight = np.random.default_rng(0).integers(1, 9, (4, 1, 3, 3)).astype(np.float32)
    node = exported(image_network(Conv(name="conv", weight=weight, groups=2)), tmp_path)["nodes"]["conv"]
    assert node["groups"] == 1 and node["weight"].shape == (4, 2, 3, 3)
    assert np.array_equal(node["weight"][:2, :1], weight[:2]) and np.array_equal(node["weight"][2:, 1:], weight[2:])
    assert not node["weight"][:2, 1:].any() and not node["weight"][2:, :1].any()
    assert not node["bias"].any()


def test_wide_weights_stay_wide(tmp_path):
    """float64 that float32 does not hold is written as it is; what it holds, as float32."""
    graph = neuron_network()
    third = np.full((3, 2), 1 / 3)
    wide = graph.replace({"fc": dataclasses.replace(graph["fc"], weight=third, bias=np.full(3, 0.5))})
    node = exported(wide, tmp_path)["nodes"]["fc"]
    assert node["weight"].dtype == np.float64 and np.array_equal(node["weight"], third)
    assert node["bias"].dtype == np.float32
    assert np.array_equal(td.load_nir(tmp_path / "net.nir", source="nir")["fc"].weight, third)
