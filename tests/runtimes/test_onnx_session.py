"""The ONNX runtime against the reference runtime, integer for integer, and what it says about files it cannot run."""

import importlib
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tet_deploy import dynamics
from tet_deploy.errors import ArgumentError, ArtifactError, DataError, MissingDependencyError
from tet_deploy.exporters.to_onnx import to_onnx
from tet_deploy.ir.graph import Graph, chain
from tet_deploy.ir.nodes import LIF, Conv, Flatten, Input, Linear, Quantization, Readout
from tet_deploy.runtimes.onnx_session import OnnxRuntime
from tet_deploy.runtimes.reference import ReferenceRuntime
from tet_deploy.testing import random_float_network, random_frames, random_quantized_network

UNIT = Quantization(scale=1.0)


def assert_equal_to_reference(graph: Graph, frames: np.ndarray, path) -> None:
    """Every spike, membrane potential and readout, and their types."""
    expected = ReferenceRuntime(graph).run(frames)
    found = OnnxRuntime(to_onnx(graph, path, probes="all"), threads=1).run(frames)
    pairs = {"readout": (found.readout, expected.readout)}
    for name in expected.spikes:
        pairs[f"{name}.spikes"] = (found.spikes[name], expected.spikes[name])
        pairs[f"{name}.potentials"] = (found.potentials[name], expected.potentials[name])
    for what, (left, right) in pairs.items():
        assert left.dtype == right.dtype and left.shape == right.shape, what
        assert np.array_equal(left, right), f"{what}: {np.count_nonzero(left != right)} of {left.size} differ"


def _population(weight: np.ndarray, lif: LIF, *, scale: float = 1.0, bits: int = 8) -> Graph:
    """Frames [N] -> one LIF population -> readout."""
    size = len(weight)
    return chain(
        [
            Input(name="input", shape=(weight.shape[1],), quantization=Quantization(scale=scale, bits=bits)),
            Linear(name="fc", weight=weight.astype(np.int8), quantization=UNIT),
            lif,
            Linear(name="out", weight=np.full((2, size), -127, dtype=np.int8), quantization=UNIT),
            Readout(name="readout", bias=np.array([2**31 - 1, -(2**31)], dtype=np.int32), quantization=UNIT),
        ]
    )


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    """A small quantized network, its file with all probes, and frames."""
    rng = np.random.default_rng(11)
    graph = random_quantized_network(rng, layers=2)
    path = to_onnx(graph, tmp_path_factory.mktemp("onnx") / "net.onnx", probes="all")
    return graph, path, random_frames(graph, rng, steps=4, samples=5)


@pytest.mark.parametrize("wrap", [False, True], ids=["ordinary", "wrapping"])
@pytest.mark.parametrize("seed", range(30))
def test_quantized_networks_agree_integer_for_integer(seed, wrap, tmp_path):
    """Every spike, membrane potential and readout of random quantized networks equals the reference."""
    rng = np.random.default_rng(seed)
    graph = random_quantized_network(rng, wrap=wrap)
    assert_equal_to_reference(graph, random_frames(graph, rng, steps=6), tmp_path / "net.onnx")


