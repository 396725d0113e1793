"""`tet-deploy stream` decides on recordings and through pipes as a run does, and each way to end has its line."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from interrupts import heed_interrupts

import tet_deploy as td
from tet_deploy.data.event_columns import WIDE_EVENT_DTYPE
from tet_deploy.testing import random_quantized_network

ROOT = Path(__file__).resolve().parents[2]
BIN, STEPS, SAMPLES = 1000, 4, 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A network of events at 6 x 9 pixels, its step graph, and a recording of six windows, as a file and as text."""
    path = tmp_path_factory.mktemp("stream")
    graph = random_quantized_network(np.random.default_rng(12), layers=1, encoding="events")
    graph = graph.with_metadata(steps=str(STEPS), step_microseconds=str(BIN))
    assert graph.input.shape == (2, 6, 9)
    td.save(graph, path / "net.safetensors")
    td.export(graph, path / "step.onnx", to="onnx", stream=True)
    rng = np.random.default_rng(1)
    events = np.zeros(2000, WIDE_EVENT_DTYPE)
    for name, high in (("x", 9), ("y", 6), ("p", 2)):
        events[name] = rng.integers(0, high, len(events))
    events["t"] = 5_000_000 + np.sort(rng.integers(0, SAMPLES * STEPS * BIN, len(events)))
    np.save(path / "rec.npy", events)
    (path / "rec.txt").write_text("".join(f"{e['t']} {e['x']} {e['y']} {e['p']}\n" for e in events))
    frames = np.zeros((SAMPLES * STEPS, 2, 6, 9), np.float32)
    np.add.at(frames, ((events["t"] - events["t"][0]) // BIN, events["p"], events["y"], events["x"]), 1)
    frames = frames.reshape(SAMPLES, STEPS, 2, 6, 9).swapaxes(0, 1)
    labels = td.run(graph, frames).decisions
    np.savez(path / "held_out.npz", frames=np.tile(frames, (1, 20, 1, 1, 1)), labels=np.tile(labels, 20))
    return path


def started(folder, *words, **options):
    """The command, started as a user would, with pipes."""
    words = [sys.executable, "-m", "tet_deploy", "stream", *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "160"}
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(words, cwd=folder, env=environment, text=True, **{**pipes, **options})


def streamed(folder, *words, text="", expect=0):
    """Its decisions and its summary, and what it said on standard error."""
    process = started(folder, *words)
    out, error = process.communicate(text, timeout=60)
    assert process.returncode == expect, out + error
    lines = [json.loads(line) for line in out.splitlines()] if "--json" in words else out.splitlines()
    return lines[:-1], lines[-1]["summary"] if "--json" in words else lines[-1], error


@pytest.mark.parametrize("file", ["net.safetensors", "step.onnx"])
@pytest.mark.parametrize("pace", [["--fast"], []])
def test_a_recording_and_a_pipe_are_decided_as_a_run(folder, file, pace):
    """Each window's class is that of the whole network on its frames, in real time and as fast as possible."""
    text, expected = (folder / "rec.txt").read_text(), np.load(folder / "held_out.npz")["labels"][:SAMPLES]
    words = (file, *pace, "--bin", BIN, "--json") if pace else (file, "--bin", BIN, "--json", "--late", "merge")
    for source, piped in ((["--events", "rec.npy"], ""), ([], text)):
        decisions, summary, error = streamed(folder, *words, *source, text=piped)
        assert summary["ended"] == "end of input" and summary["events"] == 2000
        if pace:
            assert [each["decision"] for each in decisions] == expected.tolist() and error == ""
            assert {each["why"] for each in decisions} == {"all steps"} and summary["counts"] == {}
            assert summary["frames"] == summary["latency"]["steps"] == SAMPLES * STEPS
        assert sum(each["events"] for each in decisions) == 2000  # merged or not, none is lost


def test_one_decides_early_as_the_held_out_samples_allow(folder):
    """With --accuracy and with a margin by hand; every frame of a recording goes into one window."""
    held = td.early_stop(td.load(folder / "net.safetensors"), **np.load(folder / "held_out.npz"), accuracy=0.8)
    words = ("step.onnx", "--events", "rec.npy", "--fast", "--json")
    found, summary, error = streamed(folder, *words, "--accuracy", 0.8, "--held-out", "held_out.npz")
    assert str(held) in " ".join(error.split())
    by_hand = streamed(folder, *words, "--margin", held.threshold)
    assert (found, summary["frames"]) == (by_hand[0], by_hand[1]["frames"])
    assert sum(each["steps"] for each in found) == SAMPLES * STEPS
    assert {each["why"] for each in streamed(folder, *words, "--margin", 0)[0]} == {"early"}


def test_interrupted_it_ends_with_the_summary(folder):
    """Ctrl-C while it waits for events; what was decided stands before."""
    process = started(folder, "net.safetensors", "--fast", preexec_fn=heed_interrupts)
    process.stdin.write((folder / "rec.txt").read_text())
    process.stdin.flush()
    assert "class" in process.stdout.readline()
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    kept, process.stdin = process.stdin, None  # open: nothing but the interrupt ends it
    out, error = process.communicate(timeout=60)
    kept.close()
    assert process.returncode == 0 and error == ""
    assert re.match(r"interrupted: [\d,]+ events", out.splitlines()[-1])  # a busy machine may not have read all of them


def test_it_ends_when_nobody_reads(folder):
    """A reader that leaves is no failure; the summary goes to standard error."""
    process = started(folder, "net.safetensors", "--fast")
    process.stdout.close()
    _, error = process.stdin.write((folder / "rec.txt").read_text()), process.stdin.close()
    error = process.stderr.read()
    assert process.wait(timeout=60) == 0
    assert error.startswith("the reader of the output left: ") and error.count("\n") == 1


def test_silence_is_waited_out(folder):
    """In real time, a pipe that says nothing for longer than a window: what came is decided before more comes."""
    process = started(folder, "net.safetensors", "--json", "--bin", 50_000)
    process.stdin.write("0 1 1 1\n")
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["events"] == 1
    out, error = process.communicate("9000000 1 1 1\n", timeout=60)
    cut, summary = map(json.loads, out.splitlines())
    assert (cut["why"], cut["steps"], cut["start"]) == ("cut short", 1, 9_000_000)
    assert summary["summary"]["counts"]["silences"] == 1 and "silences: no event for 0.2 s" in error


LINES = {
    "outside": ("1 1 1 1\n2 9 0 0\n", 0, "events outside of the sensor, left out: (9, 0) is none of 9 x 6 pixels."),
    "set back": ("900000 1 1 1\n5 1 1 1\n", 0, "times that the clock was set back: by 899,995 microseconds"),
    "late": ("0 1 1 1\n3500 1 1 1\n", 0, ""),
    "cut off": ("1 1 1 1\n2 1", 0, "last lines cut off, left out: 1."),
    "no event": ("1 1 1 1\nhello\n", 2, "error: line 2: must be an event, 't x y p'"),
    "nothing": ("", 0, ""),
}


@pytest.mark.parametrize("case", LINES)
def test_what_comes_through_a_pipe_has_a_defined_outcome(folder, case):
    """One line says what was wrong, and the summary stands at the end in any case."""
    text, code, line = LINES[case]
    _, summary, error = streamed(folder, "net.safetensors", "--fast", "--json", text=text, expect=code)
    assert error.startswith(line) and error.count("\n") == bool(line)
    assert summary["ended"] == ("stopped by an error" if code else "end of input")


def test_a_recordings_own_camera_is_brought_to_the_networks_pixels(folder):
    """AEDAT 2.0 of a DVS128 says 128 x 128; pixel x goes to floor(x * 9 / 128)."""
    with np.load(folder / "held_out.npz") as held:
        assert held["labels"].shape == (120,)
    events = np.load(folder / "rec.npy")
    records = np.zeros(len(events), np.dtype([("address", ">u4"), ("time", ">u4")]))
    x, y = -(-events["x"] * 128 // 9), -(-events["y"] * 128 // 6)
    records["address"] = (127 - y << 8) | (127 - x << 1) | (1 - events["p"])
    records["time"] = events["t"]
    (folder / "rec.aedat").write_bytes(b"#!AER-DAT2.0\r\n# AEChip: DVS128\r\n" + records.tobytes())
    words = ("net.safetensors", "--fast", "--json", "--events")
    assert streamed(folder, *words, "rec.aedat")[0] == streamed(folder, *words, "rec.npy")[0]


REFUSED = {
    "late": (["net.safetensors", "--late", "wait"], "--late 'wait': must be drop or merge."),
    "sensor": (["net.safetensors", "--sensor", "9"], "--sensor: must be WIDTHxHEIGHT"),
    "small": (["net.safetensors", "--sensor", "8x6"], "8 x 6 pixels are fewer than the network's 9 x 6"),
    "both": (["net.safetensors", "--accuracy", "0.9", "--margin", "1"], "Leave out one of them"),
    "alone": (["net.safetensors", "--held-out", "held_out.npz"], "are the samples of --accuracy"),
    "steps": (["net.safetensors", "--steps", "3", "--accuracy", "0.8", "--held-out", "held_out.npz"], "have 4 steps"),
    "no file": (["net.safetensors", "--events", "none.npy"], "none.npy: no such file"),
    "text": (["net.safetensors", "--events", "rec.txt"], "rec.txt: is text, which is not read"),
    "decimals": (["net.safetensors", "--events", "seconds.npz"], "its times are decimals, of a unit that it does not say"),
    "stateless": (["whole.onnx"], "has no states"),
    "analog": (["analog.safetensors"], "takes analog frames"),
    "unsaid": (["unsaid.safetensors"], "--bin: the network does not say how long a frame lasts. Give --bin."),
    "frames": (["rec.npy"], "must be a network; it is a file of numpy arrays"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_streamed_is_refused_in_a_line(folder, case):
    """Before an event is read, with the way out."""
    if case == "stateless":
        td.export(td.load(folder / "net.safetensors"), folder / "whole.onnx", to="onnx")
    if case == "decimals":
        np.savez(folder / "seconds.npz", x=[1, 2], y=[1, 2], p=[0, 1], t=[0.5, 0.500125])
    if case == "analog":
        td.save(random_quantized_network(np.random.default_rng(0), encoding="analog"), folder / "analog.safetensors")
    if case == "unsaid":
        graph = random_quantized_network(np.random.default_rng(12), layers=1, encoding="events")
        td.save(graph.with_metadata(steps="4"), folder / "unsaid.safetensors")
    words, message = REFUSED[case]
    process = started(folder, *words)
    out, error = process.communicate("", timeout=60)
    assert process.returncode == 2 and out == "" and message in " ".join(error.split())
