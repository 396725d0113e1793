"""The command line takes a network through the whole path."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from command_line import ROOT, command, small_networks

import tet_deploy as td
from tet_deploy.loss_digest import KEY, loss_digest
from tet_deploy.testing import random_float_network, random_frames


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a small network and frames for it."""
    return small_networks(tmp_path_factory.mktemp("cli"))


def test_quantize_prints_each_population(folder):
    """`quantize --json` lists scale, error and wrap margin per population."""
    out, _ = command(
        "quantize", "net.safetensors", "--calibration", "frames.npz", "--out", "again.safetensors", "--json", cwd=folder
    )
    result = json.loads(out)
    assert result["digest"] == td.load(folder / "int8.safetensors").digest()
    assert set(result["populations"]) == {"layer0.lif", "layer1.lif", "readout"}


def test_an_onnx_file_tells_what_the_command_line_says(folder):
    """Licence, names of classes and opset go into the file."""
    names = [f"class {index}" for index in range(td.load(folder / "net.safetensors").shapes["readout"][0])]
    words = ("--licence", "CC-BY-4.0", "--classes", ",".join(names), "--opset", "18")
    command("export", "net.safetensors", "--to", "onnx", "--out", "explained.onnx", *words, cwd=folder)
    model = onnx.load(folder / "explained.onnx")
    entries = {entry.key.removeprefix("tet_deploy."): entry.value for entry in model.metadata_props}
    assert (entries["licence"], json.loads(entries["classes"]), entries["opset"]) == ("CC-BY-4.0", names, "18")
    assert model.opset_import[0].version == 18 and names[0] in model.graph.output[0].doc_string


def test_inspect_says_whether_a_network_fits_a_chip(folder):
    """`inspect --chip` prints populations, rules and limits, and ends with exit code 1 where the network does not fit."""
    out, _ = command("inspect", "int8.safetensors", "--chip", "loihi2", cwd=folder)
    assert "estimated to fit" in out and "readout" in out and "inferred" in out and "reset interval" in out
    out, _ = command("inspect", "int8.safetensors", "--chip", "loihi1", "--json", cwd=folder, expect=1)
    found = json.loads(out)
    assert not found["fits"] and found["problems"][0]["limit"] == "message bits"
    out, _ = command("inspect", "int8.safetensors", "--chip", "loihi1", "--encoder", "host", cwd=folder)
    assert "layer0.lif, which the host computes" in " ".join(out.split())
    words = ("--to", "lava", "--out", "hosted", "--encoder", "host", "--period", "8")
    command("export", "int8.safetensors", *words, cwd=folder)
    plan = json.loads((folder / "hosted" / "plan.json").read_text())
    assert plan["host"] == ["layer0.conv", "layer0.lif"] and plan["period"] == 8
    words = ("--frames", "frames.npz", "--out", "chip.html", "--runtimes", "reference")
    for chip in ((), ("--chip", "loihi2")):  # that one by default
        command("report", "int8.safetensors", *words, *chip, cwd=folder)
        assert json.loads((folder / "chip.json").read_text())["resources"]["chip"] == "loihi2"
    command("report", "net.safetensors", *words, cwd=folder)
    assert {"resources", "no_chip"}.isdisjoint(json.loads((folder / "chip.json").read_text()))
    _, error = command("inspect", "int8.safetensors", "--chips", "2", cwd=folder, expect=2)
    assert "--chip" in error
    _, error = command("inspect", "net.safetensors", "--chip", "loihi2", cwd=folder, expect=2)
    assert "tet-deploy quantize" in error and "Traceback" not in error


def test_run_writes_what_was_recorded(folder):
    """`run` prints accuracy and decisions, and writes readout and probes."""
    out, _ = command(
        "run", "int8.safetensors", "--frames", "frames.npz", "--probes", "all", "--out", "rec.npz", "--json", cwd=folder
    )
    with np.load(folder / "rec.npz") as recording:
        assert recording["decisions"].tolist() == json.loads(out)["decisions"]
        assert recording["layer0.lif.spikes"].dtype == np.uint8
    assert json.loads(out)["samples"] == 12


def test_validate_proves_onnx_equal(folder):
    """`validate` exits with 0 and counts no mismatch, for the integer and for the snapped float network."""
    for network in ("int8.safetensors", "net.safetensors"):
        out, _ = command("validate", network, "--frames", "frames.npz", "--runtimes", "reference,onnx", "--json", cwd=folder)
        result = json.loads(out)["onnx"]
        assert (result["spikes"], result["potentials"], result["readout"]) == (0, 0, 0)
        assert result["compared"] > 1000


def test_validate_on_lava(folder, lava_python):
    """`validate` runs real Lava and finds it equal."""
    out, _ = command("validate", "int8.safetensors", "--frames", "frames.npz", "--samples", 3, cwd=folder)
    assert "equal" in out
    assert "lava" in out


