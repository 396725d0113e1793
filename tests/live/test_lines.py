"""Lines of text are the events that they say, however they are cut into pieces; anything else is refused by its number."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tet_deploy.errors import DataError
from tet_deploy.live.lines import EventLines

times = st.integers(-(10**18) + 1, 10**18 - 1)
pixels = st.integers(-(10**9) + 1, 10**9 - 1)
events = st.lists(st.tuples(times, pixels, pixels, st.sampled_from([-1, 0, 1])), max_size=20)


@given(events, st.lists(st.integers(0, 400), max_size=8), st.booleans(), st.sampled_from(["\n", "\r\n", "\n\n", "\n# a\n"]))
def test_events_come_back_wherever_the_text_is_cut(given_events, cuts, ended, newline):
    """Every event once and in order, p = -1 as 0, between empty lines and remarks, and without the last newline."""
    text = "".join(f"{t} {x}\t{y}  {p}{newline}" for t, x, y, p in given_events).encode()
    text = text if ended else text.rstrip(b"\r\n")
    lines, found = EventLines(), []
    for start, stop in zip([0, *sorted(cuts)], [*sorted(cuts), len(text)], strict=True):
        found.append(lines.feed(text[start:stop]))
    last, cut = lines.end()
    back = np.concatenate([*found, last])
    assert [(e["t"], e["x"], e["y"], e["p"]) for e in back] == [(t, x, y, max(p, 0)) for t, x, y, p in given_events]
    assert not cut


@pytest.mark.parametrize(
    "line",
    [
        "1 2 3",
        "1 2 3 2",
        "1 2 3 0 5",
        "a 1 2 1",
        "1,2,3,0",
        "1 2 3 00",
        "1.0 2 3 1",
        "1_0 2 3 1",
        f"{10**18} 1 1 1",
        "\xff",
        "1\x0b2 3 1",
    ],
)
def test_a_line_that_is_no_event_is_refused_with_its_number(line):
    """Too few and too many numbers, other polarities, fractions, and numbers that no clock shows."""
    with pytest.raises(DataError, match=r"^line 4: must be an event, 't x y p'"):
        EventLines().feed(f"# t x y p\n1 2 3 0\n\n{line}\n5 6 7 1\n".encode("latin-1"))
    lines = EventLines()
    lines.feed(b"1 2 3 0\n2 2 2 1\n\n")
    with pytest.raises(DataError, match=r"^line 4: "):
        lines.feed(line.encode("latin-1") + b"\n")


def test_seconds_are_refused_with_how_to_convert_them():
    """As public event files in text have them."""
    with pytest.raises(DataError, match=re.escape("awk '{printf \"%d %d %d %d\\n\", $1 * 1e6, $2, $3, $4}'")):
        EventLines().feed(b"0.003811000 96 133 0\n")


def test_a_line_without_an_end_does_not_fill_the_memory():
    """What is longer than any event is refused before its end comes."""
    with pytest.raises(DataError, match=r"^line 2: "):
        EventLines().feed(b"1 2 3 1\n" + 300 * b"1")


@pytest.mark.parametrize(
    ("rest", "cut"), [(b"", False), (b"  ", False), (b"12 3", True), (b"12 3 4 -", True), (b"# x", False)]
)
def test_a_last_line_that_is_cut_off_is_left_out(rest, cut):
    """And said to be."""
    lines = EventLines()
    assert len(lines.feed(b"1 2 3 1\n" + rest)) == 1
    found, was_cut = lines.end()
    assert len(found) == 0 and was_cut == cut
