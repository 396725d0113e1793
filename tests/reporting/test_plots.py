"""Figures of names, layers and epochs that are long or many."""

import dataclasses
import json
import re
from pathlib import Path

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


def drawn_texts(svg):
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


@pytest.mark.parametrize("accuracy", [0.0, 1 / 3, 0.999, 1.0])
@pytest.mark.parametrize("steps", [1, 4])
def test_no_axis_tells_of_accuracies_that_cannot_be(accuracy, steps):
    """Below 0 and above 100 % there are no ticks, where it never changes either."""
    numbers = [text for text in drawn_texts(plots.accuracy_by_step({"tet": [accuracy] * steps})) if text[-1].isdigit()]
    ticks = [float(text.replace("\N{MINUS SIGN}", "-")) for text in numbers]
    assert ticks and min(ticks) >= 0 and max(ticks) <= 100


@pytest.mark.parametrize(("samples", "said"), [(1, "Of 1 sample, 1 step each."), (2, "Mean over 2 samples, 1 step each.")])
def test_one_sample_does_not_deviate_from_itself(samples, said):
    """Its page has no deviation of 0 and no whiskers; one step is said as one."""
    graph = deep(1)
    frames = np.ones((1, samples, 3), np.float32)
    energy = estimate(graph, ReferenceRuntime(graph).run(frames), frames)
    page = render_page(ReportData(title="t", energy=energy))
    assert said in page and "steps each" not in page
    assert ("±" in page) == ("Whiskers" in page) == (samples > 1)


def test_energies_by_many_tables_stand_in_a_table_of_their_own():
    """More columns than a page on paper is wide would be cut; intervals, extras and break-even rates are on the page too."""
    graph = deep(1)
    frames = np.ones((2, 3, 3), np.float32)
    recording = ReferenceRuntime(graph).run(frames)
    few, many = (
        render_page(ReportData(title="t", energy=estimate(graph, recording, frames, table=table)))
        for table in (["45nm-fp32", "45nm-int8"], ["all"])
    )
    assert 'aria-label="Energies per layer"' in many and 'aria-label="Energies per layer"' not in few
    assert all(f"{name}, {unit}</th>" in few for name, unit in (("45nm-fp32", "pJ"), ("45nm-int8", "pJ")))
    assert "95 % interval of the mean" in few and "extra, in no energy above" in many and "extra, in no" not in few
    assert "break-even by 45nm-int8" in few


def test_each_exact_number_of_energies_is_in_the_json():
    """Of layers by each table of prices, not by the first alone."""
    graph = deep(2)
    frames = np.random.default_rng(0).integers(0, 2, size=(3, 5, 3)).astype(np.float32)
    energy = estimate(graph, ReferenceRuntime(graph).run(frames), frames, table=["all"])
    data = ReportData(title="t", energy=energy)
    told: list[float] = []
    json.loads(json.dumps(data.to_dict()), parse_float=lambda text: told.append(float(text)))
    exact = [float(text) for text in re.findall(r'data-value="([^"]*)"', render_page(data))]
    assert len(exact) > 20 and all(np.isclose(told, number, rtol=1e-9, atol=0).any() for number in exact)


def test_tables_of_alike_names_have_figures_of_their_own(tmp_path):
    """No id of one is that of the other's, which would be cut where the first ends."""
    own = (Path(__file__).parents[1] / "counting" / "own_table.toml").read_text()
    files = [tmp_path / "a.toml", tmp_path / "b.toml"]
    for file, name in zip(files, ("own fp16", "own-fp16"), strict=True):
        file.write_text(own.replace("28nm-fp16", name))
    graph = deep(1)
    frames = np.ones((1, 2, 3), np.float32)
    energy = estimate(graph, ReferenceRuntime(graph).run(frames), frames, table=files)
    ids = re.findall(r'\bid="([^"]*)"', render_page(ReportData(title="t", energy=energy)))
    assert len(ids) == len(set(ids)) > 10
