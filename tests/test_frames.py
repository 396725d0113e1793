"""Frames and labels may be numpy arrays or torch tensors; what does not fit is named with a way out that fits."""

import warnings

import numpy as np
import pytest
import torch

import tet_deploy as td
from tet_deploy import counting, data
from tet_deploy.batches import ArraySource, check_layout
from tet_deploy.contracts import as_array, check_frames
from tet_deploy.data.event_camera import simulate
from tet_deploy.errors import ArgumentError, DataError, TetDeployWarning
from tet_deploy.passes.snap_to_grid import frames_fit
from tet_deploy.pipeline import equality_expected
from tet_deploy.reporting import SampleView
from tet_deploy.testing import random_float_network, random_frames
from tet_deploy.training import ArrayFeed
from tet_deploy.training.evaluation import accuracy_by_step, readouts

RNG = np.random.default_rng(0)
TRACED = random_float_network(RNG, layers=1, encoding="events")
FRAMES = random_frames(TRACED, RNG, 2, 3)
FLOAT = td.lower(TRACED, FRAMES)
INT8 = td.quantize(FLOAT, FRAMES)
RECORDING = td.run(INT8, FRAMES)
LABELS = np.array([0, 1, 0])
MODEL = torch.nn.Sequential(torch.nn.Flatten(2), torch.nn.Linear(int(np.prod(FRAMES.shape[2:])), 2))


def own_data(x, y):
    parts = {"train_frames": x, "train_labels": y, "test_frames": x, "test_labels": y}
    return data.from_arrays(name="own", **parts, encoding="events", seed=0, classes=2)


TAKE_FRAMES = {  # what each public function makes of frames and labels, in a form that can be compared
    "lower": lambda x, y: td.lower(TRACED, x).digest(),
    "quantize": lambda x, y: td.quantize(FLOAT, x).digest(),
    "run": lambda x, y: td.run(INT8, x).readout,
    "run on onnx": lambda x, y: td.run(FLOAT, x, runtime="onnx").readout,
    "validate": lambda x, y: td.validate(INT8, x, runtimes=["reference", "onnx"])["onnx"].compared,
    "energy": lambda x, y: td.energy(INT8, x).mean("event"),
    "report": lambda x, y: td.report(INT8, x, y, path="report.html").with_suffix(".csv").read_text(),
    "equality_expected": lambda x, y: equality_expected(FLOAT, x),
    "frames_fit": lambda x, y: frames_fit(FLOAT, x),
    "estimate": lambda x, y: counting.estimate(INT8, RECORDING, x).mean("full"),
    "count": lambda x, y: counting.count(INT8, RECORDING, x)["synops"],
    "SampleView": lambda x, y: SampleView.of(RECORDING, x, 0).frames,
    "check_labels": lambda x, y: data.check_labels(y, samples=3, classes=2),
    "from_arrays": lambda x, y: own_data(x, y).test_frames,
    "simulate": lambda x, y: simulate(x[0, :, 0] / 99)[0],
    "readouts": lambda x, y: readouts(MODEL, x),
    "accuracy": lambda x, y: accuracy_by_step(x.reshape(2, 3, -1), y),
    "ArrayFeed": lambda x, y: ArrayFeed(x, y, steps=2).frames,
}  # fmt: skip


@pytest.mark.parametrize("function", TAKE_FRAMES)
def test_tensors_are_taken_like_arrays(function, tmp_path, monkeypatch):
    """Also those with a gradient, of half precision, or of other integers; the result is the same."""
    monkeypatch.chdir(tmp_path)
    expected = TAKE_FRAMES[function](FRAMES, LABELS)
    for frames in (torch.tensor(FRAMES), torch.tensor(FRAMES, dtype=torch.bfloat16, requires_grad=True)):
        found = TAKE_FRAMES[function](frames, torch.tensor(LABELS, dtype=torch.int32))
        assert np.array_equal(found, expected)


TAKE_LABELS = {
    "compare": lambda y: td.compare(FLOAT, INT8, FRAMES, y),
    "early_stop": lambda y: td.early_stop(INT8, FRAMES, y, accuracy=0.5),
    "EarlyStop.on": lambda y: td.EarlyStop(threshold=1, steps=2).on(RECORDING, y),
    "report": lambda y: td.report(INT8, FRAMES, y, path="report.html"),
    "accuracy": lambda y: accuracy_by_step(RECORDING.readout, y),
}


