"""An exported file explains itself: doc strings of all that goes in and out, and metadata under names that stay."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest

from tet_deploy.errors import ArgumentError
from tet_deploy.exporters.onnx_texts import without_folders
from tet_deploy.exporters.to_onnx import to_onnx
from tet_deploy.ir.graph import Graph, chain
from tet_deploy.ir.nodes import CubaLIF, Flatten, Input, LeakyReadout, Linear, Quantization, Readout
from tet_deploy.passes import lower, quantize
from tet_deploy.runtimes.onnx_session import OnnxRuntime
from tet_deploy.testing import random_float_network, random_frames, random_quantized_network

MAKERS = [random_float_network, random_quantized_network]
KEYS = [  # programs of other people read them: a name that is here stays
    "tet_deploy.onnx",
    "tet_deploy.opset",
    "tet_deploy.licence",
    "tet_deploy.classes",
    "tet_deploy.units",
    "tet_deploy.accuracy",
    "tet_deploy.training",
    "tet_deploy.format",
    "tet_deploy.version",
    "tet_deploy.graph_digest",
    "tet_deploy.input",
    "tet_deploy.populations",
    "tet_deploy.ranges",
    "tet_deploy.metadata",
    "tet_deploy.sha256",
]
TRAINED = {
    "model": "snn5",
    "data": "event-digits",
    "steps": "7",
    "recipe": '{"stages": [{"epochs": 2}]}',
    "trained_accuracy": "0.9861",
    "trained_accuracy_of": "the float network as trained, on all 360 test samples of event-digits",
    "finetuned_accuracy": "0.9833",
    "time_bin": "10 ms",
    "calibration": '{"input": {"least": 0.0, "greatest": 9.0}}',
    "frames_seen": '{"least": 0.0, "greatest": 9.0}',
}


def _exported(graph: Graph, folder, **options) -> tuple[onnx.ModelProto, dict[str, str]]:
    model = onnx.load(to_onnx(graph, folder / "net.onnx", **options))
    return model, {entry.key: entry.value for entry in model.metadata_props}


def _texts(model: onnx.ModelProto) -> dict[str, str]:
    return {value.name: value.doc_string for value in [*model.graph.input, *model.graph.output]}


def _cuba(quantized: bool) -> Graph:
    """Neurons with a synaptic current, and a leaky readout: all states that there are."""
    graph = chain(
        [
            Input(name="input", shape=(4,)),
            Linear(name="fc", weight=np.eye(4, dtype=np.float32)[:3]),
            CubaLIF(name="lif", threshold=0.5, decay=0.5, current_decay=0.5),
            Linear(name="out", weight=np.eye(3, dtype=np.float32)),
            LeakyReadout(name="readout", decay=0.5),
        ]
    )
    return quantize(graph, random_frames(graph, np.random.default_rng(0), steps=3, samples=4)) if quantized else graph


@pytest.mark.parametrize("make", MAKERS)
def test_names_stay(make, tmp_path):
    """Inputs, outputs and metadata keys, in their order."""
    graph = make(np.random.default_rng(1), layers=1)
    model, entries = _exported(graph, tmp_path, probes="all", states=True)
    assert [value.name for value in model.graph.input] == ["frames", "layer0.lif.before"]
    outputs = sorted(value.name for value in model.graph.output)
    assert outputs == ["layer0.lif.after", "layer0.lif.potentials", "layer0.lif.spikes", "logits", "readout"]
    assert list(entries) == KEYS


@pytest.mark.parametrize("quantized", [False, True])
def test_names_of_all_states_stay(quantized, tmp_path):
    """A synaptic current and a leaky readout's potential have names of their own, which no node can have."""
    model, entries = _exported(_cuba(quantized), tmp_path, states=True)
    states = ["lif/current", "lif", "readout/potential"]
    assert [value.name for value in model.graph.input] == ["frames", *(f"{name}.before" for name in states)]
    assert {value.name for value in model.graph.output} == {"readout", "logits", *(f"{name}.after" for name in states)}
    texts = _texts(model)
    assert "synaptic currents of the neurons 'lif'" in texts["lif/current.before"]
    assert "the leaky readout after the last step, [B, 3]" in texts["readout/potential.after"]
    assert set(entries) == {*KEYS, "tet_deploy.leaky_readout"}


@pytest.mark.parametrize("graph", [_cuba(False), _cuba(True)], ids=["float", "integers"])
def test_all_that_goes_in_and_out_is_explained(graph, tmp_path):
    """Everything has a doc string that names its axes; so have model, graph and functions."""
    model, _ = _exported(graph, tmp_path, probes="all", states=True, ranges=True)
    texts = _texts(model)
    for value in [*model.graph.input, *model.graph.output]:
        axes = [dim.dim_param or str(dim.dim_value) for dim in value.type.tensor_type.shape.dim]
        assert f"[{', '.join(axes)}]" in texts[value.name]
    assert model.doc_string and model.graph.doc_string
    assert all("v = " in function.doc_string or "c = " in function.doc_string for function in model.functions)


