"""Pages whose code can be run do what they say: from another framework to Loihi, from a file to a decision, on streams."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tet_deploy as td
from tet_deploy.exporters.onnx_texts import metadata_for_people
from tet_deploy.onnx_file import metadata_of

pytest.importorskip("sklearn")
DOCS = Path(__file__).parents[1] / "docs"
VERSIONS = Path(__file__).parent / "versions" / "v0_1"
PAGES = {
    "from_spikingjelly.md": "spikingjelly",
    "from_snntorch.md": "snntorch",
    "from_nir.md": "h5py",
}  # page -> what it needs


def _run(page: str) -> dict:
    """What the page's code leaves."""
    code = "\n".join(re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL))
    found: dict = {}
    exec(compile(code, page, "exec"), found)
    return found


@pytest.mark.parametrize("page", PAGES)
def test_a_network_trained_elsewhere_comes_to_lava_with_equal_spikes(page, tmp_path, monkeypatch, lava_python):
    """The page's own code trains, traces, quantizes and exports, and what it proves holds."""
    if importlib.util.find_spec(PAGES[page]) is None:
        pytest.skip(f"needs {PAGES[page]}: pip install --no-deps -r benchmarks/requirements.txt")
    monkeypatch.chdir(tmp_path)
    found = _run(page)
    before = found["before"].total
    assert before.first_causes == before.explained and before.differing < 1e-4 * before.spikes and before.spikes > 5 * 10**5
    assert found["after"].accuracy.first > 0.9 and found["after"].accuracy.second > 0.9
    assert set(found["agreements"]) == {"onnx", "lava"}
    assert all(agreement.equal for agreement in found["agreements"].values())
    assert found["energy"].samples == 360
    assert (tmp_path / "digits.onnx").stat().st_size > 1000 and (tmp_path / "digits.lava" / "run.py").exists()


@pytest.mark.parametrize("network", ["digits.int8", "digits.float"])
def test_who_is_handed_an_onnx_file_comes_to_a_decision(network, tmp_path, monkeypatch, capsys):
    """The page's own code reads what the file says of itself, runs it, and finds the vectors that lie beside it."""
    graph = td.load(VERSIONS / f"{network}.safetensors")
    classes = [f"digit {number}" for number in range(10)]
    with np.load(VERSIONS / "digits.frames.npz") as arrays:
        inputs = arrays["frames"]
    words = {"classes": classes, "licence": "CC-BY-4.0"}
    td.export(graph, tmp_path / "net.onnx", to="onnx", vectors=2, frames=inputs, **words)
    monkeypatch.chdir(tmp_path)
    found = _run("onnx.md")
    expected = td.run(graph, found["frames"])
    assert np.array_equal(found["decision"], expected.decisions)
    assert np.array_equal(found["after_each_step"][-1], expected.decisions)
    assert found["classes"] == classes and found["shape"] == [1, 8, 8]
    printed = capsys.readouterr().out
    assert "0 of 40 values differ" in printed
    assert "Licence: CC-BY-4.0." in printed and "readout - Readout of each step" in printed


def test_the_page_on_files_names_every_entry_of_the_metadata():
    """All keys that a file has, and no other."""
    text = (DOCS / "onnx.md").read_text()
    graph = td.load(VERSIONS / "digits.int8.safetensors")
    keys = {*metadata_for_people(graph, classes=(), licence="", opset=21), *metadata_of(graph, "")}
    told = {
        f"tet_deploy.{name}"
        for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
        for name in re.findall(r"[`.](\w+)`", row)
    }
    assert told == keys


def test_the_page_on_streams_does_what_it_says(tmp_path, monkeypatch):
    """Its commands and its code run in their order; the last decides on three events through a pipe."""
    monkeypatch.chdir(tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(DOCS.parent)}
    command = f'tet-deploy() {{ {sys.executable} -m tet_deploy "$@"; }}\n'
    found: dict = {}
    for language, code in re.findall(r"```(sh|python)\n(.*?)```", (DOCS / "streams.md").read_text(), re.DOTALL):
        if language == "python":
            exec(compile(code, "streams.md", "exec"), found)
        else:
            out = subprocess.run(
                ["bash", "-ec", command + code], env=environment, check=True, capture_output=True, text=True
            )
    stop, decision, summary = found["stop"], *map(json.loads, out.stdout.splitlines())
    assert stop.held_out.accuracy > 0.95 and stop.held_out.saved > 0.3
    assert found["found"].saved > 0.3 and found["latency"].steps == 5
    assert (decision["steps"], decision["events"], decision["why"]) == (2, 3, "cut short")
    assert summary["summary"]["ended"] == "end of input"
