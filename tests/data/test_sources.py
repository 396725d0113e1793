"""Samples are read one at a time, alike however often and in whatever order, and put side by side time first."""

import pickle

import numpy as np
import pytest

from tet_deploy.data import FrameSource, collate, from_arrays
from tet_deploy.data.augmentation import Augmentation
from tet_deploy.data.sources import ArrayFrames
from tet_deploy.errors import DataError

RNG = np.random.default_rng(0)
FRAMES = RNG.random((4, 9, 2, 5, 6), dtype=np.float32)  # [T, N, C, H, W]
LABELS = RNG.integers(0, 3, 9)


def source(**changes):
    values = {
        "samples": ArrayFrames(FRAMES),
        "labels": LABELS,
        "classes": 3,
        "shape": (2, 5, 6),
        "steps": 4,
        "encoding": "events",
    }
    return FrameSource(**{**values, **changes})


def still(**changes):
    """Five images, shown at seven steps."""
    return source(samples=ArrayFrames(FRAMES[:1, :5]), labels=LABELS[:5], steps=7, static=True, **changes)


def test_samples_come_by_index():
    """source[i] is sample i with its label; iteration ends after the last; negative numbers count from the end."""
    data = source()
    assert len(data) == len(list(data)) == 9
    for index in (0, 4, 8, -1, np.int64(3)):
        frames, label = data[index]
        np.testing.assert_array_equal(frames, FRAMES[:, index])
        assert (frames.dtype, label) == (np.float32, LABELS[index])
    for index in (9, -10):
        with pytest.raises(IndexError, match="of 9"):
            data[index]


def test_a_sample_may_be_changed_without_changing_the_set():
    """What a caller writes into a sample's frames stays there."""
    before = FRAMES.copy()
    data = source(transforms=(Augmentation(),))
    for one in (source(), data):
        one[0][0][:] = -1
    np.testing.assert_array_equal(FRAMES, before)


def test_a_batch_is_its_samples_side_by_side():
    """batch() gives [T, B, C, H, W], with and without transforms."""
    chosen = [5, 0, 5, 2]
    for data in (source(), source(transforms=(Augmentation(),))):
        frames, labels = data.batch(chosen)
        np.testing.assert_array_equal(frames, FRAMES[:, chosen])
        np.testing.assert_array_equal(labels, LABELS[chosen])
        np.testing.assert_array_equal(data.frames(), FRAMES)


@pytest.mark.parametrize("transforms", [(), (Augmentation(),)])
def test_still_images_share_their_memory_over_time(transforms):
    """All T steps of a sample and of a batch are one image: the stride of time is 0."""
    data = still(transforms=transforms)
    for frames, expected in (
        (data[3][0], FRAMES[0, 3]),
        (data.batch([3, 1])[0], FRAMES[0, [3, 1]]),
        (data.frames(), FRAMES[0, :5]),
    ):
        assert (frames.shape[0], frames.strides[0]) == (7, 0)
        np.testing.assert_array_equal(frames[6], expected)


def test_random_changes_depend_on_seed_epoch_and_index_alone():
    """Order and copies do not matter; another epoch, seed or sample does."""
    data = source(samples=ArrayFrames(np.repeat(FRAMES[:, :1], 9, axis=1)), transforms=(Augmentation(roll=2),), seed=5)
    first = [data[index][0] for index in range(9)]
    copy = pickle.loads(pickle.dumps(data))
    for index in reversed(range(9)):
        np.testing.assert_array_equal(copy[index][0], first[index])
        np.testing.assert_array_equal(data.at_epoch(3).at_epoch(0)[index][0], first[index])
    assert any(not np.array_equal(one, first[0]) for one in first)
    assert any(not np.array_equal(data.at_epoch(1)[index][0], first[index]) for index in range(9))
    other = source(samples=data.samples, transforms=data.transforms, seed=6)
    assert any(not np.array_equal(other[index][0], first[index]) for index in range(9))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": LABELS[:3]}, r"shape \(9,\)"),
        ({"classes": 2}, r"in 0\.\.1"),
        ({"labels": LABELS / 2}, "integers"),
        ({"samples": ArrayFrames(FRAMES[:, :0]), "labels": LABELS[:0]}, "at least one sample"),
    ],
)
def test_labels_must_fit(changes, message):
    """Their number, type and range are checked when the source is made."""
    with pytest.raises(DataError, match=message):
        source(**changes)


def test_a_sample_of_another_shape_is_named():
    """The sample's number, what is needed and what was found."""
    with pytest.raises(DataError, match=r"sample 2: frames must be \(5, 2, 5, 6\); got \(4, 2, 5, 6\)"):
        source(steps=5)[2]


def test_arrays_in_memory_make_a_data_set():
    """from_arrays gives back its arrays, and a hash that changes with any of them."""
    arrays = {
        "train_frames": FRAMES[:, :6],
        "train_labels": LABELS[:6],
        "test_frames": FRAMES[:, 6:],
        "test_labels": LABELS[6:],
    }
    data = from_arrays(name="own", encoding="analog", seed=1, classes=3, **arrays)
    assert (data.shape, data.steps, data.encoding, data.classes) == ((2, 5, 6), 4, "analog", 3)
    for name, array in arrays.items():
        np.testing.assert_array_equal(getattr(data, name), array)
    hashes = {data.split_hash}
    for name in arrays:
        other = from_arrays(
            name="own", encoding="analog", seed=1, classes=3, **arrays | {name: arrays[name][..., ::-1].copy()}
        )
        hashes.add(other.split_hash)
    assert len(hashes) == 5
    assert len(data.split_hash) == 64


def test_torch_takes_a_source():
    """torch's DataLoader reads it in other processes, with our collate, in order."""
    torch_data = pytest.importorskip("torch.utils.data", reason="the trainer's loader")
    loader = torch_data.DataLoader(source(), batch_size=4, collate_fn=collate, num_workers=1)
    frames, labels = (
        np.concatenate(parts, axis=axis) for parts, axis in zip(zip(*loader, strict=True), (1, 0), strict=True)
    )
    np.testing.assert_array_equal(frames, FRAMES)
    np.testing.assert_array_equal(labels, LABELS)
