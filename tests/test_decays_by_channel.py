"""A LIF may have a decay for each channel: every runtime gives the values of its equation, and files go there and back."""

import dataclasses

import numpy as np
import pytest

import tet_deploy as td
from tet_deploy import dynamics
from tet_deploy.counting import estimate
from tet_deploy.debugging import causes
from tet_deploy.debugging.diagnosis import diagnosis_of
from tet_deploy.errors import GraphError, QuantizationWarning
from tet_deploy.ir.certificates import certificates
from tet_deploy.ir.graph import chain
from tet_deploy.ir.nodes import LIF, Input, Linear, Readout
from tet_deploy.testing import LEAST_DECAY, random_float_network, random_frames, random_quantized_network
from tet_deploy.validation import compare

LIMITS = [0.0, LEAST_DECAY, 0.3, 0.5, 0.9, 1 - LEAST_DECAY, 1.0]


def network(decay, **fields):
    """Two frames a step, each to a neuron of its own."""
    identity = np.eye(2, dtype=np.float32)
    lif = LIF(name="lif", decay=decay, **{"threshold": 0.5, **fields})
    layers = Linear(name="fc", weight=identity), lif, Linear(name="out", weight=identity)
    return chain([Input(name="input", shape=(2,)), *layers, Readout(name="readout")])


def spread(graph, rng, decays=LIMITS):
    """The same network with a decay drawn for each channel."""
    drawn = {lif.name: rng.choice(decays, graph.shapes[lif.name][0]) for lif in graph.of_kind(LIF)}
    return graph.replace({name: dataclasses.replace(graph[name], decay=decay) for name, decay in drawn.items()})


def frames_of(steps=9, samples=40):
    return np.random.default_rng(0).integers(-8, 9, (steps, samples, 2)).astype(np.float32) / 8


def test_each_channel_is_a_network_of_its_decay():
    """In floats: the spikes and potentials of a channel are those of the network in which all have its decay."""
    frames = frames_of()
    found = td.run(network(np.array([0.25, 0.75])), frames)
    for channel, decay in enumerate((0.25, 0.75)):
        alone = td.run(network(decay), frames)
        for of in ("spikes", "potentials"):
            assert np.array_equal(getattr(found, of)["lif"][..., channel], getattr(alone, of)["lif"][..., channel])
    assert not compare(td.run(network(0.25), frames), found).equal


def test_equal_decays_are_one():
    """An array of one number computes what the number does, with another digest."""
    one, many = network(0.75), network(np.array([0.75, 0.75]))
    assert compare(td.run(one, frames_of()), td.run(many, frames_of())).equal


@pytest.mark.parametrize("seed", range(6))
def test_onnx_gives_every_value_of_the_reference(seed):
    """Float, through `quantize`, and integers that wrap and saturate; a step at a time too."""
    rng = np.random.default_rng(seed)
    graph = td.lower(spread(random_float_network(rng, grid=20), rng))
    frames = random_frames(graph, rng, 6, 5)
    wrapping = spread(random_quantized_network(rng, wrap=True), rng)
    int8 = td.quantize(graph, frames, rounding_limit=10)
    for each, shown in ((graph, frames), (int8, frames), (wrapping, random_frames(wrapping, rng, 6, 5))):
        expected, found = td.run(each, shown), td.run(each, shown, runtime="onnx")
        agreement = compare(expected, found)
        assert agreement.equal, str(agreement.first)
        stream = td.Stream(each, samples=5, runtime="onnx", probes="all")
        assert np.array_equal(np.stack([stream.step(frame).readout for frame in shown]), expected.readout)


LAVA = {"own models": ("lava", {}), "stock": ("lava", {"stock": True}), "numpy": ("lava-numpy", {})}


@pytest.mark.filterwarnings("ignore:how many values")  # which Lava's own models do not count
@pytest.mark.parametrize("how", LAVA)
@pytest.mark.parametrize("seed", [1, 2])
def test_bundles_give_every_value_of_the_reference(seed, how, request):
    """Lava's LIFReset takes an array of 12-bit decays as it is."""
    runtime, options = LAVA[how]
    if runtime == "lava":
        request.getfixturevalue("lava_python")
    rng = np.random.default_rng(seed)
    graph = spread(random_quantized_network(rng, layers=1 if options else None, wrap=seed == 1), rng)
    assert any(np.size(lif.decay) > 1 for lif in graph.of_kind(LIF))
    frames = random_frames(graph, rng, 4, 3)
    agreement = compare(td.run(graph, frames), td.run(graph, frames, runtime=runtime, **options))
    assert agreement.equal, str(agreement.first)


def test_the_integers_are_the_decays_of_12_bit():
    """One for each channel: 0 keeps 1/4096, 1 all."""
    decays = dynamics.decay_v(LIF(name="n", decay=np.array([0.0, 0.3, 0.5, 1.0])))
    assert decays.tolist() == [4095, 2867, 2048, 0] and dynamics.decay_v(LIF(name="n", decay=0.3)) == 2867


