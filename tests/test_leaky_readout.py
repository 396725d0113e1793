"""Readouts that integrate leakily: every runtime gives the values of the equations, which the host of a chip keeps."""

import dataclasses
import json
from fractions import Fraction

import numpy as np
import pytest

import tet_deploy as td
from tet_deploy import dynamics
from tet_deploy.contracts import recorded
from tet_deploy.counting import estimate
from tet_deploy.debugging import causes
from tet_deploy.debugging.diagnosis import diagnosis_of
from tet_deploy.errors import ArtifactError, GraphError, QuantizationWarning
from tet_deploy.ir.graph import Graph, chain
from tet_deploy.ir.nodes import LIF, Flatten, Input, LeakyReadout, Linear, Readout
from tet_deploy.runtimes.reference import ReferenceRuntime
from tet_deploy.testing import LEAST_DECAY, random_float_network, random_frames, random_quantized_network
from tet_deploy.validation import compare

DECAYS = [0.0, LEAST_DECAY, 0.5, 0.9, 1.0]


def network(decay=0.75, kind=LeakyReadout, **fields):
    """Two frames a step, each to a neuron and a class of its own."""
    identity = np.eye(2, dtype=np.float32)
    layers = Linear(name="fc", weight=identity), LIF(name="lif", threshold=0.5), Linear(name="out", weight=identity)
    fields |= {"decay": decay} if kind is LeakyReadout else {}
    return chain([Input(name="input", shape=(2,)), *layers, kind(name="readout", **fields)])


def leaky(graph, decay):
    """The same network with such a readout."""
    fields = {field.name: getattr(graph.readout, field.name) for field in dataclasses.fields(Readout)}
    return graph.replace({graph.readout.name: LeakyReadout(**fields, decay=decay)})


def frames_of(steps=9, samples=40):
    return np.random.default_rng(0).integers(-8, 9, (steps, samples, 2)).astype(np.float32) / 8


@pytest.mark.parametrize("decay", [0.0, 0.25, 0.75, 1.0])
def test_the_equation_holds_step_by_step(decay):
    """v = decay * v + I in exact numbers, and the decision is its largest mean over time."""
    frames = frames_of()
    found = td.run(network(decay), frames)
    for sample in range(40):
        v = [Fraction(0)] * 2
        means = np.zeros(2)
        for step in range(9):
            v = [Fraction(decay) * v[k] + int(found.spikes["lif"][step, sample, k]) for k in (0, 1)]
            assert [Fraction(float(value)) for value in found.readout[step, sample]] == v
            means += [float(value) for value in v]
        assert found.decisions[sample] == means.argmax()


@pytest.mark.parametrize("decay", DECAYS)
def test_integers_truncate_toward_zero_and_have_no_limit(decay):
    """v = truncate(v * (4096 - decay_v) / 4096) + 64 a + bias in whole numbers, far beyond 24 bit."""
    rng = np.random.default_rng(1)
    graph = leaky(random_quantized_network(rng, layers=1), decay)
    bias = np.where(np.arange(len(graph.readout.bias)) % 2, 1, -1).astype(np.int32) * (2**31 - 1)
    graph = graph.replace({"readout": dataclasses.replace(graph.readout, bias=bias)})
    frames = random_frames(graph, rng, 40, 2)
    found = td.run(graph, frames)
    plain = td.run(graph.replace({"readout": Readout(**_common(graph.readout))}), frames).readout
    kept = dynamics.DECAY_ONE - dynamics.decay_v(graph.readout)
    for place in np.ndindex(*found.readout.shape[1:]):
        v = 0
        for step in range(40):
            v = abs(v) * kept // 4096 * (1 if v >= 0 else -1) + int(plain[(step, *place)])
            assert found.readout[(step, *place)] == v
    assert decay < 0.9 or np.abs(found.readout).max() > 2**32


