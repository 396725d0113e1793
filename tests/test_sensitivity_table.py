"""What each node costs is kept with the network it is of, and shown of no other."""

import dataclasses
import json

import numpy as np
import pytest

from tet_deploy.ir.artifact import load, save
from tet_deploy.ir.nodes import Linear
from tet_deploy.sensitivity_table import KEY, keep, kept, kept_table, sensitivity_table
from tet_deploy.testing import random_quantized_network

GRAPH = random_quantized_network(np.random.default_rng(0))
NODES = [
    {"node": "layer0.lif", "bits": 8, "readout_rms": 0.125, "decisions": 2, "samples": 40, "accuracy_loss": 0.05},
    {"node": "input", "bits": None, "readout_rms": 0.0, "decisions": 0, "samples": 40, "accuracy_loss": 0.0},
]


def test_what_is_kept_is_what_was_found(tmp_path):
    """Through a file, with the samples that it is of; the network stays the one it was."""
    graph = load(save(keep(GRAPH, NODES, "the last 40 samples"), tmp_path / "net.safetensors"))
    assert graph.digest() == GRAPH.digest()
    assert kept(graph) == {"of": "the last 40 samples", "nodes": NODES}
    table = kept_table(graph)
    assert table.rows == sensitivity_table(NODES, "the last 40 samples").rows
    assert table.rows[0] == ("layer0.lif", "8", "0.125", "2 of 40", "-5.00 points")
    assert (table.rows[1][1], table.rows[1][-1]) == ("-", "+0.00 points") and "the last 40 samples" in table.title


def test_without_labels_no_accuracy_is_told():
    """A column of nothing but dashes says nothing."""
    assert "accuracy" not in sensitivity_table([{**node, "accuracy_loss": None} for node in NODES], "x").columns


def test_another_network_has_another_sensitivity():
    """One whose weights were changed, by fine-tuning or by hand, shows none, though its metadata is still there."""
    graph = keep(GRAPH, NODES, "x")
    layer = graph.of_kind(Linear)[-1]
    other = graph.replace({layer.name: dataclasses.replace(layer, weight=np.roll(layer.weight, 1))})
    assert KEY in other.metadata and kept_table(graph) is not None
    assert kept(other) is None and kept_table(other) is None


FOREIGN = {
    "no JSON": "{",
    "a list": "[1]",
    "deep": "[" * 100_000,
    "no network": json.dumps({"of": "x", "nodes": NODES}),
    "no nodes": json.dumps({"network": GRAPH.digest(), "nodes": []}),
    "nodes of another kind": json.dumps({"network": GRAPH.digest(), "nodes": [3]}),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_metadata_of_another_program_is_left_out(case):
    """It may hold any text."""
    assert kept(GRAPH.with_metadata(**{KEY: FOREIGN[case]})) is None


@pytest.mark.parametrize("value", ["<b>", None, [1], {"a": 1}, 10**400, float("nan"), float("inf")])
def test_values_of_another_program_are_no_numbers(value):
    """A dash stands where no number is, and what is told to machines is a number or null."""
    found = keep(GRAPH, [dict.fromkeys(NODES[0], value)], "x")
    (row,) = kept_table(found).rows
    assert row[1:] == ("-", "-", "- of -")
    assert all(number is None for name, number in kept(found)["nodes"][0].items() if name != "node")
