"""What left the chip's range is told once a call, in Python, on the command line, on the page and by the bundle."""

import dataclasses
import json
import subprocess
import warnings

import numpy as np
import pytest
from typer.testing import CliRunner

import tet_deploy as td
from tet_deploy import pipeline
from tet_deploy.cli import app
from tet_deploy.errors import RangeWarning
from tet_deploy.exporters.to_lava import to_lava
from tet_deploy.exporters.to_onnx import to_onnx
from tet_deploy.ir.graph import Graph, chain
from tet_deploy.ir.nodes import LIF, Conv, Flatten, Input, Linear, Quantization, Readout

UNITS = Quantization(scale=1.0)


def events(metadata=None) -> Graph:
    """A network of event counts, of which 127 at most reach it."""
    graph = chain(
        [
            Input(name="input", shape=(2, 4, 4), encoding="events", quantization=UNITS),
            Conv(name="conv", weight=np.ones((3, 2, 3, 3), np.int8), quantization=UNITS),
            LIF(name="lif", threshold=300, quantization=UNITS),
            Flatten(name="flat"),
            Linear(name="fc", weight=np.ones((2, 12), np.int8), quantization=UNITS),
            Readout(name="readout", quantization=UNITS),
        ]
    )
    return graph.with_metadata(**(metadata or {}))


SEEN = {
    "calibration": json.dumps({"input": {"least": 0, "greatest": 3, "samples": 8}}),
    "quantization": json.dumps({"lif": {"scale": 1.0}, "readout": {"scale": 1.0}}),
}


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({}, "input: 25 % of 64 messages clipped at 127. Quantize"),
        (SEEN, "input: 25 % of 64 messages clipped at 127; calibrated up to 3. Quantize"),
        ({"calibration": "[" * 5000}, "clipped at 127. Quantize"),
        ({"calibration": '{"input": {"least": 0}}'}, "clipped at 127. Quantize"),
        ({"calibration": '{"input": {"least": 0, "greatest": "nan"}}'}, "clipped at 127. Quantize"),
    ],
)
def test_the_warning_says_what_how_many_and_what_to_do(metadata, said):
    """In one line, with what the network was calibrated on where the file says it sensibly."""
    frames = np.zeros((2, 1, 2, 4, 4), np.float32)
    frames[0, 0, 0] = 900
    with pytest.warns(RangeWarning) as caught:
        td.run(events(metadata), frames)
    (warning,) = caught
    assert str(warning.message).startswith(said) or said in str(warning.message)
    assert str(warning.message).endswith("Quantize again with frames like these: td.quantize(graph, calibration=...).")
    assert warning.filename == __file__ and "\n" not in str(warning.message)


CALLS = {
    "run": lambda graph, x, folder: td.run(graph, x),
    "validate": lambda graph, x, folder: td.validate(graph, x, runtimes=["reference", "onnx"]),
    "energy": lambda graph, x, folder: td.energy(graph, x),
    "report": lambda graph, x, folder: td.report(graph, x, path=folder / "report.html"),
    "decide": lambda graph, x, folder: pipeline.decide(graph, x, runtime="onnx"),
    "stream": lambda graph, x, folder: [
        stream.step(frame) for stream in [td.Stream(graph, samples=x.shape[1])] for frame in x
    ],
}