def test_export_energy_report_and_inspect(folder):
    """The remaining commands write what they say they write."""
    command("export", "int8.safetensors", "--to", "onnx", "--out", "net.onnx", cwd=folder)
    command("export", "int8.safetensors", "--to", "lava", "--out", "bundle", cwd=folder)
    assert (folder / "net.onnx").stat().st_size > 1000
    assert (folder / "bundle" / "run.py").is_file()
    out, _ = command("energy", "int8.safetensors", "--frames", "frames.npz", "--csv", "layers.csv", "--json", cwd=folder)
    assert set(json.loads(out)["energy_pj"]) == {"event", "dense_in", "rate", "full", "ann"}
    assert (folder / "layers.csv").read_text().count("\n") > 3
    command("report", "int8.safetensors", "--frames", "frames.npz", "--out", "page.html", cwd=folder)
    assert "<html" in (folder / "page.html").read_text()
    out, _ = command("inspect", "int8.safetensors", cwd=folder)
    assert "layer0.conv" in out
    assert "Whatever the frames: sums (the chip holds 131,071), and steps until Lava answers" in " ".join(out.split())
    shown = json.loads(command("inspect", "int8.safetensors", "--json", cwd=folder)[0])
    assert {"wrap_impossible", "saturation_impossible"} < shown["certificates"][0].keys()
    plan = json.loads((folder / "bundle" / "plan.json").read_text())["nodes"]
    latency = {node["name"]: node["latency"] for node in plan}
    told = {row["population"]: row["latency"] for row in shown["certificates"]}
    assert told.pop("readout") > max(told.values()) and told == {name: latency[name] for name in told}
    nodes = shown["nodes"]
    assert nodes[0]["kind"] == "Input"


def test_a_report_compares_links_shows_samples_and_draws_the_training(folder):
    """`report --against --show --log` put into the page's numbers what they are asked for, and refuse what is not there."""
    (folder / "net.log.jsonl").write_text('{"stage": 1, "loss": 1.5}\n{"stage": 1, "loss": 0.5, "accuracy": 0.75}\n')
    words = ("report", "int8.safetensors", "--frames", "frames.npz", "--runtimes", "reference", "--out", "all.html")
    asked = ("--against", "net.safetensors", "--against", "int8.safetensors", "--show", "3,0", "--log", "net.log.jsonl")
    command(*words, *asked, cwd=folder)
    found = json.loads((folder / "all.json").read_text())
    assert [link["equal"] for link in found["chain"]] == [False, True]
    assert [view["number"] for view in found["views"]] == [3, 0]
    assert [epoch["loss"] for epoch in found["training"]] == [1.5, 0.5]
    assert found["provenance"]["command"].startswith("tet-deploy report int8.safetensors")
    known = td.load(folder / "int8.safetensors").with_metadata(**{KEY: loss_digest([1.5, 0.5])})
    td.save(known, folder / "known.safetensors")
    for network, epochs in (("known", 2), ("int8", 0)):  # its own log is found beside it, another's is not
        command("report", f"{network}.safetensors", *words[2:], cwd=folder)
        assert len(json.loads((folder / "all.json").read_text()).get("training", ())) == epochs
    for wrong, said in {
        ("--show", "12"): "show",
        ("--show", "one"): "--show",
        ("--log", "frames.npz"): "is no text",
    }.items():
        assert said in command(*words, *wrong, cwd=folder, expect=2)[1]


def test_a_number_says_what_it_is_of(folder):
    """Accuracies and energies name their samples, and a network's metadata say that the accuracy is the trained one's."""
    words = ("int8.safetensors", "--frames", "frames.npz")
    assert (
        "the first 5 of 12 samples of frames.npz, 4 steps each; accuracy"
        in command("run", *words, "--samples", 5, cwd=folder)[0]
    )
    assert "over the first 5 of 12 samples of frames.npz" in command("energy", *words, "--samples", 5, cwd=folder)[0]
    out, _ = command("report", *words, "--out", "of.html", "--runtimes", "reference", "--table", "loihi1", cwd=folder)
    assert "of all 12 samples of frames.npz" in out
    numbers = json.loads((folder / "of.json").read_text())
    assert numbers["samples"] == "all 12 samples of frames.npz"
    assert numbers["energy"]["table"]["name"] == "loihi1" and "mismatches" not in numbers


