"""Accuracy over energy over steps, from one run."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tet_deploy as td
from tet_deploy.energy_curve import Course, curve_table, curve_values, energy_curve
from tet_deploy.errors import ArtifactError, DataError
from tet_deploy.ir.graph import chain
from tet_deploy.ir.nodes import Input, Linear, Readout
from tet_deploy.testing import random_float_network, random_frames, random_quantized_network

STEPS, SAMPLES = 4, 12


def network(seed, quantized=False):
    rng = np.random.default_rng(seed)
    graph = (random_quantized_network if quantized else random_float_network)(rng, encoding="events", layers=2)
    classes = graph.shapes[graph.readout.name][0]
    return graph, random_frames(graph, rng, STEPS, SAMPLES), rng.integers(0, classes, SAMPLES)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), quantized=st.booleans())
def test_each_point_is_that_of_a_run_of_its_own(seed, quantized):
    """Stops after a step cost what a run of so many steps costs; early stops what each sample's own run does."""
    graph, frames, labels = network(seed, quantized)
    course = energy_curve(graph, frames, labels)
    for point in course.by_step():
        alone = td.energy(graph, frames[: point.step])
        for priced in alone.by_table:
            assert point.picojoules[priced.table.name] == pytest.approx(priced.mean(priced.default), rel=1e-12)
        assert point.correct == int((td.run(graph, frames).decisions_by_step[point.step - 1] == labels).sum())
    recording = td.run(graph, frames)
    for point in course.early():
        found = td.EarlyStop(threshold=point.margin, steps=STEPS).on(recording, labels)
        assert (found.correct, found.mean_steps) == (point.correct, point.mean_steps)
        each = [td.energy(graph, frames[:stop, b : b + 1]) for b, stop in enumerate(found.steps)]
        mean = sum(one.mean(one.default) for one in each) / SAMPLES
        assert point.picojoules[each[0].table.name] == pytest.approx(mean, rel=1e-9)  # a sum of rounded means


def test_the_ends_of_both_curves_meet():
    """Never early is after the last step, at a lead of 0 is after the first."""
    course = energy_curve(*network(3))
    steps, early = course.by_step(), course.early()
    assert (early[0].picojoules, early[0].correct) == (steps[-1].picojoules, steps[-1].correct)
    assert (early[-1].picojoules, early[-1].correct) == (steps[0].picojoules, steps[0].correct)
    assert [point.mean_steps for point in early] == sorted((point.mean_steps for point in early), reverse=True)
    default = course.report.default
    assert [point.picojoules["45nm-fp32"] for point in steps] == pytest.approx(course.report.by_step(default), rel=1e-12)


def test_a_still_image_computed_once_costs_its_first_step_more():
    """What every sample spends alike, the result that is added at each step, is paid as often as a sample has steps."""
    rng = np.random.default_rng(0)
    graph = random_float_network(rng, encoding="analog", layers=2)
    frames = np.repeat(random_frames(graph, rng, 1, SAMPLES), STEPS, axis=0)
    course = energy_curve(graph, frames, np.zeros(SAMPLES, int), still="once")
    for point in course.by_step():
        alone = td.energy(graph, frames[: point.step], still="once")
        assert point.picojoules["45nm-fp32"] == pytest.approx(alone.mean("dense_in"), rel=1e-12)


def test_one_step_is_one_point():
    """There is nothing to stop before."""
    graph, frames, labels = network(1)
    course = energy_curve(graph, frames[:1], labels)
    assert len(course.by_step()) == 1 and {point.mean_steps for point in course.early()} == {1.0}


def test_no_labels_are_no_accuracy():
    """Said before anything is run."""
    graph, frames, _ = network(1)
    with pytest.raises(DataError, match="needs labels"):
        energy_curve(graph, frames)


def test_states_are_without_loss_and_damaged_ones_are_refused():
    """Each field is checked against the counts."""
    course = energy_curve(*network(2))
    state = json.loads(json.dumps(course.to_state()))
    assert curve_values(Course.from_state(state)) == curve_values(course)
    assert len(curve_table(course).rows) == len(course.by_step()) + len(course.early())
    for key, row in (
        ("right", [2] * SAMPLES),
        ("lead", [-1.0] * SAMPLES),
        ("lead", [1.0]),
        ("operations", [[0] * SAMPLES] * STEPS),
    ):
        damaged = json.loads(json.dumps(state))
        damaged[key][0] = row
        with pytest.raises(ArtifactError, match=key):
            Course.from_state(damaged)


def test_a_readout_of_one_value_has_no_curve():
    """It decides nothing, which is said before anything is run."""
    nodes = [Input(name="input", shape=(3,)), Linear(name="fc", weight=np.ones((1, 3), np.float32)), Readout(name="readout")]
    with pytest.raises(DataError, match="a readout of one value decides nothing"):
        energy_curve(chain(nodes), np.ones((2, 4, 3), np.float32), np.zeros(4, int))
