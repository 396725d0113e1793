"""Networks from NIR files give the spikes that the frameworks that wrote them recorded."""

from pathlib import Path

import numpy as np
import pytest

import tet_deploy as td
from tet_deploy.errors import ArgumentError, GraphError
from tet_deploy.ir.nodes import LIF, Conv, SoftResetLIF, Spiking
from tet_deploy.runtimes import RUNTIMES

pytest.importorskip("h5py", reason="reads NIR files")
HERE = Path(__file__).with_name("nir_files")
RECORDED = {  # file -> what is said of it
    "spikingjelly_lif_decay_input": {"source": "spikingjelly"},
    "spikingjelly_lif": {"source": "spikingjelly"},
    "spikingjelly_if": {"source": "spikingjelly"},
    "spikingjelly_v_reset": {"source": "spikingjelly"},
    "spikingjelly_cuba": {"source": "spikingjelly"},
    "snntorch_zero": {"source": "snntorch", "reset": "zero"},
    "snntorch_default_subtract": {"source": "snntorch", "reset": "subtract"},
    "snntorch_cuba_zero": {"source": "snntorch", "reset": "zero"},
    "snntorch_cuba_zero_at_once": {"source": "snntorch", "reset": "zero-at-once"},
    "norse_lifbox": {"source": "norse"},
}


def recorded(name):
    """Network, frames, and what each of its layers of neurons sent."""
    stored = np.load(HERE / f"{name}.npz")
    graph = td.load_nir(HERE / f"{name.removesuffix('_at_once')}.nir", **RECORDED[name])
    layers = [node.name for node in graph.of_kind(Spiking)]
    return graph, stored["input"].astype(np.float32), {layer: stored[f"spikes{i}"] for i, layer in enumerate(layers)}


def differing(spikes, expected):
    return {name: int((spikes[name] != sent.reshape(spikes[name].shape)).sum()) for name, sent in expected.items()}


@pytest.mark.parametrize("runtime", ["reference", "onnx"])
@pytest.mark.parametrize("name", RECORDED)
def test_every_spike_is_the_frameworks(name, runtime):
    """As loaded and as lowered: 0 of all spikes differ, and the readout is what the last layer sends."""
    if runtime == "onnx":
        pytest.importorskip("onnxruntime", reason="runs there")
    graph, frames, expected = recorded(name)
    assert len(expected) >= 2 and all(0.02 < sent.mean() < 0.6 for sent in expected.values())
    for network in [td.lower(graph, frames)] + ([graph] if runtime == "reference" else []):
        recording = td.run(network, frames, runtime=runtime, probes="all")
        assert differing(recording.spikes, expected) == dict.fromkeys(expected, 0)
        last = expected[graph.of_kind(Spiking)[-1].name]
        assert np.array_equal(recording.readout, last.reshape(recording.readout.shape))


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("spikingjelly_lif", 0.05),  # of rounding to 8 bits
        ("spikingjelly_cuba", 0.1),  # and of the bias, which a chip adds behind the current
        ("snntorch_zero", 0.05),
        ("snntorch_cuba_zero_at_once", 0.1),
    ],
)
def test_quantized_it_runs_in_lava(name, most, lava_python):
    """In int8 the reference and Lava agree in every spike and potential, and stay near the framework's."""
    assert "lava" in RUNTIMES
    graph, frames, expected = recorded(name)
    int8 = td.quantize(td.lower(graph, frames), calibration=frames)
    shown = frames[:8]
    one, other = (td.run(int8, shown, runtime=runtime, probes="all") for runtime in ("reference", "lava"))
    for layer, sent in expected.items():
        assert np.array_equal(one.spikes[layer], other.spikes[layer])
        assert np.array_equal(one.potentials[layer], other.potentials[layer])
        assert (one.spikes[layer] != sent[:8].reshape(one.spikes[layer].shape)).mean() < most


@pytest.mark.parametrize(("name", "said"), [("norse", {"source": "nir", "dt": 1e-4}), ("rockpool", {"source": "rockpool"})])
def test_the_public_neurons_spike_as_recorded(name, said):
    """NIR's own single neurons, versions 0.1.1 and 0.2.0, against their tables: 0 of 1000 steps differ."""
    table = np.loadtxt(HERE / f"public_lif_{name}.csv", delimiter=",")
    graph = td.load_nir(HERE / f"public_lif_{name}.nir", reset="zero", **said)
    recording = td.run(graph, table[:, :1, None], runtime="reference")
    (spikes,) = recording.spikes.values()
    assert len(table) == 1000 and table[:, 2].sum() == 4
    assert np.array_equal(spikes.reshape(-1), table[:, 2])


