"""A NIR file gives the spikes of the network that it was made of, to readers that fire above the threshold or at it."""

import dataclasses
import hashlib
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
from nir_written import READERS, differing, exported, image_network, neuron_network, read

import tet_deploy as td
from tet_deploy.errors import ArgumentError, ArtifactError, GraphError, TetDeployWarning
from tet_deploy.ir.graph import Graph, chain
from tet_deploy.ir.nodes import LIF, Add, AvgPool, BatchNorm, Conv, Flatten, Input, Linear, Readout
from tet_deploy.testing import random_float_network, random_frames, random_quantized_network

h5py = pytest.importorskip("h5py", reason="writes NIR files")
DT = 1e-4


@pytest.mark.parametrize("seed", range(15))
def test_every_spike_comes_back(seed, tmp_path):
    """Branches, sums of sums, pools, groups, decays at their limits: 0 spikes differ, whichever way readers compare,
    from a network as drawn and as lowered."""
    rng = np.random.default_rng(seed)
    drawn = random_float_network(rng, grid=int(rng.choice([3, 6])))
    frames = random_frames(drawn, rng, 6, 3)
    for graph in (drawn, td.lower(drawn, frames)):
        path = td.export(graph, tmp_path / "net.nir", to="nir")
        assert [differing(graph, path, frames, reader) for reader in READERS] == [0, 0, 0]


def test_a_traced_network_is_taken_as_it_is(tmp_path):
    """Average pools stay, and an Add before a neuron becomes edges that meet."""
    rng = np.random.default_rng(0)
    weight = rng.integers(-8, 9, (2, 2, 3, 3)).astype(np.float32) / 8
    head = [Input(name="input", shape=(2, 8, 8)), AvgPool(name="pool", inputs=("input",), kernel=(2, 2), stride=(2, 2))]
    branches = [
        Conv(name=name, inputs=("pool",), weight=weight * sign, padding=(1, 1)) for name, sign in (("a", 1), ("b", -0.5))
    ]
    tail = [
        Add(name="add", inputs=("a", "b")),
        LIF(name="lif", inputs=("add",), threshold=0.25),
        Flatten(name="flat", inputs=("lif",)),
        Readout(name="readout", inputs=("flat",)),
    ]
    graph = Graph((*head, *branches, *tail))
    node = exported(graph, tmp_path)
    assert {(a.decode(), b.decode()) for a, b in node["edges"]} >= {("a", "lif"), ("b", "lif"), ("input", "pool")}
    assert "add" not in node["nodes"] and node["nodes"]["pool"]["type"] == b"AvgPool2d"
    frames = random_frames(graph, rng)
    assert td.run(graph, frames, runtime="reference").spikes["lif"].mean() > 0.05
    assert differing(graph, tmp_path / "net.nir", frames, "nir") == 0


def test_no_edge_stands_twice(tmp_path):
    """What is added twice goes through a layer of twos, and what meets at the output through one of ones."""
    rng = np.random.default_rng(0)
    weight = rng.integers(-8, 9, (2, 2, 1, 1)).astype(np.float32) / 4
    fc = rng.integers(-8, 9, (3, 32)).astype(np.float32) / 4
    graph = Graph(
        (
            Input(name="input", shape=(2, 4, 4)),
            Conv(name="c1", inputs=("input",), weight=weight),
            LIF(name="l1", inputs=("c1",)),
            Conv(name="c2", inputs=("l1",), weight=-weight),
            LIF(name="l2", inputs=("c2",)),
            Add(name="sum", inputs=("l1", "l2")),
            Add(name="more", inputs=("sum", "l1")),
            Conv(name="c3", inputs=("more",), weight=weight),
            LIF(name="l3", inputs=("c3",), threshold=2.0),
            Flatten(name="f3", inputs=("l3",)),
            Linear(name="a", inputs=("f3",), weight=fc),
            Flatten(name="f2", inputs=("l2",)),
            Linear(name="b", inputs=("f2",), weight=fc),
            Readout(name="readout", inputs=("a", "b")),
        )
    )
    node = exported(graph, tmp_path)
    edges = [(a.decode(), b.decode()) for a, b in node["edges"]]
    assert len(set(edges)) == len(edges)
    assert {("l1", "c3.times"), ("c3.times", "c3"), ("l2", "c3"), ("a", "readout.sum")} <= set(edges)
    frames = random_frames(graph, rng, 6, 4)
    assert all(0 < spikes.mean() < 1 for spikes in td.run(graph, frames, runtime="reference").spikes.values())
    assert differing(graph, tmp_path / "net.nir", frames, "nir") == 0


def test_names_are_kept(tmp_path):
    """Of any script and with any sign that a name may have."""
    names = {"input": "вход", "fc": "class", "lif": "слой.1:a+b@c-d", "out": "0", "readout": "_"}
    path = td.export(renamed(neuron_network(), names), tmp_path / "net.nir", to="nir")
    assert [node.name for node in td.load_nir(path, source="nir")] == list(names.values())
    longest = "l" * 200
    graph = renamed(neuron_network(), names | {"lif": longest})
    twice = graph.replace({longest: dataclasses.replace(graph[longest], inputs=("class", "class"))})
    path = td.export(twice, tmp_path / "net.nir", to="nir")
    assert differing(twice, path, random_frames(twice, np.random.default_rng(0)), "nir") == 0


def renamed(graph, names):
    return Graph(
        tuple(
            dataclasses.replace(node, name=names[node.name], inputs=tuple(names[name] for name in node.inputs))
            for node in graph
        )
    )


