"""The public event sets are read from small files in their makers' formats, or refused with advice."""

import re
from pathlib import Path

import numpy as np
import pytest

from tet_deploy.data import event_sets, load
from tet_deploy.data.event_sets import EVENT_SETS
from tet_deploy.errors import ArgumentError, ArtifactError, DataError, DataWarning, MissingDependencyError

CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def draw(rng, count, width, height, duration=100_000):
    """Events as lists of ints (x, y, t, p) in order of t."""
    t = np.sort(rng.integers(0, duration, count))
    return list(zip(*(a.tolist() for a in (rng.integers(0, width, count), rng.integers(0, height, count), t,
                                           rng.integers(0, 2, count))), strict=True))  # fmt: skip


def counted(events, steps, size, sensor):
    """Frames [T, 2, H, W] by hand: equal blocks of time from first to last event, pixels by their share of the sensor."""
    (height, width), (sensor_width, sensor_height) = size, sensor
    start, end = (found(t for _, _, t, _ in events) for found in (min, max))
    frames = np.zeros((steps, 2, height, width), np.float32)
    for x, y, t, p in events:
        block = min((t - start) * steps // (end - start), steps - 1)
        frames[block, p, y * height // sensor_height, x * width // sensor_width] += 1
    return frames


def mnist_bin(events):
    """Records of 40 bits: x, y, then 1 bit of polarity and 23 of time, the highest first."""
    return b"".join(bytes([x, y]) + ((p << 23) | t).to_bytes(3, "big") for x, y, t, p in events)


def write_n_mnist(root, rng, per_class=2):
    written = {}
    for part in ("Train", "Test"):
        for label in range(10):
            folder = root / "NMNIST" / part / str(label)
            folder.mkdir(parents=True)
            for index in range(per_class):
                events = draw(rng, 60, 34, 34)
                (folder / f"{index:05d}.bin").write_bytes(mnist_bin(events))
                written[part, label, index] = events
    return written


def write_gestures(root, rng):
    """Arrays float64 [N, 4] of x, y, p and milliseconds, named by their label, as tonic's makers cut them."""
    written = {}
    for folder, users in (("ibmGestureTrain", (1, 2)), ("ibmGestureTest", (24,))):
        for user in users:
            place = root / "DVSGesture" / folder / f"user{user:02d}_led"
            place.mkdir(parents=True)
            for label in range(11):
                events = draw(rng, 80, 128, 128, duration=600)
                np.save(place / f"{label}.npy", np.array([(x, y, p, t) for x, y, t, p in events], dtype=np.float64))
                written[folder, user, label] = events
    return written


def write_dvs_cifar10(root, rng, aedat4, per_class=10):
    written = {}
    for name in CIFAR_CLASSES:
        folder = root / "CIFAR10DVS" / name
        folder.mkdir(parents=True)
        for index in range(per_class):
            events = draw(rng, 40, 128, 128)
            (folder / f"cifar10_{name}_{index}.aedat4").write_bytes(aedat4(events))
            written[name, index] = events
    return written


def test_n_mnist_is_counted_event_by_event(tmp_path):
    """Frames of every .bin file hold all its events, in equal blocks of time, with its folder's label and part."""
    written = write_n_mnist(tmp_path, np.random.default_rng(0))
    data = load("n-mnist", steps=4, root=tmp_path, cache=tmp_path / "cache", partial=True)
    assert (data.shape, data.steps, data.encoding, data.classes) == ((2, 34, 34), 4, "events", 10)
    for part, source in (("Train", data.train), ("Test", data.test)):
        assert len(source) == 20
        for index, (frames, label) in enumerate(source):
            assert label == index // 2
            np.testing.assert_array_equal(frames, counted(written[part, label, index % 2], 4, (34, 34), (34, 34)))


def test_time_stamps_of_n_mnist_may_overflow(tmp_path):
    """A record with y = 240 moves the later ones by 2^13 microseconds and is no event itself."""
    write_n_mnist(tmp_path, np.random.default_rng(1))
    content = mnist_bin([(3, 4, 100, 1)]) + bytes([0, 240, 0, 0, 0]) + mnist_bin([(5, 6, 100, 0)])
    (tmp_path / "NMNIST/Train/0/00000.bin").write_bytes(content)
    with pytest.warns(
        DataWarning, match="marks of an overflow, each setting later events 8192 later: 1 in 1 of its recordings"
    ):
        data = load("n-mnist", steps=2, root=tmp_path, cache=tmp_path / "cache", partial=True)
    frames, _ = data.train[0]
    assert (frames.sum(), frames[0, 1, 4, 3], frames[1, 0, 6, 5]) == (2, 1, 1)


def test_gestures_are_counted_at_48x48(tmp_path):
    """The arrays that tonic's makers cut keep every event at 48x48, with the label in the file's name."""
    written = write_gestures(tmp_path, np.random.default_rng(2))
    data = load("dvs-gesture", steps=10, root=tmp_path, cache=tmp_path / "cache", partial=True)
    assert (data.shape, data.classes, len(data.train), len(data.test)) == ((2, 48, 48), 11, 22, 11)
    seen = set()
    for frames, label in data.test:
        events = [(x, y, 1000 * t, p) for x, y, t, p in written["ibmGestureTest", 24, label]]
        np.testing.assert_array_equal(frames, counted(events, 10, (48, 48), (128, 128)))
        seen.add(label)
    assert seen == set(range(11))


def test_dvs_cifar10_follows_the_paper(tmp_path, aedat4):
    """.aedat4 files become 10 blocks at 48x48 with no event lost; a tenth of each class is held out, by name."""
    pytest.importorskip("aedat", reason="tonic reads .aedat4 with it: pip install aedat")
    written = write_dvs_cifar10(tmp_path, np.random.default_rng(3), aedat4)
    data = load("dvs-cifar10", steps=10, root=tmp_path, cache=tmp_path / "cache", partial=True)
    assert (data.shape, data.steps, data.encoding) == ((2, 48, 48), 10, "events")
    np.testing.assert_array_equal(np.bincount(data.train.labels), np.full(10, 9))
    np.testing.assert_array_equal(np.bincount(data.test.labels), np.ones(10))
    expected = [counted(events, 10, (48, 48), (128, 128)) for events in written.values()]
    labels = [CIFAR_CLASSES.index(name) for name, _ in written]
    found = [*data.train, *data.test]
    assert sorted((label, frames.tobytes()) for frames, label in found) == sorted(
        (label, frames.tobytes()) for label, frames in zip(labels, expected, strict=True)
    )


def test_area_keeps_the_mean_count(tmp_path):
    """With resize="area" each step's mean count is that of the whole sensor, and the input is analog."""
    written = write_gestures(tmp_path, np.random.default_rng(4))
    data = load("dvs-gesture", steps=3, resize="area", root=tmp_path, cache=tmp_path / "cache", partial=True)
    frames, label = data.test[0]
    events = [(x, y, 1000 * t, p) for x, y, t, p in written["ibmGestureTest", 24, label]]
    whole = counted(events, 3, (128, 128), (128, 128))
    np.testing.assert_allclose(frames.mean(axis=(2, 3)), whole.mean(axis=(2, 3)), rtol=1e-5)  # float32 sums
    assert data.encoding == "analog"


@pytest.mark.parametrize("name", EVENT_SETS)
def test_a_missing_set_says_where_to_get_it_and_where_to_put_it(tmp_path, name, monkeypatch):
    """The folder, the page and tonic's name stand in the error, and nothing is downloaded."""

    def refuse(self):
        raise AssertionError("tried to download")

    monkeypatch.setattr("tonic.dataset.Dataset.download", refuse)
    about = EVENT_SETS[name]
    for folder in (tmp_path, tmp_path / about.tonic):
        folder.mkdir(exist_ok=True)
        with pytest.raises(DataError) as caught:
            load(name, steps=10, root=tmp_path)
        for part in (str(tmp_path / about.tonic), about.page, about.tonic, "TET_DEPLOY_DATA"):
            assert part in str(caught.value)


def test_the_folder_may_come_from_the_environment(tmp_path, monkeypatch):
    """Without root=, TET_DEPLOY_DATA says where the sets lie."""
    monkeypatch.setenv("TET_DEPLOY_DATA", str(tmp_path))
    with pytest.raises(DataError, match=str(tmp_path / "NMNIST")):
        load("n-mnist", steps=10)


def test_an_incomplete_set_is_refused_unless_asked_for(tmp_path):
    """Without partial=True, the number of recordings must be the makers'."""
    write_n_mnist(tmp_path, np.random.default_rng(5))
    with pytest.raises(DataError, match=r"found 20 of 60000 recordings \(train\)"):
        load("n-mnist", steps=4, root=tmp_path, cache=tmp_path)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b"", ArtifactError, r"00000\.bin: is empty"),
        (mnist_bin([(1, 1, 5, 0)])[:-2], ArtifactError, "it has 3 bytes"),
        (mnist_bin([(1, 1, 5, 0), (34, 1, 50, 0)]), DataError, r"00000\.bin: x must lie in 0\.\.33.*found 1\.\.34"),
        (mnist_bin([(1, 1, 5, 0), (1, 2, 6, 0)]), DataError, "ticks 2 times from first to last event, too seldom for 4"),
        (bytes([0, 240, 0, 0, 0]), DataError, "holds no event"),
    ],
)
def test_a_broken_recording_is_named(tmp_path, content, error, message):
    """Truncated records, pixels off the sensor, too little time, no event."""
    write_n_mnist(tmp_path, np.random.default_rng(6))
    (tmp_path / "NMNIST/Train/0/00000.bin").write_bytes(content)
    with pytest.raises(error, match=message):
        load("n-mnist", steps=4, root=tmp_path, cache=tmp_path / "cache", partial=True)
    assert not list((tmp_path / "cache").glob("*.npy"))


