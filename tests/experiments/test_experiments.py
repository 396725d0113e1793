"""Every experiment trains, and writes all its numbers and a figure."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tet_deploy.errors import ArgumentError, ArtifactError
from tet_deploy.experiments import EXPERIMENTS, Setting, function, run_experiment
from tet_deploy.experiments.outcome import write_outcome

ROOT = Path(__file__).resolve().parent.parent.parent
SHORTER = {  # arguments that make an experiment quick
    "table1": {"steps": (2, 3)},
    "table2": {"sharpness": (1, 20), "steps": 2},
    "landscape": {"points": 5, "shown": 24},
    "table4": {"trained_steps": (2,), "steps": 4},
    "time-scaling": {"trained_steps": (2,), "steps": 16},
    "energy": {"steps": 3},
    "lambda": {"weights": (0, 0.05)},
}


def summaries(values):
    """Every result over seeds inside nested values."""
    if isinstance(values, dict) and "by_seed" in values:
        yield values
    elif isinstance(values, dict):
        for value in values.values():
            yield from summaries(value)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_each_experiment_writes_numbers_and_a_figure(name, recipes, tmp_path):
    """The JSON holds mean, spread and single values over the seeds; rows are as wide as their header; an SVG is drawn."""
    setting = Setting(data=recipes["digits"], seeds=(0, 1), samples=48)
    reports = []
    outcome = function(name)(setting, **SHORTER.get(name, {}), progress=lambda done, total: reports.append((done, total)))
    write_outcome(outcome, name, tmp_path, seconds=1.5)

    values = json.loads((tmp_path / f"{name}.json").read_text())
    assert values["experiment"] == name
    assert values["paper"] == outcome.claim
    assert values["seconds"] == 1.5
    found = list(summaries(values))
    assert found
    for summary in found:
        singles = np.array(summary["by_seed"])
        assert len(singles) == 2 or name == "energy"  # there a seed may fail to become accurate enough
        np.testing.assert_allclose(summary["mean"], singles.mean(axis=0))
        if len(singles) == 2:
            np.testing.assert_allclose(summary["std"], np.abs(singles[0] - singles[1]) / np.sqrt(2), atol=1e-12)
    for table in outcome.tables:
        assert table.rows
        assert {len(row) for row in table.rows} == {len(table.columns)}
    svg = (tmp_path / f"{name}.svg").read_text()
    assert svg.startswith("<?xml")
    assert len(svg) < 100_000
    assert reports[-1][0] == reports[-1][1]
    assert all(before <= after for (before, _), (after, _) in itertools.pairwise(reports))


def test_an_experiment_gives_the_same_numbers_twice(recipes):
    """Trainings, splits and directions depend on the seed alone."""
    setting = Setting(data=recipes["digits"], seeds=(3,), samples=36, epochs=1)
    run = function("table4")
    assert run(setting, steps=4).values == run(setting, steps=4).values


def test_the_command_prints_the_numbers_that_it_writes(recipes, tmp_path):
    """`tet-deploy experiment --json` prints the JSON's results and names the files."""
    words = ["experiment", "table4", "--data", recipes["digits"], "--seeds", "1", "--epochs", "1", "--out", "deep/results"]
    done = subprocess.run(
        [sys.executable, "-m", "tet_deploy", *words, "--json"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    written = json.loads((tmp_path / printed["json"]).read_text())
    assert (tmp_path / printed["figure"]).is_file()
    assert printed["accuracy_of_single_steps"] == written["accuracy_of_single_steps"]
    assert written["setting"] == {"data": recipes["digits"], "seeds": [0], "epochs": 1, "samples": None}
    assert written["recipe"]["model"]["arguments"] == {"width": 0.5}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": "tabel1"}, ArgumentError, "Did you mean 'table1'"),
        ({"name": "table1", "seeds": 0}, ArgumentError, "seeds: must be at least 1; got 0"),
        ({"name": "table1", "epochs": 0}, ArgumentError, "epochs: must be at least 1; got 0"),
        ({"name": "table1", "data": "digit"}, ArgumentError, "recipe 'digit'.*'digits'"),
        ({"name": "table1", "out": Path(__file__)}, ArtifactError, r"cannot be made \(File exists\)"),
    ],
)
def test_a_wrong_request_stops_before_training(arguments, error, message, tmp_path):
    """An unknown name is answered with the nearest, and nothing is trained."""

    def never(done, total):
        raise AssertionError("it trained")

    with pytest.raises(error, match=message):
        run_experiment(**{"out": tmp_path, "progress": never, **arguments})


def test_missing_matplotlib_is_said_before_training(monkeypatch, tmp_path):
    """The error names the extra that installs it."""
    from tet_deploy.errors import MissingDependencyError

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependencyError, match=r"tet-deploy\[report\]"):
        run_experiment("table4", out=tmp_path, progress=lambda done, total: pytest.fail("it trained"))
