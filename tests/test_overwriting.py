"""What a command writes replaces files of its own making and kind, and nothing else."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import tet_deploy as td
from tet_deploy.cli import app
from tet_deploy.counting.export import ENERGY, LAYERS, write_csv, write_json
from tet_deploy.demo import _folder as demo_folder
from tet_deploy.errors import ArtifactError
from tet_deploy.experiments.figures import FIGURE
from tet_deploy.experiments.outcome import OUTCOME, Outcome, make_folder, write_outcome
from tet_deploy.exporters.to_nir import NIR_FILE
from tet_deploy.files import written_whole
from tet_deploy.ir.artifact import NETWORK
from tet_deploy.links.recording_file import RECORDING
from tet_deploy.models import build
from tet_deploy.onnx_file import ONNX_FILE
from tet_deploy.reporting import ReportData, write_report
from tet_deploy.reporting.page import NUMBERS, PAGE
from tet_deploy.testing import random_float_network, random_frames
from tet_deploy.training import DEMO, Description, save_checkpoint
from tet_deploy.training.checkpoints import CHECKPOINT
from tet_deploy.training.log import LOG
from tet_deploy.training.recipes import changed
from tet_deploy.training.state import STATE

OLD = Path(__file__).parent / "versions" / "v0_1"
KINDS = {"network": NETWORK, "checkpoint": CHECKPOINT, "state": STATE, "log": LOG, "onnx": ONNX_FILE, "nir": NIR_FILE,
         "layers": LAYERS, "energy": ENERGY, "page": PAGE, "numbers": NUMBERS, "recording": RECORDING, "outcome": OUTCOME,
         "figure": FIGURE}  # fmt: skip


def run(*words, cwd, monkeypatch):
    """A command in this process; the error that it ended with, if any."""
    monkeypatch.chdir(cwd)
    return CliRunner().invoke(app, [str(word) for word in words]).exception


def save_demo_checkpoint(path, recipe=DEMO["digits"]):
    about = {"seed": recipe.seed, "steps": recipe.steps, "data": recipe.data}
    about["recipe"] = {**recipe.as_dict(), "split": "abc"}
    description = Description(model="digits", arguments={"width": 0.5}, shape=(1, 8, 8), encoding="analog", **about)
    return save_checkpoint(build("digits", seed=0, width=0.5), description, path)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """One file of each kind, by the name of its kind, as we write them now; and frames."""
    folder, rng = tmp_path_factory.mktemp("made"), np.random.default_rng(0)
    graph = td.lower(random_float_network(rng, layers=1, encoding="events"))
    frames = random_frames(graph, rng, 2, 3)
    np.savez(folder / "frames.npz", frames=frames)
    td.save(graph, folder / "network")
    for name in ("onnx", "nir"):
        td.export(graph, folder / name, to=name)
    energy = td.energy(graph, frames)
    write_csv(energy, folder / "layers")
    write_json(energy, folder / "energy")
    write_report(ReportData(title="mine", energy=energy), folder / "page.html")
    (folder / "page.html").rename(folder / "page")
    (folder / "page.json").rename(folder / "numbers")
    (folder / "page.csv").unlink()
    outcome = Outcome(claim="", values={}, tables=[], draw=lambda figure: figure.subplots().plot([1, 2]))
    write_outcome(outcome, "own", folder)
    (folder / "own.json").rename(folder / "outcome")
    (folder / "own.svg").rename(folder / "figure")
    save_demo_checkpoint(folder / "checkpoint")
    (folder / "state").write_bytes((OLD / "digits.state.safetensors").read_bytes())
    (folder / "log").write_bytes((OLD / "digits.log.jsonl").read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        words = ("run", "network", "--frames", "frames.npz", "--runtime", "reference", "--out", "recording")
        assert run(*words, cwd=folder, monkeypatch=patch) is None
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_knows_its_own_files_and_no_others(made, kind):
    """Of all the kinds that we write, one test says yes to each; and none to frames."""
    for name in KINDS:
        assert KINDS[kind].test(made / name) == (kind == name), name
    assert not KINDS[kind].test(made / "frames.npz")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("digits.float.safetensors", NETWORK),
        ("events.int8.safetensors", NETWORK),
        ("digits.checkpoint.safetensors", CHECKPOINT),
        ("digits.state.safetensors", STATE),
        ("digits.log.jsonl", LOG),
        ("events.float.onnx", ONNX_FILE),
        ("digits.int8.onnx", ONNX_FILE),
    ],
)
def test_files_of_version_0_1_are_known(name, kind):
    """What an earlier version wrote is our own, too."""
    assert kind.test(OLD / name)


FOREIGN = {
    "notes.txt": b"my notes",
    "data.csv": b"layer,voltage\n1,2\n",
    "index.html": b"<!DOCTYPE html><html><head><title>My page about tet_deploy</title></head></html>",
    "page.json": b'{"title": "mine"}',
    "table4.svg": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"></svg>',
    "other.nir": (Path(__file__).parent / "importing" / "nir_files" / "norse_lifbox.nir").read_bytes(),
    "random": bytes(np.random.default_rng(0).integers(0, 256, 5000, dtype=np.uint8)),
    "header.safetensors": (10**9).to_bytes(8, "little") + b"{" * 100,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FOREIGN)
def test_files_of_others_are_never_replaced(tmp_path, kind, name):
    """By no writer."""
    (tmp_path / name).write_bytes(FOREIGN[name])
    with pytest.raises(ArtifactError, match="so it is not replaced"), written_whole(tmp_path / name, KINDS[kind]):
        pytest.fail("it began to write")
    assert (tmp_path / name).read_bytes() == FOREIGN[name]


CALIBRATED = ["--calibration", "frames.npz"]
FRAMES = ["--frames", "frames.npz"]
TRAIN = ["train", "--data", "digits"]
REFUSED = {  # what a command would have replaced -> the words
    "the checkpoint that convert reads": ("checkpoint", ["convert", "checkpoint", "--out", "checkpoint"]),
    "the network that quantize reads": ("network", ["quantize", "network", *CALIBRATED, "--out", "network"]),
    "it under another name": ("network", ["quantize", "network", *CALIBRATED, "--out", "link"]),
    "a checkpoint": ("checkpoint", ["quantize", "network", *CALIBRATED, "--out", "checkpoint"]),
    "another's NIR file": ("other.nir", ["export", "network", "--to", "nir", "--out", "other.nir"]),
    "notes": ("notes.txt", ["export", "network", "--to", "onnx", "--out", "notes.txt"]),
    "the network that export reads": ("network", ["export", "network", "--to", "onnx", "--out", "network"]),
    "somebody's page": ("index.html", ["report", "network", *FRAMES, "--out", "index.html"]),
    "numbers beside it": ("page.json", ["report", "network", *FRAMES, "--out", "page.html"]),
    "a table": ("data.csv", ["energy", "network", *FRAMES, "--csv", "data.csv"]),
    "frames": ("frames.npz", ["run", "network", *FRAMES, "--out", "frames.npz"]),
    "a finished training": ("checkpoint", [*TRAIN, "--out", "checkpoint"]),
    "a network for a checkpoint": ("network", [*TRAIN, "--force", "--out", "network"]),
    "weights that train reads": ("checkpoint", [*TRAIN, "--force", "--weights", "checkpoint", "--out", "checkpoint"]),
    "a figure": ("table4.svg", ["experiment", "table4", "--out", "."]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_commands_refuse_before_they_begin(made, tmp_path, monkeypatch, case):
    """What is not of the command's own making and kind stays as it was, and the message names it and the way out."""
    victim, words = REFUSED[case]
    for name in ("network", "checkpoint", "frames.npz"):
        (tmp_path / name).write_bytes((made / name).read_bytes())
    for name, content in FOREIGN.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "link").symlink_to("network")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for work in ("tet_deploy.deployment.deployed", "tet_deploy.passes.quantize", "tet_deploy.training.session.fit"):
        monkeypatch.setattr(work, lambda *_, **__: pytest.fail("it began to work"))
    error = run(*words, cwd=tmp_path, monkeypatch=monkeypatch)
    assert isinstance(error, ArtifactError), error
    assert str(error).startswith(("link" if "link" in words else victim) + ": ")
    assert "another name" in str(error)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_can_be_made_again_is_replaced(made, tmp_path, monkeypatch):
    """The same command twice, and one network over another, as `make demo` twice needs it."""
    for name in ("network", "frames.npz"):
        (tmp_path / name).write_bytes((made / name).read_bytes())
    for _ in range(2):
        for words in (
            ["quantize", "network", "--calibration", "frames.npz", "--out", "int8"],
            ["export", "network", "--to", "onnx", "--out", "net.onnx"],
            ["export", "network", "--to", "nir", "--out", "net.nir"],
            ["run", "network", "--frames", "frames.npz", "--runtime", "reference", "--out", "recording.npz"],
            ["energy", "network", "--frames", "frames.npz", "--csv", "layers.csv"],
            ["report", "network", "--frames", "frames.npz", "--out", "page.html"],
        ):
            assert run(*words, cwd=tmp_path, monkeypatch=monkeypatch) is None, words
    td.save(td.load(tmp_path / "network"), tmp_path / "int8")
    assert td.load(tmp_path / "int8").digest() == td.load(tmp_path / "network").digest()
    assert json.loads((tmp_path / "page.json").read_text())["tet_deploy"] == td.__version__
    assert zipfile.is_zipfile(tmp_path / "recording.npz")