def test_damaged_gestures_are_named(tmp_path):
    """A truncated .npy, one of another shape, and a label out of range."""
    write_gestures(tmp_path, np.random.default_rng(7))
    place = tmp_path / "DVSGesture/ibmGestureTrain/user01_led"
    whole = (place / "0.npy").read_bytes()
    for content in (whole[:-8], b"nothing"):
        (place / "0.npy").write_bytes(content)
        with pytest.raises(ArtifactError, match=r"0\.npy"):
            load("dvs-gesture", steps=4, root=tmp_path, cache=tmp_path / "cache", partial=True)
    np.save(place / "0.npy", np.zeros((5, 3)))
    with pytest.raises(ArtifactError, match=r"0\.npy"):
        load("dvs-gesture", steps=4, root=tmp_path, cache=tmp_path / "cache", partial=True)
    (place / "0.npy").rename(place / "11.npy")
    with pytest.raises(DataError, match=r"11\.npy: label must be in 0\.\.10; got 11"):
        load("dvs-gesture", steps=4, root=tmp_path, cache=tmp_path / "cache", partial=True)


def test_files_are_read_as_tonics_own_sets_read_them(tmp_path, aedat4):
    """The events of each public format are those that tonic's data set gives for the same file."""
    pytest.importorskip("aedat", reason="reads .aedat4: pip install aedat")
    rng = np.random.default_rng(9)
    write_dvs_cifar10(tmp_path, rng, aedat4, per_class=1)
    write_n_mnist(tmp_path, rng, per_class=1)
    write_gestures(tmp_path, rng)
    content = mnist_bin([(3, 4, 100, 1)]) + bytes([0, 240, 0, 0, 0]) * 3 + mnist_bin([(5, 6, 100, 0)])
    (tmp_path / "NMNIST/Train/0/00000.bin").write_bytes(content)
    for about in EVENT_SETS.values():
        dataset = event_sets._tonic_dataset("own", about, tmp_path, "train")
        for path, (expected, _) in zip(dataset.data, dataset, strict=True):
            found = about.read(Path(path)).events
            for name in "xyp":
                np.testing.assert_array_equal(found[name], expected[name])
            np.testing.assert_array_equal(found["t"] * (1000 if about.tonic == "DVSGesture" else 1), expected["t"])


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (0, 70_000, r"0\.npy: x must lie in 0\.\.127 .*\.\.70000"),
        (0, np.nan, r"0\.npy: x must be whole numbers"),
        (2, 2, r"0\.npy: polarity must be 0 or 1"),
        (3, np.inf, r"0\.npy: t must be finite"),
    ],
)
def test_gestures_that_hold_what_they_cannot_are_refused(tmp_path, column, value, message):
    """tonic's reader would wrap a column of 70,000 to 4,464 and make a polarity of 2 a 1."""
    write_gestures(tmp_path, np.random.default_rng(7))
    path = tmp_path / "DVSGesture/ibmGestureTrain/user01_led/0.npy"
    array = np.load(path)
    array[3, column] = value
    np.save(path, array)
    with pytest.raises(DataError, match=message):
        load("dvs-gesture", steps=4, root=tmp_path, cache=tmp_path / "cache", partial=True)