@pytest.mark.parametrize("name", ["snntorch_default_subtract", "public_cnn_sinabs", "sinabs_iaf"])
def test_what_the_file_lost_must_be_said(name):
    """Without `reset` the error says how to say it."""
    source = "snntorch" if name.startswith("snntorch") else "nir"
    with pytest.raises(ArgumentError, match=r"node '1': how it resets is not in the file.*reset='zero' or reset='subtract'"):
        td.load_nir(HERE / f"{name}.nir", source=source)


def test_the_public_network_of_soft_resets_runs_in_floats():
    """NIR's own CNN, told reset="subtract": reference and ONNX agree in every spike and potential, and Lava refuses it."""
    pytest.importorskip("onnxruntime", reason="runs there")
    soft, hard = (
        td.load_nir(HERE / "public_cnn_sinabs.nir", source="nir", reset=reset, dt=1.0) for reset in ("subtract", "zero")
    )
    assert {node.reset for node in soft.of_kind(Spiking)} == {"subtract"} and len(soft.of_kind(SoftResetLIF)) == 5
    frames = np.random.default_rng(0).poisson(0.3, (10, 2, *soft.input.shape)).astype(np.float32)
    lowered = td.lower(soft, frames)
    agreement = td.validate(lowered, frames, runtimes=["reference", "onnx"])["onnx"]
    assert agreement.equal and agreement.compared > 300_000, str(agreement.first)
    spikes = [td.run(graph, frames, probes="spikes").spikes["12"].sum() for graph in (lowered, td.lower(hard, frames))]
    assert spikes[0] > spikes[1] > 0
    with pytest.raises(GraphError, match="node '1': reset must be 'zero' in a Loihi core's integers; got 'subtract'"):
        td.quantize(lowered, frames)


def test_what_subtract_means_is_the_sources(files):
    """snnTorch's neurons subtract a step later unless more is said; those of NIR's text at once."""
    graph = files.write(files.chain(files.linear(), files.lif(3, r=2.0, v_reset=None)))

    def reset(**said):
        return td.load_nir(graph, **said).of_kind(SoftResetLIF)[0].reset

    assert reset(source="nir", reset="subtract") == "subtract"
    assert reset(source="snntorch", reset="subtract") == "subtract-delayed"
    assert reset(source="snntorch", reset="subtract-twice") == "subtract-twice"


def test_the_source_must_be_said_where_it_matters(files):
    """Neurons need it, and the error lists all with how to tell them; layers and thresholds do not."""
    with pytest.raises(ArgumentError, match="depend on who wrote the file") as caught:
        td.load_nir(HERE / "spikingjelly_lif.nir")
    for name in ("spikingjelly", "snntorch", "norse", "rockpool", "nir"):
        assert f"'{name}' (" in str(caught.value)
    graph = td.load_nir(files.write(files.chain(files.linear(), {"type": "Threshold", "threshold": 0.5})))
    assert graph.metadata["imported_from"] == "NIR 1.0.8"


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({"source": "sinabs"}, "source: must be one of 'spikingjelly'.*got 'sinabs'"),
        ({"source": ["nir"]}, "source: must be one of"),
        ({"source": "nir", "reset": "soft"}, "reset: must be one of 'zero', 'zero-at-once', 'subtract'.*; got 'soft'"),
        ({"source": "nir", "dt": 0}, "dt: must be the seconds of a step"),
        ({"source": "nir", "dt": float("nan")}, "dt: must be"),
        ({"source": "nir", "dt": "1e-4"}, "dt: must be"),
        ({"source": "nir", "dt": True}, "dt: must be"),
        (
            {"source": "spikingjelly", "dt": 1e-3},
            r"node '_1': r = 2 and tau = 0.0002 do not belong to dt = 0.001.*dt=0.0001",
        ),
    ],
)
def test_what_is_said_wrongly_is_refused(said, error):
    """A source, a reset or a dt that there is none of, or that the file contradicts."""
    with pytest.raises((ArgumentError, GraphError), match=error):
        td.load_nir(HERE / "spikingjelly_lif.nir", **said)


