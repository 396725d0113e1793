"""The command line counts energy by any table, under other conventions and as curves."""

import json

import numpy as np
import pytest
from command_line import ROOT, command, small_networks

import tet_deploy as td
from tet_deploy.counting import TABLES
from tet_deploy.ir.graph import chain
from tet_deploy.ir.nodes import Input, Linear, Readout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a small network and frames for it."""
    return small_networks(tmp_path_factory.mktemp("cli"))


def test_every_energy_table_is_named(folder):
    """In the help of both commands that take one, and in README with what it is; by default two stand side by side."""
    for name in ("energy", "report"):
        text = command(name, "--help", cwd=folder)[0]
        assert all(table in text for table in TABLES)
    readme = (ROOT / "README.md").read_text()
    assert all(f"| {name} | {table.description} |" in readme for name, table in TABLES.items())
    out, _ = command("energy", "int8.safetensors", "--frames", "frames.npz", cwd=folder)
    assert "45nm-int8" in out and "45nm-fp32" in out


def test_energy_by_a_table_of_ones_own_and_other_conventions(folder, tmp_path):
    """A TOML file beside ours; what the options ask for is what JSON says; wrong words are met with near ones."""
    own = ROOT / "tests" / "counting" / "own_table.toml"
    words = ("energy", "int8.safetensors", "--frames", "frames.npz", "--table", f"{own}, 45nm-fp32")
    words += ("--policy", "ones=added,zero-weights=left-out")
    out, _ = command(*words, "--latex", tmp_path / "energy.tex", "--csv", tmp_path / "energy.csv", cwd=folder)
    assert "28nm-fp16" in out and "extra, in no energy above: weights read" in out
    assert "with zero weights left out, ones added" in " ".join(out.split())
    assert "28nm-fp16" in (tmp_path / "energy.tex").read_text()
    found = json.loads(command(*words, "--json", cwd=folder)[0])
    assert (found["policies"]["ones"], found["policies"]["zero_weights"]) == ("added", "left out")
    assert found["table"]["prices"]["mac"] == {"picojoules": 0.6, "source": "made up", "secondary": False}
    wrong = {
        "one=added": "Did you mean 'ones'?",
        "ones=kept": "ones=multiplied or added",
        "ones=added,ones=multiplied": "ones was said before",
        "zero-weights=counted,zero_weights=left out": "zero_weights was said before",
    }
    for text, message in wrong.items():
        assert message in command(*words[:-1], text, cwd=folder, expect=2)[1]
    both = command(*words, "--latex", tmp_path / "new", "--csv", tmp_path / "new", cwd=folder, expect=2)[1]
    assert "would be written twice" in both and not (tmp_path / "new").exists()
    assert "Intel has published" in command(*words[:4], "--table", "loihi2", cwd=folder, expect=2)[1]


def test_parts_of_other_conventions_add_up_to_the_whole(folder, tmp_path):
    """Interval, break-even rates and all energies too."""
    words = ("energy", "int8.safetensors", "--frames", "frames.npz", "--policy", "ones=added", "--json")
    whole = json.loads(command(*words, cwd=folder)[0])
    half = whole["samples"] // 2
    parts = [tmp_path / "a.json", tmp_path / "b.json"]
    for part, span in zip(parts, (f"0:{half}", f"{half}:"), strict=True):
        command(*words, "--range", span, "--part", part, cwd=folder)
    merged = json.loads(command("merge", *reversed(parts), "--json", cwd=folder)[0])
    assert merged == whole


def test_curves_of_two_networks_from_one_run_each(folder, tmp_path):
    """Accuracy and energy by step and by early stop, side by side, in JSON and in a figure; parts add up."""
    words = ("energy", "int8.safetensors", "--frames", "frames.npz", "--curve", "--table", "45nm-fp32")
    whole = json.loads(command(*words, "--json", cwd=folder)[0])
    assert whole["stopped_after"][-1]["picojoules"] == whole["early_stops"][0]["picojoules"]
    for name, span in (("a.json", "0:3"), ("b.json", "3:")):
        command(*words, "--range", span, "--part", tmp_path / name, cwd=folder)
    assert json.loads(command("merge", tmp_path / "b.json", tmp_path / "a.json", "--json", cwd=folder)[0]) == whole
    assert "with ones added" in " ".join(command(*words, "--policy", "ones=added", cwd=folder)[0].split())
    both = (*words, "--beside", "net.safetensors")
    assert "lead>=inf" in command(*both, "--figure", tmp_path / "curve.svg", cwd=folder)[0]
    assert "net.safetensors, early stop" in (tmp_path / "curve.svg").read_text()
    unlike = ("energy", "int8.safetensors", "--frames", "frames.npz", "--curve", "--beside", "net.safetensors")
    out, told = command(*unlike, "--figure", tmp_path / "other.svg", cwd=folder, expect=2)
    assert "Say which with --table" in told and "lead>=inf" in out  # what was counted is not lost
    assert set(json.loads(command(*both, "--json", cwd=folder)[0])["networks"]) == {"int8.safetensors", "net.safetensors"}
    for more in (
        ("--csv", "a.csv"),
        ("--figure", "a.png"),
        ("--beside", "net.safetensors", "--range", "0:3"),
        ("--beside", "int8.safetensors"),
    ):
        assert command(*words, *more, cwd=folder, expect=2)[1].startswith("error: --")


def test_it_is_told_which_of_two_networks_does_not_fit(folder, tmp_path):
    """Of curves beside each other, by its file, where the frames are none of its own."""
    other = tmp_path / "other.safetensors"
    weight = np.ones((2, 3), np.float32)
    td.save(chain([Input(name="input", shape=(3,)), Linear(name="fc", weight=weight), Readout(name="readout")]), other)
    words = ("energy", "int8.safetensors", "--frames", "frames.npz", "--curve", "--beside", other)
    assert f"It is {other} of which this is said." in command(*words, cwd=folder, expect=2)[1]
