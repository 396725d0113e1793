"""An integrator before the Output of a NIR file is a leaky readout, there and back."""

import itertools

import numpy as np
import pytest

import tet_deploy as td
from tet_deploy.errors import ArgumentError, GraphError
from tet_deploy.ir.nodes import LeakyReadout
from tet_deploy.testing import random_float_network, random_frames

h5py = pytest.importorskip("h5py", reason="reads NIR files")
WEIGHT = np.float32([[0.5, -0.25], [1, 0.75], [-0.5, 2]])


def written(folder, *, between=(), edges=None, **nodes):
    """A NIR file: Input, fc, li, Output, and more nodes; edges in a row, or as they are given."""
    nodes = {"input": {"type": "Input", "shape": [2]}, "fc": {"type": "Linear", "weight": WEIGHT}, **nodes}
    nodes["output"] = {"type": "Output", "shape": [3]}
    names = ["input", "fc", "li", *between, "output"]
    edges = list(itertools.pairwise(names)) if edges is None else edges
    path = folder / "net.nir"
    with h5py.File(path, "w") as file:
        file["version"] = "1.0.8"
        file["node/type"], file["node/edges"] = "NIRGraph", np.array(edges, "S")
        for name, fields in nodes.items():
            for field, value in fields.items():
                file[f"node/nodes/{name}/{field}"] = value
    return path


def li(**fields):
    return {"type": "LI", "tau": np.full(3, 4e-4), "r": np.ones(3), "v_leak": np.zeros(3), **fields}


def euler(frames, decay, gain):
    """What the integrator of a framework gives, v <- decay v + gain I, in float64."""
    v, found = np.zeros((frames.shape[1], 3)), []
    for frame in frames:
        v = decay * v + gain * frame.astype(np.float64) @ WEIGHT.T
        found.append(v)
    return np.stack(found)


X = 0.25  # Rockpool's dt / tau
FILES = {  # source -> its LI, and the decay and gain of its step
    "nir": (li(), 0.75, 0.25),
    "snntorch": (li(r=np.full(3, 4.0)), 0.75, 1.0),
    "spikingjelly": (li(), 0.75, 0.25),
    "norse": (li(tau=np.float64([1e-3 / 250]), r=np.ones(1), v_leak=np.zeros(1)), 0.75, 0.25),
    "rockpool": (li(tau=np.full(3, 4e-3), r=np.full(3, np.exp(-X) / X)), float(np.exp(-X)), 1.0),
}


@pytest.mark.parametrize("source", FILES)
def test_each_source_makes_its_own_step(source, tmp_path):
    """The readout is the framework's potential, measured in what a step adds of its input."""
    node, decay, gain = FILES[source]
    graph = td.load_nir(written(tmp_path, li=node), source=source, dt=1e-3 if source == "rockpool" else None)
    assert graph.readout.kind == "LeakyReadout" and graph.readout.decay == pytest.approx(decay, rel=1e-12)
    frames = np.random.default_rng(0).integers(-4, 5, (20, 6, 2)).astype(np.float32)
    found = td.run(graph, frames)
    np.testing.assert_allclose(gain * found.readout, euler(frames, decay, gain), rtol=1e-5, atol=1e-5)  # float32
    assert np.array_equal(found.decisions, euler(frames, decay, gain).sum(axis=0).argmax(axis=1))


def test_without_a_leak(tmp_path):
    """NIR's I: the sum of all that came."""
    graph = td.load_nir(written(tmp_path, li={"type": "I", "r": np.full(3, 1e4)}), source="nir")
    frames = np.random.default_rng(0).integers(-4, 5, (20, 6, 2)).astype(np.float32)
    assert graph.readout.decay == 1 and np.array_equal(td.run(graph, frames).readout, euler(frames, 1.0, 1.0))


@pytest.mark.parametrize("decay", [0.0, 1 / 4096, 0.3, 0.75, 0.9, float(np.float32(0.9)), 0.99, 1.0])
def test_it_comes_back(decay, tmp_path):
    """Our own files give every value again; their Output is named after the readout."""
    rng = np.random.default_rng(1)
    drawn = random_float_network(rng, layers=1)
    graph = drawn.replace({"readout": LeakyReadout(name="readout", inputs=drawn.readout.inputs, decay=decay)})
    frames = random_frames(graph, rng, 6, 3)
    path = td.export(graph, tmp_path / "net.nir", to="nir")
    back = td.load_nir(path, source="tet_deploy")
    assert (back.readout.kind, back.readout.name, back.readout.decay) == ("LeakyReadout", "readout", decay)
    for source in ("tet_deploy", "nir"):
        found = td.run(td.load_nir(path, source=source), frames)
        assert np.array_equal(found.readout, td.run(graph, frames).readout), source
    with h5py.File(path) as file:
        node = file["node/nodes/readout"]
        assert node["type"][()] == (b"I" if decay == 1 else b"LI") and "readout.output" in file["node/nodes"]
        assert "tau" not in node or decay == 0 or np.allclose(node["tau"], 1e-4 / (1 - decay))


def test_a_file_that_was_edited_is_told(tmp_path):
    """Constants that do not give what our metadata say."""
    path = written(tmp_path, li=li())
    with h5py.File(path, "a") as file:
        file["node/nodes/li/metadata/decay"] = 0.5
    with pytest.raises(
        GraphError, match=r"node 'li': its constants give a decay of 0.75, and its metadata say 0.5.*source='nir'"
    ):
        td.load_nir(path, source="tet_deploy")


BRANCH = [("input", "fc"), ("fc", "li"), ("li", "output"), ("fc", "output")]
TWICE = [("input", "fc"), ("fc", "li"), ("fc", "l2"), ("li", "output"), ("l2", "output")]
SCALE = {"type": "Linear", "weight": np.eye(3, dtype=np.float32)}
REFUSED = {
    "in between": ({"li": li(), "last": SCALE, "between": ("last",)}, "node 'last': it is fed by the integrator 'li'"),
    "two": ({"li": li(), "l2": li(), "edges": TWICE}, "node 'output': it is fed by the integrator 'l2'.*last only"),
    "beside others": ({"li": li(), "edges": BRANCH}, "node 'output': it is fed by the integrator 'li'.*last only"),
    "a rest": ({"li": li(v_leak=np.full(3, 0.5))}, "node 'li': v_leak must be 0"),
    "classes of taus": ({"li": li(tau=np.float64([1, 2, 3]))}, "node 'li': tau must be one number"),
    "another dt": ({"li": li(tau=np.full(3, 2e-5))}, "node 'li': tau = 2e-05 and dt = 0.0001 give a decay of -4 a step"),
    "no r": ({"li": {"type": "LI", "tau": np.ones(3), "v_leak": np.zeros(3)}}, "node 'li': lacks 'r'"),
    "more": ({"li": li(w_in=np.ones(3))}, "node 'li': 'w_in' is none of the fields"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_form_is_refused(case, tmp_path):
    """By the name of the node, with the way out."""
    nodes, message = REFUSED[case]
    with pytest.raises(GraphError, match=message):
        td.load_nir(written(tmp_path, **nodes), source="nir")


def test_the_source_must_be_said(tmp_path):
    """How it makes a step is not in the file."""
    with pytest.raises(ArgumentError, match="node 'li': the constants of a LI depend on who wrote the file"):
        td.load_nir(written(tmp_path, li=li()))
