"""Figures of names, layers and epochs that are long or many."""

import dataclasses
import re

import numpy as np
import pytest

from tet_deploy.counting import estimate
from tet_deploy.ir.graph import chain
from tet_deploy.ir.nodes import LIF, Input, Linear, Readout
from tet_deploy.reporting import ReportData, SampleView, firing_rates, membranes, plots
from tet_deploy.reporting.figures import short
from tet_deploy.reporting.page import render_page
from tet_deploy.runtimes.reference import ReferenceRuntime
from tet_deploy.validation import thresholds
from tet_deploy.wording import number_of


def deep(layers, name="lif"):
    """So many layers of three neurons."""
    weight = np.eye(3, dtype=np.float32)
    pairs = [(Linear(name=f"fc{i}", weight=weight), LIF(name=f"{name}{i}")) for i in range(layers)]
    inside = [node for pair in pairs for node in pair]
    return chain([Input(name="input", shape=(3,)), *inside, Linear(name="last", weight=weight), Readout(name="readout")])


def test_long_names_are_cut_in_figures_and_whole_under_the_pointer():
    """At both ends of a name something is left, as they are where names differ."""
    name = "a" * 90 + "b" * 90
    graph = deep(1, name)
    frames = np.random.default_rng(0).integers(0, 2, size=(3, 5, 3)).astype(np.float32)
    recording = ReferenceRuntime(graph).run(frames)
    energy = estimate(graph, recording, frames)
    data = ReportData(title="t", graph=graph, energy=energy, firing_rates=firing_rates(energy))
    views, found = [SampleView.of(recording, frames, 0)], membranes(recording, thresholds(graph))
    page = render_page(dataclasses.replace(data, views=views, membranes=found))
    drawn = re.findall(r"<text[^>]*>([^<]*)</text>", page)
    assert drawn and not any(name in text for text in drawn)
    assert sum(text.startswith("aaa") and "b" in text and "…" in text for text in drawn) >= 4
    assert f"{name}0: " in "".join(re.findall(r"<title>([^<]*)</title>", page))
    assert [short(text, 5) for text in ("abcde", "abcdef")] == ["abcde", "ab…ef"]


def test_a_figure_of_many_layers_does_not_push_the_rest_away():
    """It scrolls in a box of its own; one of a few does not."""
    assert '<div class="tall"' in render_page(ReportData(title="t", graph=deep(60)))
    assert '<div class="tall"' not in render_page(ReportData(title="t", graph=deep(3)))


def test_one_measured_accuracy_is_no_curve():
    """Of a training whose accuracy was measured at its end alone the losses are drawn; the text tells the accuracy."""
    once = [{"loss": 2.0}, {"loss": 1.0, "accuracy": 0.75}]
    assert "accuracy (%)" not in plots.training_curves(once) and "accuracy 75.00 % at the end" in plots.training_curves(once)
    assert "accuracy (%)" in plots.training_curves([*once, *once])


@pytest.mark.parametrize("epochs", [1, 2, 30_000])
def test_a_training_of_any_length_is_drawn(epochs):
    """From one epoch to very many, of which some are drawn, the first and the last among them."""
    log = [{"loss": 1 / number, "accuracy": number / epochs} for number in range(1, epochs + 1)]
    page = plots.training_curves(log)
    assert len(page) < 300_000 and f"Training over {number_of('epoch', epochs)}: loss 1 to {1 / epochs:.4g}" in page
    assert f"epoch 1: loss {log[0]['loss']}" in page
    assert ("one of 15 drawn" in page) == (epochs > 2000)
