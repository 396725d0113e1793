"""A sample is the same whoever reads it and whenever, and a batch is [T, B, ...]."""

import dataclasses
import random

import numpy as np
import pytest
import torch

from tet_deploy.data import from_arrays, load
from tet_deploy.data.augmentation import Augmentation
from tet_deploy.errors import ArtifactError, DataError
from tet_deploy.training import ArrayFeed, SourceFeed, feed_of

CPU = torch.device("cpu")
CHOSEN = [np.array([3, 1]), np.array([0, 4, 2])]


class Noisy:
    """Draws from every global generator."""

    def __len__(self):
        return 5

    def __getitem__(self, index):
        noise = np.random.normal() + random.random() + torch.rand(()).item()  # noqa: NPY002  # that is the case to test
        return np.full((2, 3), index + noise), index % 2


def values(feed, epoch):
    return [(frames.tolist(), labels.tolist()) for frames, labels in feed.batches(CHOSEN, CPU, epoch)]


def test_random_changes_depend_on_seed_epoch_and_sample_alone():
    """Not on what was drawn before, the order of reading, or how many processes read; nor do they disturb other draws."""
    expected = values(SourceFeed(Noisy(), steps=2, seed=1), 3)
    torch.rand(7)
    random.random()
    state = torch.get_rng_state(), random.getstate()
    feed = SourceFeed(Noisy(), steps=2, seed=1)
    assert values(feed, 3) == expected
    assert torch.equal(state[0], torch.get_rng_state())
    assert random.getstate() == state[1]
    assert values(SourceFeed(Noisy(), steps=2, seed=1, workers=2), 3) == expected
    assert values(feed, 4) != expected
    assert values(SourceFeed(Noisy(), steps=2, seed=2), 3) != expected
    backwards = list(feed.batches([CHOSEN[1], CHOSEN[0]], CPU, 3))
    assert backwards[1][0].tolist() == expected[0][0]


def test_a_source_with_epochs_is_asked_for_them():
    """A FrameSource's own augmentation is that of the epoch; for evaluation there is none."""
    frames = np.random.default_rng(0).random((2, 5, 1, 4, 4)).astype(np.float32)
    data = from_arrays(
        name="x", train_frames=frames, train_labels=np.arange(5) % 2, test_frames=frames, test_labels=np.arange(5) % 2,
        encoding="analog", seed=0, classes=2,
    )  # fmt: skip
    source = dataclasses.replace(data.train, transforms=(Augmentation(flip=True, roll=1),))
    feed = feed_of(source)
    assert isinstance(feed, SourceFeed)
    for epoch in (0, 7):
        (found, labels), _ = feed.batches(CHOSEN, CPU, epoch)
        expected = np.stack([source.at_epoch(epoch)[int(i)][0] for i in CHOSEN[0]], axis=1)
        np.testing.assert_array_equal(found.numpy(), expected)
        assert labels.tolist() == [1, 1]
    assert values(feed, 0) != values(feed, 7)


def test_images_that_stand_still_share_their_memory():
    """One copy for all steps, from memory and read one by one, so that the network can encode them once."""
    source = load("digits", steps=4).train
    for feed in (feed_of(source), SourceFeed(source, steps=4)):
        frames, labels = next(iter(feed.batches(CHOSEN, CPU)))
        assert frames.shape == (4, 2, 1, 8, 8)
        assert frames.stride(0) == 0
        np.testing.assert_array_equal(frames.numpy(), source.frames()[:, CHOSEN[0]])
        assert labels.tolist() == source.labels[CHOSEN[0]].tolist()
    assert isinstance(feed_of(source), ArrayFeed)


class Own:
    """A source whose samples are given."""

    def __init__(self, *samples):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


FRAMES = np.zeros((2, 3))


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([(FRAMES, 0), (np.zeros((3, 3)), 1)], "all of one shape, T = 2"),
        ([(np.zeros((4, 3)), 0), (np.zeros((4, 3)), 1)], "T = 2; got"),
        ([(FRAMES, 0.0), (FRAMES, 1.0)], "labels: must be integers"),
        ([(FRAMES, "cat"), (FRAMES, "dog")], "labels: must be integers"),
        ([(FRAMES, 0), (FRAMES, 7)], r"labels: must be in 0\.\.2; got 7"),
        ([(FRAMES, 0), (FRAMES, -1)], "labels: must be"),
    ],
)
def test_samples_that_do_not_fit_are_named(samples, message):
    """Unequal shapes, another T, labels of the wrong type or out of range."""
    feed = SourceFeed(Own(*samples), steps=2)
    feed.check_classes(3)
    with pytest.raises(DataError, match=message):
        list(feed.batches([np.array([0, 1])], CPU))


class Broken(Own):
    """A source that cannot read."""

    def __getitem__(self, index):
        raise ArtifactError("cat.jpeg: cannot be read as an image.")


@pytest.mark.parametrize("workers", [0, 1])
def test_what_a_source_raises_arrives_in_its_own_words(workers):
    """Also from a process that reads for this one."""
    feed = SourceFeed(Broken((FRAMES, 0)), steps=2, workers=workers)
    with pytest.raises(ArtifactError) as caught:
        list(feed.batches([np.array([0])], CPU))
    assert str(caught.value) == "cat.jpeg: cannot be read as an image."


def test_no_samples_are_refused():
    """An empty data set."""
    with pytest.raises(DataError, match="empty"):
        SourceFeed(Own(), steps=2)