def test_equal_networks_give_equal_bytes(tmp_path):
    """Also later, and no two networks the same."""
    graphs = [random_float_network(np.random.default_rng(seed)) for seed in (3, 4)]
    first = [td.export(graph, tmp_path / f"{i}.nir", to="nir").read_bytes() for i, graph in enumerate(graphs)]
    time.sleep(1.1)  # HDF5 notes seconds
    again = td.export(random_float_network(np.random.default_rng(3)), tmp_path / "again.nir", to="nir").read_bytes()
    assert hashlib.sha256(again).digest() == hashlib.sha256(first[0]).digest() != hashlib.sha256(first[1]).digest()


def test_the_file_says_what_it_is(tmp_path):
    """NIR's version, the step, and of which network it was made by whom."""
    graph = neuron_network()
    path = td.export(graph, tmp_path / "net.nir", to="nir")
    assert read(path)["version"] == b"1.0.8"
    assert read(path)["node"]["metadata"] == {"dt": DT, "encoding": b"analog", "graph_digest": graph.digest().encode()}
    with h5py.File(path) as file:
        assert file.attrs["producer"].decode() == f"tet_deploy {td.__version__}"


def batch_norm():
    ones = np.ones(4, np.float32)
    norm = BatchNorm(name="norm", mean=ones, variance=ones, gamma=ones, beta=ones, epsilon=1e-5)
    return image_network(Conv(name="conv", weight=np.ones((4, 2, 3, 3), np.float32)), norm)


def alike():
    return renamed(neuron_network(), {"input": "in", "fc": "a.b", "lif": "a_b", "out": "out", "readout": "readout"})


def huge():
    graph = neuron_network()
    return graph.replace({"fc": dataclasses.replace(graph["fc"], weight=np.full((3, 2), 1e39))})


REFUSED = {
    "quantized": (
        lambda: random_quantized_network(np.random.default_rng(0)),
        "quantized network has no NIR form.*float network",
    ),
    "batch norm": (batch_norm, r"node 'norm': a BatchNorm has no NIR form.*td.lower"),
    "a tiny threshold": (lambda: neuron_network(threshold=1e-40), "node 'lif': threshold must lie between"),
    "a huge threshold": (
        lambda: neuron_network(threshold=1e39),
        r"node 'lif': threshold must lie between.*from 1e\+39 to 1e\+39. Multiply",
    ),
    "weights beyond float32": (huge, r"node 'fc': weight must fit float32; its largest is 1e\+39"),
    "names that are one in torch": (alike, r"node 'a_b': must differ from 'a.b' in more than a dot"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_exact_form_is_refused(case, tmp_path):
    """By name and with the way out, and no file is left."""
    make, message = REFUSED[case]
    with pytest.raises(GraphError, match=message):
        td.export(make(), tmp_path / "net.nir", to="nir")
    assert not list(tmp_path.iterdir())


def test_only_its_own_files_are_replaced(tmp_path):
    """An earlier export is; a NIR file of another program is not, nor is there an option."""
    path = tmp_path / "net.nir"
    for _ in range(2):
        td.export(neuron_network(), path, to="nir")
    with h5py.File(path, "w") as file:
        file["node/type"] = "NIRGraph"
    before = path.read_bytes()
    with pytest.raises(ArtifactError, match="is not a NIR file of tet_deploy, so it is not replaced"):
        td.export(neuron_network(), path, to="nir")
    assert path.read_bytes() == before
    with pytest.raises(ArgumentError, match="has no option 'probes'"):
        td.export(neuron_network(), tmp_path / "other.nir", to="nir", probes="all")


FULL_DISK = """
import resource, sys
import numpy as np
import tet_deploy as td
from tet_deploy.testing import random_float_network
graph = random_float_network(np.random.default_rng(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
td.export(graph, sys.argv[1], to="nir")
"""


def test_a_full_disk_leaves_the_old_file(tmp_path):
    """And an error of ours; the HDF5 library crashed where it wrote to the disk itself."""
    pytest.importorskip("resource", reason="limits what a process may write")
    path = td.export(neuron_network(), tmp_path / "net.nir", to="nir")
    before = path.read_bytes()
    found = subprocess.run([sys.executable, "-c", FULL_DISK, path], capture_output=True, text=True)
    assert found.returncode == 1 and "ArtifactError" in found.stderr and "cannot be written" in found.stderr
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [before]


@pytest.mark.parametrize("comparison", [">", ">="])
def test_a_network_off_the_grid_is_warned_of(comparison, tmp_path):
    """Readers that fire at the threshold, and a weight that is met by it, of others that are finer. As lowered all agree."""
    weight = np.diag(np.array([0.7, 0.1, 0.01], np.float32))
    neuron = LIF(name="lif", decay=0.5, threshold=0.7, comparison=comparison)
    graph = chain([Input(name="input", shape=(3,)), Linear(name="fc", weight=weight), neuron, Readout(name="readout")])
    frames = np.ones((4, 1, 3), np.float32)
    with pytest.warns(TetDeployWarning, match=r"node 'lif': its inputs lie on no grid .* in 1 of 1 populations.*td\.lower"):
        path = td.export(graph, tmp_path / "net.nir", to="nir")
    differ = [differing(graph, path, frames, reader) > 0 for reader in READERS]
    assert differ == [False, False, comparison == ">"]
    lowered = td.lower(graph, frames)
    with warnings.catch_warnings():
        warnings.simplefilter("error", TetDeployWarning)
        path = td.export(lowered, tmp_path / "net.nir", to="nir")
    assert [differing(lowered, path, frames, reader) for reader in READERS] == [0, 0, 0]
