"""A file of weights is read without running what it holds, or refused in a line that says why."""

import os
import zipfile

import pytest
import torch

from tet_deploy.errors import ArtifactError
from tet_deploy.training.state_dicts import read_state_dict

STATE = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.zeros(2)}


class Malicious:
    """Unpickling it would create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("new_format", [True, False], ids=["zip", "before torch 1.6"])
def test_weights_come_back_as_they_were_saved(new_format, tmp_path):
    """In the format of today and in that of old files; as a dict, a module's own kind of dict, or wrapped."""
    path = tmp_path / "weights.pth"
    for value in (STATE, {"state_dict": STATE, "epoch": 1}, {f"module.{key}": tensor for key, tensor in STATE.items()}):
        torch.save(value, path, _use_new_zipfile_serialization=new_format)
        found = read_state_dict(path)
        assert found.keys() == STATE.keys()
        assert all(torch.equal(found[key], STATE[key]) for key in STATE)


def test_code_in_a_pickle_is_not_run(tmp_path):
    """A file that would act when unpickled is refused, and does not act."""
    target, path = tmp_path / "created", tmp_path / "weights.pth"
    torch.save({**STATE, "extra": Malicious(str(target))}, path)
    with pytest.raises(ArtifactError, match="could run code"):
        read_state_dict(path)
    assert not target.exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: b"not a checkpoint",
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:-30],
        lambda whole: whole[:200] + bytes(100) + whole[300:],
        lambda whole: b"\x08\x00\x00\x00\x00\x00\x00\x00{broken",
    ],
    ids=["empty", "text", "half", "cut", "overwritten", "safetensors"],
)
def test_damaged_files_are_refused_in_a_line(damage, tmp_path):
    """Whatever the reader underneath raises becomes one short error that names the file."""
    path = tmp_path / "weights.pth"
    torch.save(STATE, path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ArtifactError, match=r"weights\.pth.*(damaged|is empty)") as error:
        read_state_dict(path)
    assert len(str(error.value)) < 400 and str(error.value).count("\n") < 3


def test_a_file_that_unpacks_to_more_than_it_holds_is_refused(tmp_path):
    """torch.save does not compress; a small file that unpacks to a huge one is no work of it."""
    path, packed = tmp_path / "weights.pth", tmp_path / "packed.pth"
    torch.save({"weight": torch.zeros(10**6)}, path)
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    with pytest.raises(ArtifactError, match="compressed"):
        read_state_dict(packed)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([torch.zeros(1)], "weights by name; got list"),
        (torch.zeros(1), "weights by name"),
        ({}, "nothing in it"),
        ({1: torch.zeros(1)}, "weights by name.*1"),
        ({"weight": 3}, "'weight'.*int"),
        ({"weight": torch.zeros(1).expand(10**9)}, "'weight'.*all its values.*1000000000"),
    ],
)
def test_what_is_no_state_dict_is_refused(value, message, tmp_path):
    """The value at fault is named; a view of a single number that claims to be a billion is not unfolded."""
    torch.save(value, tmp_path / "weights.pth")
    with pytest.raises(ArtifactError, match=message):
        read_state_dict(tmp_path / "weights.pth")


def test_a_missing_file_is_named(tmp_path):
    """The error says what to give."""
    with pytest.raises(ArtifactError, match="no such file"):
        read_state_dict(tmp_path / "weights.pth")


@pytest.mark.parametrize("state", [{"k" * 10**5: 3}, {"k" * 10**5: {}, "a": 1}, {"w": "v" * 10**5}])
def test_names_of_a_file_are_not_echoed_whole(state, tmp_path):
    """Whatever a file holds, the message is short."""
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(ArtifactError, match="must be a dense tensor") as error:
        read_state_dict(tmp_path / "weights.pth")
    assert len(str(error.value)) < 500 + len(str(tmp_path))
