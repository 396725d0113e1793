"""JSON and CSV hold what every table of prices says, and the words of a table say no more than was measured."""

import csv
from pathlib import Path

import numpy as np
import pytest

from tet_deploy.counting import energy_table, estimate, summary_table, to_dict, write_csv, write_latex
from tet_deploy.errors import ArgumentError
from tet_deploy.ir.graph import chain
from tet_deploy.ir.nodes import LIF, Input, Linear, Readout
from tet_deploy.runtimes.reference import ReferenceRuntime

OWN = Path(__file__).parent / "own_table.toml"


def report(samples=4, table="45nm-int8"):
    rng = np.random.default_rng(0)
    fc, last = (Linear(name=name, weight=rng.normal(size=(3, 3)).astype(np.float32)) for name in ("fc", "last"))
    graph = chain([Input(name="input", shape=(3,)), fc, LIF(name="lif"), last, Readout(name="readout")])
    frames = rng.normal(size=(2, 4, 3)).astype(np.float32)[:, :samples]
    return estimate(graph, ReferenceRuntime(graph).run(frames, probes="spikes"), frames, table=table)


def test_json_has_the_energies_by_each_table():
    """Means, deviations and steps, of each layer too; those by the first under the keys that it has alone."""
    alone, both = report(), report(table=["45nm-int8", OWN])
    plain, second = to_dict(both), both.by_table[1]
    assert plain["energies"] == to_dict(alone)["energies"] and plain["layers"] == to_dict(alone)["layers"]
    (beside,) = plain["beside"]
    assert beside["name"] == "28nm-fp16" and beside["prices"]["mac"]["source"] == "made up"
    assert {name: (each["mean"], each["std"], each["by_step"][-1]) for name, each in beside["energies"].items()} == {
        name: (second.mean(name), second.std(name), second.mean(name)) for name in second.names
    }
    assert second.std("full") > 0
    for name in second.names:
        columns = np.array([[layer["energy_pj"][name][of] for layer in beside["layers"]] for of in ("mean", "std")])
        np.testing.assert_array_equal(columns, [second.by_layer(name), second.std_by_layer(name)])
    assert [layer["layer"] for layer in beside["layers"]] == [layer["layer"] for layer in plain["layers"]]


def test_an_estimate_of_ones_own_is_told_as_no_others(tmp_path):
    """Not in the words of Loihi 1's, whose source stands with its prices."""
    (tmp_path / "own.toml").write_text("estimate = true\n" + OWN.read_text())
    (said,) = (note for note in to_dict(report(table=tmp_path / "own.toml"))["notes"] if "estimate" in note)
    assert said == "The table 28nm-fp16 is an estimate: its prices were not measured."


def test_csv_read_again_has_the_energies_by_each_table(tmp_path):
    """To the last bit, with sources; a column of another table has its name behind an @."""
    alone, both = report(), report(table=["45nm-int8", "loihi1"])
    one, two = ([*csv.DictReader(write_csv(each, tmp_path / "layers.csv").open())] for each in (alone, both))
    second = both.by_table[1]
    assert [{key: value for key, value in row.items() if "@" not in key} for row in two] == one
    assert all("Davies" in row["sources@loihi1"] and "ann_pj_mean@loihi1" not in row for row in two)
    for name in second.names:
        columns = np.array([[float(row[f"{name}_pj_{of}@loihi1"]) for row in two] for of in ("mean", "std")])
        np.testing.assert_array_equal(columns, [second.by_layer(name), second.std_by_layer(name)])


def test_one_sample_has_no_deviation(tmp_path):
    """Nor an interval; in none of the tables."""
    single = report(samples=1)
    assert all(std == "" for _, _, std, _ in energy_table(single).rows) and summary_table(single) is None
    text = write_latex(single, tmp_path / "energy.tex").read_text()
    assert "pm$" not in text and "deviation" not in text


@pytest.mark.parametrize("table", [5, True, b"45nm-fp32", [["45nm-fp32"]], {5: "45nm-fp32"}, [None], ""])
def test_what_is_no_table_is_refused(table):
    """By the same error as a name that no table has."""
    with pytest.raises(ArgumentError, match=r"no table has that name\. Choose one of 45nm-fp32, "):
        report(table=table)
