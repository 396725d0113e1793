"""A state gives back what was saved, or an error that says why it does not."""

import dataclasses
import json
import os
import random

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from tet_deploy.errors import ArtifactError
from tet_deploy.nn import LIF, TimeMajor
from tet_deploy.training import ArrayFeed, Recipe, Settings, Stage, run, session, state
from tet_deploy.training.randomness import capture, restore, seeded
from tet_deploy.training.recipes import changed

KEY = "tet_deploy_training"
RECIPE = Recipe(model="own", data="own", stages=(Stage(steps=2, epochs=2, learning_rate=1e-2, batch_size=8),), threads=1)


def feed():
    rng = np.random.default_rng(0)
    return ArrayFeed(rng.normal(size=(2, 20, 4)), rng.integers(0, 3, 20), steps=2)


def train(path, recipe=RECIPE, hidden=6, **settings):
    with seeded((0,)):
        model = TimeMajor(nn.Linear(4, hidden), nn.BatchNorm1d(hidden), LIF(), nn.Linear(hidden, 3))
    about = {"split": "abc"} | settings.pop("about", {})
    return run(model, recipe, lambda stage: (feed(), None), settings=Settings(state=path, **settings), about=about)


@pytest.fixture
def path(tmp_path):
    train(tmp_path / "state.safetensors")
    return tmp_path / "state.safetensors"


def test_a_state_is_named_tensors_and_json(path):
    """Weights, moments, random states by name; recipe, position and history as JSON; nothing else, and no other file."""
    with safe_open(path, framework="pt") as file:
        names, header = set(file.keys()), json.loads(file.metadata()[KEY])
    assert {"model.0.weight", "model.1.running_var", "optimizer.0.weight:exp_avg", "optimizer.3.bias:step"} < names
    assert {name for name in names if name.startswith("random")} == {"random.0.torch", "random.0.numpy", "random.0.python"}
    assert header["about"]["recipe"] == RECIPE.as_dict()
    assert [line["epoch"] for line in header["position"]["history"]] == [1, 2]
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_training_that_is_done_resumes_to_its_end(path):
    """Nothing is left to do; losses are those it had."""
    assert train(path, resume=True).losses == train(path.with_name("again.safetensors")).losses


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipe": changed(RECIPE, learning_rate=2e-2)}, r"recipe\.stages 1\.learning_rate = 0\.01; now it is 0\.02"),
        ({"recipe": dataclasses.replace(RECIPE, stages=RECIPE.stages * 2)}, r"recipe\.stages = "),
        ({"recipe": dataclasses.replace(RECIPE, seed=1)}, r"recipe\.seed = 0; now it is 1"),
        ({"accumulate": 2}, "accumulate = 1; now it is 2"),
        ({"precision": "bf16"}, "precision = 'fp32'; now it is 'bf16'"),
        ({"about": {"split": "other"}}, "split = 'abc'; now it is 'other'"),
        ({"hidden": 7}, r"'0\.bias' must be"),
    ],
)
def test_another_training_than_was_begun_is_refused(path, change, message):
    """The first difference is named: recipe, way of running, data, network."""
    with pytest.raises(ArtifactError, match=message):
        train(path, resume=True, **change)


