"""Pages whose code can be run do what they say: from another framework to Loihi, from a file to a decision, on streams."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import tet_deploy as td
from tet_deploy.exporters.onnx_texts import metadata_for_people
from tet_deploy.onnx_file import metadata_of

pytest.importorskip("sklearn")
torch = pytest.importorskip("torch")
DOCS = Path(__file__).parents[1] / "docs"
VERSIONS = Path(__file__).parent / "versions" / "v0_1"
PAGES = {
    "from_spikingjelly.md": "spikingjelly",
    "from_snntorch.md": "snntorch",
    "from_nir.md": "h5py",
}  # page -> what it needs


WHOLE = (
    "tutorial.md",
    "training.md",
    "own_layers.md",
    "proof.md",
    "latency.md",
    "cluster.md",
)  # pages that run as they stand
FRAGMENTS = (
    "debugging.md",
    "energy.md",
    "few_bits.md",
    "lava.md",
    "loihi.md",
    "nir.md",
    "ranges.md",
)  # that begin with a network
OTHERS = {  # whose code is run elsewhere in this file, or why it is not
    **dict.fromkeys(PAGES, "trained elsewhere"),
    "onnx.md": "decision",
    "streams.md": "streams",
    "inference.md": "measures speed; tests/benchmarks runs its script",
    "data.md": "needs DVS-CIFAR10, which is not here; tests/data loads the same from files made there",
}


def _run(page: str, **found: object) -> dict:
    """What the page's code leaves, given some names."""
    code = "\n".join(re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL))
    exec(compile(code, page, "exec"), found)
    return found


def _run_all(page: str) -> dict:
    """What the page's code leaves, its commands run between; and under "out" what the last of them printed."""
    environment = {**os.environ, "PYTHONPATH": str(DOCS.parent)}
    commands = f'tet-deploy() {{ {sys.executable} -m tet_deploy "$@"; }}; python() {{ {sys.executable} "$@"; }}\n'
    found: dict = {}
    for language, code in re.findall(r"```(sh|python)\n(.*?)```", (DOCS / page).read_text(), re.DOTALL):
        if language == "python":
            exec(compile(code, page, "exec"), found)
        else:
            bash = ["bash", "-ec", commands + code]
            found["out"] = subprocess.run(bash, env=environment, check=True, capture_output=True, text=True).stdout
    return found


@pytest.mark.parametrize("page", PAGES)
def test_a_network_trained_elsewhere_comes_to_lava_with_equal_spikes(page, tmp_path, monkeypatch, lava_python, request):
    """The page's own code trains, traces, quantizes and exports, and what it proves holds."""
    if importlib.util.find_spec(PAGES[page]) is None:
        pytest.skip(f"needs {PAGES[page]}: pip install --no-deps -r benchmarks/requirements.txt")
    request.addfinalizer(partial(torch.set_num_threads, torch.get_num_threads()))
    monkeypatch.chdir(tmp_path)
    Path(".venv-lava").symlink_to(lava_python.path.parents[1])
    found = _run_all(page)
    before = found["before"].total
    assert before.first_causes == before.explained and before.differing < 1e-4 * before.spikes and before.spikes > 5 * 10**5
    assert found["after"].accuracy.first > 0.9 and found["after"].accuracy.second > 0.9
    assert set(found["agreements"]) == {"onnx", "lava"}
    assert all(agreement.equal for agreement in found["agreements"].values())
    assert found["energy"].samples == 360
    assert (tmp_path / "digits.onnx").stat().st_size > 1000 and (tmp_path / "digits.lava" / "run.py").exists()
    if page == "from_spikingjelly.md":
        assert "0 of 61,600 values differ: 4 samples of 4 steps, engine lava" in found["out"]
        assert "wrote report.html, of all 360 samples of test.npz" in found["out"]
        assert (tmp_path / "energy.tex").read_text().count("\\begin{table*}") == 4


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
    found = _run_all("streams.md")
    stop, decision, summary = found["stop"], *map(json.loads, found["out"].splitlines())
    assert stop.held_out.accuracy > 0.95 and stop.held_out.saved > 0.3
    assert found["found"].saved > 0.3 and found["latency"].steps == 5
    assert (decision["steps"], decision["events"], decision["why"]) == (2, 3, "cut short")
    assert summary["summary"]["ended"] == "end of input"


def test_the_tutorial_comes_from_its_own_data_to_a_bundle(tmp_path, monkeypatch):
    """Its network sees what no single frame shows, every runtime agrees, and the bundle proves itself."""
    monkeypatch.chdir(tmp_path)
    found = _run_all("tutorial.md")
    assert found["accuracy"][-1] > 0.9 and found["change"].accuracy.second > 0.9
    assert found["out"].startswith("0 of ") and (tmp_path / "report.html").is_file()


def test_the_page_on_training_trains_in_three_ways(tmp_path, monkeypatch):
    """By `train`, by `run` with files, and by a loop of one's own; a checkpoint gives the same readouts again."""
    monkeypatch.chdir(tmp_path)
    found = _run_all("training.md")
    assert len(found["result"].history) == 2 and (tmp_path / "training.log.jsonl").read_text().count("\n") == 2
    assert found["result"].accuracy_by_step[-1] > 0.8
    assert td.compare(found["known"], found["again"], found["samples"].test_frames[:, :16]).differing == 0


def test_the_page_on_own_layers_refuses_what_it_says():
    """Modules are gone through, subclasses are what they come from, and the rest is named."""
    found = _run_all("own_layers.md")
    assert [node.decay for node in found["graph"] if hasattr(node, "decay")] == [0.75]
    assert "'2.mean': method 'mean' cannot be traced" in found["refused"]