@pytest.mark.parametrize(
    "labels",
    [
        [1, 2, 9],
        [0, -1, 0],
        [0.0, 1.0, 0.0],
        [True, False, True],
        ["0", "1", "0"],
        [[0], [1], [0]],
        [0, 1],
        [0, 1, 0, 1],
        [],
        0,
    ],
    ids=str,
)
@pytest.mark.parametrize("function", TAKE_LABELS)
def test_what_labels_no_sample_is_refused(function, labels, tmp_path, monkeypatch):
    """Classes that the network does not have, no whole numbers, and too few or too many: nothing is called wrong by them."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"^labels: must be"):
        TAKE_LABELS[function](np.array(labels))
    assert not list(tmp_path.iterdir())


def test_classes_of_a_source_that_the_network_lacks_are_refused():
    """Labels that count from 1 would make every accuracy wrong."""
    with pytest.raises(DataError, match=r"labels: must be in 0\.\.[1-9]+; got 9"):
        td.compare(FLOAT, INT8, ArraySource(FRAMES, np.array([1, 2, 9])))


TAKE_GRAPHS = {
    "lower": lambda graph: td.lower(graph),
    "quantize": lambda graph: td.quantize(graph, FRAMES),
    "save": lambda graph: td.save(graph, "x.safetensors"),
    "export": lambda graph: td.export(graph, "x", to="onnx"),
    "run": lambda graph: td.run(graph, FRAMES),
    "validate": lambda graph: td.validate(graph, FRAMES),
    "energy": lambda graph: td.energy(graph, FRAMES),
    "estimate": lambda graph: counting.estimate(graph, RECORDING, FRAMES),
    "report": lambda graph: td.report(graph, FRAMES),
    "equality_expected": lambda graph: equality_expected(graph, FRAMES),
}


@pytest.mark.parametrize("function", TAKE_GRAPHS)
def test_what_is_no_graph_is_named(function, tmp_path, monkeypatch):
    """A model is to be traced, a path to be read; each error says so in a line."""
    monkeypatch.chdir(tmp_path)
    for wrong, message in (
        (MODEL, r"got Sequential\. Trace it"),
        ("a.safetensors", r"td\.load\('a.safetensors'\)"),
        (None, "NoneType"),
    ):
        with pytest.raises(ArgumentError, match=message) as caught:
            TAKE_GRAPHS[function](wrong)
        assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("found", "wanted", "way_out"),
    [
        ((2, 8, 8), (2, 8, 8), "frames[None, None] is one step of one sample"),
        ((5, 2, 8, 8), (2, 8, 8), "frames[:, None] for one sample of 5 steps"),
        ((5, 3, 8, 8, 2), (2, 8, 8), "np.moveaxis(frames, -1, 2)"),
        ((5, 3, 128), (2, 8, 8), "frames.reshape(5, 3, 2, 8, 8)"),
        ((5, 3, 8, 8), (1, 8, 8), "frames.reshape(5, 3, 1, 8, 8)"),
        ((5, 3, 2, 8, 8), (128,), "frames.reshape(5, 3, 128)"),
        ((5, 3, 1, 28, 28), (2, 20, 20), "other data"),
        ((5,), (2, 20, 20), "other data"),
    ],
)
def test_the_way_out_follows_from_the_shape(found, wanted, way_out):
    """Only an axis that is missing is to be added; frames of other data are called that."""
    with pytest.raises(DataError) as caught:
        check_frames(np.zeros(found), wanted, "analog")
    assert way_out in str(caught.value)
    if len(found) > 2:
        with pytest.raises(DataError) as of_a_source:
            check_layout(ArraySource(np.zeros(found, np.float32)), wanted)
        assert str(of_a_source.value).endswith(str(caught.value).partition(f"{found}. ")[2])
    assert ("[:, None]" in str(caught.value)) == ("[:, None]" in way_out)


def test_lists_of_unequal_lengths_are_no_frames():
    """What cannot become one array is named, not numpy's own error."""
    with pytest.raises(DataError, match="must be one array"):
        check_frames([[1, 2], [3]], (2,), "analog")


@pytest.mark.parametrize(
    "call", [td.run, td.energy, lambda g, x: td.validate(g, x, runtimes=["reference", "onnx"]), td.report]
)
def test_samples_in_the_place_of_time_are_told(call, tmp_path, monkeypatch):
    """Where the network was trained with another T, one warning says what was understood and how to swap."""
    monkeypatch.chdir(tmp_path)
    graph = INT8.with_metadata(steps="3")
    with pytest.warns(TetDeployWarning, match=r"3 samples of 2 steps.* trained with 3 steps.*swapaxes\(0, 1\)") as caught:
        call(graph, FRAMES)
    assert len(caught) == 1 and caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        call(INT8.with_metadata(steps="2"), FRAMES)


def test_as_array_keeps_an_array():
    """No copy of what is an array already."""
    assert as_array(FRAMES) is FRAMES