def test_certificates_take_the_slowest_leak():
    """A channel that never leaks may fall for ever, whatever the others do."""
    graph = random_quantized_network(np.random.default_rng(3), layers=1)
    (lif,) = graph.of_kind(LIF)
    channels = graph.shapes[lif.name][0]
    some = graph.replace({lif.name: dataclasses.replace(lif, decay=np.array([1.0, *[0.5] * (channels - 1)]))})
    none = graph.replace({lif.name: dataclasses.replace(lif, decay=1.0)})
    assert certificates(some)[lif.name] == certificates(none)[lif.name]


def test_files_keep_them(tmp_path):
    """Every number comes back, and each is in the digest."""
    graph = network(np.array([0.25, 0.75]))
    back = td.load(td.save(graph, tmp_path / "net.safetensors"))
    assert back["lif"].decay.tolist() == [0.25, 0.75] and back.digest() == graph.digest()
    assert len({graph.digest(), network(0.25).digest(), network(np.array([0.75, 0.25])).digest()}) == 3


BAD = {
    "too many": (np.ones(3), r"decay must have shape \(2,\); got \(3,\)"),
    "beyond 1": (np.array([0.5, 1.5]), r"decay must lie in \[0, 1\]"),
    "negative": (np.array([-0.5, 0.5]), r"decay must lie in \[0, 1\]"),
    "not a number": (np.array([np.nan, 0.5]), "decay holds NaN"),
    "text": ("half", "decay must be a number or a numpy array"),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_decays_are_refused(case):
    """By name, with what was found."""
    decay, message = BAD[case]
    with pytest.raises(GraphError, match=f"node 'lif': {message}"):
        network(decay)


def test_energy_counts_the_channels_that_leak():
    """Those of decay 0 and 1 multiply nothing."""
    frames = frames_of(6, 4)
    recording = td.run(network(0.5), frames, probes="spikes")
    full = [
        estimate(network(np.array(decay)), recording, frames, table="45nm-fp32").mean("full")
        for decay in ([0.5, 0.5], [0.5, 1.0], [0.0, 1.0])
    ]
    assert np.diff(full) == pytest.approx(-6 * 3.7, rel=1e-9)  # sums of floats


def test_the_worst_rounding_is_told():
    """Of the channel that would never leak any more."""
    with pytest.warns(QuantizationWarning, match=r"node 'lif': decay 0.99999 is 4096/4096.*never leaks"):
        td.quantize(td.lower(network(np.array([0.5, 0.99999]))), frames_of())


def test_a_wrong_decay_is_diagnosed():
    """As one; and the integers of a network are taken apart without a rest."""
    right, frames = network(np.array([0.25, 0.75])), frames_of()
    other = network(np.array([0.25, 0.5]))
    found = diagnosis_of(right, td.run(other, frames), frames, described=other)
    assert {cause.cause for cause in found.causes} == {causes.DECAY} and found.flips["lif"] > 5
    rng = np.random.default_rng(0)
    graph = td.lower(spread(random_float_network(rng, layers=2), rng, [0.3, 0.5, 0.9]))
    shown = random_frames(graph, rng, 6, 8)
    int8 = td.quantize(graph, shown)
    assert not [cause for cause in diagnosis_of(graph, td.run(int8, shown), shown, described=int8).causes if cause.ran]


def test_nir_files_keep_them(tmp_path):
    """There and back to the last bit, and with Euler's steps; decays of 1 beside others have no form."""
    pytest.importorskip("h5py")
    rng = np.random.default_rng(0)
    graph = spread(random_float_network(rng, layers=2, encoding="events"), rng, [0.5, 0.75, 0.0])
    frames = random_frames(graph, rng, 6, 3)
    path = td.export(graph, tmp_path / "net.nir", to="nir")
    for source in ("tet_deploy", "nir"):
        back = td.load_nir(path, source=source)
        assert compare(td.run(graph, frames), td.run(back, frames)).equal
        assert all((back[lif.name].decay == lif.decay).all() for lif in graph.of_kind(LIF))
    with pytest.raises(GraphError, match="node 'lif': a decay of 1 beside others has no NIR form"):
        td.export(network(np.array([0.5, 1.0])), tmp_path / "other.nir", to="nir")


def test_integers_train_with_them():
    """Fine-tuning's forward pass equals the reference to the last potential."""
    torch = pytest.importorskip("torch")
    from tet_deploy.training.quantized import QuantizedNetwork

    rng = np.random.default_rng(1)
    graph = td.lower(spread(random_float_network(rng, layers=2, encoding="events"), rng, [0.3, 0.5, 0.9]))
    frames = random_frames(graph, rng, 5, 4)
    int8 = td.quantize(graph, frames)
    model = QuantizedNetwork(int8, graph)
    readout = model(torch.from_numpy(frames))
    unit = 64 * int8.readout.quantization.scale
    assert np.array_equal(np.rint(readout.detach().double().numpy() * unit), td.run(int8, frames).readout)
    readout.sum().backward()
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())