@pytest.mark.parametrize("seed", range(30))
def test_float_networks_on_a_grid_agree_exactly(seed, tmp_path):
    """Where weights and frames are dyadic no float32 sum rounds, so that random float networks agree bit for bit."""
    rng = np.random.default_rng(seed)
    graph = random_float_network(rng)
    assert_equal_to_reference(graph, random_frames(graph, rng, steps=6), tmp_path / "net.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("make", [random_float_network, random_quantized_network])
def test_two_thousand_networks_agree(make, tmp_path):
    """The same for 1000 random networks of each kind, half of the quantized ones wrapping."""
    for seed in range(1000, 2000):
        rng = np.random.default_rng(seed)
        options = {"wrap": bool(seed % 2)} if make is random_quantized_network else {}
        graph = make(rng, **options)
        assert_equal_to_reference(graph, random_frames(graph, rng, steps=1 + seed % 8), tmp_path / "net.onnx")


@settings(max_examples=150)
@given(data=st.data())
def test_any_population_agrees(data, tmp_path_factory):
    """Any decay, threshold, bias and sum gives the reference's integers: wrapped, saturated, negative and odd ones too."""
    kept = data.draw(st.one_of(st.sampled_from([0, 1, 2048, 4095, 4096]), st.integers(0, 4096)), label="4096 * decay")
    inputs, size = data.draw(st.sampled_from([(1, 4), (16, 3), (600, 2)]), label="inputs, neurons")
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), label="seed"))
    low = data.draw(st.sampled_from([-127, 0, 120]), label="smallest weight")
    extremes = rng.choice([-32768, -4095, -1, 0, 1, 4095, 32767], size)
    lif = LIF(
        name="lif",
        decay=kept / 4096,
        threshold=data.draw(st.one_of(st.sampled_from([1, 131071]), st.integers(1, 131071)), label="threshold"),
        bias=extremes.astype(np.int16),
        quantization=Quantization(scale=1.0, bits=17, bias_exponent=data.draw(st.integers(0, 7), label="exponent")),
    )
    graph = _population(rng.integers(low, 128, (size, inputs)), lif)
    frames = rng.choice([-200, -127, -3, -0.5, 0, 0.5, 1.5, 126.5, 200], (8, 2, inputs)).astype(np.float32)
    sign = data.draw(st.sampled_from([None, 1, -1]), label="sign of the frames")
    frames = frames if sign is None else sign * np.abs(frames)
    assert_equal_to_reference(graph, frames, tmp_path_factory.mktemp("onnx") / "net.onnx")


def test_sums_wrap_in_24_bit(tmp_path):
    """A layer of 1,200 inputs whose sums leave 24 bit, in both directions, still agrees; most sums here do leave it."""
    rng = np.random.default_rng(12)
    weight = rng.integers(60, 128, (6, 1200, 1, 1)).astype(np.int8) * np.array([1, 1, 1, -1, -1, -1])[:, None, None, None]
    conv = Conv(name="conv", weight=weight.astype(np.int8), quantization=UNIT)
    lif = LIF(name="lif", threshold=1000, quantization=Quantization(scale=1.0, bits=17))
    graph = chain(
        [
            Input(name="input", shape=(1200, 2, 1), quantization=UNIT),
            conv,
            lif,
            Flatten(name="flatten"),
            Linear(name="fc", weight=np.ones((2, 12), dtype=np.int8), quantization=UNIT),
            Readout(name="readout", quantization=UNIT),
        ]
    )
    frames = rng.integers(60, 128, (5, 2, 1200, 2, 1)).astype(np.float32)
    frames[2:] *= rng.choice([-1, 1], frames[2:].shape, p=[0.05, 0.95])
    assert (np.abs(dynamics.synaptic_sum(conv, frames.reshape(-1, 1200, 2, 1))) >= 2**23).mean() > 0.5
    assert_equal_to_reference(graph, frames, tmp_path / "net.onnx")


@pytest.mark.parametrize("limit", [2**17, 2**23], ids=["wrap once", "24 bit"])
def test_sums_at_the_limits_wrap_like_the_reference(limit, tmp_path):
    """Sums of exactly the limit and its neighbours, of both signs: one side of each limit wraps and the other does not."""
    full, rest = divmod(limit, 127 * 127)
    tens, ones = divmod(rest, 127)
    weight = np.array([127] * full + [127, 1])
    lif = LIF(name="lif", decay=0.5, threshold=131071, quantization=Quantization(scale=1.0, bits=17))
    graph = _population(np.stack([weight, -weight]), lif)
    frames = np.array([[127] * full + [tens, ones + off] for off in (-1, 0, 1)], dtype=np.float32)
    assert abs(frames[1] @ weight) == limit
    assert_equal_to_reference(graph, frames[None], tmp_path / "net.onnx")


