"""A stream decides early where the network leads by enough, and what the calibration promises holds."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tet_deploy as td
from tet_deploy.contracts import Recording
from tet_deploy.errors import ArgumentError, DataError
from tet_deploy.intervals import least_count
from tet_deploy.stopping import calibrated
from tet_deploy.testing import random_float_network, random_frames, random_quantized_network


def recording(readout):
    return Recording(readout=np.asarray(readout, np.float32), runtime="given")


def drawn(rng, samples, steps=6, noise=0.9):
    """Readouts whose class 0 of 4 is right, and surer with every step."""
    readout = rng.normal(0, noise, (steps, samples, 4))
    readout[..., 0] += 1
    return recording(readout)


@pytest.mark.parametrize("runtime", ["reference", "onnx"])
@settings(max_examples=10)
@given(seed=st.integers(0, 2**32 - 1), quantized=st.booleans())
def test_streams_stop_as_the_rule_does_on_a_recording(runtime, seed, quantized):
    """The step and the class of each stream, which stay until it is reset, however long it goes on."""
    rng = np.random.default_rng(seed)
    graph = (random_quantized_network if quantized else random_float_network)(rng, layers=1)
    frames = random_frames(graph, rng, steps=6, samples=5)
    whole = td.run(graph, frames, probes="none")
    lead = np.sort(whole.sums / np.arange(1, 7)[:, None, None], axis=-1)
    rule = td.EarlyStop(threshold=float(np.median(lead[..., -1] - lead[..., -2])), steps=5)
    expected = rule.on(whole, np.zeros(5, int))
    assert {1, 2, 3, 4, 5} >= set(expected.steps.tolist())
    found = np.zeros(5, int)
    with td.Stream(graph, runtime=runtime, samples=5, stop=rule) as stream:
        for frame in frames:
            stream.step(frame)
            found[stream.stopped & (found == 0)] = stream.steps[0]
        assert found.tolist() == expected.steps.tolist()
        assert stream.decisions.tolist() == expected.decisions.tolist()
        stream.reset(np.arange(5) < 3)
        assert stream.stopped.tolist() == [False] * 3 + [True] * 2


def test_a_rule_counted_by_hand():
    """Two classes, three steps: the first mean that leads by 1 decides, otherwise the last step."""
    readout = [[[1, 0], [0, 0.5], [0, 0]], [[0, 9], [0, 2], [0, 0.5]], [[0, 9], [9, 0], [0.25, 0]]]
    found = td.EarlyStop(threshold=1.0, steps=3).on(recording(readout), np.array([0, 1, 0]))
    assert found.steps.tolist() == [1, 2, 3] and found.decisions.tolist() == [0, 1, 1]
    assert (found.correct, found.mean_steps, found.saved) == (2, 2.0, pytest.approx(1 / 3))
    assert found.interval[0] < found.accuracy < found.interval[1]


def test_the_promise_holds():
    """Of 100 calibrations on fresh samples, at most the promised share gives a rule that is right less often than wanted."""
    rng, wanted, broken = np.random.default_rng(0), 0.8, 0
    truth, labels = drawn(rng, 50_000), np.zeros(50_000, int)
    assert td.EarlyStop(threshold=0, steps=6).on(truth, labels).accuracy < wanted
    for _ in range(100):
        rule = calibrated(drawn(rng, 400), np.zeros(400, int), accuracy=wanted, confidence=0.9)
        broken += td.EarlyStop(threshold=rule.threshold, steps=6).on(truth, labels).accuracy < wanted
    assert broken <= 10 + 3 * math.sqrt(100 * 0.1 * 0.9)  # three standard deviations
    assert rule.held_out.saved > 0.1 and rule.wanted == 0.8


def test_more_samples_stop_earlier_and_a_higher_accuracy_later():
    """The same network: what is shown with more certainty needs fewer steps."""
    rng = np.random.default_rng(1)
    rules = {
        (samples, accuracy): calibrated(drawn(rng, samples), np.zeros(samples, int), accuracy=accuracy)
        for samples, accuracy in ((200, 0.8), (5_000, 0.8), (5_000, 0.91))
    }
    few, many, higher = (rule.threshold for rule in rules.values())
    assert many < few and many < higher


def test_calibrated_on_a_network_the_rule_is_of_that_network():
    """`td.early_stop` runs the frames, and the rule says what it did on them."""
    rng = np.random.default_rng(2)
    graph = random_quantized_network(rng, layers=1)
    frames = random_frames(graph, rng, steps=4, samples=80)
    labels = td.run(graph, frames, probes="none").decisions
    rule = td.early_stop(graph, frames, labels, accuracy=0.5)
    assert rule.digest == graph.digest() and rule.steps == 4
    assert rule.held_out.correct >= least_count(80, 0.5, 0.05)
    assert "at least 50.00% are decided rightly, at 95% confidence" in str(rule)
    td.Stream(graph, stop=rule)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda r: calibrated(r, np.ones(50, int), accuracy=0.9), DataError, r"0 of 50 samples are right; .* takes 49\."),
        (lambda r: calibrated(r, np.zeros(50, int), accuracy=0.99), DataError, "takes more samples"),
        (lambda r: calibrated(r, np.zeros(50, int), accuracy=1.0), ArgumentError, "accuracy: must lie between 0 and 1"),
        (lambda r: calibrated(r, np.zeros(50, int), accuracy=0.5, confidence=0), ArgumentError, "confidence: must lie"),
        (lambda r: calibrated(r, np.zeros(49, int), accuracy=0.5), DataError, r"labels: must be integers of shape \(50,\)"),
        (lambda r: calibrated(r, None, accuracy=0.5), DataError, "Give their labels"),
        (lambda r: td.EarlyStop(threshold=1, steps=9).on(r, np.zeros(50, int)), DataError, "the recording has 6"),
        (lambda r: td.EarlyStop(threshold=math.nan, steps=9), ArgumentError, "threshold: must be a margin of at least 0"),
        (lambda r: td.EarlyStop(threshold="1", steps=9), ArgumentError, "threshold: must be"),
        (lambda r: td.EarlyStop(threshold=1.0, steps=0), ArgumentError, "steps: must be a whole number of at least 1"),
        (
            lambda r: calibrated(recording(r.readout[..., :1]), np.zeros(50, int), accuracy=0.5),
            ArgumentError,
            "a readout of one value has no lead",
        ),
    ],
)
def test_what_no_rule_can_be_made_of_is_refused(make, error, message):
    """Labels that do not fit, accuracies that are none or that the samples do not show, margins below 0."""
    with pytest.raises(error, match=message):
        make(drawn(np.random.default_rng(0), 50, noise=0.01))


@given(st.integers(1, 60), st.floats(0.01, 0.99), st.floats(0.001, 0.5))
def test_the_least_count_is_where_the_binomial_tail_is_that_small(of, proportion, level):
    """Summed term by term in whole binomials."""
    terms = [math.comb(of, k) * proportion**k * (1 - proportion) ** (of - k) for k in range(of + 1)]
    tails = [sum(terms[k:]) for k in range(of + 2)]
    found = least_count(of, proportion, level)
    assert tails[found] <= level * (1 + 1e-9)  # rounding of the sum
    assert found == 0 or tails[found - 1] > level * (1 - 1e-9)
