"""A recording becomes T blocks of equal time in which every event is counted once."""

import numpy as np
import pytest
from tonic import transforms

from tet_deploy.data.event_camera import EVENT_DTYPE
from tet_deploy.data.event_pipeline import EventPipeline
from tet_deploy.errors import ArgumentError, DataError


def draw(rng, count, width=128, height=96, start=0, duration=1_000_000):
    events = np.zeros(count, EVENT_DTYPE)
    for name, high in (("x", width), ("y", height), ("p", 2)):
        events[name] = rng.integers(0, high, count)
    events["t"] = start + np.sort(rng.integers(0, duration, count))
    return events


def pipeline(**changes):
    return EventPipeline(**{"steps": 10, "sensor_size": (128, 96), "size": (36, 48), **changes})


@pytest.mark.parametrize("steps", [1, 4, 7, 10])
@pytest.mark.parametrize("size", [None, (36, 48), (96, 128), (1, 1), (50, 33)])
def test_frames_equal_counting_by_hand(steps, size):
    """Event (x, y, t, p) adds 1 to block floor((t - first) T / (last - first)), at its share of the sensor."""
    events = draw(np.random.default_rng(steps), 3000, start=123_456)
    found = pipeline(steps=steps, size=size)(events, "own")
    height, width = size or (96, 128)
    expected = np.zeros((steps, 2, height, width))
    first, last = int(events["t"][0]), int(events["t"][-1])
    for x, y, t, p in events.tolist():
        block = min((t - first) * steps // (last - first), steps - 1)
        expected[block, p, y * height // 96, x * width // 128] += 1
    np.testing.assert_array_equal(found, expected)
    assert (found.dtype, found.sum()) == (np.uint16, 3000)


def test_pixels_go_where_tonic_sends_them():
    """From 128x128 to 48x48, as in the paper, the pixels are those of tonic's Downsample."""
    events = draw(np.random.default_rng(0), 5000, height=128)
    small = transforms.Downsample(sensor_size=(128, 128, 2), target_size=(48, 48))(events)
    expected = transforms.ToFrame(sensor_size=(48, 48, 2), time_window=10**7, include_incomplete=True)(small)
    found = EventPipeline(steps=1, sensor_size=(128, 128), size=(48, 48))(events, "own")
    np.testing.assert_array_equal(found, expected)


def test_counts_are_not_cut_at_one():
    """A pixel with 300 events in a block has the count 300."""
    events = draw(np.random.default_rng(0), 300, width=1, height=1)
    events["p"] = 1
    assert pipeline(steps=1)(events, "own")[0, 1, 0, 0] == 300


def in_unit(events, unit):
    """The same recording with its times in another unit, of another type."""
    wide = np.zeros(len(events), [("x", "u2"), ("y", "u2"), ("t", np.asarray(unit(events["t"][:1])).dtype), ("p", "?")])
    for name in "xyp":
        wide[name] = events[name]
    wide["t"] = unit(events["t"])
    return wide


@pytest.mark.parametrize(
    "unit",
    [
        lambda t: t / 1e6,
        lambda t: t / 1e3 + 5,
        lambda t: t * 1000,
        lambda t: t - 10**12,
        lambda t: t + 2**61,
        lambda t: t.astype("u4"),
        lambda t: (t - 10**7).view("u8"),
        lambda t: t.astype("f4"),
    ],
    ids=["seconds", "milliseconds", "nanoseconds", "negative", "huge", "unsigned", "lost its sign", "float32"],
)
@pytest.mark.parametrize("steps", [3, 7, 10])
def test_the_unit_of_time_does_not_matter(unit, steps):
    """Frames are the same in seconds, nanoseconds, from any zero and in any type."""
    events = draw(np.random.default_rng(1), 500)
    np.testing.assert_array_equal(pipeline(steps=steps)(in_unit(events, unit), "own"), pipeline(steps=steps)(events, "own"))


@pytest.mark.parametrize("steps", [3, 7, 9, 10])
def test_coarse_clocks_leave_no_block_empty(steps):
    """A recording of 11 ticks of 10 ms fills all blocks, up to the last; one of fewer ticks than blocks is refused."""
    events = np.repeat(draw(np.random.default_rng(1), 11), 4)
    events["t"] = 10_000 * np.repeat(np.arange(11), 4)
    counts = pipeline(steps=steps)(events, "own").sum((1, 2, 3))
    assert counts.sum() == 44
    assert counts.max() - counts.min() <= 4
    assert pipeline(steps=12)(events[::4], "own").sum() == 11  # of single events, it does not show how the clock ticks
    with pytest.raises(DataError, match="ticks 11 times from first to last event, too seldom for 12 blocks"):
        pipeline(steps=12)(events, "own")


def test_area_is_the_mean_of_the_pixels_covered():
    """Where the sizes divide, each new pixel is the mean of a block; elsewhere the shares keep the whole mean."""
    events = draw(np.random.default_rng(2), 5000)
    whole = pipeline(size=None)(events, "own").astype(np.float64)
    halves = pipeline(size=(48, 64), resize="area")(events, "own")
    np.testing.assert_allclose(halves, whole.reshape(10, 2, 48, 2, 64, 2).mean(axis=(3, 5)), atol=1e-6)  # float32
    odd = pipeline(size=(7, 100), resize="area")
    found = odd(events, "own")
    assert (found.dtype, odd.encoding) == (np.float32, "analog")
    np.testing.assert_allclose(found.mean(axis=(2, 3)), whole.mean(axis=(2, 3)), rtol=1e-5)  # float32


def changed(**columns):
    events = draw(np.random.default_rng(3), 20)
    for name, value in columns.items():
        events[name][7] = value
    return events


def in_pixels(move):
    events = draw(np.random.default_rng(3), 5000)
    events["x"], events["y"] = move(events["x"].copy(), events["y"].copy())
    return events


@pytest.mark.parametrize(
    ("events", "message"),
    [
        (changed(x=128), r"own: x must lie in 0\.\.127 on a camera of 128 x 96 pixels; found \d+\.\.128"),
        (changed(y=96), r"own: y must lie in 0\.\.95"),
        (changed(x=-1), r"found -1\.\.\d+\. Pixels before the first one"),
        (in_pixels(lambda x, y: (y, x)), r"x and y seem to be exchanged.*it fits \(96, 128\)"),
        (in_pixels(lambda x, y: (x + 1, y + 1)), r"found \d+\.\.128\. Its pixels seem to be counted from 1: subtract 1"),
        (draw(np.random.default_rng(0), 0), "own: holds no event"),
        (
            draw(np.random.default_rng(0), 5, duration=3),
            "own: its clock ticks . times from first to last event, too seldom for 10",
        ),
        (draw(np.random.default_rng(0), 1_500_000, width=1, height=1, duration=20), "more than 65535 events"),
    ],
)
def test_recordings_that_do_not_fit_are_named(events, message):
    """Pixels off the sensor, no event, no time, more events than can be counted."""
    with pytest.raises(DataError, match=message):
        pipeline(size=None)(events, "own")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "at least 1; got 0"),
        ({"size": (97, 48)}, r"between .* and the camera's \(96, 128\)"),
        ({"size": (0, 48)}, "between"),
        ({"resize": "bilinear"}, "must be one of bin, area"),
    ],
)
def test_wrong_settings_are_refused(changes, message):
    """No step, frames larger than the sensor, an unknown way to resize."""
    with pytest.raises(ArgumentError, match=message):
        pipeline(**changes)