@pytest.mark.parametrize("limit", [2**17, 2**23], ids=["wrap once", "24 bit"])
def test_wrapping_is_kept_where_the_largest_possible_sum_is_the_limit(limit, tmp_path):
    """Messages of -1, 0 and 1 whose sums reach the limit and never exceed it: the proof for leaving wraps out is tight."""
    full, rest = divmod(limit, 127)
    weight = np.array([127] * full + [rest])
    lif = LIF(name="lif", decay=0.5, threshold=131071, quantization=Quantization(scale=1.0, bits=17))
    graph = _population(np.stack([weight, -weight]), lif, bits=2)
    frames = np.ones((2, 1, len(weight)), dtype=np.float32) * np.array([1, -1])[:, None, None]
    assert_equal_to_reference(graph, frames, tmp_path / "net.onnx")


def test_messages_round_half_to_even_and_clip(tmp_path):
    """Frames become messages as in `dynamics.to_messages`: halves to even, beyond the limit clipped, in float32."""
    x = np.array([-1e30, -300, -2.5, -1.5, -0.5, 0.1, 0.5, 1.5, 2.5, 126.5, 127.5, 1e30], dtype=np.float32)
    for scale in (1.0, 0.3, 12.7):
        lif = LIF(name="lif", decay=1.0, threshold=131071, quantization=Quantization(scale=1.0, bits=17))
        graph = _population(np.eye(len(x)), lif, scale=scale)
        found = OnnxRuntime(to_onnx(graph, tmp_path / "net.onnx", probes="all")).run(x[None, None])
        assert np.array_equal(found.potentials["lif"][0, 0], dynamics.to_messages(x, graph.input.quantization) * 64)


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("signed", [True, False], ids=["frames", "spikes"])
def test_every_shape_of_convolution_agrees(groups, signed, tmp_path):
    """Groups, strides, dilations, paddings and kernels that differ along both axes, fed by signed frames or by spikes."""
    rng = np.random.default_rng(groups)
    relay = [
        Conv(name="relay", weight=rng.integers(-127, 128, (6, 6, 1, 1)).astype(np.int8), quantization=UNIT),
        LIF(name="relay.lif", threshold=100, quantization=UNIT),
    ]
    layer = Conv(
        name="conv",
        weight=rng.integers(-127, 128, (12, 6 // groups, 3, 2)).astype(np.int8),
        stride=(2, 3),
        padding=(1, 2),
        dilation=(2, 1),
        groups=groups,
        quantization=UNIT,
    )
    graph = chain(
        [
            Input(name="input", shape=(6, 9, 8), quantization=Quantization(scale=20.0)),
            *([] if signed else relay),
            layer,
            LIF(name="lif", threshold=300, bias=rng.integers(-99, 99, 12).astype(np.int16), quantization=UNIT),
            Flatten(name="flatten"),
            Linear(name="fc", weight=rng.integers(-127, 128, (5, 12 * 4 * 4)).astype(np.int8), quantization=UNIT),
            Readout(name="readout", quantization=UNIT),
        ]
    )
    assert_equal_to_reference(graph, random_frames(graph, rng), tmp_path / "net.onnx")


@pytest.mark.parametrize("quantized", [True, False])
def test_frames_may_be_flattened_first(quantized, tmp_path):
    """Neurons after a Flatten of signed frames count as the graph counts them: channels, then rows, then columns."""
    rng = np.random.default_rng(13)
    unit = UNIT if quantized else None
    dtype = np.int8 if quantized else np.float32
    graph = chain(
        [
            Input(name="input", shape=(3, 2, 4), quantization=Quantization(scale=16.0) if quantized else None),
            Flatten(name="flatten"),
            Flatten(name="again"),
            Linear(name="fc", weight=rng.integers(-20, 21, (7, 24)).astype(dtype), quantization=unit),
            LIF(name="lif", threshold=30, quantization=unit),
            Linear(name="out", weight=rng.integers(-20, 21, (3, 7)).astype(dtype), quantization=unit),
            Readout(name="readout", quantization=unit),
        ]
    )
    assert_equal_to_reference(graph, random_frames(graph, rng), tmp_path / "net.onnx")


@pytest.mark.parametrize("make", [random_float_network, random_quantized_network])
def test_one_file_runs_any_steps_and_samples(make, tmp_path):
    """One session runs 1 to 9 steps of 1 to 5 samples, and each equals the reference."""
    rng = np.random.default_rng(15)
    graph = make(rng, layers=2)
    runtime = OnnxRuntime(to_onnx(graph, tmp_path / "net.onnx"), threads=1)
    for steps, samples in [(1, 1), (9, 1), (1, 5), (3, 4)]:
        frames = random_frames(graph, rng, steps, samples)
        found = runtime.run(frames, probes="none")
        assert np.array_equal(found.readout, ReferenceRuntime(graph).run(frames, probes="none").readout)


@pytest.mark.parametrize("micro_batch", [None, 1, 2, 100])
def test_micro_batches_do_not_change_results(net, micro_batch):
    """However samples are grouped, the recording is the same, and progress ends at the number of samples."""
    _, path, frames = net
    seen = []
    found = OnnxRuntime(path, micro_batch=micro_batch).run(frames, progress=lambda done, total: seen.append((done, total)))
    whole = OnnxRuntime(path, micro_batch=5).run(frames)
    assert np.array_equal(found.readout, whole.readout)
    assert all(np.array_equal(found.potentials[name], whole.potentials[name]) for name in whole.potentials)
    assert seen[-1] == (5, 5) and len(seen) == {None: 1, 1: 5, 2: 3, 100: 1}[micro_batch]


def test_only_what_is_asked_for_is_recorded(net):
    """The recording holds the probes asked for and no others."""
    graph, path, frames = net
    first, *_ = [node.name for node in graph.of_kind(LIF)]
    runtime = OnnxRuntime(path)
    none, named = runtime.run(frames, probes="none"), runtime.run(frames, probes=[first])
    assert (dict(none.spikes), dict(none.potentials)) == ({}, {})
    assert list(named.spikes) == list(named.potentials) == [first]
    assert runtime.digest == graph.digest() and none.runtime == "onnx"


def test_probes_that_the_file_lacks_are_an_error(net, tmp_path):
    """Asking for potentials of a file exported with spikes only says how to export it."""
    graph, _, frames = net
    runtime = OnnxRuntime(to_onnx(graph, tmp_path / "net.onnx", probes="spikes"))
    assert runtime.run(frames, probes="spikes").spikes
    with pytest.raises(ArtifactError, match=r"does not carry the potentials of .* probes='all'"):
        runtime.run(frames, probes="all")


@pytest.mark.parametrize("frames", [np.zeros((4, 5)), np.full((4, 5, 1, 1, 1), "a"), np.zeros((0, 1, 99, 99))])
def test_frames_that_do_not_fit_are_an_error(net, frames):
    """Frames of the wrong rank, size or type never reach ONNX Runtime."""
    with pytest.raises(DataError):
        OnnxRuntime(net[1]).run(frames)


@pytest.mark.parametrize("options", [{"threads": 0}, {"threads": 10**12}, {"micro_batch": -1}, {"micro_batch": 2.5}])
def test_options_must_be_positive_whole_numbers(net, options):
    """Anything else is an error that names the option; so are more threads than any machine has."""
    with pytest.raises(ArgumentError, match=f"{next(iter(options))}: must be a whole number within 1.."):
        OnnxRuntime(net[1], **options)


@pytest.mark.parametrize(
    ("module", "library"),
    [("tet_deploy.runtimes.onnx_session", "onnxruntime"), ("tet_deploy.exporters.to_onnx", "onnx")],
)
def test_a_missing_library_names_the_extra(module, library, monkeypatch):
    """Without the library the import says which extra installs it."""
    monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'tet-deploy\[onnx\]'"):
        importlib.import_module(module)
