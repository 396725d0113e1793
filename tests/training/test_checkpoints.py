"""A checkpoint gives back the network it was written from, or an error that says what is wrong with it."""

import dataclasses
import json
import os

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.optim.swa_utils import AveragedModel

from tet_deploy.errors import ArtifactError
from tet_deploy.models import build
from tet_deploy.training import Description, load_checkpoint, named_checkpoints, readouts, save_checkpoint, session

DESCRIPTION = Description(
    model="digits",
    arguments={"width": 0.5},
    shape=(1, 8, 8),
    encoding="analog",
    steps=4,
    seed=3,
    data="digits",
    accuracy=0.97,
    recipe={"epochs": 15},
)
KEY = "tet_deploy_checkpoint"


def model():
    return build("digits", seed=0, width=0.5)


@pytest.fixture
def path(tmp_path):
    return save_checkpoint(model(), DESCRIPTION, tmp_path / "net.safetensors")


def header():
    return {"format": 1} | {name: getattr(DESCRIPTION, name) for name in DESCRIPTION.__dataclass_fields__}


def test_a_checkpoint_gives_back_network_and_description(path):
    """Description, weights and readouts are those that were saved; the model is ready for evaluation."""
    found, description = load_checkpoint(path)
    assert description == DESCRIPTION
    assert not found.training
    frames = np.random.default_rng(0).random((4, 5, 1, 8, 8))
    np.testing.assert_array_equal(readouts(found, frames), readouts(model(), frames))
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("wrap", [torch.nn.DataParallel, AveragedModel])
def test_a_wrapped_network_is_written_as_what_it_is(wrap, tmp_path):
    """The checkpoint of a wrapper is that of the network inside."""
    found, _ = load_checkpoint(save_checkpoint(wrap(model()), DESCRIPTION, tmp_path / "net.safetensors"))
    assert all(torch.equal(value, model().state_dict()[key]) for key, value in found.state_dict().items())


def test_a_loaded_network_can_be_trained_on(path):
    """Weights still take gradients."""
    found, _ = load_checkpoint(path)
    found(torch.rand(2, 3, 1, 8, 8)).sum().backward()
    assert all(parameter.grad is not None for parameter in found.parameters())


def test_nothing_is_left_where_writing_fails(tmp_path):
    """A folder that does not exist is named, and no file appears."""
    with pytest.raises(ArtifactError, match="cannot be written"):
        save_checkpoint(model(), DESCRIPTION, tmp_path / "missing" / "net.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\x00" * 100, "damaged"),
        (b"not a checkpoint", "damaged"),
        (lambda whole: whole[: len(whole) // 2], "damaged"),
    ],
)
def test_files_that_are_no_safetensors_are_refused(path, content, message):
    """Empty, foreign and truncated files are named as such."""
    path.write_bytes(content(path.read_bytes()) if callable(content) else content)
    with pytest.raises(ArtifactError, match=message):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "of another program"),
        ({KEY: "{"}, "damaged"),
        ({KEY: "[]"}, "format 1"),
        ({KEY: json.dumps(header() | {"format": 2})}, "format 1"),
        ({KEY: json.dumps({"format": 1})}, "model, shape"),
        ({KEY: json.dumps(header() | {"steps": "4"})}, "wrong or missing: steps"),
        ({KEY: json.dumps(header() | {"shape": ["1", 8, 8]})}, "description"),
        ({KEY: json.dumps(header() | {"surprise": 1})}, "other keys"),
        ({KEY: json.dumps(header() | {"model": "resnet"})}, "there is none of that name. Did you mean .resnet19"),
        ({KEY: json.dumps(header() | {"arguments": {"depth": 3}})}, "depth"),
        ({KEY: json.dumps(header() | {"arguments": {"shape": "abc"}})}, "digits"),
        ({KEY: json.dumps(header() | {"arguments": {"width": 0.25}})}, r"conv1.*\(2, 1, 3, 3\)"),
        ({KEY: json.dumps(header() | {"arguments": {"width": 1e6}})}, r"conv1.*\(8000000, 1, 3, 3\)"),
        ({KEY: json.dumps(header() | {"arguments": {"width": 1e300}})}, "cannot be built"),
        ({KEY: json.dumps(header() | {"arguments": {"width": 10**30}})}, "cannot be built"),
        ({KEY: json.dumps(header() | {"shape": [1, 8, -1]})}, "its frames must be"),
        ({KEY: json.dumps(header() | {"shape": []})}, "its frames must be"),
        ({KEY: json.dumps(header() | {"shape": [10**5] * 3})}, "its frames must be"),
        ({KEY: json.dumps(header() | {"encoding": "x" * 10**5})}, "its frames must be"),
        ({KEY: "[" * 10**5}, "damaged"),
        ({KEY: json.dumps(header() | {"x" * 10**5: 1})}, "other keys"),
    ],
)
def test_descriptions_that_do_not_fit_are_refused(path, metadata, message):
    """A wrong description is named; a model too large for any memory is refused without being built."""
    save_file(load_file(path), path, metadata=metadata)
    with pytest.raises(ArtifactError, match=message) as caught:
        load_checkpoint(path)
    assert len(str(caught.value)) < 600 + len(str(path))
    assert "\n" not in str(caught.value)


