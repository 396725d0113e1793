"""A file of weights is read without running what it holds, or refused in a line that says why."""

import copy
import os
import zipfile

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

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


def prefixed(prefix, state=STATE):
    return {prefix + key: value for key, value in state.items()}


AVERAGED = {"n_averaged": torch.tensor(3)}
WRAPPED = {
    "parallel": prefixed("module."),
    "compiled": prefixed("_orig_mod."),
    "compiled, then parallel": prefixed("module._orig_mod."),
    "parallel, then compiled": prefixed("_orig_mod.module."),
    "parallel twice": prefixed("module.module."),
    "averaged": prefixed("module.") | AVERAGED,
    "compiled, then averaged": prefixed("module._orig_mod.") | AVERAGED,
    "averaged, then compiled": prefixed("_orig_mod.module.") | prefixed("_orig_mod.", AVERAGED),
    "averaged, then parallel": prefixed("module.module.") | prefixed("module.", AVERAGED),
    "averaged of parallel": prefixed("module.module.") | AVERAGED,
}


@pytest.mark.parametrize("name", WRAPPED)
def test_what_wrappers_put_around_keys_is_removed(name, tmp_path):
    """In any combination and order; what AveragedModel adds goes too."""
    torch.save(WRAPPED[name], tmp_path / "weights.pth")
    found = read_state_dict(tmp_path / "weights.pth")
    assert found.keys() == STATE.keys() and all(torch.equal(found[key], STATE[key]) for key in STATE)


def test_wrappers_of_torch_write_such_keys(tmp_path):
    """The names above are torch's own; a part of the model may be compiled alone."""
    model = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.Linear(3, 1)))
    part = copy.deepcopy(model)
    part[1] = torch.compile(part[1])
    for wrapped in (
        torch.compile(model),
        nn.DataParallel(torch.compile(model)),
        AveragedModel(model),
        torch.compile(AveragedModel(model)),
        AveragedModel(nn.DataParallel(part), use_buffers=True),
    ):
        torch.save(wrapped.state_dict(), tmp_path / "weights.pth")
        assert list(read_state_dict(tmp_path / "weights.pth")) == list(model.state_dict())


@pytest.mark.parametrize("state", [{"module.weight": torch.ones(2), "bias": torch.ones(2)}, {"n_averaged": torch.ones(2)}])
def test_names_that_no_wrapper_gave_stay(state, tmp_path):
    """A layer may be called `module`, and a weight anything."""
    torch.save(state, tmp_path / "weights.pth")
    assert read_state_dict(tmp_path / "weights.pth").keys() == state.keys()


ADAM = {"state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}
BESIDE = {
    "epoch": 3,
    "optimizer": ADAM,
    "best": torch.tensor(0.9),
    "loss": {"train": torch.tensor(0.1)},
    "args": {"lr": 0.1},
}


@pytest.mark.parametrize("key", ["state_dict", "model", "net", "model_state_dict", "model_ema", "ema", "weights", "my net"])
def test_a_state_dict_may_lie_under_any_key(key, tmp_path):
    """Beside what training scripts store with it; the one dict that holds weights is taken, or the deeper one."""
    path = tmp_path / "weights.pth"
    for value in (BESIDE | {key: WRAPPED["averaged"]}, {"run": {key: STATE, "epoch": 1}, "optimizer": ADAM}):
        torch.save(value, path)
        assert read_state_dict(path).keys() == STATE.keys()


def test_of_several_state_dicts_one_is_chosen(tmp_path):
    """The error lists them and says how; the outermost are meant, and any may be chosen by the keys that lead to it."""
    path = tmp_path / "weights.pth"
    other = {key: value + 1 for key, value in STATE.items()}
    torch.save({"model": STATE, "model_ema": other, "old": {"model": prefixed("module.", other)}, "epoch": 3}, path)
    with pytest.raises(
        ArtifactError, match=r"under 'model', 'model_ema'\. Choose one: td\.load_checkpoint\(\.\.\., key='model_ema'\)"
    ):
        read_state_dict(path)
    assert torch.equal(read_state_dict(path, "model")["weight"], STATE["weight"])
    assert torch.equal(read_state_dict(path, "model_ema")["weight"], other["weight"])
    assert torch.equal(read_state_dict(path, "old.model")["weight"], other["weight"])
    with pytest.raises(ArtifactError, match=r"no state dict under 'ema'; there are 'model', 'model_ema', 'old\.model'"):
        read_state_dict(path, "ema")
    torch.save([1], path)
    with pytest.raises(ArtifactError, match="no state dict under 'ema'; there are none"):
        read_state_dict(path, "ema")


def test_dicts_that_hold_each_other_end(tmp_path):
    """A pickle may hold one dict in a million places, or within itself."""
    path = tmp_path / "weights.pth"
    inner = {}
    for _ in range(4):
        inner = {str(number): inner for number in range(1000)}
    inner["0"]["again"] = inner
    torch.save(inner, path)
    with pytest.raises(ArtifactError, match="must be a dense tensor"):
        read_state_dict(path)
    inner["1"]["weights"] = STATE
    torch.save(inner, path)
    assert read_state_dict(path).keys() == STATE.keys()


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
