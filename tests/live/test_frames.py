"""Frames of equal time hold every event once, or it is counted why not, whatever comes and however it is paced."""

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tet_deploy.data.event_columns import WIDE_EVENT_DTYPE
from tet_deploy.live import bins
from tet_deploy.live.frames import LiveFrames
from tet_deploy.live.notes import Notes

LENGTH, WINDOW = 100, 4


def at(*times, x=0, y=0, p=0):
    events = np.zeros(len(times), WIDE_EVENT_DTYPE)
    events["t"], events["x"], events["y"], events["p"] = times, x, y, p
    return events


class Given:
    """Hands over the events of a list of arrays, one array a read."""

    def __init__(self, *parts):
        self.parts = list(parts)

    def read(self, timeout):
        return self.parts.pop(0) if self.parts else None


def frames(*parts, fast=True, length=LENGTH, **options):
    told: list[str] = []
    notes = Notes(told.append)
    options = {"sensor_size": (4, 3), "size": (3, 4), "window": WINDOW, "late": "drop", **options}
    live = LiveFrames(Given(*parts), length=length, fast=fast, notes=notes, **options)
    return live, notes, told


def shown(*parts, **options):
    """(start, events) of each frame, None where a stretch ends, and the notes."""
    live, notes, told = frames(*parts, **options)
    return [found and (found.start, found.events) for found in live], dict(notes.counts), told


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 200),
    parts=st.integers(1, 6),
    mean=st.sampled_from([1, 20, 90, 300]),
)
def test_frames_equal_counting_by_hand(seed, count, parts, mean):
    """Event (x, y, t, p) adds 1 to frame floor((t - first) / length) of its stretch, in whatever parts it comes."""
    rng = np.random.default_rng(seed)
    events = at(*(10**15 + np.cumsum(rng.poisson(mean, count))).tolist())
    for name, high in (("x", 4), ("y", 3), ("p", 2)):
        events[name] = rng.integers(0, high, count)
    expected, start, last = {}, None, None
    for x, y, t, p in events.tolist():
        if start is None or (t - start) // LENGTH - last > WINDOW:
            start = t
        last = (t - start) // LENGTH
        expected.setdefault(start + last * LENGTH, np.zeros((2, 3, 4)))[p, y, x] += 1
    live, notes, _ = frames(*np.array_split(events, parts))
    found = [frame for frame in live if frame is not None]
    held = {frame.start: frame.counts for frame in found if frame.events}
    assert held.keys() == expected.keys() and all(np.array_equal(held[key], expected[key]) for key in held)
    assert all(after.start >= before.end for before, after in itertools.pairwise(found))
    assert live.events == count and notes.counts.keys() <= {"silences"}


def test_a_window_of_silence_ends_a_stretch():
    """Its frames are empty ones; the next begins with the next event, however far away; a shorter gap changes nothing."""
    found, counts, told = shown(at(0, 450), at(10**17, 10**17 + 10))
    silent = [(0, 1), (100, 0), (200, 0), (300, 0), (400, 1), (500, 0), (600, 0), (700, 0), (800, 0)]
    assert found == [*silent, None, (10**17, 2), None]
    assert counts == {"silences": 1} and "no event for 0.0004 s" in told[0]


def test_a_clock_that_was_set_back_begins_anew():
    """What was open is shown first, and cut; a lesser step back is a late event."""
    found, counts, told = shown(at(10_000, 10_150, 3), at(5, 10, 7_000))
    assert found[:4] == [(10_000, 1), (10_100, 1), None, (3, 3)] and found[-2:] == [(7_000, 1), None]
    assert counts == {"times that the clock was set back": 1, "silences": 1}
    assert "by 10,147 microseconds" in told[0]


@pytest.mark.parametrize(("late", "expected"), [("drop", [1, 1, 2]), ("merge", [1, 1, 3])])
def test_a_late_event_is_dropped_or_merged(late, expected):
    """One whose frame was closed before it came; within an open frame the order does not matter."""
    found, counts, _ = shown(at(0), at(110), at(220), at(30), at(215), late=late)
    assert [each and each[1] for each in found] == [*expected, None]
    assert counts == {f"late events, {'dropped' if late == 'drop' else 'merged into the next frame'}": 1}


def test_events_outside_of_the_sensor_are_left_out():
    """Before pixels are brought to the frames' size, and the first is told with where it was."""
    live, notes, told = frames(at(0, 1, x=7), at(2, x=8), at(3, x=-1), at(4, y=3), sensor_size=(8, 3))
    (frame, cut) = live
    assert frame.counts[0, 0].tolist() == [0, 0, 0, 2] and cut is None
    assert notes.counts == {"events outside of the sensor, left out": 3} and "(8, 0) is none of 8 x 3 pixels" in told[0]


@pytest.mark.parametrize("parts", [(), (at(),), (at(), at(5, x=99), at())])
def test_no_event_is_no_frame(parts):
    """An empty input, and one without an event that can be shown."""
    assert shown(*parts)[0] == []


@pytest.mark.parametrize("late", ["drop", "merge"])
def test_who_is_too_slow_gets_the_newest_frame_or_all_in_one(late):
    """In real time, with each frame taken for longer than many last: no event is lost uncounted, and no frame."""
    events = at(*range(0, 100_000, 500))  # 50 frames of 2 ms with 4 events
    live, notes, _ = frames(events, fast=False, length=2_000, late=late)
    found = []
    for frame in live:
        found += [frame] if frame is not None else []
        time.sleep(0.02)
    total = sum(frame.events for frame in found)
    if late == "merge":
        assert total == 200 and len(found) + notes.counts["frames merged into the next, as they waited"] == 50
        assert sum(frame.end - frame.start for frame in found) == 100_000
    else:
        assert total + notes.counts["events in dropped frames"] == 200
        assert len(found) + notes.counts["frames dropped, as they waited"] == 50
    assert len(found) < 50


def test_real_time_is_kept():
    """No frame is there before it is over, also where all events come at once."""
    begun = time.monotonic()
    for number, frame in enumerate(frames(at(0, 30_000, 60_000), fast=False, length=30_000)[0]):
        assert frame is None or time.monotonic() - begun >= (number + 1) * 0.03


def test_a_flood_of_events_in_one_frame_is_counted_as_it_comes(monkeypatch):
    """Also where events are too many to be kept until their frame is closed."""
    rng = np.random.default_rng(0)
    events = at(*np.sort(rng.integers(0, 250, 900)).tolist(), x=rng.integers(0, 4, 900), p=rng.integers(0, 2, 900))
    expected = [frame.counts for frame in frames(events)[0] if frame]
    monkeypatch.setattr(bins, "_MANY", 50)
    found = [frame.counts for frame in frames(*np.array_split(events, 40))[0] if frame]
    assert np.array_equal(found, expected) and np.sum(found) == 900
