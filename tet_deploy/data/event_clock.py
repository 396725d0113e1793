"""Time stamps to whole ticks in order: a counter that wrapped is unrolled, a clock that was set back is refused."""

from __future__ import annotations

import numpy as np

from tet_deploy.errors import DataError

_LARGEST = 2**62  # ticks: differences of two such times are still int64
_EXACT = 2**53  # up to here float64 holds every whole number
_DECIMALS = 12
_NARROWEST = 13  # bits of a counter of time: 8 ms in microseconds
_DENSE = 64  # events that a turn of the counter would have at their mean distance, or its turns cannot be told
_NEAR = 4  # times the longest gap elsewhere: no longer is the gap where a counter wrapped
_STRETCH = 32  # events between two jumps back, on average, for these to mean something; shuffled events have about 2


def ticks(name: str, t: np.ndarray) -> tuple[np.ndarray, int]:
    """Times in whole ticks, and how many had to be rounded for it.

    Whole numbers stay as they are; unsigned ones from 2^63 on have lost their sign and get it back. Decimals, such as
    seconds, are counted in units of their last digit: 0.5 and 0.125 become 500 and 125.

    Raises
    ------
    DataError
        Not numbers, not finite, or too large.
    """
    if t.dtype.kind not in "iubf" or not np.isfinite(t).all():
        raise DataError(f"{name}: t must be finite numbers, in any unit; got {t.dtype}. Convert it.")
    if len(t) and t.dtype.kind == "f" and float(np.abs(t).max()) >= _LARGEST:
        raise DataError(f"{name}: t must lie within 2^62 of 0; found {t.min():g}..{t.max():g}. Convert it.")
    whole, rounded = _whole(t) if t.dtype.kind == "f" else (t.astype(np.int64), 0)
    if len(t) and not -_LARGEST < int(whole.min()) <= int(whole.max()) < _LARGEST:
        raise DataError(f"{name}: t must lie within 2^62 of 0; found {t.min()}..{t.max()}. Convert it.")
    return whole, rounded


def in_order(name: str, events: np.ndarray, *, sort_jumps: bool = False) -> tuple[np.ndarray, dict[str, int]]:
    """Events in order of time, and what was done for it.

    A counter of k bits that wrapped falls by about 2^k ticks while the events go on as densely as before: it is unrolled.
    Other events out of order are sorted. But where time falls by more than an eighth of the recording between long stretches
    that are in order, its clock was set back, and sorting would lay these over each other: that is refused, unless the jumps
    stand where p, x or y goes up, so that the events are sorted by this column, or `sort_jumps` allows it.

    Raises
    ------
    DataError
        A clock that was set back.
    """
    t = events["t"]
    repairs: dict[str, int] = {}
    back = t[1:] < t[:-1]
    if not back.any():
        return events, repairs
    if not any(_goes_up_at(events[column], back) for column in "pxy"):
        unrolled, bits, turns = _unrolled(t)
        if turns:
            repairs[f"turns of a {bits}-bit counter of time, unrolled"] = turns
            events = events.copy()
            events["t"] = t = unrolled
        elif not sort_jumps:
            _check_jumps(name, t)
    late = int(np.count_nonzero(np.maximum.accumulate(t) > t))
    if late:
        repairs["events out of order of time, sorted"] = late
        events = events[np.argsort(t, kind="stable")]
    return events, repairs


def _whole(t: np.ndarray) -> tuple[np.ndarray, int]:
    """Decimals in units of their last digit, and how many have more digits than are told apart."""
    exact, noise = t.astype(np.float64), 2 * np.spacing(np.abs(t)).astype(np.float64)  # 3 * 1e-6 is not quite 3e-6
    largest = np.abs(exact).max(initial=0)
    for digits in range(_DECIMALS + 1):
        unit = 10.0**digits
        if digits and largest * unit >= _EXACT:
            break
        whole = np.rint(exact * unit)
        rounded = np.abs(whole / unit - exact) > noise
        if not rounded.any():
            break
    return whole.astype(np.int64), int(rounded.sum())


def _goes_up_at(column: np.ndarray, back: np.ndarray) -> bool:
    """Whether a column never falls, and time falls where it rises and nowhere else; at half of these places will do."""
    rises = np.diff(column.astype(np.int64))
    return bool(rises.min() >= 0 and rises[back].min() > 0 and 2 * back.sum() >= np.count_nonzero(rises))


def _unrolled(t: np.ndarray) -> tuple[np.ndarray, int, int]:
    """Times as a counter that does not wrap would show them, the bits of the one that did, and how often it did."""
    steps = np.diff(t)
    tick, span = int(np.gcd.reduce(steps)), int(t.max()) - int(t.min())
    bits = (span // tick).bit_length()
    period = tick << bits
    if bits < _NARROWEST or np.count_nonzero(2 * np.abs(steps) > period) * period >= _LARGEST:
        return t, bits, 0
    unrolled = np.unwrap(t, period=period)
    gaps = np.diff(unrolled)
    turned = gaps != steps
    wrapped = (
        turned.any()
        and gaps[turned].max() <= _NEAR * gaps[~turned].max(initial=0)
        and int(np.ptp(unrolled)) * _DENSE <= period * len(t)
        and int((np.maximum.accumulate(unrolled) - unrolled).max()) * _DENSE <= period
    )
    return (unrolled, bits, int(np.ptp(unrolled - t)) // period) if wrapped else (t, bits, 0)


def _check_jumps(name: str, t: np.ndarray) -> None:
    falls = t[:-1] - t[1:]
    jumps = np.flatnonzero(falls > (int(t.max()) - int(t.min())) // 8)
    if len(jumps) and (len(jumps) + 1) * _STRETCH <= len(t):
        raise DataError(
            f"{name}: time jumps back by {falls[jumps[0]]} after event {jumps[0]} of {len(t)}, and a counter that wrapped "
            "would not do so: its clock was set back, or it is several recordings in one.\n"
            "Cut it there, or sort its events by t; the option sort_jumps=True sorts those of all such recordings."
        )