def test_names_of_a_file_are_not_echoed_whole(path):
    """Ten thousand unknown keys take one line."""
    save_file({f"unknown.{number}": torch.zeros(1) for number in range(10**4)}, path, metadata={KEY: json.dumps(header())})
    with pytest.raises(ArtifactError, match=r"unknown: unknown\.0, .*\.\.\.\.$") as caught:
        load_checkpoint(path)
    assert len(str(caught.value)) < 600 + len(str(path))


def test_what_is_no_file_is_refused_at_once(path):
    """A folder, a FIFO and a device in the checkpoint's place neither hang nor fill the memory."""
    path.unlink()
    for make in (path.mkdir, lambda: os.mkfifo(path), lambda: path.symlink_to("/dev/zero")):
        make()
        for read in (load_checkpoint, session.traced, lambda path: named_checkpoints.load_checkpoint("digits", path)):
            with pytest.raises(ArtifactError, match=r"must be a file; it is a (folder|FIFO|device)"):
                read(path)
        path.rmdir() if path.is_dir() else path.unlink()


@pytest.mark.parametrize("data", [3, [], None, {"arguments": 3}])
def test_a_recipe_that_is_none_does_not_surprise(path, data):
    """What only tells how the network was trained can be anything; the network is read."""
    save_file(load_file(path), path, metadata={KEY: json.dumps(header() | {"recipe": {"data": data}})})
    assert session.traced(path).metadata["model"] == "digits"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("fc.bias"), r"missing: fc\.bias; unknown: none"),
        (lambda state: state.update({"fc.extra": torch.zeros(1)}), r"missing: none; unknown: fc\.extra"),
        (lambda state: state.update({"fc.bias": torch.zeros(11)}), r"fc\.bias.*\(10,\).*\(11,\)"),
        (lambda state: state.update({"fc.bias": torch.zeros(10, dtype=torch.float64)}), r"fc\.bias.*float64"),
        (lambda state: state["norm1.running_var"].fill_(float("nan")), r"norm1\.running_var.*NaN"),
    ],
)
def test_weights_that_do_not_fit_are_named(path, change, message):
    """Missing, unknown, misshapen and NaN weights are named."""
    state = load_file(path)
    change(state)
    save_file(state, path, metadata={KEY: json.dumps(header())})
    with pytest.raises(ArtifactError, match=message):
        load_checkpoint(path)


def test_a_missing_file_is_named(tmp_path):
    """The error says how to write one."""
    with pytest.raises(ArtifactError, match="no such file"):
        load_checkpoint(tmp_path / "net.safetensors")


@pytest.mark.parametrize(
    "arguments", [{"seed": 1e30}, {"name": "x"}, {"width": float("inf")}, {"classes": 1e30}, {"width": 1e300}], ids=str
)
def test_hostile_arguments_give_one_line(tmp_path, arguments):
    """Whatever the constructor makes of a file's arguments, the error is one line that names the file."""
    path = tmp_path / "hostile.safetensors"
    save_checkpoint(build("digits", seed=0), dataclasses.replace(DESCRIPTION, model="digits", arguments=arguments), path)
    with pytest.raises(ArtifactError, match="its model cannot be built") as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
