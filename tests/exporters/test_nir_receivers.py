"""Other frameworks read our NIR files by their own importers and give our spikes; see benchmarks/nir_receivers.txt."""

import numpy as np
import pytest

import tet_deploy as td
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import LIF, Add, AvgPool, Conv, Flatten, Input, Linear, Readout

pytestmark = pytest.mark.slow
pytest.importorskip("h5py", reason="writes NIR files")
torch = pytest.importorskip("torch", reason="the frameworks run on it")
nir = pytest.importorskip("nir", reason="the frameworks read files with it")
pytest.importorskip("nirtorch", reason="the frameworks read files with it")
STEPS, SAMPLES = 20, 4
DECAYS = (0.0, 1 / 64, 0.3, 1 - 1 / 1.7, 0.5, 0.6, 0.75, 0.9, 0.95, 0.99, 1.0)


def spikingjelly(path, frames):
    """All steps of a batch at once."""
    pytest.importorskip("spikingjelly", reason="it is the receiver")
    from spikingjelly.activation_based.nir_exchange.from_nir import import_from_nir

    return import_from_nir(str(path), step_mode="m")(frames)[0]


def snntorch(path, frames):
    """One unbatched sample at a time: Flatten counts no axis of samples."""
    pytest.importorskip("snntorch", reason="it is the receiver")
    from snntorch.import_nir import import_from_nir

    return sample_by_sample(lambda: import_from_nir(nir.read(path)), frames)


def norse(path, frames):
    """One unbatched sample at a time, with the file's dt."""
    pytest.importorskip("norse", reason="it is the receiver")
    from norse.torch.utils.import_nir import from_nir

    return sample_by_sample(lambda: from_nir(nir.read(path), dt=1e-4), frames)


def sample_by_sample(make, frames):
    samples = []
    for sample in frames.unbind(1):
        model, state, outputs = make(), None, []
        for frame in sample:
            sent, state = model(frame) if state is None else model(frame, state)
            outputs.append(sent)
        samples.append(torch.stack(outputs))
    return torch.stack(samples, 1)


RECEIVERS = {"spikingjelly": spikingjelly, "snntorch": snntorch, "norse": norse}


def weights(rng, kind, *shape):
    """Random, or on a grid so coarse that potentials often meet the threshold; such that neurons fire."""
    fan_in = int(np.prod(shape[1:]))
    if kind == "coarse":
        return (rng.integers(-8, 9, shape) / 16 * (2 if fan_in < 30 else 1)).astype(np.float32)
    return (rng.standard_normal(shape) * 1.6 / fan_in**0.5).astype(np.float32)


def plain(kind, **neuron):
    rng = np.random.default_rng(0)
    return Graph(
        (
            Input(name="input", shape=(2, 8, 8)),
            conv("c1", "input", weights(rng, kind, 4, 2, 3, 3), bias=weights(rng, kind, 4, 1)[:, 0]),
            LIF(name="l1", inputs=("c1",), **neuron),
            conv("c2", "l1", weights(rng, kind, 6, 4, 3, 3), bias=weights(rng, kind, 6, 1)[:, 0], stride=(2, 2)),
            LIF(name="l2", inputs=("c2",), **neuron),
            *tail(rng, "l2", 96),
        )
    )


def conv(name, source, weight, padding=(1, 1), **geometry):
    return Conv(name=name, inputs=(source,), weight=weight, padding=padding, **geometry)


def tail(rng, source, size):
    flat, fc = Flatten(name="flat", inputs=(source,)), weights(rng, "coarse", 10, size)
    return flat, Linear(name="fc", inputs=("flat",), weight=fc), Readout(name="readout", inputs=("fc",))


def between(*nodes, size=256, end="l2"):
    """A network of two layers of neurons, l1 and l2, with these nodes between."""
    rng = np.random.default_rng(0)
    first = conv("c1", "input", weights(rng, "coarse", 4, 2, 3, 3)), LIF(name="l1", inputs=("c1",))
    return Graph((Input(name="input", shape=(2, 8, 8)), *first, *nodes, *tail(rng, end, size)))


def lif(name, *sources, **neuron):
    return LIF(name=name, inputs=sources, **neuron)


