"""On the command line: any two links are compared, and convert and quantize tell what they changed."""

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import tet_deploy as td
from tet_deploy.cli import app
from tet_deploy.data import load
from tet_deploy.models import build
from tet_deploy.sensitivity_table import kept
from tet_deploy.testing import random_float_network, random_frames
from tet_deploy.training import Description, save_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore::tet_deploy.errors.TetDeployWarning")


@pytest.fixture(scope="module")
def chain(tmp_path_factory, lava_python):
    """A checkpoint and all that is made of it, by the commands themselves."""
    folder = tmp_path_factory.mktemp("chain")
    model = build("digits", seed=0, width=0.5)
    data = load("digits", steps=4, seed=0)
    with torch.no_grad():
        for _ in range(60):
            model.train()(torch.tensor(data.train.batch(range(64))[0]))
    about = Description(
        model="digits", arguments={"width": 0.5}, shape=(1, 8, 8), encoding="analog", steps=4, seed=0, data="digits"
    )
    save_checkpoint(model.eval(), about, folder / "net.ckpt.safetensors")
    run("convert", folder / "net.ckpt.safetensors", "--out", folder / "net.safetensors", "--test-samples", 0)
    few = ("--samples", 16, "--bits", 4, "--test-samples", 0)
    run("quantize", folder / "net.safetensors", "--out", folder / "int4.safetensors", *few)
    run("export", folder / "int4.safetensors", "--to", "onnx", "--out", folder / "int4.onnx", "--probes", "all")
    run("export", folder / "int4.safetensors", "--to", "lava", "--out", folder / "bundle")
    words = ("--runtime", "reference", "--samples", 4, "--probes", "all", "--out", folder / "rec.npz")
    run("run", folder / "int4.safetensors", *words)
    frames, labels = data.test.batch(range(24))
    np.savez(folder / "frames.npz", frames=frames, labels=labels)
    np.savez(folder / "unlabelled.npz", frames=frames)
    return folder


def run(*words, expect=0):
    """What a command prints; it must end with this exit code."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    code = getattr(done.exception, "exit_code", done.exit_code)
    assert code == expect, f"{done.output}{done.exception!r}"
    return " ".join((done.stdout or str(done.exception)).split())  # titles of tables wrap


LOSSY = {
    "checkpoint and traced": ("net.ckpt.safetensors", "net.ckpt.safetensors:traced", False),
    "checkpoint and folded": ("net.ckpt.safetensors", "net.ckpt.safetensors:folded", False),
    "folded and snapped": ("net.ckpt.safetensors:folded", "net.safetensors", False),
    "checkpoint and integers": ("net.ckpt.safetensors", "int4.safetensors", True),
    "checkpoint and ONNX": ("net.ckpt.safetensors", "int4.onnx", True),
    "snapped and bundle": ("net.safetensors", "bundle", True),
    "recording and checkpoint": ("rec.npz", "net.ckpt.safetensors", True),
}


@pytest.mark.parametrize("first, second, flips", LOSSY.values(), ids=LOSSY.keys())
def test_lossy_links_are_measured(first, second, flips, chain):
    """Exit code 0, and in numbers what differs, with accuracies and their intervals, as the data set knows labels."""
    out = json.loads(run("validate", chain / first, chain / second, "--samples", 4, "--json"))
    assert (out["equal"], out["equality_expected"]) == (False, False)
    assert out["spikes"]["compared"] > 1000
    assert (out["spikes"]["differ"] > 0) or not flips
    low, high = out["accuracy"]["intervals_95"]["difference"]
    assert low <= -out["accuracy"]["loss"] <= high
    assert out["of"].startswith(("the first 4 of 360 test samples of digits", "all 4 test samples of digits"))


EXACT = {
    "network and ONNX": ("int4.safetensors", "int4.onnx"),
    "bundle and network": ("bundle", "int4.safetensors"),
    "recording and bundle": ("rec.npz", "bundle"),
    "ONNX and recording": ("int4.onnx", "rec.npz"),
    "one file on two runtimes": ("int4.safetensors:lava", "int4.safetensors:onnx"),
}


@pytest.mark.parametrize("first, second", EXACT.values(), ids=EXACT.keys())
def test_links_of_one_network_are_proved_equal(first, second, chain):
    """Exit code 0 and `equal`."""
    out = json.loads(run("validate", chain / first, chain / second, "--samples", 2, "--json"))
    assert out["equal"]
    assert out["equality_expected"]


def test_a_fault_ends_with_exit_code_1(chain, tmp_path):
    """A recording that another network made under this one's digest differs, and must not."""
    with np.load(chain / "rec.npz") as archive:
        arrays = dict(archive)
    arrays["lif1.spikes"] = arrays["lif1.spikes"].copy()
    arrays["lif1.spikes"][1, 2, 3, 4, 5] ^= 1
    np.savez(tmp_path / "rec.npz", **{"readout": arrays.pop("readout"), **arrays})
    out = run("validate", chain / "int4.safetensors", tmp_path / "rec.npz", "--no-why", expect=1)
    assert "this is a fault" in out
    assert "First divergence: node 'lif1', step 1, sample 2, neuron (3, 4, 5)" in out


