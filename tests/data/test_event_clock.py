"""Time stamps become ticks in order: counters that wrapped are unrolled, shuffled events sorted, clocks set back refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tet_deploy.data.event_clock import in_order, ticks
from tet_deploy.data.event_columns import WIDE_EVENT_DTYPE
from tet_deploy.data.event_pipeline import EventPipeline
from tet_deploy.errors import DataError, DataWarning

RNG = np.random.default_rng(1)
TRUE = np.sort(RNG.integers(0, 2_000_000, 6000))
TRUE[0], TRUE[-1] = 0, 1_999_999


def moving_dot(t):
    """A dot that goes from left to right, whatever its time stamps say."""
    events = np.zeros(len(t), WIDE_EVENT_DTYPE)
    events["x"], events["y"], events["t"], events["p"] = np.arange(len(t)) * 16 // len(t), 3, t, np.arange(len(t)) % 2
    return events


def frames(events, **changes):
    return EventPipeline(**{"steps": 10, "sensor_size": (16, 8), **changes})(events, "own")


@pytest.mark.parametrize("bits", [16, 20, 23, 24, 31, 32])
@pytest.mark.parametrize("tick", [1, 1000])
@pytest.mark.parametrize("signed", [False, True])
def test_a_counter_that_wrapped_is_unrolled(bits, tick, signed):
    """The frames are those of a clock that never wraps, and one line says of how many bits it is and how often it did."""
    wrapped = (TRUE + 2**bits - 1_000_000) % 2**bits - signed * 2 ** (bits - 1)
    events = moving_dot(tick * wrapped)
    turns = int(np.count_nonzero(np.diff(wrapped) < 0))
    with pytest.warns(DataWarning, match=rf"^own: turns of a {bits}-bit counter of time, unrolled: {turns}\.$"):
        found = frames(events)
    expected = events.copy()
    expected["t"] = TRUE
    np.testing.assert_array_equal(found, frames(expected))
    np.testing.assert_array_equal(events["t"], tick * wrapped)  # what was given is left as it is


def test_events_out_of_order_around_a_wrap_are_sorted_after_it():
    """Both is told, and jitter across the wrap counts as no further one."""
    late = TRUE + RNG.integers(-300, 300, len(TRUE))
    with pytest.warns(DataWarning, match=r"24-bit counter of time, unrolled: 1; events out of order of time, sorted: \d+"):
        found = frames(moving_dot((late + 2**24 - 1_000_000) % 2**24))
    with pytest.warns(DataWarning, match=r"own: events out of order of time, sorted: \d+"):
        np.testing.assert_array_equal(found.sum((2, 3)), frames(moving_dot(late)).sum((2, 3)))


@given(
    seed=st.integers(0, 2**32), count=st.integers(1, 300), longest=st.sampled_from([1, 100, 2**13, 2**20 - 1, 2**24, 10**15])
)
def test_shuffled_events_are_sorted(seed, count, longest):
    """Whatever times they have, few or many, none is taken for a counter that wrapped or a clock that was set back."""
    rng = np.random.default_rng(seed)
    events = np.zeros(count, WIDE_EVENT_DTYPE)
    events["t"] = np.sort(rng.integers(0, longest, count))
    found, repairs = in_order("own", rng.permutation(events))
    np.testing.assert_array_equal(found, events)
    assert all("sorted" in what for what in repairs)


@pytest.mark.parametrize(
    "key",
    [
        lambda events: RNG.random(len(events)),
        lambda events: -events["t"],
        lambda events: events["t"] + RNG.normal(0, 1000, len(events)),
        lambda events: events["p"],
        lambda events: events["x"],
    ],
    ids=["shuffled", "backwards", "jitter", "by polarity", "by column"],
)
def test_events_in_another_order_give_the_same_frames(key):
    """Also sorted by polarity or column, with long runs of ordered time, which are no clock that was set back."""
    events = moving_dot(TRUE)
    events["x"] = RNG.integers(0, 16, len(events))
    shuffled = events[np.argsort(key(events), kind="stable")]
    before = shuffled.copy()
    with pytest.warns(DataWarning, match=r"^own: events out of order of time, sorted: \d+\.$"):
        np.testing.assert_array_equal(frames(shuffled), frames(events))
    np.testing.assert_array_equal(shuffled, before)


@pytest.mark.parametrize(
    "times",
    [
        np.concatenate([TRUE, TRUE]),
        np.concatenate([TRUE // 4, TRUE]),
        np.concatenate([np.full(5, 10**9), TRUE]),
        TRUE % 700_000,
    ],
    ids=["twice", "soon after the start", "left over from before", "no power of two"],
)
def test_a_clock_that_was_set_back_is_refused(times):
    """Sorting would lay the parts of the recording over each other; who wants that says so, and it is told."""
    with pytest.raises(
        DataError, match=r"own: time jumps back by \d+ after event \d+ of \d+.*clock was set back(.|\n)*sort_jumps"
    ):
        frames(moving_dot(times))
    with pytest.warns(DataWarning, match=r"sorted: \d+"):
        assert frames(moving_dot(times), sort_jumps=True).sum() == len(times)


@pytest.mark.parametrize(
    ("times", "expected", "rounded"),
    [
        (np.array([3, 7], "u2"), [3, 7], 0),
        (np.array([3, -7], "i4"), [3, -7], 0),
        (np.array([2**64 - 6, 0, 5], "u8"), [-6, 0, 5], 0),
        (np.array([3.0, 2.0**40]), [3, 2**40], 0),
        (np.array([0.5, 0.125]), [500, 125], 0),
        (np.array([0.1 + 0.2, 1]), [3, 10], 0),
        (np.array([0.5, 0.0625], "f2"), [5000, 625], 0),
        (np.array([1 / 3, 1e-4]), [333_333_333_333, 10**8], 1),
        (np.zeros(0), [], 0),
    ],
)
def test_times_are_counted_in_ticks(times, expected, rounded):
    """Whole numbers stay, decimals are counted in units of their last digit, and what must be rounded is counted."""
    found, count = ticks("own", times)
    assert (found.dtype, found.tolist(), count) == (np.int64, expected, rounded)


@given(
    stamps=st.lists(st.integers(0, 10**10), min_size=1, max_size=50),
    start=st.sampled_from([0, 17, 10**9]),
    how=st.sampled_from([lambda t: t / 1e6, lambda t: t * 1e-6, lambda t: t / 1e3]),
)
def test_seconds_are_microseconds(stamps, start, how):
    """Microseconds written as decimals in seconds or milliseconds come back one by one, whoever rounded last."""
    stamps = start + np.array(stamps)
    found, rounded = ticks("own", how(stamps))
    tick = max(1, int(stamps.max()) // max(1, int(found.max())))  # times that end in zeros need fewer digits
    assert rounded == 0
    np.testing.assert_array_equal(found * tick, stamps)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (np.array([0, np.nan]), "t must be finite numbers"),
        (np.array([0, np.inf]), "t must be finite numbers"),
        (np.array(["1"]), "t must be finite numbers.*got <U1"),
        (np.array([1, 2], "m8[us]"), "t must be finite numbers.*timedelta64"),
        (np.array([0, 1e300]), r"within 2\^62 of 0; found 0\.\.1e\+300"),
        (np.array([0, 2**62]), r"within 2\^62 of 0"),
        (np.array([0, 2**63], "u8"), r"within 2\^62 of 0"),
    ],
)
def test_times_that_are_none_are_refused(times, message):
    """Not finite, no numbers, or so far apart that their differences overflow."""
    with pytest.raises(DataError, match=message):
        ticks("own", times)