@pytest.mark.parametrize("call", CALLS)
def test_each_call_warns_once_at_its_caller(call, tmp_path):
    """Of the whole call, however many batches and runtimes; and not at all where nothing left its range."""
    graph, frames = events(), np.full((3, 5, 2, 4, 4), 128, np.float32)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        CALLS[call](graph, frames, tmp_path)
    assert [warning.category for warning in caught] == [RangeWarning] and caught[0].filename == __file__
    values = 160 if call == "stream" else 480
    assert str(caught[0].message).startswith(f"input: 100 % of {values} messages clipped at 127. ")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CALLS[call](graph, frames - 1, tmp_path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A network, and frames of which every third sample goes beyond 127 in a quarter of its messages."""
    path = tmp_path_factory.mktemp("told")
    graph, frames = events(SEEN), np.ones((2, 9, 2, 4, 4), np.float32)
    frames[1, ::3, 0, :2] = 500
    td.save(graph, path / "net.safetensors")
    np.savez(path / "frames.npz", frames=frames, labels=np.zeros(9, np.int64))
    np.savez(path / "quiet.npz", frames=np.ones_like(frames), labels=np.zeros(9, np.int64))
    return path


LINE = (
    "warning: input: 4.17 % of 576 messages clipped at 127; calibrated up to 3. Quantize again with frames like these: tet-"
)
COUNT = {"count": 24, "of": 576, "limit": 127.0, "calibrated": 3.0, "first": [1, 0]}
COMMANDS = {
    "run": ["--runtime", "onnx"],
    "run on two workers": ["--workers", "2"],
    "validate": ["--runtimes", "reference,onnx"],
    "energy": [],
}


def called(folder, words, frames="frames.npz"):
    name, *rest = words
    return CliRunner().invoke(app, [name, f"{folder}/net.safetensors", "--frames", f"{folder}/{frames}", *rest, "--json"])


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_says_it_in_a_line_and_as_numbers(folder, command, tmp_path, monkeypatch):
    """On standard error, and in the JSON; the exit code stays 0, and frames in range give zeros and no line."""
    monkeypatch.chdir(tmp_path)
    found = called(folder, [command.split()[0], *COMMANDS[command]])
    assert found.exit_code == 0, found.output
    (line,) = [line for line in found.stderr.splitlines() if line.startswith("warning: ")]
    assert line.startswith(LINE)
    assert json.loads(found.stdout)["ranges"] == {"clipped": {"input": COUNT}, "wrapped": {}, "saturated": {}, "unknown": []}
    quiet = called(folder, [command.split()[0], *COMMANDS[command]], "quiet.npz")
    assert quiet.exit_code == 0 and "warning" not in quiet.stderr
    assert json.loads(quiet.stdout)["ranges"]["clipped"]["input"]["count"] == 0


@pytest.mark.parametrize("command", ["run", "validate", "energy"])
def test_merged_parts_say_what_the_whole_says(folder, command, tmp_path, monkeypatch):
    """The first place too, whose sample is counted from the first of all."""
    monkeypatch.chdir(tmp_path)
    options = COMMANDS[command]
    parts = [f"{a}.json" for a in (1, 4, 7, 0)]
    for part, cut in zip(parts, ("1:4", "4:7", "7:9", "0:1"), strict=True):
        assert called(folder, [command, *options, "--range", cut, "--part", part]).exit_code == 0
    some = CliRunner().invoke(app, ["merge", *parts[:3], "--json"])
    assert json.loads(some.stdout)["ranges"]["clipped"]["input"] == COUNT | {"count": 16, "of": 512, "first": [1, 3]}
    merged = CliRunner().invoke(app, ["merge", *parts, "--json"])
    assert json.loads(merged.stdout)["ranges"]["clipped"]["input"] == COUNT
    assert LINE in merged.stderr


def test_a_recording_in_a_file_keeps_what_was_counted(folder, tmp_path):
    """`run --out` says it once; who reads the file has the numbers of each step and sample."""
    from tet_deploy.links.recording_file import load_recording

    found = called(folder, ["run", "--probes", "all", "--out", str(tmp_path / "recording.npz")])
    assert found.stderr.count("warning: ") == 1 and LINE in found.stderr
    stored, expected = load_recording(tmp_path / "recording.npz").recording.ranges, td.load(folder / "net.safetensors")
    frames = np.load(folder / "frames.npz")["frames"]
    with pytest.warns(RangeWarning):
        assert np.array_equal(stored.clipped["input"], td.run(expected, frames).ranges.clipped["input"])
    assert not stored.wrapped and not stored.saturated and stored.unknown == ()


def test_the_page_says_it(folder, tmp_path):
    """A line at the top and numbers beside it; no word where nothing left its range."""
    graph = td.load(folder / "net.safetensors")
    for name, shown in (("frames", 1), ("quiet", 0)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RangeWarning)
            page = td.report(graph, np.load(folder / f"{name}.npz")["frames"], path=tmp_path / f"{name}.html")
        assert page.read_text().count("input: 4.17 % of 576 messages clipped at 127; calibrated up to 3.") == shown
        assert ("ranges" in json.loads(page.with_suffix(".json").read_text())) == bool(shown)


def test_the_bundle_says_it_by_itself(folder, tmp_path, lava_python):
    """Its run.py prints a line and records the counts, without anything of ours around it."""
    graph = td.load(folder / "net.safetensors")
    np.save(tmp_path / "frames.npy", np.load(folder / "frames.npz")["frames"])
    command = [lava_python.path, "-E", "-B", to_lava(graph, tmp_path / "bundle") / "run.py", "frames.npy", "recording.npz"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "warning: input: 24 messages clipped in 3 of 18 steps" in done.stderr
    assert np.load(tmp_path / "recording.npz")["ranges/clipped/input"].sum() == 24


def test_links_say_it_and_name_what_they_do_not_count(folder, tmp_path):
    """Two links of one network know together what either counts."""
    graph = td.load(folder / "net.safetensors")
    graph = graph.replace(
        {
            "lif": dataclasses.replace(graph["lif"], decay=1.0),
            "conv": dataclasses.replace(graph["conv"], weight=-graph["conv"].weight),
        }
    )
    frames = np.load(folder / "quiet.npz")["frames"]
    plain = to_onnx(graph, tmp_path / "plain.onnx")
    assert td.compare(graph, plain, frames).ranges.unknown == ()
    with pytest.warns(RangeWarning, match="how many values of lif left the chip's range was not counted"):
        td.compare(plain, plain, frames)
