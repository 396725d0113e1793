"""A user's own recordings, or frames in an .npz, are a data set by their path."""

import numpy as np
import pytest

from tet_deploy.data import load
from tet_deploy.data.event_camera import EVENT_DTYPE, EventCamera, simulate
from tet_deploy.data.event_frames import to_frames
from tet_deploy.errors import ArgumentError, DataError

OPTIONS = {"steps": 3, "sensor_size": (20, 20)}


@pytest.fixture(scope="module")
def recordings():
    """Ten recordings of a simulated camera."""
    return simulate(np.random.default_rng(0).random((10, 8, 8)), EventCamera())


def write(root, recordings, parts=("",)):
    for part in parts:
        for label, name in enumerate(("cat", "dog")):
            folder = root / part / name
            folder.mkdir(parents=True)
            for index, events in enumerate(recordings[5 * label : 5 * label + 5]):
                np.save(folder / f"{index}.npy", events)
    return root


def test_a_folder_of_classes_is_a_data_set(tmp_path, recordings):
    """Sub-folders are classes in the order of their names; a fifth of each is held out; no event is lost."""
    root = write(tmp_path / "own", recordings)
    data = load(str(root), cache=tmp_path / "cache", **OPTIONS)
    assert (data.name, data.shape, data.classes, data.encoding) == ("own", (2, 20, 20), 2, "events")
    assert (np.bincount(data.train.labels).tolist(), np.bincount(data.test.labels).tolist()) == ([4, 4], [1, 1])
    expected = []
    for index, events in enumerate(recordings):
        shifted = events.copy()
        shifted["t"] -= events["t"][0]
        frames = to_frames([shifted], steps=3, duration=int(shifted["t"][-1]) + 1, sensor_size=(20, 20, 2))[:, 0]
        expected.append((index // 5, frames.tobytes()))
    assert sorted((label, frames.tobytes()) for frames, label in [*data.train, *data.test]) == sorted(expected)


def test_parts_of_its_own_are_kept(tmp_path, recordings):
    """With train/ and test/ nothing is split."""
    data = load(str(write(tmp_path / "own", recordings, ("train", "test"))), cache=tmp_path / "cache", **OPTIONS)
    assert (len(data.train), len(data.test)) == (10, 10)
    np.testing.assert_array_equal(data.train.frames(), data.test.frames())


def test_the_format_does_not_change_the_split(tmp_path, recordings):
    """The same recordings as .npz are split alike, with the same hash; another share has another hash."""
    first = load(str(write(tmp_path / "a", recordings)), cache=tmp_path / "cache", **OPTIONS)
    root = write(tmp_path / "b", recordings)
    for path in root.rglob("*.npy"):
        events = np.load(path)
        np.savez(path.with_suffix(".npz"), **{name: events[name] for name in "xytp"})
        path.unlink()
    second = load(str(root), cache=tmp_path / "cache", **OPTIONS)
    assert second.split_hash == first.split_hash
    np.testing.assert_array_equal(second.test.frames(), first.test.frames())
    assert load(str(root), cache=tmp_path / "cache", held_out=0.4, **OPTIONS).split_hash != first.split_hash


def test_augmentation_changes_training_samples_only(tmp_path, recordings):
    """Rolled training frames keep their events; test frames are as without, whatever the epoch."""
    root = write(tmp_path / "own", recordings)
    plain = load(str(root), cache=tmp_path / "cache", **OPTIONS)
    rolled = load(str(root), cache=tmp_path / "cache", augmentation={"roll": 5}, **OPTIONS)
    np.testing.assert_array_equal(rolled.test.at_epoch(4).frames(), plain.test.frames())
    assert not np.array_equal(rolled.train.frames(), plain.train.frames())
    np.testing.assert_array_equal(rolled.train.frames().sum(axis=(-2, -1)), plain.train.frames().sum(axis=(-2, -1)))


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda root: (root / "cat" / "notes.txt").write_text(""), r"notes\.txt: is no event file"),
        (lambda root: [path.unlink() for path in (root / "dog").iterdir()], "dog: holds no event file"),
        (lambda root: [path.unlink() for path in (root / "dog").glob("[1-4].npy")], "class 1: needs two samples"),
        (lambda root: np.savez(root / "cat" / "0.npz", x=1), "'cat/0': stands for two files"),
        (lambda root: np.save(root / "cat" / "0.npy", np.full(9, 20, EVENT_DTYPE)), r"0\.npy: polarity must be"),
    ],
)
def test_folders_that_are_no_data_set_are_named(tmp_path, recordings, prepare, message):
    """Files of unknown kinds, empty classes, one sample twice, wrong events."""
    root = write(tmp_path / "own", recordings)
    prepare(root)
    with pytest.raises(DataError, match=message):
        load(str(root), cache=tmp_path / "cache", **OPTIONS)


def test_an_empty_folder_is_named(tmp_path):
    """The error says how a folder must look."""
    with pytest.raises(DataError, match=r"holds no class\. Put event files"):
        load(str(tmp_path), **OPTIONS)


def test_a_folder_needs_the_cameras_size(tmp_path):
    """Without sensor_size nothing is guessed."""
    with pytest.raises(ArgumentError, match="needs sensor_size="):
        load(str(tmp_path), steps=3)


def test_an_npz_is_a_data_set(tmp_path):
    """Its samples are split by the seed; whole numbers are events."""
    rng = np.random.default_rng(0)
    frames, labels = rng.integers(0, 9, (4, 10, 2, 5, 5)).astype(np.float32), rng.integers(0, 3, 10)
    path = tmp_path / "own.npz"
    np.savez(path, frames=frames, labels=labels)
    data = load(str(path), steps=4, seed=1)
    assert (data.encoding, len(data.train), len(data.test), data.classes) == ("events", 8, 2, int(labels.max()) + 1)
    found = sorted(one.tobytes() for one, _ in [*data.train, *data.test])
    assert found == sorted(frames[:, index].tobytes() for index in range(10))
    assert load(str(path), steps=4, seed=2).split_hash != data.split_hash
    np.savez(path, frames=frames / 2, labels=labels)
    assert load(str(path), steps=4).encoding == "analog"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"frames": np.zeros((4, 3, 1, 2, 2))}, "needs 'labels'"),
        ({"frames": np.zeros((5, 3, 1, 2, 2)), "labels": np.zeros(3, int)}, "holds 5 steps; got steps=4"),
        ({"frames": np.zeros((4, 1, 1, 2, 2)), "labels": np.zeros(1, int)}, "at least 2 samples"),
    ],
)
def test_an_npz_that_cannot_be_trained_on_is_refused(tmp_path, arrays, message):
    """No labels, another number of steps, too few samples."""
    np.savez(tmp_path / "own.npz", **arrays)
    with pytest.raises(DataError, match=message):
        load(str(tmp_path / "own.npz"), steps=4)