def test_ranges_merge_to_what_one_command_prints(folder):
    """Each part says which samples it is of; what is missing is told, and what is there twice refused."""
    words = ("energy", "int8.safetensors", "--frames", "frames.npz")
    whole = command(*words, "--json", cwd=folder)[0]
    for part in ("0:5", "5:12"):
        out = command(*words, "--range", part, "--part", f"{part[0]}.json", cwd=folder)[0]
        assert f"{part} of 12 samples" in out or "first 5 of 12" in out
    assert json.loads(command("merge", "5.json", "0.json", "--json", cwd=folder)[0]) == json.loads(whole)
    assert "not done yet: samples 0:5 of 12" in command("merge", "5.json", cwd=folder)[1]
    assert "would count twice" in command("merge", "5.json", "5.json", cwd=folder, expect=2)[1]
    assert "holds none of the 12 samples" in command(*words, "--range", "12:20", cwd=folder, expect=2)[1]


def test_a_run_over_processes_prints_what_one_process_prints(folder):
    """And leaves nothing behind; where an earlier one was cut short, --resume goes on."""
    words = ("validate", "int8.safetensors", "--frames", "frames.npz", "--runtimes", "onnx", "--json")
    assert command(*words, "--workers", "2", cwd=folder)[0] == command(*words, cwd=folder)[0]
    parts = folder / "int8.safetensors.validate.parts"
    assert not parts.exists()
    command(*words, "--range", "3:7", "--part", "p.json", cwd=folder)
    parts.mkdir()
    (folder / "p.json").rename(parts / "3-7.part.json")
    (parts / "notes").write_text("mine")
    assert "Go on with --resume" in command(*words, "--workers", "2", cwd=folder, expect=2)[1]
    assert command(*words, "--resume", cwd=folder)[0] == command(*words, cwd=folder)[0]
    assert [path.name for path in parts.iterdir()] == ["notes"]


def test_frames_off_the_grid_and_on_it(folder):
    """`validate` exits with 1 where a value differs, says why and the way out; with that, runtimes agree."""
    rng = np.random.default_rng(0)
    graph = random_float_network(rng, layers=2, encoding="analog", grid=20)
    frames = rng.normal(size=random_frames(graph, rng, 4, 8).shape)
    td.save(td.lower(graph, frames), folder / "analog.safetensors")
    np.savez(folder / "normalised.npz", frames=frames)
    words = ("validate", "analog.safetensors", "--frames", "normalised.npz", "--runtime", "onnx")
    out, _ = command(*words, cwd=folder, expect=1)
    assert "DIFFERENT" in out and "--snap-frames" in out
    out, _ = command(*words, "--snap-frames", cwd=folder)
    assert "equal" in out and "--snap-frames" not in out


def test_train_and_convert(tmp_path):
    """A checkpoint of real digits becomes a network that still decides well."""
    words = ("train", "--data", "digits", "--epochs", 3, "--out", "ckpt.safetensors", "--json")
    trained = json.loads(command(*words, cwd=tmp_path)[0])
    command("convert", "ckpt.safetensors", "--out", "net.safetensors", cwd=tmp_path)
    ran = json.loads(command("run", "net.safetensors", "--json", cwd=tmp_path)[0])
    assert ran["accuracy"] == pytest.approx(trained["accuracy_by_step"][-1], abs=0.01)  # one sample is 0.003
    assert ran["of"] == trained["of"] == "all 360 test samples of digits"
    about = td.load(tmp_path / "net.safetensors").metadata
    assert "accuracy" not in about
    assert about["trained_accuracy"] == f"{trained['accuracy_by_step'][-1]:.4f}"
    assert about["trained_accuracy_of"] == "the float network as trained, on all 360 test samples of digits"
    assert json.loads(about["recipe"])["stages"][0]["epochs"] >= 1
    words = ("finetune", "ckpt.safetensors", "--bits", 3, "--epochs", 1, "--out", "int3.safetensors", "--json")
    tuned = json.loads(command(*words, cwd=tmp_path)[0])
    ran = json.loads(command("run", "int3.safetensors", "--json", cwd=tmp_path)[0])
    assert (ran["accuracy"], ran["of"]) == (tuned["finetuned"], tuned["of"])
    assert tuned["trained"] == trained["accuracy_by_step"][-1]


