"""A file of one kind in the place of another is called what it is, with who takes it."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

import tet_deploy as td
from tet_deploy.data import load_frames
from tet_deploy.errors import ArtifactError
from tet_deploy.runtimes.onnx_session import OnnxRuntime
from tet_deploy.testing import random_frames, random_quantized_network
from tet_deploy.training.checkpoints import Description, load_checkpoint, save_checkpoint
from tet_deploy.training.state import load_state

READERS = {
    "a network": td.load,
    "a training's checkpoint": load_checkpoint,
    "the state of an interrupted training": load_state,
    "an ONNX file": OnnxRuntime,
    "a file of numpy arrays": load_frames,
    "an HDF5 file": td.load_nir,
}
FILES = {  # what is given -> what it is called, and a word of the way out
    "net.safetensors": ("a network", "tet-deploy inspect"),
    "ckpt.safetensors": ("a training's checkpoint", "tet-deploy convert"),
    "state.safetensors": ("the state of an interrupted training", "tet-deploy train --resume"),
    "other.safetensors": ("a safetensors file of another program", "model.load_state_dict"),
    "weights.pth": ("a PyTorch file", "model.load_state_dict"),
    "legacy.pth": ("a pickle", "model.load_state_dict"),
    "net.onnx": ("an ONNX file", "ONNX Runtime runs it"),
    "frames.npz": ("a file of numpy arrays", "--frames"),
    "frames.npy": ("a file of numpy arrays", "--frames"),
    "events.h5": ("an HDF5 file", "tet-deploy convert"),
    "report.html": ("a page of HTML", "browser"),
    "bundle": ("a Lava bundle", "run.py runs it"),
    "folder": ("a folder", ""),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("kinds")
    rng = np.random.default_rng(0)
    graph = random_quantized_network(rng, layers=1)
    frames = random_frames(graph, rng)
    td.save(graph, path / "net.safetensors")
    td.export(graph, path / "net.onnx", to="onnx")
    td.export(graph, path / "bundle", to="lava")
    about = Description(model="digits", shape=(1, 8, 8), encoding="analog", steps=1, seed=0, data="digits")
    weights = torch.nn.Linear(2, 2)
    save_checkpoint(weights, about, path / "ckpt.safetensors")
    save_file({"a": frames}, path / "state.safetensors", metadata={"tet_deploy_training": json.dumps({})})
    save_file({"a": frames}, path / "other.safetensors")
    torch.save(weights.state_dict(), path / "weights.pth")
    torch.save(weights.state_dict(), path / "legacy.pth", _use_new_zipfile_serialization=False)
    np.savez(path / "frames.npz", frames=frames)
    np.save(path / "frames.npy", frames)
    (path / "events.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    (path / "report.html").write_text("<!doctype html><html></html>")
    (path / "folder").mkdir()
    return path


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("wanted", READERS)
def test_what_is_wrong_is_called_what_it_is(file, wanted, folder):
    """One line: what was wanted, what it is, and what takes it; never that it is damaged."""
    name, way_out = FILES[file]
    if name == wanted:
        return
    with pytest.raises(ArtifactError) as caught:
        READERS[wanted](folder / file)
    message = str(caught.value)
    assert name in message and way_out in message and "\n" not in message
    assert "damaged" not in message and "no such file" not in message


def test_what_is_right_is_read(folder):
    """Each reader takes its own."""
    assert td.load(folder / "net.safetensors").is_quantized
    assert OnnxRuntime(folder / "net.onnx").digest == td.load(folder / "net.safetensors").digest()
    assert load_frames(folder / "frames.npz").frames.shape == load_frames(folder / "frames.npy").frames.shape


def test_a_damaged_file_is_called_damaged(folder, tmp_path):
    """A network that was cut off is not taken for a file of another program."""
    path = tmp_path / "cut.safetensors"
    path.write_bytes((folder / "net.safetensors").read_bytes()[:-40])
    with pytest.raises(ArtifactError, match="cannot be read as a network file, it is damaged"):
        td.load(path)