def frames_for(graph, seed=1):
    drawn = np.random.default_rng(seed).integers(0, 3, (6, 2, *graph.input.shape))
    return drawn.astype(np.float32)


def readout(graph, frames):
    return td.run(graph, frames, runtime="reference", probes="none").readout


def test_numbers_may_stand_in_any_type(files):
    """float64, big-endian, single numbers, arrays per neuron, bytes for text: the same network."""
    plain = files.chain(files.affine(), files.lif(3), files.linear(3, 3))
    expected = td.load_nir(files.write(plain), source="nir").digest()
    for change in (
        lambda array: np.asarray(array).astype(">f8") if np.asarray(array).dtype.kind == "f" else np.asarray(array, ">i2"),
        lambda array: np.asarray(array).astype("f4" if np.asarray(array).dtype.kind == "f" else "u1"),
        lambda array: np.unique(array)[0] if np.unique(array).size == 1 and np.ndim(array) == 1 else array,
    ):
        nodes = {
            name: {key: value if isinstance(value, str) else change(value) for key, value in node.items()}
            for name, node in plain["nodes"].items()
        }
        nodes["n0"]["bias"] = plain["nodes"]["n0"]["bias"]
        assert td.load_nir(files.write(plain | {"nodes": nodes}), source="nir").digest() == expected
    texts = {name: node | {"type": np.bytes_(node["type"])} for name, node in plain["nodes"].items()}
    fixed = {"type": np.bytes_("NIRGraph"), "nodes": texts, "edges": np.array(plain["edges"], "S12")}
    for version in ("0.1.1", "0.2.0", "1.0.4", "1.0.8", None):
        assert td.load_nir(files.write(fixed, version), source="nir").digest() == expected


def test_names_may_be_of_any_script(files):
    """A name is kept as it is."""
    nodes = {"вход": files.input(4), "层.1": files.linear(), "_0": files.lif(3), "выход": files.output(3)}
    graph = td.load_nir(files.write(files.graph(nodes, [("层.1", "_0"), ("вход", "层.1"), ("_0", "выход")])), source="nir")
    assert [node.name for node in graph] == ["вход", "层.1", "_0", "выход"]


def test_dt_comes_from_the_caller_the_file_or_the_source(files):
    """In that order; a decay that went through float32 is the one that was meant."""
    graph = files.chain(files.linear(), files.lif(3, tau=np.float32(2.5e-3)))

    def decay(graph, **said):
        return td.load_nir(files.write(graph), source="nir", **said).of_kind(LIF)[0].decay

    assert decay(graph) == 0.96
    graph["nodes"]["n1"]["metadata"] = {"dt": 1e-3}
    assert decay(graph) == 0.6
    assert decay(graph | {"metadata": {"dt": np.float32([1e-3])}}) == 0.6
    assert decay(graph | {"metadata": {"dt": np.array([1e-3])}}, dt=np.float32(1e-3)) == 0.6
    with pytest.raises(GraphError, match=r"dt = 0\.002 seconds were said, and its metadata say 0.001"):
        decay(graph, dt=2e-3)
    graph["nodes"]["n1"].pop("metadata")
    assert decay(graph, dt=np.float32(2e-3)) == 0.2
    graph["nodes"]["n1"]["metadata"] = {"dt": 1e-3}
    with pytest.raises(GraphError, match="its metadata must give one dt"):
        decay(graph | {"metadata": {"dt": 1e-4}})


def test_nested_graphs_are_flattened(files):
    """A network in a network computes what the flat one does, also where edges name its inner nodes, as older files do."""
    plain = files.chain(files.linear(), files.lif(3), files.linear(3, 3))
    expected = td.load_nir(files.write(plain), source="nir")
    frames = frames_for(expected)
    inner = files.graph(
        {"in": files.input(4), "l": files.linear(), "n": files.lif(3), "out": files.output(3)},
        [("in", "l"), ("l", "n"), ("n", "out")],
    )
    nodes = {"input": files.input(4), "block": inner, "last": files.linear(3, 3), "output": files.output(3)}
    for first, last in (("block", "block"), ("block.in", "block.out")):
        edges = [("input", first), (last, "last"), ("last", "output")]
        graph = td.load_nir(files.write(files.graph(nodes, edges)), source="nir")
        assert "block.n" in [node.name for node in graph]
        assert np.array_equal(readout(graph, frames), readout(expected, frames))