def test_folders_that_only_end_like_a_class_are_refused(tmp_path):
    """tonic labels N-MNIST's files by the last letter of their folder, so a folder 10 would be zeros."""
    write_n_mnist(tmp_path, np.random.default_rng(6))
    (tmp_path / "NMNIST/Train/9").rename(tmp_path / "NMNIST/Train/19")
    with pytest.raises(DataError, match=r"Train/19/0000.\.bin: lies in no class of n-mnist"):
        load("n-mnist", steps=4, root=tmp_path, cache=tmp_path / "cache", partial=True)


def test_files_that_are_not_taken_are_told(tmp_path):
    """Event files of another kind beside the set's are counted, in one line and in `repairs`, from the cache as well."""
    write_n_mnist(tmp_path, np.random.default_rng(6))
    (tmp_path / "NMNIST/Train/0/00007.npy").write_bytes(b"")
    for _ in range(2):
        with pytest.warns(
            DataWarning, match=r"^n-mnist: files of another kind or place, left out: 1, such as .*00007\.npy\.$"
        ):
            data = load("n-mnist", steps=4, root=tmp_path, cache=tmp_path / "cache", partial=True)
        assert [repair.total for repair in data.repairs.values()] == [1]


def test_dvs_cifar10_in_its_first_format_is_told_how_to_be_loaded(tmp_path):
    """Files .aedat in the set's folder: the message names them, and what it says loads them."""
    for label, name in enumerate(CIFAR_CLASSES):
        folder = tmp_path / "CIFAR10DVS" / name
        folder.mkdir(parents=True)
        for index in range(2):
            address = (np.arange(40) + index) % 128 << 1 | (np.arange(40) + label) % 128 << 8
            records = np.stack([address, np.arange(40) * 10], 1).astype(">u4")
            (folder / f"cifar10_{name}_{index}.aedat").write_bytes(b"#!AER-DAT2.0\r\n" + records.tobytes())
    with pytest.raises(DataError, match=r"found 0 of 10000 .* and 20 files \.aedat\.\n") as caught:
        load("dvs-cifar10", steps=4, root=tmp_path, partial=True)
    call = re.search(r"load\((.*), \.\.\.\)\.", str(caught.value))[1]
    with pytest.warns(DataWarning, match="headers that name no camera, read as a DVS128's: 20 in 20 of its recordings"):
        data = eval(f"load({call}, steps=4, cache=cache)", {"load": load, "cache": tmp_path / "cache"})
    assert (len(data.train), len(data.test), data.shape) == (10, 10, (2, 48, 48))


