"""`inspect` shows what quantization left in the file, and is not disturbed by what another program left there."""

import json

import numpy as np
import pytest

import tet_deploy as td
from tet_deploy.calibration_table import calibration_table
from tet_deploy.testing import random_float_network, random_frames


def test_a_quantized_network_shows_its_calibration():
    """Frames seen, and of each population what differs, is clipped and is rounded."""
    rng = np.random.default_rng(0)
    graph = random_float_network(rng, encoding="events", layers=1)
    frames = random_frames(graph, rng, steps=4, samples=8)
    table = calibration_table(td.quantize(graph, frames).metadata)
    assert table.title.startswith(f"Calibrated on input: 0 to {frames.max():g} in 8 samples, 0.00% clipped; ")
    said = {part.partition(": ")[0] for part in table.title.split("; ")[1:]}
    assert said == {"differs", "at threshold"} < set(table.columns)
    assert [row[0] for row in table.rows] == ["layer0.lif", "readout"]
    assert table.rows[0][-1].endswith("%") and table.rows[1][-1] == "-"


FOREIGN = {
    "nothing": {},
    "no JSON": {"quantization": "{", "calibration": "]"},
    "another kind": {"quantization": "[1, 2]", "calibration": "3"},
    "entries of another kind": {"quantization": '{"lif": 3}'},
    "deep": {"quantization": "[" * 100_000},
}


@pytest.mark.parametrize("case", FOREIGN)
def test_metadata_of_another_program_is_left_out(case):
    """It may hold any text."""
    assert calibration_table(FOREIGN[case]) is None


@pytest.mark.parametrize("value", ["x", None, [1], {"a": 1}, 10**400, float("nan"), True])
def test_values_of_another_program_are_no_numbers(value):
    """A dash stands where no number is, whatever else is there."""
    for rounding in (value, {"decay_error": value}):
        entry = {"scale": value, "differing": value, "rounding": rounding}
        table = calibration_table({"quantization": json.dumps({"lif": entry}), "calibration": json.dumps({"input": entry})})
    assert len(table.rows) == 1 and table.rows[0][3] == "-"