def test_meeting_edges_are_summed(files):
    """Two ways to one node: their sum, also at the output and at a nested graph's input."""
    a, b = files.linear(), files.linear(weight=np.eye(3, 4, dtype=np.float32))
    nodes = {"input": files.input(4), "a": a, "b": b, "output": files.output(3)}
    edges = [("input", "a"), ("input", "b"), ("a", "output"), ("b", "output")]
    graph = td.load_nir(files.write(files.graph(nodes, edges)))
    frames = frames_for(graph)
    expected = frames @ (a["weight"] + b["weight"]).T
    assert np.array_equal(readout(graph, frames), expected)
    nodes["last"] = files.graph({"in": files.input(3), "out": files.output(3)}, [("in", "out")])
    graph = td.load_nir(files.write(files.graph(nodes, [*edges[:2], ("a", "last"), ("b", "last"), ("last", "output")])))
    assert np.array_equal(readout(graph, frames), expected)


def test_a_threshold_is_a_neuron_that_forgets(files):
    """A spike where what it is sent exceeds the threshold, strictly, in every step alone."""
    node = {"type": "Threshold", "threshold": np.full(3, 0.5, np.float32)}
    graph = td.load_nir(files.write(files.chain(files.linear(), node)))
    frames = frames_for(graph)
    sums = frames @ files.linear()["weight"].T
    assert (sums == 0.5).any()
    assert np.array_equal(readout(graph, frames), sums > 0.5)


@pytest.mark.parametrize("written", [(3,), (3, 1, 1), (3, 4, 4)])
def test_channels_may_have_thresholds_of_their_own(written, files):
    """However they are written, of a neuron or of a Threshold, and where each neuron is a channel."""
    values = np.array([0.5, 1, 2])
    full = np.broadcast_to(values.reshape(3, 1, 1), written) if len(written) > 1 else values
    for node in (files.lif(3, 4, 4) | {"v_threshold": full}, {"type": "Threshold", "threshold": full}):
        graph = td.load_nir(files.write(files.chain(files.conv(), node, files.flatten(), shape=(2, 6, 6))), source="nir")
        assert np.array_equal(graph["n1"].threshold, values * (2 if node["type"] == "LIF" else 1))  # of a gain of 1/2
    graph = td.load_nir(files.write(files.chain(files.linear(), files.lif(3) | {"v_threshold": values})), source="nir")
    assert np.array_equal(graph["n1"].threshold, values * 2)


CONVOLUTIONS = {  # as written -> as in numbers
    "same": ({"padding": "same"}, {"padding": [1, 1]}),
    "valid": ({"padding": "valid"}, {"padding": [0, 0]}),
    "dilated": ({"padding": "same", "dilation": 2}, {"padding": [2, 2], "dilation": [2, 2]}),
    "one for both": ({"padding": 1, "stride": 2}, {"padding": [1, 1], "stride": [2, 2]}),
    "no bias": ({"bias": np.zeros(3)}, {}),
}


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolutions_are_read_as_written(case, files):
    """Padding by name, and one number for both axes."""
    written, meant = CONVOLUTIONS[case]
    one, other = (
        td.load_nir(files.write(files.chain(files.conv(**changes), files.flatten(), shape=(2, 6, 6))))
        for changes in (written, meant)
    )
    assert one.digest() == other.digest()


