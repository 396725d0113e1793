"""Numbers over seeds are summarised as statistics does it."""

import statistics

import pytest

from tet_deploy.experiments.outcome import number, over_seeds, paired, percent, points, seeds_larger


def test_spread_is_the_sample_standard_deviation():
    """Mean and deviation with n - 1 in the denominator, element by element."""
    values = [[0.1, 4.0], [0.3, 4.0], [0.8, 1.0]]
    summary = over_seeds(values)
    for index, column in enumerate(zip(*values, strict=True)):
        assert summary["mean"][index] == pytest.approx(statistics.mean(column))
        assert summary["std"][index] == pytest.approx(statistics.stdev(column))
    assert summary["by_seed"] == values


def test_one_seed_has_no_spread():
    """It is 0, not NaN, which JSON cannot hold."""
    assert over_seeds([0.5]) == {"mean": 0.5, "std": 0.0, "by_seed": [0.5]}


def test_differences_are_taken_seed_by_seed():
    """A constant gain has no spread, however much the accuracies differ; a tie is no gain."""
    gain = paired([0.9, 0.7, 0.5], [0.8, 0.6, 0.5])
    assert gain["by_seed"] == pytest.approx([0.1, 0.1, 0.0])
    assert seeds_larger(gain) == "2 of 3"


def test_texts():
    """Shares in percent, differences with their sign."""
    assert percent(over_seeds([0.98, 0.99]), 2) == "98.50±0.71"
    assert number({"mean": 1.23456, "std": 0.1}) == "1.235±0.100"
    assert points({"mean": -0.012, "std": 0.0}) == "-1.2±0.0"
    assert points({"mean": 0.012, "std": 0.0}) == "+1.2±0.0"
