"""Golden vectors beside exported files, and whether our own runtimes give them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tet_deploy as td
from tet_deploy import testing
from tet_deploy.contracts import populations
from tet_deploy.errors import ArgumentError, DataError, GraphError
from tet_deploy.ir.graph import chain
from tet_deploy.ir.nodes import Input, Linear, Readout
from tet_deploy.links.vectors import opened_vectors
from tet_deploy.runtimes.loihi.bundle.loihi_checks.vectors import Network, Vectors, compare, read_vectors
from tet_deploy.vectors import golden_vectors


def quantized(seed=5, **options):
    return testing.random_quantized_network(np.random.default_rng(seed), **options)


def floats(seed):
    return td.lower(testing.random_float_network(np.random.default_rng(seed)))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("options", [{"wrap": True}, {"currents": True}, {}], ids=["wrap", "currents", "ordinary"])
def test_our_side_proves_the_same(tmp_path, seed, options):
    """A bundle on its numpy engine and an ONNX file of integers give every value of what was written with them."""
    graph = quantized(seed, **options)
    for to, runtime, more in (("lava", "lava-numpy", {}), ("onnx", "onnx", {"probes": "all"})):
        path = td.export(graph, tmp_path / f"net.{to}", to=to, vectors=2, **more)
        checked = opened_vectors(path, runtime=runtime).run()
        assert checked.comparison.differ == 0 and not checked.comparison.absent
        assert checked.comparison.compared == sum(array.size for array in checked.vectors.expected.values())


@pytest.mark.parametrize("seed", range(8))
def test_float_networks_have_vectors_too(tmp_path, seed):
    """On their grid ONNX Runtime, and a NIR file that was read back, give the same floats, bit by bit."""
    graph = floats(seed)
    onnx = td.export(graph, tmp_path / "net.onnx", to="onnx", probes="all", vectors=2)
    assert opened_vectors(onnx).run().comparison[1:] == (0, "", ())
    nir = td.export(graph, tmp_path / "other.nir", to="nir", vectors=2)
    assert opened_vectors(nir).run().comparison[1:] == (0, "", ())


def test_files_of_one_name_keep_their_vectors_apart(tmp_path):
    """An ONNX and a NIR file of one name and network each keep the inputs that they were exported with."""
    graph = floats(0)
    frames = testing.random_frames(graph, np.random.default_rng(0), 3, 2)
    onnx = td.export(graph, tmp_path / "net.onnx", to="onnx", vectors=2, frames=frames, inputs="of the one")
    nir = td.export(graph, tmp_path / "net.nir", to="nir", vectors=1, frames=frames, inputs="of the other")
    assert [opened_vectors(path).vectors.inputs.split(",")[0] for path in (onnx, nir)] == ["of the one", "of the other"]


def test_what_a_file_cannot_record_is_said(tmp_path):
    """An ONNX file of the readout alone, or of the spikes, is compared in these, and the rest is named."""
    graph = quantized(layers=2)
    for probes, absent in (("none", 4), ("spikes", 2)):
        path = td.export(graph, tmp_path / "net.onnx", to="onnx", vectors=1, probes=probes)
        checked = opened_vectors(path).run()
        assert checked.comparison.differ == 0 and len(checked.comparison.absent) == absent
        assert f"not recorded, so not compared: {', '.join(checked.comparison.absent)}\n0 of " in str(checked)


@pytest.mark.parametrize("seed", [0, 1, 2, 4, 5])
@pytest.mark.parametrize("encoding", ["analog", "events"])
def test_populations_fire(seed, encoding, tmp_path):
    """At random inputs at least one population fires, the inputs fit the encoding, and the file says how many do."""
    graph = quantized(seed, encoding=encoding)
    (tmp_path / "v.npz").write_bytes(golden_vectors(graph, 2))
    golden = read_vectors(tmp_path / "v.npz", network(graph))
    fire = sum(bool(golden.expected[f"spikes/{name}"].any()) for name in populations(graph))
    assert fire > 0
    assert f"seed 0; {fire} of {len(populations(graph))} populations fire" in golden.inputs
    assert encoding == "analog" or (np.array_equal(golden.frames, np.rint(golden.frames)) and golden.frames.min() >= 0)


def network(graph):
    shapes = {name: graph.shapes[name] for name in populations(graph)}
    return Network(graph.digest(), graph.input.shape, shapes, graph.shapes[graph.readout.name][0])


def test_inputs_that_are_given_are_the_first_of_them(tmp_path):
    """The first N samples, on a float network's grid; what they are is said."""
    rng = np.random.default_rng(0)
    graph = floats(1)
    frames = testing.random_frames(graph, rng, 3, 5) + np.float32(1e-5)
    path = td.export(graph, tmp_path / "net.onnx", to="onnx", probes="all", vectors=2, frames=frames, inputs="mine")
    checked = opened_vectors(path).run()
    assert checked.comparison.differ == 0
    assert checked.vectors.inputs == "mine, rounded to the network's grid"
    assert np.array_equal(checked.vectors.frames, td.snap_frames(graph, frames[:, :2]))
    with pytest.raises(DataError, match="6 were asked for, and there are frames of 5 samples"):
        td.export(graph, tmp_path / "net.onnx", to="onnx", vectors=6, frames=frames)
    with pytest.raises(ArgumentError, match="Say how many: vectors=4"):
        td.export(graph, tmp_path / "net.onnx", to="onnx", frames=frames)
    with pytest.raises(ArgumentError, match="vectors: must be a whole number"):
        td.export(graph, tmp_path / "net.onnx", to="onnx", vectors=True)