def test_a_demo_replaces_a_demo_only(tmp_path):
    """Its checkpoint can be made again from data and seed; another training, or a user's page, is not the demo's."""
    for recipe in (DEMO["event-digits"], changed(DEMO["digits"], seed=7)):
        path = save_demo_checkpoint(tmp_path / "checkpoint.safetensors", recipe)
        demo_folder(tmp_path)
        path.unlink()
    path = save_demo_checkpoint(tmp_path / "checkpoint.safetensors", changed(DEMO["digits"], epochs=300))
    with pytest.raises(ArtifactError, match=r"is a finished training\. It is no demo's: choose another folder"):
        demo_folder(tmp_path)
    path.unlink()
    (tmp_path / "lava").mkdir()
    demo_folder(tmp_path)
    (tmp_path / "lava" / "notes").write_text("my own\n")
    with pytest.raises(ArtifactError, match=r"lava: exists and is no Lava bundle to replace"):
        demo_folder(tmp_path)
    (tmp_path / "lava" / "notes").unlink()
    (tmp_path / "report.csv").write_text("my own\n")
    with pytest.raises(ArtifactError, match=r"report.csv: exists and is not a table of layers"):
        demo_folder(tmp_path)


def test_an_experiment_looks_at_its_own_two_names_only(tmp_path):
    """Other files in its folder are nobody's business, and none is touched."""
    (tmp_path / "writable").write_text("my own")
    make_folder(tmp_path, "table4")
    assert (tmp_path / "writable").read_text() == "my own"