def rewritten(path, change):
    """The same file with its header or tensors changed."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()[KEY])
    tensors = load_file(path)
    result = change(header, tensors)
    header = header if result is None else result
    save_file(tensors, path, metadata={KEY: json.dumps(header)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h, t: {}, "not the state"),
        (lambda h, t: [], "not the state"),
        (lambda h, t: h | {"format": 2}, "format 1"),
        (lambda h, t: h | {"position": {"stage": 0, "time": 1}}, "damaged"),
        (lambda h, t: h | {"position": h["position"] | {"stage": "1"}}, "damaged"),
        (lambda h, t: h | {"position": h["position"] | {"stage": 7}}, "its position"),
        (lambda h, t: h | {"position": h["position"] | {"stage": 0, "epoch": -1}}, "damaged"),
        (lambda h, t: h | {"position": h["position"] | {"stage": 0, "epoch": 9}}, "its position"),
        (lambda h, t: h | {"position": h["position"] | {"batch": 10**30}}, "its position has batch"),
        (lambda h, t: h | {"about": 3}, "damaged"),
        (lambda h, t: h | {"position": h["position"] | {"history": [{"loss": 1.0}, 3]}}, "its log has the line 3"),
        (lambda h, t: h | {"position": h["position"] | {"history": [{"epoch": 1}] * 2}}, "its log has the line"),
        (lambda h, t: h["position"]["history"][1].update(accuracy_by_step=["x"]), "its log has the line"),
        (lambda h, t: h["position"]["history"][1].update(more={}), "its log has the line"),
        (lambda h, t: t.pop("model.0.weight", None) is None or None, r"missing: 0\.weight"),
    ],
)
def test_damaged_states_are_refused(path, change, message):
    """A header that does not fit, a tensor that is missing."""
    rewritten(path, change)
    with pytest.raises(ArtifactError, match=message):
        train(path, resume=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h, t: t.pop("random.0.numpy"), "random states are damaged"),
        (lambda h, t: t.update({"random.0.torch": torch.zeros(3, dtype=torch.uint8)}), "random states are damaged"),
        (lambda h, t: t.update({"random.0.python": torch.zeros(3, dtype=torch.int64)}), "random states are damaged"),
        (lambda h, t: t["random.0.numpy"].fill_(-1), "random states are damaged"),
        (lambda h, t: t["random.0.numpy"][-3:].fill_(2**40), "random states are damaged"),
        (lambda h, t: t["random.0.python"].fill_(-1), "random states are damaged"),
        (lambda h, t: t.update({"optimizer.0.weight:exp_avg": torch.zeros(2)}), r"optimiser state of '0\.weight'"),
        (
            lambda h, t: t.update({"optimizer.0.weight:exp_avg": torch.zeros(6, 4, dtype=torch.int32)}),
            r"optimiser state of '0\.weight'",
        ),
        (lambda h, t: t.update({"optimizer.9.weight:exp_avg": torch.zeros(2)}), r"optimiser state of '9\.weight'"),
        (lambda h, t: t.update({"optimizer.0.weight:exp_avg": torch.zeros(())}), r"optimiser state of '0\.weight'"),
        (lambda h, t: t.pop("optimizer.0.weight:exp_avg"), r"optimiser state of '0\.weight'"),
        (lambda h, t: t.update({"optimizer.0.weight:more": torch.zeros(())}), r"optimiser state of '0\.weight'"),
    ],
)
def test_damaged_tensors_are_named(path, change, message):
    """Random states and moments that do not fit, in a state from the middle of a training."""

    def back_to_the_middle(header, tensors):
        header["position"] |= {"stage": 0, "epoch": 1, "history": header["position"]["history"][:1]}
        change(header, tensors)

    rewritten(path, back_to_the_middle)
    with pytest.raises(ArtifactError, match=message):
        train(path, resume=True)


@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"no state at all", lambda whole: whole[:-7]])
def test_files_that_are_no_safetensors_are_refused(path, content):
    """Empty, foreign and truncated files."""
    path.write_bytes(content(path.read_bytes()) if callable(content) else content)
    with pytest.raises(ArtifactError, match=r"damaged|is empty"):
        train(path, resume=True)


def deep(levels):
    """JSON nested so deeply that Python's parser gives up, or nearly does."""
    return '{"format": 1, "position": ' + "[" * levels + "]" * levels + ', "about": {}}'


@pytest.mark.parametrize("levels", [90, 900, 100_000])
def test_a_deeply_nested_header_is_refused(path, levels):
    """However deep, it is one line of an ArtifactError."""
    save_file(load_file(path), path, metadata={KEY: deep(levels)})
    for read in (state.load_state, lambda path: session.choose(Settings(state=path, resume=True), changes={})):
        with pytest.raises(ArtifactError, match="damaged") as caught:
            read(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "recipe",
    [None, [], {"model": 3}, {"model": "x" * 10**5}, {"x" * 10**5: 1}, {"stages": json.loads("[" * 500 + "]" * 500)}],
)
def test_messages_show_little_of_the_file(path, recipe):
    """A recipe that is none is refused in a line of a few hundred characters."""
    whole = RECIPE.as_dict() | recipe if isinstance(recipe, dict) else recipe
    rewritten(path, lambda header, tensors: header | {"about": {"recipe": whole}})
    for read in (
        lambda: session.choose(Settings(state=path, resume=True), changes={}),
        lambda: train(path, resume=True),
    ):
        with pytest.raises(ArtifactError) as caught:
            read()
        assert len(str(caught.value)) < 700 + len(str(path))


def test_what_is_no_file_is_refused_at_once(path):
    """A folder, a FIFO and a device in the state's place neither hang nor fill the memory."""
    path.unlink()
    for make in (path.mkdir, lambda: os.mkfifo(path), lambda: path.symlink_to("/dev/zero")):
        make()
        with pytest.raises(ArtifactError, match=r"must be a file; it is a (folder|FIFO|device)"):
            train(path, resume=True)
        path.rmdir() if path.is_dir() else path.unlink()


def test_without_a_state_there_is_nothing_to_resume(tmp_path):
    """The file is named."""
    with pytest.raises(ArtifactError, match="nothing to resume"):
        train(tmp_path / "state.safetensors", resume=True)


def draws():
    return [torch.rand(2).tolist(), np.random.normal(size=3).tolist(), random.random(), random.gauss(0, 1)]  # noqa: NPY002


def test_captured_generators_draw_the_same_again():
    """Torch's, numpy's and Python's, with the half of a normal pair that they keep."""
    draws()  # numpy and Python keep half a pair now
    states = capture()
    expected = draws()
    draws()
    restore(states)
    assert draws() == expected


def test_seeded_draws_depend_on_the_seed_and_leave_no_trace():
    """Inside, the seed alone decides; outside, nothing has happened."""
    before = capture()
    with seeded((1, 2)):
        first = draws()
    with seeded((1, 2)):
        assert draws() == first
    with seeded((1, 3)):
        assert draws() != first
    assert all(torch.equal(before[name], state) for name, state in capture().items())