def test_parts_of_a_comparison_merge_to_the_whole(chain, tmp_path, monkeypatch):
    """--range and merge print what one run prints."""
    monkeypatch.chdir(tmp_path)
    words = (
        "validate",
        chain / "net.safetensors",
        chain / "int4.safetensors",
        "--data",
        chain / "frames.npz",
        "--json",
        "--no-why",
    )
    whole = json.loads(run(*words, "--samples", 24))
    for part in ("0:10", "10:24"):
        run(*words, "--range", part)
    merged = json.loads(run("merge", *sorted(tmp_path.glob("*.json")), "--json"))
    assert merged == whole


def test_floats_off_their_grid_differ_until_they_are_put_on_it(tmp_path):
    """Of one network, exit code 1 and the way out; with it, every value is equal."""
    rng = np.random.default_rng(0)
    graph = td.lower(random_float_network(rng, encoding="analog", layers=2))
    td.save(graph, tmp_path / "net.safetensors")
    np.savez(tmp_path / "frames.npz", frames=random_frames(graph, rng, 4, 16) / 3)
    words = ("validate", tmp_path / "net.safetensors", f"{tmp_path}/net.safetensors:onnx", "--data", tmp_path / "frames.npz")
    out = run(*words, "--no-why", expect=1)
    assert "lie off the network's grid" in out and "--snap-frames" in out and "fault" not in out
    assert "in every value" in run(*words, "--snap-frames")


BAD = {
    "runtimes too": (["int4.safetensors", "int4.onnx", "--runtimes", "onnx"], "Leave out --runtimes;"),
    "no such form": (["net.ckpt.safetensors:snapped", "int4.onnx"], "a checkpoint has the forms traced, folded"),
    "nothing there": (["int4.safetensors", "absent.onnx"], "no such file"),
    "frames for a link": (["int4.safetensors", "frames.npz"], "it is a file of numpy arrays. Frames"),
    "a recording of others": (["rec.npz", "int4.onnx", "--data", "unlabelled.npz"], ""),
}


@pytest.mark.parametrize("words, message", BAD.values(), ids=BAD.keys())
def test_what_cannot_be_compared_is_refused(words, message, chain, monkeypatch):
    """With exit code 2 and the way out; frames that were recorded are taken from wherever they come."""
    monkeypatch.chdir(chain)
    out = run("validate", *words, expect=2 if message else 0)
    assert message in out


def test_convert_tells_what_it_changed(chain, tmp_path):
    """On the data set's test samples, as many as take seconds: spikes, readout, decisions, accuracy with its interval."""
    words = ("convert", chain / "net.ckpt.safetensors", "--out", tmp_path / "net.safetensors")
    out = json.loads(run(*words, "--json"))["change"]
    assert out["of"] == "the first 256 of 360 test samples of digits"
    assert out["spikes"]["differ"] < out["spikes"]["compared"] / 1000
    assert sum(node["first_causes"] - node["explained_by_rounding"] for node in out["nodes"].values()) == 0
    text = run(*words, "--test-samples", 8)
    assert "the first 8 of 360 test samples of digits" in text
    assert "Accuracy:" in text and "95 % interval" in text