def test_names_are_printed_as_they_are(folder):
    """Brackets in a file's name are part of it, and a byte that is no character is written out."""
    words = ("run", "int8.safetensors", "--frames", "frames.npz", "--out")
    assert "wrote rec[red].npz" in command(*words, "rec[red].npz", cwd=folder)[0]
    assert "wrote rec\\udcff.npz" in command(*words, os.fsdecode(b"rec\xff.npz"), cwd=folder)[0]


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("ins", "inspect"),
        ("energy x --table 45", "45nm-fp32 45nm-int8 45nm-fp32-8kB"),
        ("run x --runtime on", "onnx"),
        ("train --recipe digits-", "digits-tit"),
        ("train --data event", "event-digits"),
        ("experiment table", "table1 table2 table4"),
    ],
)
def test_a_shell_completes_commands_and_names(typed, offered, folder):
    """What bash asks for after --install-completion."""
    words = f"tet-deploy {typed}"
    asked = {"_TET_DEPLOY_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(typed.split()))}
    code = "import sys; sys.argv = ['tet-deploy']; from tet_deploy.__main__ import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **asked}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.stdout.split() == offered.split()


def test_convert_asks_the_table_of_importers(tmp_path):
    """What no importer takes is refused by what it is; every importer's kind is one that is told apart."""
    from tet_deploy import file_kinds
    from tet_deploy.importing import IMPORTERS

    assert {entry.kind for entry in IMPORTERS.values()} <= set(file_kinds.KINDS)
    (tmp_path / "page.html").write_text("<!doctype html><p>not found")
    _, err = command("convert", "page.html", cwd=tmp_path, expect=2)
    assert "it is a page of HTML" in err


def test_convert_reads_nir(tmp_path):
    """With what has to be said; the lowered network's spikes are those of the file's on the reference."""
    pytest.importorskip("h5py", reason="reads NIR files")
    source = Path(__file__).parent / "importing" / "nir_files"
    file = source / "spikingjelly_lif.nir"
    np.savez(tmp_path / "frames.npz", frames=np.load(file.with_suffix(".npz"))["input"].astype(np.float32))
    words = ("convert", file, "--source", "spikingjelly", "--frames", "frames.npz", "--samples", 1, "--json")
    out, _ = command(*words, "--out", "net.safetensors", cwd=tmp_path)
    change = json.loads(out)["change"]
    assert change["of"] == "sample 1 of frames.npz, which was not used"
    assert change["spikes"] == {"compared": 7240, "differ": 0}
    assert td.load(tmp_path / "net.safetensors").metadata["imported_from"] == "NIR 1.0.8 of spikingjelly"
    _, err = command("convert", file, "--frames", "frames.npz", cwd=tmp_path, expect=2)
    assert "depend on who wrote the file" in err and "'snntorch'" in err
    assert "Of a NIR file" in command("convert", "--help", cwd=tmp_path)[0]


def test_convert_tells_options_of_another_format(tmp_path):
    """A checkpoint has no source."""
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(1)}, tmp_path / "net.safetensors", metadata={"tet_deploy_checkpoint": "{}"})
    _, err = command("convert", "net.safetensors", "--source", "nir", "--out", "x.safetensors", cwd=tmp_path, expect=2)
    assert "a training's checkpoint: has no option 'source'" in err


def test_export_writes_vectors_and_validate_runs_them(folder):
    """export --vectors --frames, then validate --vectors of a bundle and of an ONNX file, here with the bundle's."""
    for to, name in (("onnx", "golden.onnx"), ("lava", "golden")):
        words = ("--to", to, "--out", name, "--vectors", "2", "--frames", "frames.npz")
        command("export", "int8.safetensors", *words, cwd=folder)
    out, _ = command("validate", "golden", "--vectors", "--runtime", "lava-numpy", cwd=folder)
    assert "2 samples of 4 steps, runtime lava-numpy; inputs: the first 2 of 12 samples of frames.npz" in out
    out, _ = command("validate", "golden.onnx", "golden/vectors.npz", "--vectors", "--json", cwd=folder)
    found = json.loads(out)
    assert found["differ"] == 0 < found["compared"] and found["first"] == "" and found["runtime"] == "onnx"


def test_vectors_that_differ_or_are_another_networks_are_told(folder):
    """Exit code 1 for a value that differs, and an error for what is not the file's, or would be ignored."""
    command("export", "int8.safetensors", "--to", "onnx", "--out", "told.onnx", "--vectors", "1", cwd=folder)
    with np.load(folder / "told.onnx.vectors.npz") as arrays:
        arrays = dict(arrays)
    arrays["readout"][1, 0, 0] += 1
    np.savez(folder / "other.npz", **arrays)
    out, _ = command("validate", "told.onnx", "other.npz", "--vectors", cwd=folder, expect=1)
    assert "first: readout, sample 0, step 1, position (0,): expected" in out and "1 of " in out
    command("export", "net.safetensors", "--to", "onnx", "--out", "float.onnx", "--vectors", "1", cwd=folder)
    _, said = command("validate", "told.onnx", "float.onnx.vectors.npz", "--vectors", cwd=folder, expect=2)
    assert "is of the network" in said
    for words in (["--frames", "frames.npz"], ["--samples", "3"], ["--workers", "2"], ["--runtime", "lava"]):
        _, said = command("validate", "told.onnx", "--vectors", *words, cwd=folder, expect=2)
        assert said.startswith("error: ") and len(said.splitlines()) == 1
    _, said = command(
        "export", "int8.safetensors", "--to", "onnx", "--out", "n.onnx", "--frames", "digits", cwd=folder, expect=2
    )
    assert "--vectors 4" in said
