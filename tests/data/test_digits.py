"""The digits are real, split by class and seed, and shown over time."""

import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from tet_deploy.data import DATA, load
from tet_deploy.data.event_camera import EventCamera, simulate
from tet_deploy.errors import ArgumentError, MissingDependencyError


@pytest.fixture(scope="module")
def images():
    return load_digits().images


def test_every_image_appears_once_with_its_label(images):
    """Training and test samples together are scikit-learn's digits, scaled to [0, 1], each in one part only."""
    data = load("digits", steps=1)
    found = np.concatenate([data.train_frames[0, :, 0], data.test_frames[0, :, 0]])
    labels = np.concatenate([data.train_labels, data.test_labels])

    def sorted_samples(images, labels):
        rows = np.column_stack([images.reshape(len(images), -1), labels])
        return rows[np.lexsort(rows.T)]

    np.testing.assert_array_equal(sorted_samples(found * 16, labels), sorted_samples(images, load_digits().target))


@pytest.mark.parametrize("seed", range(3))
def test_each_class_has_its_share_of_the_test_samples(seed):
    """The split is stratified: a fifth of each class, within one sample."""
    data = load("digits", steps=1, seed=seed)
    per_class = np.bincount(np.concatenate([data.train_labels, data.test_labels]))
    assert len(data.test_labels) == 360
    assert np.abs(np.bincount(data.test_labels) - per_class / 5).max() < 1


def test_the_seed_fixes_the_split():
    """Equal seeds give equal splits, others do not."""
    first, again, other = (load("digits", steps=1, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.test_frames, again.test_frames)
    assert not np.array_equal(first.test_frames, other.test_frames)


def test_images_are_shown_at_every_step():
    """All T frames of a sample are the same image."""
    data = load("digits", steps=3)
    assert data.train_frames.shape == (3, 1437, 1, 8, 8)
    assert (data.shape, data.steps, data.encoding) == ((1, 8, 8), 3, "analog")
    assert np.ptp(data.train_frames, axis=0).max() == 0


def test_events_are_counted_over_the_saccades(images):
    """Event frames hold every event of the camera, split as the images are, in equal times."""
    data = load("event-digits", steps=5, seed=3)
    assert (data.shape, data.encoding) == ((2, 20, 20), "events")
    plain = load("digits", steps=1, seed=3)
    np.testing.assert_array_equal(data.test_labels, plain.test_labels)
    events = simulate(images / np.float32(16), EventCamera(), seed=3)
    order = {image.tobytes(): index for index, image in enumerate(images.astype(np.float32) / 16)}
    for sample in range(0, 360, 40):
        stream = events[order[plain.test_frames[0, sample, 0].tobytes()]]
        expected = np.zeros((5, 2, 20, 20), np.float32)
        np.add.at(expected, (stream["t"] // 60_000, stream["p"], stream["y"], stream["x"]), 1)
        np.testing.assert_array_equal(data.test_frames[:, sample], expected)


def test_wrong_requests_are_refused():
    """An unknown name lists the known; T = 0 is named."""
    with pytest.raises(ArgumentError, match="digits, event-digits"):
        load("mnist", steps=4)
    for name in DATA:
        with pytest.raises(ArgumentError, match="got 0"):
            load(name, steps=0)


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingDependencyError, match=r"tet-deploy\[digits\]"):
        load("digits", steps=1)