W = weights(np.random.default_rng(1), "coarse", 4, 4, 3, 3)
NETWORKS = {
    "two inputs": between(conv("a", "l1", W), conv("b", "l1", -W[::-1] / 2), lif("l2", "a", "b")),
    "an Add before neurons": between(
        conv("a", "l1", W), conv("b", "l1", W[::-1]), Add(name="sum", inputs=("a", "b")), lif("l2", "sum")
    ),
    "an Add of spikes, twice": between(
        conv("a", "l1", W),
        lif("l3", "a"),
        Add(name="sum", inputs=("l1", "l3")),
        Add(name="more", inputs=("sum", "l1")),
        conv("b", "more", W[::-1]),
        lif("l2", "b"),
    ),
    "two at the output": Graph(
        (
            *(node for node in plain("coarse") if not isinstance(node, Readout)),
            Linear(name="fc2", inputs=("flat",), weight=weights(np.random.default_rng(2), "coarse", 10, 96)),
            Readout(name="readout", inputs=("fc", "fc2")),
        )
    ),
    "an average pool": between(
        AvgPool(name="pool", inputs=("l1",), kernel=(2, 2), stride=(2, 2)), conv("a", "pool", W), lif("l2", "a"), size=64
    ),
    "groups": between(conv("a", "l1", W[:, :1] * 2, groups=4), lif("l2", "a")),
    "lines": between(conv("a", "l1", W[:, :, :1], padding=(0, 2), dilation=(1, 2)), lif("l2", "a")),
    "a max pool": between(
        conv("pool.sum", "l1", np.ones((4, 1, 2, 2), np.float32), (0, 0), groups=4, stride=(2, 2)),
        lif("pool", "pool.sum", threshold=0.5),
        size=64,
        end="pool",
    ),
    "names": between(conv("слой.1:a+b", "l1", W), lif("class", "слой.1:a+b"), end="class"),
}
CANNOT = {  # what its importer refuses, or is known to get wrong: see docs/nir.md
    "snntorch": ("decay 1.0",),
    "norse": ("two inputs", "an Add before neurons", "an Add of spikes, twice", "two at the output", "an average pool"),
}


def wrong(receiver, graph, folder):
    """Readouts that differ, and how many there are."""
    frames = np.random.default_rng(5).integers(0, 2, (STEPS, SAMPLES, *graph.input.shape)).astype(np.float32)
    ours = td.run(graph, frames, runtime="reference")
    assert all(0.01 < spikes.mean() < 0.9 for spikes in ours.spikes.values())
    path = td.export(graph, folder / "net.nir", to="nir")
    with torch.no_grad():
        theirs = RECEIVERS[receiver](path, torch.from_numpy(frames)).numpy()
    differ = abs(theirs.reshape(ours.readout.shape) - ours.readout) > 1e-4  # sums in another order; a spike is worth more
    return int(differ.sum()), differ.size


@pytest.mark.parametrize("comparison", [">", ">="])
@pytest.mark.parametrize("kind", ["coarse", "random"])
@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("receiver", RECEIVERS)
def test_neurons(receiver, decay, kind, comparison, tmp_path):
    """Of any decay, firing at the threshold or above it: 0 of 800 readouts are wrong."""
    if f"decay {decay}" in CANNOT.get(receiver, ()):
        pytest.skip("its importer takes no IF but r = 1")
    assert wrong(receiver, plain(kind, decay=decay, comparison=comparison), tmp_path) == (0, 800)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("receiver", RECEIVERS)
def test_layers(receiver, network, tmp_path):
    """Of every kind, and meeting edges: 0 of 800 readouts are wrong."""
    if network in CANNOT.get(receiver, ()):
        pytest.skip("it does not add what meets, and knows no AvgPool2d")
    assert wrong(receiver, NETWORKS[network], tmp_path) == (0, 800)


@pytest.mark.parametrize("network", NETWORKS)
def test_nirs_own_reader(network, tmp_path):
    """It infers the shapes that our nodes have, and reads what we said of our neurons."""
    graph = NETWORKS[network]
    read = nir.read(td.export(graph, tmp_path / "net.nir", to="nir"))
    assert read.metadata["graph_digest"] == graph.digest()
    for node in graph:
        if not isinstance(node, Add):
            assert tuple(read.nodes[node.name].output_type["output"]) == graph.shapes[node.name]
        if isinstance(node, LIF):
            assert read.nodes[node.name].metadata["decay"] == node.decay
