"""What is counted is said in the right number."""

import numpy as np
import pytest

import tet_deploy as td
from tet_deploy.data.frames import which_samples
from tet_deploy.testing import random_float_network, random_frames
from tet_deploy.validation import compare, thresholds
from tet_deploy.wording import number_of


@pytest.mark.parametrize(
    ("what", "count", "said"),
    [
        ("sample", 0, "0 samples"),
        ("sample", 1, "1 sample"),
        ("sample", np.int64(12345), "12,345 samples"),
        ("class", 1, "1 class"),
        ("class", 2, "2 classes"),
        ("epoch", 3, "3 epochs"),
        ("step", -1, "-1 step"),
        ("step", -2, "-2 steps"),
    ],
)
def test_one_alone_is_singular(what, count, said):
    """Of none, of many and of less than none, only one is singular; a word that ends in s takes es."""
    assert number_of(what, count) == said


@pytest.mark.parametrize(
    ("count", "total", "said"),
    [
        (360, 360, "all 360 test samples of samples.npz"),
        (5, 360, "the first 5 of 360 test samples of samples.npz"),
        (1, 360, "the first of 360 test samples of samples.npz"),
        (1, 1, "the only test sample of samples.npz"),
    ],
)
def test_one_sample_is_no_plural(count, total, said):
    """Samples of a file are said as people say them, also where they are one."""
    assert which_samples(count, total, "test samples of samples.npz") == said


def test_results_of_one_sample_and_one_step_say_so():
    """A recording, an agreement and energies of a single sample and step have neither samples nor steps."""
    rng = np.random.default_rng(0)
    graph = td.lower(random_float_network(rng, layers=1))
    frames = random_frames(graph, rng, 1, 1)
    report = td.energy(graph, frames)
    recording = td.run(graph, frames)
    agreement = compare(recording, recording, thresholds(graph))
    for text in map(str, (repr(recording), repr(report), report, agreement)):
        assert "1 sample" in text and "1 samples" not in text and "1 steps" not in text