def _common(readout):
    return {field.name: getattr(readout, field.name) for field in dataclasses.fields(Readout)}


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("seed", range(3))
def test_onnx_gives_every_value_of_the_reference(seed, decay):
    """Float, through `quantize`, and integers that wrap; a step at a time too, from a state that stays as it was."""
    rng = np.random.default_rng(seed)
    graph = td.lower(leaky(random_float_network(rng, grid=20), decay))
    frames = random_frames(graph, rng, 6, 5)
    wrapping = leaky(random_quantized_network(rng, wrap=True), decay)
    for each, shown in (
        (graph, frames),
        (td.quantize(graph, frames), frames),
        (wrapping, random_frames(wrapping, rng, 6, 5)),
    ):
        expected = td.run(each, shown)
        assert compare(expected, td.run(each, shown, runtime="onnx")).equal
        for runtime in ("reference", "onnx"):
            stream = td.Stream(each, samples=5, runtime=runtime, probes="all")
            for _ in range(2):
                steps = [stream.step(frame) for frame in shown]
                assert compare(expected, recorded(steps, runtime)).equal
                assert np.array_equal(stream.decisions, expected.decisions)
                stream.reset()


LAVA = {"own models": ("lava", {}), "stock": ("lava", {"stock": True}), "numpy": ("lava-numpy", {})}


@pytest.mark.filterwarnings("ignore:how many values")  # which Lava's own models do not count
@pytest.mark.parametrize("how", LAVA)
@pytest.mark.parametrize("decay", [LEAST_DECAY, 0.9, 1.0])
def test_bundles_give_every_value_of_the_reference(decay, how, request):
    """Samples stream back to back, and each begins with a readout of 0."""
    runtime, options = LAVA[how]
    if runtime == "lava":
        request.getfixturevalue("lava_python")
    rng = np.random.default_rng(2)
    graph = leaky(random_quantized_network(rng, layers=1 if options else 2), decay)
    frames = random_frames(graph, rng, 4, 3)
    found = td.run(graph, frames, runtime=runtime, **options)
    agreement = compare(td.run(graph, frames), found)
    assert agreement.equal, str(agreement.first)
    assert decay == LEAST_DECAY or (found.readout[1:] != td.run(_plain(graph), frames).readout[1:]).any()


def _plain(graph):
    return graph.replace({"readout": Readout(**_common(graph.readout))})


def test_a_decay_of_zero_keeps_nothing():
    """In floats it is the plain readout."""
    frames = frames_of()
    assert compare(td.run(network(kind=Readout), frames), td.run(network(0.0), frames)).equal
    assert not compare(td.run(network(kind=Readout), frames), td.run(network(0.25), frames)).equal


def test_a_network_without_neurons_has_one(tmp_path):
    """Frames straight into the integrator; a file without states refuses single steps there too."""
    graph = chain(
        [Input(name="input", shape=(2,)), Linear(name="fc", weight=np.eye(2)), LeakyReadout(name="readout", decay=1)]
    )
    frames = frames_of(5, 3)
    assert np.array_equal(td.run(graph, frames).readout, frames.cumsum(axis=0))
    assert compare(td.run(graph, frames), td.run(graph, frames, runtime="onnx")).equal
    from tet_deploy.runtimes.onnx_session import OnnxRuntime

    runtime = OnnxRuntime(td.export(graph, tmp_path / "net.onnx", to="onnx"))
    with pytest.raises(ArtifactError, match="has no states"):
        runtime.start(3)


def test_it_counts_spikes():
    """Fed by neurons it adds up their spikes, which lowering gives an identity."""
    layers = network()
    graph = Graph((*layers.nodes[:3], LeakyReadout(name="readout", inputs=("lif",), decay=0.5)))
    frames = frames_of()
    found = td.run(td.lower(graph), frames)
    assert compare(td.run(network(0.5), frames), found).equal and compare(td.run(graph, frames), found).equal
    int8 = td.quantize(td.lower(graph), frames)
    assert compare(td.run(int8, frames), td.run(int8, frames, runtime="onnx")).equal


