"""A NIR file gives the spikes of the network that it was made of, to readers that fire above the threshold or at it."""

import dataclasses
import hashlib
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest

import tet_deploy as td
from tet_deploy.errors import ArgumentError, ArtifactError, GraphError, TetDeployWarning
from tet_deploy.ir.graph import Graph, chain
from tet_deploy.ir.nodes import LIF, Add, AvgPool, BatchNorm, Conv, Flatten, Input, Linear, Readout
from tet_deploy.testing import random_float_network, random_frames, random_quantized_network

h5py = pytest.importorskip("h5py", reason="writes NIR files")
DT = 1e-4
DECAYS = (0.0, 0.3, 0.5, 0.6, 0.75, 0.9, 0.99, 1 - 1 / 1.7, 1.0)


def read(path):
    """Everything in a file, as nested dicts."""

    def found(group):
        return {name: found(each) if isinstance(each, h5py.Group) else each[()] for name, each in group.items()}

    with h5py.File(path) as file:
        return found(file)


def exported(graph, folder):
    return read(td.export(graph, folder / "net.nir", to="nir"))["node"]


def differing(graph, path, frames, reader):
    """Spikes that differ of those that there are, between a network and what a file of it says to readers of a framework."""
    loaded = td.load_nir(path, source="tet_deploy" if reader == "tet_deploy" else "nir")
    if reader == ">=":
        nodes = (dataclasses.replace(node, comparison=">=") if isinstance(node, LIF) else node for node in loaded)
        loaded = dataclasses.replace(loaded, nodes=tuple(nodes))
    assert loaded.input.encoding == graph.input.encoding
    ours, theirs = (td.run(each, frames, runtime="reference", probes="spikes") for each in (graph, loaded))
    differ = sum(int((theirs.spikes[name] != sent).sum()) for name, sent in ours.spikes.items())
    assert differ or np.array_equal(ours.readout, theirs.readout)
    return differ


READERS = ("tet_deploy", ">", ">=")  # that fire as we do; as NIR's text has it; at the threshold, as SpikingJelly's do


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


def with_neurons(graph, **fields):
    return graph.replace({node.name: dataclasses.replace(node, **fields) for node in graph.of_kind(LIF)})


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


def neuron_network(**fields):
    weight = np.array([[0.3, 0.1], [0.7, 0.2], [0.9, 0.3]], np.float32)
    return chain(
        [
            Input(name="input", shape=(2,)),
            Linear(name="fc", weight=weight),
            LIF(name="lif", **fields),
            Linear(name="out", weight=np.eye(3, dtype=np.float32)),
            Readout(name="readout"),
        ]
    )


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


def image_network(*layers):
    rng, nodes = (
        np.random.default_rng(1),
        [Input(name="input", shape=(2, 8, 6)), *layers, LIF(name="lif"), Flatten(name="flat")],
    )
    size = int(np.prod(chain([*nodes[:-1], Flatten(name="flat"), Readout(name="readout")]).shapes["readout"]))
    weight = rng.integers(-8, 9, (5, size)).astype(np.float32) / 8
    return chain([*nodes, Linear(name="fc", weight=weight, bias=weight[:, 0]), Readout(name="readout")])


def test_groups_are_blocks_of_a_dense_kernel(tmp_path):
    """With the same sums, and groups 1, as NIR's inference knows no groups."""
    weight = np.random.default_rng(0).integers(1, 9, (4, 1, 3, 3)).astype(np.float32)
    node = exported(image_network(Conv(name="conv", weight=weight, groups=2)), tmp_path)["nodes"]["conv"]
    assert node["groups"] == 1 and node["weight"].shape == (4, 2, 3, 3)
    assert np.array_equal(node["weight"][:2, :1], weight[:2]) and np.array_equal(node["weight"][2:, 1:], weight[2:])
    assert not node["weight"][:2, 1:].any() and not node["weight"][2:, :1].any()
    assert not node["bias"].any()


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


def test_wide_weights_stay_wide(tmp_path):
    """float64 that float32 does not hold is written as it is; what it holds, as float32."""
    graph = neuron_network()
    third = np.full((3, 2), 1 / 3)
    wide = graph.replace({"fc": dataclasses.replace(graph["fc"], weight=third, bias=np.full(3, 0.5))})
    node = exported(wide, tmp_path)["nodes"]["fc"]
    assert node["weight"].dtype == np.float64 and np.array_equal(node["weight"], third)
    assert node["bias"].dtype == np.float32
    assert np.array_equal(td.load_nir(tmp_path / "net.nir", source="nir")["fc"].weight, third)


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
