"""The command line says in a line what is wrong, and ends with the exit code that scripts go by."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import ROOT, command, small_networks


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a small network and frames for it."""
    return small_networks(tmp_path_factory.mktemp("cli"))


MISTAKES = {
    "no such file": (["run", "absent.safetensors"], "absent.safetensors: no such file", 2),
    "not a network": (["inspect", "frames.npz"], "it is a file of numpy arrays", 2),
    "a network for frames": (["run", "net.safetensors", "--frames", "net.safetensors"], "it is a network", 2),
    "unknown runtime": (["run", "net.safetensors", "--frames", "frames.npz", "--runtime", "gpu"], "Use one of reference", 2),
    "unknown exporter": (["export", "net.safetensors", "--to", "tflite", "--out", "x"], "Use one of onnx, lava", 2),
    "float on Lava": (["run", "net.safetensors", "--frames", "frames.npz", "--runtime", "lava"], "quantize", 2),
    "no frames": (["energy", "net.safetensors"], "--frames FILE.npz", 2),
    "no calibration": (["quantize", "net.safetensors", "--out", "x"], "--calibration FILE.npz", 2),
    "unknown probe": (["run", "net.safetensors", "--frames", "frames.npz", "--probes", "typo"], "'typo': no LIF", 2),
    "probes of a bundle": (
        ["export", "int8.safetensors", "--to", "lava", "--out", "x", "--probes", "all"],
        "a Lava bundle takes --probes when it runs",
        2,
    ),
    "probes of a NIR file": (
        ["export", "net.safetensors", "--to", "nir", "--out", "x.nir", "--probes", "all"],
        "a NIR file has no outputs but the readout",
        2,
    ),
    "period of an ONNX file": (
        ["export", "int8.safetensors", "--to", "onnx", "--out", "x.onnx", "--period", "8"],
        "has no option 'period'",
        2,
    ),
    "classes": (["export", "net.safetensors", "--to", "onnx", "--out", "x", "--classes", "one"], "each of the", 2),
    "opset": (["export", "net.safetensors", "--to", "onnx", "--out", "x", "--opset", "9"], "within 17..", 2),
    "licence": (["export", "int8.safetensors", "--to", "lava", "--out", "x", "--licence", "MIT"], "no option 'licence'", 2),
    "period": (["export", "int8.safetensors", "--to", "lava", "--out", "x", "--period", "6"], "power of two", 2),
    "encoder": (["export", "int8.safetensors", "--to", "lava", "--out", "x", "--encoder", "chip"], "must be 'host'", 2),
    "chip": (["inspect", "int8.safetensors", "--chip", "loihi3"], "Use one of loihi1, loihi2", 2),
    "chip and target": (["inspect", "int8.safetensors", "--chip", "loihi1", "--target", "lava"], "two questions", 2),
    "encoder without a chip": (["inspect", "int8.safetensors", "--encoder", "host"], "--chip", 2),
    "unknown table": (["energy", "int8.safetensors", "--frames", "frames.npz", "--table", "7nm"], "45nm-fp32", 2),
    "no folder": (["export", "net.safetensors", "--to", "onnx", "--out", "no/where.onnx"], "cannot be written", 2),
    "steps": (["train", "--data", "digits", "--steps", "0"], "--steps", 2),
    "lambda": (["train", "--data", "digits", "--mse-weight", "2"], "[0, 1]", 2),
    "recipe key": (["train", "--recipe", "recipe.toml"], "stage 1: unknown key 'epoch'. Did you mean 'epochs'", 2),
    "recipe name": (["train", "--recipe", "digit"], "Did you mean 'digits'", 2),
    "learning rate": (["train", "--data", "digits", "--learning-rate", "-1"], "learning_rate: must be", 2),
    "nothing to resume": (["train", "--resume"], "nothing to resume", 2),
    "labels": (["train", "--data", "wrong_labels.npz"], "labels: must be at least 0", 2),
    "bits": (["finetune", "net.safetensors", "--bits", "9"], "--bits", 2),
    "a network for a checkpoint": (["finetune", "net.safetensors", "--out", "x"], "it is a network", 2),
    "unknown data": (["train", "--data", "mnist"], "data 'mnist': there is no such file or folder", 2),
    "usage": (["run"], "NETWORK", 2),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_get_a_short_error(case, folder):
    """An error of one to three lines without a traceback, an exit code, and no half-written file."""
    words, message, code = MISTAKES[case]
    np.savez(folder / "wrong_labels.npz", frames=np.zeros((2, 4, 2, 8, 8), np.float32), labels=np.array([0, 1, -3, 2]))
    (folder / "recipe.toml").write_text('model.name = "digits"\ndata.name = "digits"\n[[stages]]\nepoch = 3\n')
    before = sorted(folder.iterdir())
    _, err = command(*words, cwd=folder, expect=code)
    assert message in err
    assert "Traceback" not in err
    if case not in ("usage", "steps", "bits"):  # those print the command's usage as well
        lines = [line for line in err.splitlines() if line.startswith("error") or err.index("error") <= err.index(line)]
        assert 1 <= len(lines) <= 3
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("words", "code"), [(["inspect", "int8.safetensors"], 0), (["inspect", "absent"], 2), (["run", "--help"], 0)]
)
def test_a_reader_that_leaves_changes_no_exit_code(words, code, folder):
    """`| head -1` gets its line, and the command ends as it would have, without a word."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tet_deploy", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait() == code
    assert err.count("\n") == (code != 0)


# No other system has a file that opens and takes nothing.
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's device that is always full")
def test_a_full_disk_under_standard_output_is_said(folder):
    """What cannot be printed is an error in a line, not a fault of ours."""
    with Path("/dev/full").open("w") as full:
        words = [sys.executable, "-m", "tet_deploy", "inspect", "int8.safetensors"]
        done = subprocess.run(
            words, cwd=folder, stdout=full, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "standard output: cannot be written" in done.stderr


def test_debug_shows_the_traceback(folder):
    """`--debug` shows where an error came from."""
    _, err = command("--debug", "inspect", "absent", cwd=folder, expect=1)
    assert "Traceback" in err


def test_wrong_lava_python_is_named(folder):
    """A Lava Python that is not 3.10 is refused in a line."""
    words = ("run", "int8.safetensors", "--frames", "frames.npz", "--runtime", "lava")
    modern = sys.executable if sys.version_info[:2] != (3, 10) else "/bin/sh"
    _, err = command(*words, cwd=folder, expect=2, env={"TET_DEPLOY_LAVA_PYTHON": modern})
    assert "TET_DEPLOY_LAVA_PYTHON" in err
    assert "3.10" in err


@pytest.mark.parametrize(
    "words", [["inspect"], ["convert", "--out", "x.safetensors"], ["train", "--out", "x.safetensors", "--recipe"]]
)
def test_a_path_that_the_system_refuses_is_no_fault_of_ours(tmp_path, words):
    """A name longer than any file's: a line that says so, and exit code 2."""
    _, said = command(*words, "x" * 5000, cwd=tmp_path, expect=2)
    assert said.endswith("xxx...: File name too long. Give a path that this user can read or write.\n") and len(said) < 300