@pytest.mark.parametrize("make", MAKERS)
def test_events_are_explained(make, tmp_path):
    """Counts, the time of a step where the metadata says it, and of frames made here which channel is which polarity."""
    graph = make(np.random.default_rng(2), encoding="events").with_metadata(**TRAINED)
    text = _texts(_exported(graph, tmp_path)[0])["frames"]
    assert "whole numbers from 0" in text and "A step lasts 10 ms." in text and "T = 7" in text
    ours = "data" in TRAINED and graph.input.shape[0] == 2
    assert ("0 is OFF (darker), 1 is ON (brighter)" in text) == ours


def test_nothing_is_said_of_the_polarities_of_others(tmp_path):
    """Whose frames a network that was trained elsewhere takes, nobody knows here."""
    nodes = [
        Input(name="input", shape=(2, 2, 2), encoding="events"),
        Flatten(name="flat"),
        Linear(name="fc", weight=np.ones((3, 8), np.float32)),
        Readout(name="readout"),
    ]
    for about, told in (({}, False), ({"data": "event-digits"}, True)):
        text = _texts(_exported(chain(nodes).with_metadata(**about), tmp_path)[0])["frames"]
        assert ("OFF" in text) == told


@pytest.mark.parametrize("quantized", [False, True])
def test_the_normalization_that_a_file_does_is_told(quantized, tmp_path):
    """Who normalizes frames a second time gets nonsense, so the text says that the file does it, with the numbers."""
    unit, weight = (Quantization(scale=4.0), np.ones((3, 2), np.int8)) if quantized else (None, np.ones((3, 2), np.float32))
    mean, deviation = np.array([0.5, 0.25]), np.array([2.0, 4.0])
    nodes = [
        Input(name="input", shape=(2, 1, 1), mean=mean, deviation=deviation, quantization=unit),
        Flatten(name="flat"),
        Linear(name="fc", weight=weight, quantization=unit),
        Readout(name="readout", quantization=unit),
    ]
    text = _texts(_exported(chain(nodes).with_metadata(**TRAINED), tmp_path)[0])["frames"]
    assert "subtracts the mean [0.5, 0.25] of each channel and divides by [2.0, 4.0]" in text
    assert ("multiplies by 4.0, rounds half to even, and clips to -127..127" in text) == quantized
    assert "fitted to, once they were normalized, lay between 0 and 9." in text


@pytest.mark.parametrize("make", MAKERS)
def test_provenance_is_told_to_people_and_programs(make, tmp_path):
    """Accuracies with what they are of, training, licence, classes and versions, in the metadata and in words."""
    graph = make(np.random.default_rng(3), layers=1).with_metadata(**TRAINED)
    names = [f"class {index}" for index in range(graph.shapes[graph.readout.name][0])]
    model, entries = _exported(graph, tmp_path, licence="CC-BY-4.0", classes=names)
    of = "the float network as trained, on all 360 test samples of event-digits"
    assert json.loads(entries["tet_deploy.accuracy"]) == {of: "0.9861", "finetuned_accuracy": "0.9833"}
    told = json.loads(entries["tet_deploy.training"])
    assert told == {key: TRAINED[key] for key in ("model", "data", "steps", "recipe")}
    assert json.loads(entries["tet_deploy.classes"]) == names
    assert entries["tet_deploy.licence"] == "CC-BY-4.0" and entries["tet_deploy.onnx"] == onnx.__version__
    assert entries["tet_deploy.opset"] == str(model.opset_import[0].version)
    for words in (f"Accuracy 0.9861, {of}.", "Licence: CC-BY-4.0.", graph.digest(), entries["tet_deploy.version"]):
        assert words in model.doc_string
    assert all(f"in order {', '.join(names)}" in _texts(model)[name] for name in ("readout", "logits"))


@pytest.mark.parametrize("make", MAKERS)
def test_nothing_is_made_up(make, tmp_path):
    """A network that knows nothing of its training gives empty entries under the same keys."""
    _, entries = _exported(make(np.random.default_rng(4), layers=1), tmp_path)
    found = [entries[f"tet_deploy.{key}"] for key in ("licence", "classes", "accuracy", "training", "metadata")]
    assert list(entries) == KEYS and found[:4] == ["", "[]", "{}", "{}"]


