"""The split is fixed by the samples' names: the same everywhere, a share of each class."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from tet_deploy.data.splits import hold_out, split_hash
from tet_deploy.errors import ArgumentError, DataError

ALL_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CLASSES = ALL_CLASSES[:3]
NAMES = [f"{name}/cifar10_{name}_{index}" for name in CLASSES for index in range(1000)]
LABELS = np.repeat(np.arange(3), 1000)


def test_each_class_gives_its_share():
    """Of 1000 recordings a class, 100 are held out."""
    test = hold_out(NAMES, LABELS, share=0.1)
    np.testing.assert_array_equal(np.bincount(LABELS[test]), [100, 100, 100])


def test_the_split_is_the_documented_one():
    """Held out are those whose names have the smallest SHA-256; the hash is that of the parts, labels and names."""
    test = hold_out(NAMES, LABELS, share=0.1)
    for label in range(3):
        members = [index for index in range(3000) if LABELS[index] == label]
        digests = sorted(hashlib.sha256(NAMES[index].encode()).hexdigest() for index in members)
        assert {index for index in members if hashlib.sha256(NAMES[index].encode()).hexdigest() <= digests[99]} == {
            index for index in members if test[index]
        }
    lines = sorted(f"{'test' if t else 'train'}\t{y}\t{n}\n" for n, y, t in zip(NAMES, LABELS, test, strict=True))
    assert split_hash(NAMES, LABELS, test) == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_the_split_never_changes():
    """The hash of the whole set's split is the one that docs/data.md names."""
    names = [f"{name}/cifar10_{name}_{index}" for name in ALL_CLASSES for index in range(1000)]
    labels = np.repeat(np.arange(10), 1000)
    found = split_hash(names, labels, hold_out(names, labels, share=0.1))
    assert found == "e550b710bf477009503cb60ad45dcdec72b5d0ce1a805dbbd3378d90ec11a3a0"
    assert found in (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")


def test_order_does_not_matter():
    """Files listed in another order are split alike and have the same hash."""
    order = np.random.default_rng(0).permutation(3000)
    test = hold_out(NAMES, LABELS, share=0.1)
    shuffled = [NAMES[index] for index in order]
    np.testing.assert_array_equal(hold_out(shuffled, LABELS[order], share=0.1), test[order])
    assert split_hash(shuffled, LABELS[order], test[order]) == split_hash(NAMES, LABELS, test)


def test_the_hash_tells_splits_apart():
    """One sample that changes its part, label or name changes the hash."""
    test = hold_out(NAMES, LABELS, share=0.1)
    changed, relabelled = test.copy(), LABELS.copy()
    changed[0], relabelled[0] = not test[0], 1
    hashes = {
        split_hash(NAMES, LABELS, test),
        split_hash(NAMES, LABELS, changed),
        split_hash(NAMES, relabelled, test),
        split_hash(["other", *NAMES[1:]], LABELS, test),
    }
    assert len(hashes) == 4


def test_small_classes_have_both_parts():
    """Two samples are one to train and one to test, whatever the share."""
    for share in (0.01, 0.99):
        assert hold_out(["a", "b"], np.zeros(2, int), share=share).sum() == 1


@pytest.mark.parametrize(
    ("names", "share", "message"),
    [
        (["a", "b"], 0.0, "between 0 and 1"),
        (["a", "b"], 1.0, "got 1"),
        (["a", "a"], 0.5, "'a': stands for two files"),
        (["a"], 0.5, "two samples"),
    ],
)
def test_impossible_splits_are_refused(names, share, message):
    """A share of nothing or all, a name twice, a class of one."""
    with pytest.raises((ArgumentError, DataError), match=message):
        hold_out(names, np.zeros(len(names), int), share=share)