def test_quantize_measures_on_what_it_has_not_seen(chain, tmp_path):
    """Of a file, the samples behind those that it was calibrated on; where there are none, it says so."""
    words = (
        "quantize",
        chain / "net.safetensors",
        "--calibration",
        chain / "frames.npz",
        "--out",
        tmp_path / "q.safetensors",
    )
    text = run(*words, "--samples", 16)
    assert f"samples 16 to 23 of {chain / 'frames.npz'}, which were not used" in text
    assert "there are no samples that were not used" in run(*words)
    out = json.loads(run(*words, "--test-data", "digits", "--test-samples", 5, "--json"))
    assert out["change"]["of"] == "the first 5 of 360 test samples of digits"


def test_quantize_holds_a_loss_against_its_limit(chain, tmp_path):
    """Two bits ruin a network: the exit code is 1 where a limit was set, and only then; the file is there all the same."""
    data = ("--test-data", tmp_path / "own.npz", "--samples", 16, "--bits", 2)
    graph = td.load(chain / "net.safetensors")
    with np.load(chain / "frames.npz") as archive:
        frames = archive["frames"]
    np.savez(tmp_path / "own.npz", frames=frames, labels=td.run(graph, frames, runtime="onnx").decisions)  # it is right
    words = ("quantize", chain / "net.safetensors", *data, "--out", tmp_path / "q.safetensors", "--json")
    lost = json.loads(run(*words))["change"]["accuracy"]["loss"]
    assert lost > 0.05
    run(*words, "--max-loss", 100 * lost - 1, expect=1)
    run(*words, "--max-loss", 100 * lost + 1)
    assert td.load(tmp_path / "q.safetensors").is_quantized
    unlabelled = ("--calibration", chain / "unlabelled.npz", "--samples", 16, "--max-loss", 1)
    assert "no labels are known" in run(*words[:2], *unlabelled, "--out", tmp_path / "q.safetensors", expect=2)
    assert "Leave out one of them" in run(*words, "--test-samples", 0, "--max-loss", 1, expect=2)  # labels are known


@pytest.mark.parametrize("words", [("convert", "net.ckpt.safetensors"), ("quantize", "net.safetensors")], ids="-".join)
def test_what_cannot_be_measured_leaves_no_file(words, chain, tmp_path):
    """Test data of other classes are refused before anything is written."""
    with np.load(chain / "frames.npz") as archive:
        np.savez(tmp_path / "from_one.npz", frames=archive["frames"], labels=archive["labels"] + 10)
    data = ("--test-data", tmp_path / "from_one.npz", "--out", tmp_path / "q.safetensors")
    assert "labels: must be in 0..9; got 1" in run(words[0], chain / words[1], *data, expect=2)
    assert not (tmp_path / "q.safetensors").exists()


def test_quantize_ranks_its_nodes(chain, tmp_path):
    """--report names each population and the command that keeps the dearest at more bits."""
    words = ("quantize", chain / "net.safetensors", "--samples", 16, "--bits", 3, "--out", tmp_path / "q.safetensors")
    out = json.loads(run(*words, "--report", "--json"))["report"]
    assert {row["node"] for row in out} == {"input", "lif1", "lif2", "lif3", "readout"}
    assert [row["readout_rms"] for row in out] == sorted((row["readout_rms"] for row in out), reverse=True)
    wider = f"3,{out[0]['layers'][0]}=8"
    assert f"--bits {wider}" in run(*words, "--report")
    told = kept(td.load(tmp_path / "q.safetensors"))
    keys = ("node", "bits", "readout_rms", "decisions", "samples", "accuracy_loss")
    assert told["nodes"] == [{key: row[key] for key in keys} for row in out]
    shown = run("inspect", tmp_path / "q.safetensors")
    assert f"What each node costs, {told['of']}" in " ".join(shown.split())
    run(*words)
    assert kept(td.load(tmp_path / "q.safetensors")) is None
    mixed = json.loads(run(*words[:-4], "--bits", wider, "--out", tmp_path / "mixed.safetensors", "--report", "--json"))[
        "report"
    ]
    assert {row["layers"][0]: row["bits"] for row in mixed if row["layers"]}[out[0]["layers"][0]] == 8
