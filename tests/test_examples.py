"""The scripts and the notebook in examples/ do what they say."""

import json
import re
import runpy
from importlib.util import find_spec
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a script in an empty folder and gives the names that it leaves."""
    monkeypatch.chdir(tmp_path)
    return lambda name: runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")


def test_each_example_is_tested_and_on_the_page():
    """Whatever lies in the folder has a test of its name here, and a line on the page."""
    page = (EXAMPLES.parent / "docs" / "examples.md").read_text()
    for path in EXAMPLES.iterdir():
        if path.suffix in (".py", ".ipynb"):
            assert f"test_{path.stem}" in globals() and f"(../examples/{path.name})" in page


def test_train_and_export_digits(run, tmp_path):
    """It learns, every runtime gives the same, and both files are there."""
    found = run("train_and_export_digits")
    assert found["accuracy"][-1] > 0.9 and found["change"].accuracy.second > 0.9
    assert set(found["agreements"]) == {"onnx", "lava-numpy"}
    assert all(agreement.equal and agreement.samples == 360 for agreement in found["agreements"].values())
    assert (tmp_path / "digits.onnx").is_file() and (tmp_path / "digits.lava" / "vectors.npz").is_file()


@pytest.mark.skipif(find_spec("spikingjelly") is None, reason="needs spikingjelly, of benchmarks/requirements.txt")
def test_spikingjelly_to_lava(run):
    """The network of SpikingJelly learns, and its bundle proves itself without tet_deploy."""
    found = run("spikingjelly_to_lava")
    assert found["accuracy"].second > 0.9
    assert found["proof"].startswith("0 of 41,120 values differ: 4 samples of 4 steps")


@pytest.mark.skipif(find_spec("snntorch") is None, reason="needs snntorch, of benchmarks/requirements.txt")
def test_snntorch_to_streams(run):
    """Streams decide as the recorded run does by the rule, and save steps."""
    found = run("snntorch_to_streams")
    assert (found["decisions"] == found["found"].decisions).all()
    assert (found["decisions"] == found["classes"]).mean() > 0.8 and found["found"].saved > 0.3


def test_energy_for_a_paper(run, capsys):
    """Both losses by both price lists, each row with its deviation; the caption names a source for each price."""
    found = run("energy_for_a_paper")
    assert [row[:1] + row[2:3] for row in found["rows"]] == [
        (loss, table) for loss in ("SDT", "TET") for table in ("45nm-int8", "45nm-fp32")
    ]
    assert all(
        report.samples == 360 and 0 < report.mean("event") < report.mean("full") for report in found["reports"].values()
    )
    printed = capsys.readouterr().out
    assert printed.count(" ± ") == 4 + 1 and printed.count("Horowitz") >= 4  # the rows, and the caption


def test_what_quantization_loses(run):
    """Two bits cost much, weights are found to be the cause, and both ways out win most of it back."""
    found = run("what_quantization_loses")
    as_float, spoilt = found["loss"].accuracy.first, found["loss"].accuracy.second
    assert as_float - spoilt > 0.1
    assert found["found"].causes[0].cause in ("weight rounding", "clipped weights")
    assert found["mended"].second > spoilt + 0.05 and found["trained"].second > spoilt + 0.1


def test_from_checkpoint_to_chip(tmp_path, monkeypatch):
    """The notebook's cells run in their order, and what they say is proved."""
    import matplotlib

    monkeypatch.chdir(tmp_path)
    matplotlib.use("agg")
    cells = json.loads((EXAMPLES / "from_checkpoint_to_chip.ipynb").read_text(encoding="utf-8"))["cells"]
    found: dict = {}
    with matplotlib.rc_context():
        for number, cell in enumerate(cells):
            if cell["cell_type"] == "code":
                exec(compile("".join(cell["source"]), f"cell {number}", "exec"), found)
        matplotlib.pyplot.close("all")
    assert all(agreement.equal for agreement in found["agreements"].values())
    assert found["change"].accuracy.second > 0.8 and found["chip"].fits
    assert (tmp_path / "bundle" / "run.py").is_file()
    shown = [cell["outputs"] for cell in cells if cell["cell_type"] == "code"]
    assert sum("image/png" in output.get("data", {}) for outputs in shown for output in outputs) == 5
    tables = [
        "".join(output["data"]["text/html"])
        for outputs in shown
        for output in outputs
        if "text/html" in output.get("data", {})
    ]
    assert [_words(table) for table in tables] == [_words(found[name]._repr_html_()) for name in ("network", "energy")]


def _words(html):
    """What a table says but for its numbers, since other processors train a little otherwise."""
    return [re.sub(r"digest \w+|[\d.,]+", "", cell) for cell in re.findall(r">([^<]+)<", html)]
