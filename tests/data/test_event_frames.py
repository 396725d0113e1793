"""Event frames count events in equal bins of time."""

import sys

import numpy as np
import pytest

from tet_deploy.data.event_camera import EVENT_DTYPE
from tet_deploy.data.event_frames import to_frames
from tet_deploy.errors import ArgumentError, MissingDependencyError

SENSOR = (7, 5, 2)  # width, height, polarities


def draw_events(rng, count, duration):
    events = np.zeros(count, EVENT_DTYPE)
    for name, high in (("x", 7), ("y", 5), ("p", 2)):
        events[name] = rng.integers(0, high, count)
    events["t"] = np.sort(rng.integers(0, duration, count))
    return events


@pytest.mark.parametrize(("steps", "duration"), [(1, 1000), (4, 1000), (7, 1000), (10, 300_000), (300, 300)])
def test_frames_equal_counting_by_hand(steps, duration):
    """Event (x, y, t, p) adds 1 to frame t // bin at [p, y, x], also where T does not divide the duration."""
    rng = np.random.default_rng(steps)
    samples = [draw_events(rng, count, duration) for count in (500, 1, 0, 200)]
    expected = np.zeros((steps, 4, 2, 5, 7), np.float32)
    for sample, events in enumerate(samples):
        for event in events:
            expected[int(event["t"]) // -(-duration // steps), sample, event["p"], event["y"], event["x"]] += 1
    found = to_frames(samples, steps=steps, duration=duration, sensor_size=SENSOR)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("steps", "samples"), [(0, 1), (-1, 1), (1001, 1), (5, 0)])
def test_impossible_bins_are_refused(steps, samples):
    """No step, more steps than microseconds, no sample."""
    with pytest.raises(ArgumentError, match="1 to 1000 steps"):
        to_frames([np.zeros(0, EVENT_DTYPE)] * samples, steps=steps, duration=1000, sensor_size=SENSOR)


def test_without_tonic_the_extra_is_named(monkeypatch):
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, "tonic.transforms", None)
    with pytest.raises(MissingDependencyError, match=r"tet_deploy\[events\]"):
        to_frames([np.zeros(0, EVENT_DTYPE)], steps=1, duration=10, sensor_size=SENSOR)