def test_sum_pools_and_groups(files):
    """A sum pool is four times an average pool of 2 x 2, and a grouped convolution two convolutions side by side."""
    weight = np.random.default_rng(3).integers(-8, 9, (4, 1, 3, 3)).astype(np.float32)
    grouped = files.conv(weight=weight, bias=np.arange(4, dtype=np.float32), groups=2)
    pooled = {}
    for kind in ("SumPool2d", "AvgPool2d"):
        chain = files.chain(grouped, files.pool(kind), files.flatten(input_type=np.array([4, 2, 2])), shape=(2, 6, 6))
        pooled[kind] = td.load_nir(files.write(chain))
    frames = frames_for(pooled["SumPool2d"])
    assert np.array_equal(readout(pooled["SumPool2d"], frames), 4 * readout(pooled["AvgPool2d"], frames))
    behind = [files.conv(), files.lif(3, 4, 4), files.pool("SumPool2d"), files.flatten(), files.linear(3, 12)]
    graph = td.load_nir(files.write(files.chain(*behind, shape=(2, 6, 6))), source="nir")
    assert np.array_equal(readout(td.lower(graph, frames), frames), readout(graph, frames))
    dense = np.zeros((4, 2, 3, 3), np.float32)
    dense[:2, :1], dense[2:, 1:] = weight[:2], weight[2:]
    chain = files.chain(grouped | {"weight": dense, "groups": 1}, files.pool("AvgPool2d"), files.flatten(), shape=(2, 6, 6))
    assert np.array_equal(readout(td.load_nir(files.write(chain)), frames), readout(pooled["AvgPool2d"], frames))
    assert pooled["SumPool2d"].of_kind(Conv)[1].dense_macs == 0


def test_a_line_is_an_image_of_height_one(files):
    """Conv1d, with neurons in the file's shape [C, L]: as numpy correlates."""
    weight = np.random.default_rng(3).integers(-8, 9, (3, 2, 3)).astype(np.float32)
    conv = {"type": "Conv1d", "weight": weight, "bias": np.zeros(3), "stride": 1, "padding": 1, "dilation": 1, "groups": 1}
    chain = files.chain(conv, files.lif(3, 7, v_threshold=2.0), files.flatten(input_type=[3, 7]), shape=(2, 7))
    graph = td.load_nir(files.write(chain), source="nir")
    frames = frames_for(graph)
    assert frames.shape[2:] == (2, 1, 7)
    first = np.array([[sum(np.correlate(np.pad(x[0], 1), w) for x, w in zip(frame, each, strict=True)) for each in weight]
                      for frame in frames[0]])  # fmt: skip
    assert np.array_equal(readout(graph, frames)[0], (first > 4).reshape(2, -1))  # gain 1/2


SCALES = {  # nodes, and the same without a Scale
    "before a layer": (
        lambda f: [f.scale([2, 1, 0.5, 4]), f.linear()],
        lambda f: [f.linear(weight=f.weight * [2, 1, 0.5, 4])],
    ),
    "behind a layer": (
        lambda f: [f.affine(), f.scale([2, 1, 0.5])],
        lambda f: [f.affine(weight=f.weight * [[2], [1], [0.5]], bias=[0.5, 0.25, 0.125])],
    ),
    "of ones": (lambda f: [f.scale([1, 1, 1, 1]), f.linear()], lambda f: [f.linear()]),
    "one behind the other": (
        lambda f: [f.scale([2, 1, 0.5, 4]), f.scale(0.5), f.linear()],
        lambda f: [f.linear(weight=f.weight * [1, 0.5, 0.25, 2])],
    ),
    "one for all": (lambda f: [f.scale(0.5), f.linear()], lambda f: [f.linear(weight=f.weight * 0.5)]),
}


@pytest.mark.parametrize("case", SCALES)
def test_scales_are_folded_into_the_layer_beside_them(case, files):
    """With the same numbers as if they had been multiplied before."""
    files.scale = lambda factors: {"type": "Scale", "scale": np.asarray(factors, np.float32)}
    files.weight = files.linear()["weight"]
    with_scale, without = (td.load_nir(files.write(files.chain(*make(files)))) for make in SCALES[case])
    frames = frames_for(without)
    assert np.array_equal(readout(with_scale, frames), readout(without, frames))
    assert len(with_scale) == len(without)


def test_a_scale_for_each_channel_of_a_convolution(files):
    """Behind it and before it, written per neuron as NIR has it."""
    factors = np.broadcast_to(np.array([2, 0.5], np.float32)[:, None, None], (2, 6, 6))
    scale = {"type": "Scale", "scale": factors}
    graph = td.load_nir(files.write(files.chain(scale, files.conv(), files.flatten(), shape=(2, 6, 6))))
    plain = td.load_nir(files.write(files.chain(files.conv(), files.flatten(), shape=(2, 6, 6))))
    frames = frames_for(plain)
    assert np.array_equal(readout(graph, frames), readout(plain, frames * factors))
