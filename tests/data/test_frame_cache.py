"""Frames are computed once, kept on disk, read through a memory map, and computed again when anything changed."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from tet_deploy.data.frame_cache import cached_frames
from tet_deploy.errors import ArtifactError, DataError


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / "set" / part / name for part in ("a", "b") for name in ("0.bin", "1.bin")]
    for index, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([index]))
    return paths


@pytest.fixture
def cache(tmp_path, files):
    """Calls cached_frames and counts the computations."""
    computed = []

    def open_cache(settings=None, source=files, shape=(2, 1, 3, 3), dtype=np.uint16, **changes):
        def compute(index):
            computed.append(index)
            return np.full(shape, 10 * index + len(computed) // 100, dtype)

        keywords = {
            "name": "own",
            "notes": lambda: "known",
            "settings": settings or {"steps": 2},
            "files": source,
            "shape": shape,
            "folder": tmp_path / "c",
        }
        return cached_frames(compute, dtype=np.dtype(dtype), **{**keywords, **changes})

    open_cache.computed = computed
    return open_cache


def test_frames_are_computed_once(cache):
    """The second time nothing is computed, and the frames are the same."""
    first = [frames.copy() for frames in cache()]
    again = cache()
    assert cache.computed == [0, 1, 2, 3]
    assert len(again) == 4
    for index in range(4):
        np.testing.assert_array_equal(again[index], first[index])
        assert np.all(first[index] == 10 * index)


def test_frames_are_memory_mapped(cache):
    """A sample is a view into the file, and a source sent to another process takes the path along, not the frames."""
    frames = cache()
    base = frames[1]
    while not isinstance(base, np.memmap):
        base = base.base
    assert len(pickle.dumps(frames)) < 1000
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(frames))[3], frames[3])


def touch(files):
    os.utime(files[1], ns=(0, 12345))


def grow(files):
    files[1].write_bytes(b"more")


def rename(files):
    files[1].rename(files[1].with_name("9.bin"))
    files[1] = files[1].with_name("9.bin")


@pytest.mark.parametrize("change", [touch, grow, rename, lambda files: files.pop()])
def test_changed_files_are_read_again(cache, files, change):
    """Another time of change, size, name or number of files computes all frames anew."""
    cache()
    before = len(cache.computed)
    change(files)
    assert len(cache()) == len(files)
    assert len(cache.computed) == before + len(files)


def test_other_settings_have_their_own_frames(cache):
    """Frames of other settings are computed, and the first ones are still there."""
    cache()
    cache(settings={"steps": 3})
    assert len(cache.computed) == 8
    cache()
    cache(settings={"steps": 3})
    assert len(cache.computed) == 8


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("suffix", "damage"),
    [
        (".npy", flip_a_bit),
        (".npy", lambda path: path.write_bytes(path.read_bytes()[:-7])),
        (".npy", lambda path: path.write_bytes(b"")),
        (".npy", lambda path: path.unlink()),
        (".json", lambda path: path.unlink()),
        (".json", lambda path: path.write_text("{")),
        (".json", lambda path: path.write_text("[]")),
        (".json", lambda path: path.write_text("[" * 10**5)),
        (".json", lambda path: path.write_text(path.read_text().replace("known", "knowm"))),
    ],
)
def test_a_damaged_cache_is_computed_again(tmp_path, cache, suffix, damage):
    """One wrong bit, a file cut off, emptied or gone: the right frames come back."""
    cache()
    (path,) = (tmp_path / "c").glob(f"*{suffix}")
    damage(path)
    frames = cache()
    assert len(cache.computed) == 8
    assert all(np.all(frames[index] == 10 * index) for index in range(4))
    cache()
    assert len(cache.computed) == 8


def test_a_device_in_the_cache_is_named(tmp_path, cache):
    """A link to what never ends is neither read nor written through."""
    path = cache().path
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(ArtifactError, match="cannot be written, as it is a device"):
        cache()


def test_notes_are_kept_with_the_frames(cache):
    """What the first reading noted is there when the frames come from the cache, and travels to other processes."""
    first = cache(notes=lambda: {"known": [1, 2, "a"]})
    again = cache(notes=lambda: {"never": "asked"})
    assert first.notes == again.notes == pickle.loads(pickle.dumps(again)).notes == {"known": [1, 2, "a"]}


@pytest.mark.parametrize(
    "replace", [os.mkfifo, lambda path: path.symlink_to("gone"), lambda path: path.symlink_to("/dev/zero"), Path.touch]
)
def test_recordings_that_are_no_files_are_named(cache, files, replace):
    """A FIFO, a link to nothing or to a device, an empty file."""
    files[2].unlink()
    replace(files[2])
    with pytest.raises(ArtifactError, match=r"b/0\.bin: "):
        cache()


def test_nothing_is_left_of_a_failure(tmp_path, cache):
    """When a recording cannot be read, no file stays behind."""

    def refuse(done, total):
        raise DataError("broken")

    with pytest.raises(DataError, match="broken"):
        cache(progress=refuse)
    assert list((tmp_path / "c").iterdir()) == []


def test_progress_is_told(cache):
    """Each sample computed is one step; a cache that is there says nothing."""
    told = []
    cache(progress=lambda *step: told.append(step))
    cache(progress=lambda *step: told.append(step))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_folder_that_cannot_be_made_is_named(tmp_path, cache):
    """The error says which and what to do."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match=r"file/c: cannot be made .*another cache folder"):
        cache(folder=tmp_path / "file" / "c")


def test_the_default_is_the_users_cache_folder(tmp_path, cache, monkeypatch):
    """XDG_CACHE_HOME is followed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    assert cache(folder=None).path.parent == tmp_path / "home" / "tet_deploy" / "frames"