@pytest.mark.parametrize("words", ["a\nb", "\udce4.npz", "x" * 10_000, ""])
def test_whatever_the_inputs_are_called_the_vectors_can_be_read(tmp_path, words):
    """Names of files may hold anything; what is written of them is a line."""
    graph = quantized()
    frames = testing.random_frames(graph, np.random.default_rng(0), 1, 1)
    path = td.export(graph, tmp_path / "net.onnx", to="onnx", vectors=1, frames=frames, inputs=words)
    said = opened_vectors(path).vectors.inputs
    assert said.isprintable() and len(said) < 500


def test_sums_that_depend_on_their_order_have_no_vectors(tmp_path):
    """A float network whose weights lie on no grid is refused, with the way out."""
    weight = np.random.default_rng(0).normal(size=(3, 50)).astype(np.float32)
    nodes = [Input(name="x", shape=(50,)), Linear(name="fc", weight=weight), Readout(name="readout")]
    with pytest.raises(GraphError, match=r"depend on their order; .* Lower it with frames"):
        td.export(chain(nodes), tmp_path / "net.nir", to="nir", vectors=1)
    assert not list(tmp_path.iterdir())


def test_frames_of_its_data_are_a_way_out(tmp_path):
    """Where a grid is too coarse for random frames, it is said so, and those that it was lowered with have vectors."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(3, 50)).astype(np.float32)
    frames = (rng.integers(0, 17, (2, 4, 50)) / 16).astype(np.float32)
    nodes = [Input(name="x", shape=(50,)), Linear(name="fc", weight=weight), Readout(name="readout")]
    graph = td.lower(chain(nodes), frames)
    with pytest.raises(GraphError, match="Or give frames of its data: frames=, --frames"):
        td.export(graph, tmp_path / "net.onnx", to="onnx", vectors=1)
    td.export(graph, tmp_path / "net.onnx", to="onnx", vectors=1, frames=frames)


@given(data=st.data(), shape=st.tuples(*[st.integers(1, 4)] * 3), flips=st.integers(0, 3))
def test_the_first_is_the_earliest_and_nearest_to_the_input(data, shape, flips):
    """Of values changed anywhere: all are counted, and the first is by step, then population, then place."""
    names = ["spikes/a", "potentials/a", "spikes/b", "potentials/b", "readout"]
    expected = {name: np.zeros(shape, np.int32) for name in names}
    found = {name: array.copy() for name, array in expected.items()}
    places = {
        (data.draw(st.integers(0, shape[0] - 1)), data.draw(st.integers(0, len(names) - 1)), sample, neuron)
        for sample, neuron in ((data.draw(st.integers(0, n - 1)) for n in shape[1:]) for _ in range(flips))
    }
    for step, index, sample, neuron in places:
        found[names[index]][step, sample, neuron] = 5
    comparison = compare(Vectors("", np.zeros(shape, np.float32), expected), found, "it")
    assert (comparison.differ, comparison.compared) == (len(places), 5 * np.prod(shape))
    if not places:
        assert comparison.first == ""
        return
    step, index, sample, neuron = min(places)
    kind, _, name = names[index].partition("/")
    what = f"{kind.removesuffix('s')} of {name!r}" if name else kind
    said = f"{what}, sample {sample}, step {step}, position ({neuron},): expected 0, found 5"
    assert comparison.first == said