BAD = {
    "decay": ({"decay": 1.5}, r"node 'readout': decay must lie in \[0, 1\]; got 1.5"),
    "no number": ({"decay": "half"}, "decay must be a number"),
    "bias": ({"bias": np.zeros(2, np.float32)}, "float network's bias belongs to the layer"),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_fields_are_refused(case):
    """By name, with what was found."""
    fields, message = BAD[case]
    with pytest.raises(GraphError, match=message):
        network(**fields)


def test_maps_are_refused():
    """As a plain readout refuses them: classes lie in one row."""
    nodes = Input(name="input", shape=(1, 2, 2)), LeakyReadout(name="readout", inputs=("input",))
    with pytest.raises(GraphError, match=r"node .readout.: a LeakyReadout takes \[N\]; .* Put a Flatten before it"):
        Graph(nodes)
    assert Graph((nodes[0], Flatten(name="flat", inputs=("input",)), dataclasses.replace(nodes[1], inputs=("flat",))))


def test_two_readouts_are_refused():
    """Of whatever kinds."""
    graph = network()
    with pytest.raises(GraphError, match="exactly one Readout"):
        Graph((*graph, Readout(name="other", inputs=("out",))))


def test_files_keep_it(tmp_path):
    """The decay comes back, and is in the digest."""
    graph = network(0.9)
    back = td.load(td.save(graph, tmp_path / "net.safetensors"))
    assert (back.readout.kind, back.readout.decay) == ("LeakyReadout", 0.9)
    assert (
        len({back.digest(), network(0.8).digest(), network(kind=Readout).digest()}) == 3 and back.digest() == graph.digest()
    )


def test_energy_counts_its_decay():
    """Under "full" each class multiplies its potential by the decay in every step; nothing else costs anything."""
    frames = frames_of(6, 4)
    recording = td.run(network(), frames, probes="spikes")
    own, plain, whole = (
        estimate(graph, recording, frames, table="45nm-fp32") for graph in (network(), network(kind=Readout), network(1.0))
    )
    assert own.mean("full") - plain.mean("full") == pytest.approx(6 * 2 * 3.7, rel=1e-12)  # sums of floats
    assert whole.mean("full") == plain.mean("full")
    for name in own.names:
        assert name == "full" or own.mean(name) == plain.mean(name)


def test_a_decay_that_12_bit_lose_is_told():
    """A decay that would become 1 warns; one that is a multiple of 1/4096 has no error."""
    graph, frames = td.lower(network(0.99999)), frames_of()
    with pytest.warns(QuantizationWarning, match=r"node 'readout': decay 0.99999 is 4096/4096.*never leaks.*of itself"):
        td.quantize(graph, frames)
    int8 = td.quantize(td.lower(network(0.75)), frames)
    rounding = json.loads(int8.metadata["quantization"])["readout"]["rounding"]
    assert rounding["decay"] == 0.75 and rounding["decay_error"] == 0


def test_a_wrong_decay_of_it_is_diagnosed():
    """As a decay of the readout, and as nothing else; a network beside itself has no cause."""
    right, frames = network(0.5), frames_of()
    other = right.replace({"readout": dataclasses.replace(right.readout, decay=0.75)})
    found = diagnosis_of(right, td.run(other, frames), frames, described=other)
    assert [(cause.node, cause.cause) for cause in found.causes] == [("readout", causes.DECAY)]
    assert not diagnosis_of(right, td.run(right, frames), frames, described=right).causes


def test_quantizing_it_is_taken_apart():
    """The pieces of an integer network add up: nothing that ran is unlike what the network says."""
    rng = np.random.default_rng(3)
    graph = td.lower(leaky(random_float_network(rng, layers=2), 0.9))
    frames = random_frames(graph, rng, 6, 8)
    int8 = td.quantize(graph, frames)
    found = diagnosis_of(graph, td.run(int8, frames), frames, described=int8)
    assert not [cause for cause in found.causes if cause.ran]


def test_states_are_values():
    """The reference's state holds the potential under the readout's name."""
    graph, frames = network(0.5), frames_of(3, 5)
    runtime = ReferenceRuntime(graph)
    _, once = runtime.step(runtime.start(5), frames[0])
    first, again = (runtime.step(once, frames[1])[0] for _ in range(2))
    assert np.array_equal(first.readout, again.readout) and set(once) == {"lif", "readout"}
