"""The table of docs/energy.md is what its script makes."""

from pathlib import Path

import pytest

pytest.importorskip("spikingjelly", reason="pip install --no-deps -r benchmarks/requirements.txt")
import energy_counts

PAGE = Path(__file__).parents[2] / "docs" / "energy.md"


def test_the_page_shows_what_the_counters_say():
    """SpikingJelly counts the spikes that we count, to the last addition; under inference mode it counts none."""
    graph, frames = energy_counts.network()
    report, found = energy_counts.ours(graph, frames), energy_counts.theirs(graph, frames)
    assert "\n".join(energy_counts.table(report, found)) in PAGE.read_text()
    assert report.additions().sum() == found["SynOpCounter"] > found["SynOpCounter in inference mode"] == 0
    padded = (report.traffic.of_kind("analog") * report.traffic["mac_padded"]).sum()
    assert report.multiplications("dense").sum() < found["MACCounter"] == padded