def test_a_network_of_one_s_own_takes_the_path_of_the_readme(tmp_path, monkeypatch, lava_python):
    """Its code runs, and every runtime agrees."""
    monkeypatch.chdir(tmp_path)
    found = _run("../README.md")
    assert (tmp_path / "net.onnx").is_file() and (tmp_path / "net.lava" / "run.py").is_file()
    agreements = td.validate(found["int8"], found["frames"])
    assert set(agreements) == {"onnx", "lava"} and all(agreement.equal for agreement in agreements.values())


@pytest.mark.parametrize("page", ["proof.md", "latency.md"])
def test_what_the_page_asserts_holds(page, tmp_path, monkeypatch):
    """It says so in its own code."""
    monkeypatch.chdir(tmp_path)
    assert "td" in _run_all(page)


def test_the_page_on_many_machines_adds_up(tmp_path, monkeypatch):
    """Two processes and two parts print the same energies."""
    monkeypatch.chdir(tmp_path)
    _run_all("cluster.md")
    two, merged = (json.loads((tmp_path / name).read_text()) for name in ("two.json", "merged.json"))
    assert two["energy_pj"] == merged["energy_pj"]


@pytest.fixture
def names(tmp_path, monkeypatch) -> dict:
    """What fragments of code begin with: a trained network by the names that they use, and files beside it."""
    monkeypatch.chdir(tmp_path)
    with np.load(VERSIONS / "digits.frames.npz") as arrays:
        frames = np.repeat(arrays["frames"][:1], 4, axis=0)  # [4, 3, 1, 8, 8]
    network, int8 = (td.load(VERSIONS / f"digits.{kind}.safetensors") for kind in ("float", "int8"))
    model = td.load_checkpoint("digits", VERSIONS / "digits.checkpoint.safetensors")
    return {"np": np, "td": td, "model": model, "network": network, "int8": int8, "frames": frames}


def test_fragments_on_chips_and_ranges_say_what_they_name(names):
    """It fits, and messages beyond the calibration are clipped, counted and told."""
    assert _run("loihi.md", **names)["found"].fits
    names["frames"] = names["frames"] * 16
    with pytest.warns(td.RangeWarning, match="messages clipped"):
        assert _run("ranges.md", **names)["recording"].ranges.clipped["input"].shape == (4, 3)


def test_the_fragment_on_debugging_finds_three_bits(names):
    """The file that it names was spoilt by nothing else."""
    td.save(td.quantize(names["network"], names["frames"], bits=3), "int3.safetensors")
    causes = _run("debugging.md", **names)["found"].causes
    assert causes and not any(cause.ran for cause in causes)


def test_the_fragments_on_energy_hold_what_they_assert(names):
    """Also by the example of a table of one's own, of which the page shows the beginning."""
    example = Path(__file__).parent / "counting" / "own_table.toml"
    shutil.copy(example, ".")
    assert _run("energy.md", **names)["own"].table.name == "28nm-fp16"
    shown = re.search(r"```toml\n(.*?)```", (DOCS / "energy.md").read_text(), re.DOTALL).group(1)
    keys = {line.split(" =")[0] for line in shown.splitlines()}
    assert keys <= {line.split(" =")[0] for line in example.read_text().splitlines()} | {
        line for line in keys if "#" in line
    }


def test_the_fragment_on_few_bits_trains_integers(names, tmp_path):
    """What it writes is quantized, and other integers than before."""
    tuned = _run("few_bits.md", labels=np.arange(3), **names)
    assert td.load("net.int4.safetensors").digest() == tuned["tuned"].digest() != tuned["int4"].digest()


def test_the_fragments_on_nir_read_and_write(names, tmp_path):
    """A file of SpikingJelly is read, and the same network is written as a file of ours."""
    shutil.copy(VERSIONS.parents[1] / "importing" / "nir_files" / "spikingjelly_lif.nir", "net.nir")
    with np.load(VERSIONS.parents[1] / "importing" / "nir_files" / "spikingjelly_lif.npz") as arrays:
        names["frames"] = arrays["input"]
    graph = _run("nir.md", **names)["graph"]
    assert [type(node) for node in td.load_nir("network.nir")] == [type(node) for node in graph]


def test_the_fragment_on_silicon_writes_what_the_bundle_compares(names):
    """A recording by these names, here of the reference, equals the golden vectors."""
    bundle = td.export(names["int8"], "bundle", to="lava", vectors=2)
    with np.load(bundle / "vectors.npz") as golden:
        found = td.run(names["int8"], golden["frames"])
    _run("lava.md", readout=found.readout, spikes=found.spikes["lif1"], potentials=found.potentials["lif1"], **names)
    with np.load("chip.npz") as written:
        renamed = {name.replace("layer0.lif", "lif1"): written[name] for name in written.files}
    np.savez("chip.npz", **renamed)
    check = [sys.executable, "bundle/run.py", "--check", "chip.npz"]
    printed = subprocess.run(check, capture_output=True, text=True, check=True).stdout
    assert "0 of 1,064 values differ" in printed


def test_all_code_of_all_pages_is_run():
    """A page with Python code is in one of the tables here."""
    with_code = {path.name for path in DOCS.glob("*.md") if "```python" in path.read_text() or "```sh" in path.read_text()}
    assert with_code == {*WHOLE, *OTHERS, *FRAGMENTS}
