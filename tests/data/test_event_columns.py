"""Columns are known by their names; what has none, or holds what it cannot, is refused with what was found and a way out."""

import re

import numpy as np
import pytest

from tet_deploy.data.event_columns import as_events
from tet_deploy.data.event_files import read_events
from tet_deploy.errors import DataError

RNG = np.random.default_rng(0)
COLUMNS = {
    "x": RNG.integers(0, 34, 60),
    "y": RNG.integers(0, 34, 60),
    "t": np.sort(RNG.integers(0, 300_000, 60)),
    "p": RNG.integers(0, 2, 60),
}


def check(events):
    for name, column in COLUMNS.items():
        np.testing.assert_array_equal(events[name], column)


@pytest.mark.parametrize(
    "names",
    [
        {},
        {"x": "xs", "y": "ys", "t": "ts", "p": "ps"},
        {"t": "timestamp", "p": "polarity"},
        {"t": "Timestamps", "p": "Pol", "x": "X", "y": "Y"},
        {"p": "on"},
    ],
)
@pytest.mark.parametrize("order", ["xytp", "txyp", "pytx"])
def test_columns_are_known_by_their_names(names, order):
    """In any order, by the names that public sets and libraries use, beside other columns."""
    check(as_events("own", {**{names.get(key, key): COLUMNS[key] for key in order}, "trigger": np.zeros(3)}).events)


@pytest.mark.parametrize(
    "coding",
    [lambda p: p, lambda p: p > 0, lambda p: 2 * p - 1, lambda p: (2 * p - 1).astype("f4"), lambda p: p.astype("u1")],
    ids=["0 and 1", "bool", "-1 and 1", "float", "unsigned"],
)
def test_known_codings_of_polarity_are_equal(coding):
    """0 and 1, -1 and 1, in any type."""
    check(as_events("own", {**COLUMNS, "p": coding(COLUMNS["p"])}).events)


@pytest.mark.parametrize("order", ["txyp", "xytp", "xypt", "ptxy"])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("kind", ["i8", "f8"])
def test_advice_for_columns_without_names_can_be_followed(tmp_path, order, transposed, kind):
    """Which are t and p is told from what they hold, and the line of the message, carried out, makes a file that is read."""
    a = np.stack([COLUMNS[name] for name in order], 0 if transposed else 1).astype(kind)
    np.save(tmp_path / "own.npy", a)
    with pytest.raises(DataError, match=rf"own\.npy: holds an array of .*columns.*look like {', '.join(order)} ") as caught:
        read_events(tmp_path / "own.npy")
    line = re.search(r"(np\.savez\(.*\))\.$", str(caught.value))[1]
    exec(line, {"np": np, "a": a, "path": tmp_path / "new.npz"})
    check(read_events(tmp_path / "new.npz"))


def test_columns_that_do_not_show_what_they_are_are_not_guessed():
    """Where two columns could be t, or two p, the message says so."""
    with pytest.raises(DataError, match="do not show which is which; for example"):
        as_events("own", np.zeros((5, 4)))


@pytest.mark.parametrize("shape", [(5, 3), (4,), (2, 3, 4), (0,), ()])
def test_arrays_that_hold_no_events_are_refused(shape):
    """Of another number of columns or axes: the shape stands in the message."""
    with pytest.raises(DataError, match=rf"shape {re.escape(str(shape))}.*events need x, y, t and p"):
        as_events("own", np.zeros(shape))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"p": np.arange(60) % 4}, "polarity must be .*; found 0, 1, 2, 3"),
        ({"p": np.arange(60) % 3 - 1}, "polarity must be .*; found -1, 0, 1"),
        ({"p": np.arange(60) % 2 - 1}, "polarity must be .*; found -1, 0"),
        ({"p": np.where(COLUMNS["p"], 1, -1).astype("u4")}, "4294967295 is -1 that lost its sign"),
        ({"p": np.where(COLUMNS["p"], 1, -1).astype("u1")}, "255 is -1 that lost its sign"),
        ({"p": np.full(60, np.nan)}, "polarity must be"),
        ({"p": np.array(["on"] * 60)}, "p must be numbers"),
        ({"x": COLUMNS["x"] + 0.5}, "x must be whole numbers"),
        ({"x": np.full(60, np.inf)}, "x must be whole numbers"),
        ({"y": np.full(60, np.nan)}, "y must be whole numbers"),
        ({"y": np.array(["3"] * 60)}, "y must be whole numbers"),
        ({"t": COLUMNS["t"][:5]}, "x, y, t and p must be of one length"),
        ({"t": COLUMNS["t"].reshape(6, 10)}, "of one length"),
        ({"X": COLUMNS["x"]}, "one column each of x, y, t and p; found 'x', 'y', 't', 'p', 'X'"),
    ],
)
def test_columns_that_hold_what_they_cannot_are_refused(changes, message):
    """Other codings, fractions, text, lengths, and two columns of one name."""
    with pytest.raises(DataError, match=message):
        as_events("own", {**COLUMNS, **changes})


def test_missing_columns_are_named_and_long_lists_cut():
    """The names that are there stand in the message, no more than a line of them."""
    with pytest.raises(DataError, match=r"found 'x', 'y', 'time_us', 'p'\. Name them"):
        as_events("own", {"x": 0, "y": 0, "time_us": 0, "p": 0})
    with pytest.raises(DataError) as caught:
        as_events("own", {f"column {index}": 0 for index in range(10**5)})
    assert len(str(caught.value)) < 400
