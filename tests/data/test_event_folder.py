"""A user's own recordings, or frames in an .npz, are a data set by their path."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tet_deploy.data import load
from tet_deploy.data.event_camera import EVENT_DTYPE, EventCamera, simulate
from tet_deploy.data.event_frames import to_frames
from tet_deploy.errors import ArgumentError, ArtifactError, DataError, DataWarning

ROOT = Path(__file__).resolve().parent.parent.parent
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
    """With train/ and test/ nothing is split; that the test has samples of the training is told, or a folder left out."""
    root = write(tmp_path / "own", recordings, ("train", "test"))
    (root / "val").mkdir()
    told = (
        r"^own: folders beside train and test, left out: 1, such as val; "
        r"copies of another recording, maybe in the other part, kept: 10 in 10 of its recordings, such as test/cat/0\.$"
    )
    with pytest.warns(DataWarning, match=told):
        data = load(str(root), cache=tmp_path / "cache", **OPTIONS)
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
        (lambda root: (root / "cat" / "a.txt").write_text("1 2 3 0\n" * 9), r"a\.txt: is text, .*np\.loadtxt"),
        (lambda root: np.save(root / "3.npy", 0), r"own/3\.npy: belongs to no class"),
        (lambda root: (root / "cat" / "more").symlink_to(root / "dog"), "more: is a link to a folder"),
        (lambda root: os.mkfifo(root / "cat" / "7.npy"), r"7\.npy: must be a file; it is a FIFO"),
        (lambda root: (root / "cat" / "7.npy").symlink_to("gone"), r"7\.npy: no such file"),
        (lambda root: (root / "train" / "cat").mkdir(parents=True), "holds the part train alone"),
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
    with pytest.raises((DataError, ArtifactError), match=message):
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


def test_a_class_may_be_called_train(tmp_path, recordings):
    """A folder of files named train is a class, as in CIFAR-100; only one with classes in it is a part."""
    root = write(tmp_path / "own", recordings)
    (root / "dog").rename(root / "train")
    assert load(str(root), cache=tmp_path / "cache", **OPTIONS).classes == 2


def wrapped(events):
    """As a 16-bit counter of microseconds shows it."""
    events = events.copy()
    events["t"] = (events["t"] + 2**16 - 150_000 % 2**16) % 2**16
    return events


def test_what_was_repaired_is_told_in_one_line_and_kept(tmp_path, recordings):
    """Counters that wrapped: how often, in how many recordings, and an example; also when frames come from the cache."""
    root = write(tmp_path / "own", recordings)
    for name in ("cat/0", "cat/1", "dog/3"):
        np.save(root / f"{name}.npy", wrapped(np.load(root / f"{name}.npy")))
    for _ in range(2):
        with pytest.warns(DataWarning) as caught:
            data = load(str(root), cache=tmp_path / "cache", **OPTIONS)
        (warning,) = caught
        (what,) = data.repairs
        count, files, example = data.repairs[what]
        assert (what, files, example) == ("turns of a 16-bit counter of time, unrolled", 3, "cat/0")
        assert str(warning.message) == f"own: {what}: {count} in 3 of its recordings, such as cat/0."
        assert warning.filename == __file__
    plain = load(str(write(tmp_path / "plain", recordings)), cache=tmp_path / "cache", **OPTIONS)
    np.testing.assert_array_equal(data.train.frames(), plain.train.frames())
    assert plain.repairs == {}


def test_the_cameras_size_in_the_header_is_compared(tmp_path):
    """Another size than asked for is told where the events fit, and is in the message where they do not."""
    for name in ("cat/0", "cat/1", "dog/0", "dog/1"):
        (tmp_path / "own" / name).parent.mkdir(parents=True, exist_ok=True)
        address = (180 - 1 - np.arange(99)) << 22 | (240 - 1 - np.arange(99)) << 12
        records = np.stack([address, 1000 * np.arange(99) + len(list(tmp_path.rglob("*")))], 1).astype(">u4").tobytes()
        (tmp_path / "own" / f"{name}.aedat").write_bytes(b"#!AER-DAT2.0\r\n# AEChip: DAVIS240C\r\n" + records)
    options = {"steps": 3, "cache": tmp_path / "cache"}
    with pytest.warns(DataWarning, match="headers of another camera's size, read as asked: 4 in 4"):
        load(str(tmp_path / "own"), sensor_size=(128, 128), **options)
    with pytest.raises(DataError, match=r"found 0\.\.98\. The file says 240 x 180: give sensor_size=\(240, 180\)"):
        load(str(tmp_path / "own"), sensor_size=(98, 128), **options)


def test_a_clock_set_back_is_an_option_away(tmp_path, recordings):
    """The message names the option, and it loads the set."""
    root = write(tmp_path / "own", recordings)
    np.save(root / "cat/0.npy", np.tile(recordings[0], 2))
    with pytest.raises(DataError, match=r"cat/0\.npy: time jumps back(.|\n)*sort_jumps=True"):
        load(str(root), cache=tmp_path / "cache", **OPTIONS)
    with pytest.warns(DataWarning, match=r"events out of order of time, sorted: \d+ in 1 of its recordings, such as cat/0"):
        load(str(root), cache=tmp_path / "cache", sort_jumps=True, **OPTIONS)


def test_frames_of_an_older_rule_are_not_served(tmp_path, recordings, monkeypatch):
    """What a cache holds was counted by the rule of today, and not by blocks of rounded width."""
    root = write(tmp_path / "own", recordings)
    monkeypatch.setattr("tet_deploy.data.event_pipeline.EventPipeline.VERSION", 1)
    load(str(root), cache=tmp_path / "cache", **OPTIONS)
    monkeypatch.undo()
    load(str(root), cache=tmp_path / "cache", **OPTIONS)
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 2


def test_the_command_line_tells_it_in_one_line(tmp_path, recordings):
    """On standard error, without our code's line; of many processes, only the first one does."""
    root = write(tmp_path / "own", recordings)
    np.save(root / "cat/0.npy", wrapped(recordings[0]))
    load_it = f"data.load({str(root)!r}, steps=3, sensor_size=(20, 20), cache={str(tmp_path)!r})"
    code = f"from tet_deploy import cli, data; cli.app = lambda: {load_it}; cli.main()"
    line = r"warning: own: turns of a 16-bit counter of time, unrolled: \d in 1 of its recordings, such as cat/0\.\n"
    for rank, expected in (("0", line), ("1", "")):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "RANK": rank}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert re.fullmatch(expected, done.stderr)