@pytest.mark.parametrize("cut", [0, 10, 300, -100])
def test_damaged_aedat4_files_are_named(tmp_path, aedat4, cut):
    """A truncated recording of DVS-CIFAR10 gives an error with its name."""
    pytest.importorskip("aedat", reason="tonic reads .aedat4 with it: pip install aedat")
    write_dvs_cifar10(tmp_path, np.random.default_rng(8), aedat4, per_class=2)
    broken = tmp_path / "CIFAR10DVS/bird/cifar10_bird_1.aedat4"
    broken.write_bytes(broken.read_bytes()[:cut])
    with pytest.raises(ArtifactError, match=r"cifar10_bird_1\.aedat4: (is damaged or cut off|is empty)"):
        load("dvs-cifar10", steps=10, root=tmp_path, cache=tmp_path / "cache", partial=True)


def test_a_folder_that_is_no_class_is_named(tmp_path):
    """Folders that the makers did not publish are refused, not skipped; so is a class without recordings."""
    for name in (*CIFAR_CLASSES[:-1], "lorry"):
        (tmp_path / "CIFAR10DVS" / name).mkdir(parents=True)
        (tmp_path / "CIFAR10DVS" / name / f"{name}.aedat4").write_bytes(b"")
    with pytest.raises(DataError, match=r"no class of dvs-cifar10 .*lorry"):
        load("dvs-cifar10", steps=10, root=tmp_path)


@pytest.mark.parametrize(
    ("name", "augmentation", "message"),
    [
        ("n-mnist", {"flip": True}, "no digit"),
        ("dvs-gesture", {"flip": True}, "right hand"),
        ("dvs-cifar10", {"resized_crop": True}, "image files"),
        ("dvs-cifar10", {"rol": 5}, "Did you mean 'roll'"),
    ],
)
def test_unsuitable_augmentation_is_refused(tmp_path, name, augmentation, message):
    """A mirror that changes the class, a change of image files only, a misspelt one."""
    with pytest.raises(ArgumentError, match=message):
        load(name, steps=4, root=tmp_path, augmentation=augmentation)


def test_without_tonic_the_extra_is_named(tmp_path, monkeypatch):
    """The error says what to install."""
    import sys

    import tonic

    monkeypatch.delattr(tonic, "datasets")
    monkeypatch.setitem(sys.modules, "tonic.datasets", None)
    with pytest.raises(MissingDependencyError, match=r"tet-deploy\[events\]"):
        load("n-mnist", steps=4, root=tmp_path)
