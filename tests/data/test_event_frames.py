"""Event frames count events in blocks of time that are equal, exactly, in any unit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tonic.transforms import ToFrame

from tet_deploy.data.event_camera import EVENT_DTYPE
from tet_deploy.data.event_frames import to_frames
from tet_deploy.errors import ArgumentError, DataError

SENSOR = (7, 5, 2)  # width, height, polarities


def draw_events(rng, count, duration):
    events = np.zeros(count, EVENT_DTYPE)
    for name, high in (("x", 7), ("y", 5), ("p", 2)):
        events[name] = rng.integers(0, high, count)
    events["t"] = np.sort(rng.integers(0, duration, count))
    return events


@pytest.mark.parametrize(
    ("steps", "duration"), [(1, 1000), (4, 1000), (7, 1000), (10, 300_000), (300, 300), (10, 6), (7, 2**61)]
)
def test_frames_equal_counting_by_hand(steps, duration):
    """Event (x, y, t, p) adds 1 to frame floor(t T / duration) at [p, y, x], also where T does not divide the duration."""
    rng = np.random.default_rng(steps)
    samples = [draw_events(rng, count, duration) for count in (500, 1, 0, 200)]
    samples[1]["t"] = duration  # the end belongs to the last block
    expected = np.zeros((steps, 4, 2, 5, 7), np.float32)
    for sample, events in enumerate(samples):
        for x, y, t, p in events.tolist():
            expected[min(t * steps // duration, steps - 1), sample, p, y, x] += 1
    found = to_frames(samples, steps=steps, duration=duration, sensor_size=SENSOR)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


@given(steps=st.integers(1, 40), duration=st.integers(1, 2000), unit=st.sampled_from([1, 7, 1000, 10**12]))
def test_blocks_are_equal_in_any_unit(steps, duration, unit):
    """An event a tick: no block has two more than another, the last has its share, and a finer unit changes nothing."""
    events = np.zeros(duration, np.dtype([("x", int), ("y", int), ("t", int), ("p", int)]))
    events["t"] = np.arange(duration)
    counts = to_frames([events], steps=steps, duration=duration, sensor_size=(1, 1, 1)).ravel()
    assert counts.sum() == duration
    assert counts.max() - counts.min() <= 1
    events["t"] *= unit
    np.testing.assert_array_equal(
        to_frames([events], steps=steps, duration=duration * unit, sensor_size=(1, 1, 1)).ravel(), counts
    )


def test_frames_are_tonics_where_the_blocks_are_whole():
    """Where T divides the duration, tonic's ToFrame counts the same."""
    events = draw_events(np.random.default_rng(0), 500, 1000)
    expected = ToFrame(sensor_size=SENSOR, time_window=250, start_time=0, end_time=1000)(events)
    np.testing.assert_array_equal(to_frames([events], steps=4, duration=1000, sensor_size=SENSOR)[:, 0], expected)


def test_a_pixel_may_count_more_than_16_bits():
    """100,000 events of a pixel in a block are 100,000."""
    events = np.zeros(100_000, EVENT_DTYPE)
    assert to_frames([events], steps=1, duration=1, sensor_size=SENSOR).max() == 100_000


@pytest.mark.parametrize(("steps", "duration", "samples"), [(0, 9, 1), (-1, 9, 1), (5, 0, 1), (5, 9, 0)])
def test_impossible_blocks_are_refused(steps, duration, samples):
    """No step, no time, no sample."""
    with pytest.raises(ArgumentError, match="need at least one step"):
        to_frames([np.zeros(0, EVENT_DTYPE)] * samples, steps=steps, duration=duration, sensor_size=SENSOR)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("t", -1, r"t must lie in 0\.\.10"),
        ("t", 11, r"t must lie"),
        ("x", 7, "outside"),
        ("y", -1, "outside"),
        ("p", 2, "outside"),
    ],
)
def test_no_event_is_dropped(column, value, message):
    """What lies outside of the time or the sensor is an error."""
    events = np.zeros(3, EVENT_DTYPE)
    events[column][1] = value
    with pytest.raises(DataError, match=message):
        to_frames([events], steps=2, duration=10, sensor_size=SENSOR)
