"""The benchmark of inference compares what does the same work, and nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime")
import networks
import sides
from rounds import ratio, seconds_by_round

BENCHMARK = Path(networks.__file__).with_name("inference.py")


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    found = networks.Network("event-digits", 0.25, tmp_path_factory.mktemp("inference"))
    found.prepare()
    return found


FRAMES = networks.random_frames("event-digits", steps=3, samples=2)


@pytest.mark.parametrize("name", [name for name in sides.SIDES if name != "torch.compile"])  # it takes a minute
def test_each_side_does_what_the_reference_does(network, name):
    """Every spike and readout of every side is the reference's."""
    way = sides.SIDES[name]
    for module in way.modules:
        pytest.importorskip(module)
    made = way.make(network, FRAMES, 1, None)
    expected = network.expected(way.kind, FRAMES)
    values = expected.readout.size + sum(spikes.size for spikes in expected.spikes.values())
    assert sides.need_equal(name, made, expected) == values > 0


def test_a_side_that_computes_something_else_is_refused(network):
    """One spike, one readout, a step less or a population less is enough, and the message names it."""
    way = sides.SIDES["ONNX float"]
    made, expected = way.make(network, FRAMES, 1, None), network.expected("float", FRAMES)
    spikes = {name: array.copy() for name, array in expected.spikes.items()}
    spikes["lif2"].flat[7] ^= 1
    fewer = {name: array for name, array in expected.spikes.items() if name != "lif1"}
    wrong = {
        "1 of .* spikes of lif2 differ": sides.Side(made.run, lambda: spikes),
        "1 of 60 readout differ": sides.Side(lambda: made.run() + (made.run() == made.run().max()), made.spikes),
        "readout .2, 2, 10.": sides.Side(lambda: made.run()[1:], made.spikes),
        "lif1 of it and": sides.Side(made.run, lambda: fewer),
    }
    for message, side in wrong.items():
        with pytest.raises(sides.DifferentWork, match=message):
            sides.need_equal("wrong", side, expected)


def test_the_integer_graph_is_no_match_for_the_float_network(network):
    """A side that is measured against the wrong network is refused."""
    made = sides.SIDES["ONNX integer"].make(network, FRAMES, 1, None)
    with pytest.raises(sides.DifferentWork, match="readout differ"):
        sides.need_equal("ONNX integer", made, network.expected("float", FRAMES))


def test_one_command_measures_prints_and_draws(network, tmp_path):
    """Tables go to standard output and between the marks of a page, and a figure is written."""
    page, figure = tmp_path / "page.md", tmp_path / "figure.svg"
    page.write_text("Before\n\n<!-- begin sweep T -->\nold\n<!-- end sweep T -->\n\nafter\n")
    options = ["--networks", "event-digits", "--width", "0.25", "--sweep", "T", "--values", "1", "2", "--rounds", "1"]
    options += ["--sides", "ONNX integer", "--folder", network.folder, "--into", page, "--plot", figure]
    done = subprocess.run([sys.executable, BENCHMARK, *options], capture_output=True, text=True, check=True)
    assert "| ONNX integer |" in done.stdout and "old" not in page.read_text()
    assert done.stdout.strip() in page.read_text() and page.read_text().endswith("<!-- end sweep T -->\n\nafter\n")
    assert "<svg" in figure.read_text()


def test_the_memory_of_a_side_is_that_of_its_own_process(network):
    """A table of sides has peak and added megabytes, and the file's."""
    options = ["--networks", "event-digits", "--width", "0.25", "--rounds", "1", "--sides", "ONNX float"]
    command = [sys.executable, BENCHMARK, *options, "--folder", network.folder]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    cells = next(line for line in done.stdout.splitlines() if line.startswith("| ONNX float")).split("|")
    peak, added, file = (float(cell) for cell in cells[4:7])
    assert 0 <= added < peak and file > 0


def test_sides_take_turns_and_ratios_are_of_one_round():
    """Each round has every side once, in another order; a slow round leaves the ratio as it was."""
    turns = []
    sides_ = {name: (lambda name=name: turns.append(name)) for name in "abc"}
    seconds = seconds_by_round(sides_, rounds=3, warm_up=0)
    assert turns == list("abcbcacab") and all(len(each) == 3 for each in seconds.values())
    assert ratio({"a": [2.0, 20.0, 4.0], "b": [1.0, 10.0, 2.0]}, "a", "b") == (2, 2, 2)