@pytest.mark.parametrize("make", MAKERS)
def test_units_in_the_metadata_turn_the_readout_into_logits(make, tmp_path):
    """What the text says of the readout's numbers is what they are."""
    rng = np.random.default_rng(5)
    graph = make(rng, layers=1)
    frames = random_frames(graph, rng, steps=4, samples=3)
    model, entries = _exported(graph, tmp_path)
    readout = OnnxRuntime(tmp_path / "net.onnx").run(frames, probes="none").readout
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    unit = json.loads(entries["tet_deploy.units"])["readout"]
    logits = (readout / unit).mean(axis=0)
    np.testing.assert_allclose(session.run(["logits"], {"frames": frames})[0], logits, rtol=1e-5, atol=1e-6)  # float32
    assert (f"divided by {unit!r}, 64 * scale" in _texts(model)["readout"]) == graph.is_quantized


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("/home/me/data", "data"),
        ("~/data/events.npz", "events.npz"),
        ("/data", "data"),
        ("C:\\Users\\me\\data", "data"),
        ('{"root": "/home/me/data", "size": [1, 2]}', '{"root": "data", "size": [1, 2]}'),
        ('{"root": "C:\\\\Users\\\\me"}', '{"root": "me"}'),
        ('{"a": ["/x/y", "/x/z"]}', '{"a": ["y", "z"]}'),
        ("trained on all 9 test samples of /home/me/data", "trained on all 9 test samples of data"),
        (json.dumps({"root": "/home/me/神経", "神経": ["é"]}), json.dumps({"root": "神経", "神経": ["é"]})),
        (
            json.dumps({"a": json.dumps({"神経": "/x/神", "b": 1e-07})}),
            json.dumps({"a": json.dumps({"神経": "神", "b": 1e-07})}),
        ),
        (json.dumps({"神経": [{"é": "слой"}]}), None),
        ('{"神経": 1.50, "a":NaN}', None),
        ("[" * 700 + "]" * 700, None),
        ("v * (4096 - decay) / 4096, [T/B], 1/2, a/b.npz, 3 // 4", None),
        ("https://example.org/a/b", None),
    ],
)
def test_no_folder_of_the_machine_is_told(text, kept, tmp_path):
    """Of absolute paths only the last name is left, wherever they stand; nothing else changes."""
    kept = text if kept is None else kept
    assert without_folders(text) == kept
    graph = random_float_network(np.random.default_rng(6), layers=1).with_metadata(data=text)
    _, entries = _exported(graph, tmp_path)
    assert json.loads(entries["tet_deploy.metadata"]) == {"data": kept}
    assert json.loads(entries["tet_deploy.training"]) == {"data": kept}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ('{"root": "/home/me/data", "size": [1, 2]}', '{"size": [1, 2]}'),
        ('{"root": "data"}', "{}"),
        ('["/home/me/data"]', '["data"]'),
        ("no JSON", "no JSON"),
        ("[" * 10**5, "[" * 10**5),
    ],
)
def test_where_data_lie_is_not_told(arguments, told, tmp_path):
    """The folder of a data set is this machine's: elsewhere TET_DEPLOY_DATA or --frames says it."""
    graph = random_float_network(np.random.default_rng(7), layers=1).with_metadata(data="n-mnist", data_arguments=arguments)
    _exported(graph, tmp_path)
    assert OnnxRuntime(tmp_path / "net.onnx").metadata == {"data": "n-mnist", "data_arguments": told}


def test_a_float_network_tells_what_it_was_lowered_for(tmp_path):
    """The range of the frames that lowering saw, or nothing."""
    graph = random_float_network(np.random.default_rng(8), layers=1, encoding="analog")
    assert "fitted" not in _texts(_exported(lower(graph), tmp_path)[0])["frames"]
    frames = np.full((2, 3, *graph.input.shape), 0.5, np.float32)
    text = _texts(_exported(lower(graph, frames), tmp_path)[0])["frames"]
    assert "What the network was fitted to lay between 0 and 0.5." in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"licence": 4}, "licence: must be a text; got 4"),
        ({"licence": None}, "licence: must be a text; got None"),
        ({"classes": "abc"}, "classes: must be a list of names; got 'abc'"),
        ({"classes": 3}, "classes: must be a list of names; got 3"),
        ({"classes": ["one"]}, "classes: must name each of the 3 classes once"),
        ({"classes": ["one", "two", "two"]}, "classes: must name each of the 3 classes once"),
        ({"classes": [0, 1, 2]}, "classes: must be a text; got 0"),
        ({"licence": "\ud800"}, "licence: .* holds half of a character"),
        ({"classes": ["a", "b", "\udfff"]}, "classes: .* holds half of a character"),
    ],
)
def test_what_is_no_text_is_refused(options, message, tmp_path):
    """The error says what it must be, and no file is written."""
    with pytest.raises(ArgumentError, match=message):
        to_onnx(_cuba(False), tmp_path / "net.onnx", **options)
    assert not list(tmp_path.iterdir())
