"""Intervals are those of the papers that state them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tet_deploy.intervals import paired_difference, wilson


@pytest.mark.parametrize(
    "count, of, low, high",
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_score_intervals_of_newcombe(count, of, low, high):
    """Newcombe, Statistics in Medicine 17 (1998), p. 857, table I, method 3."""
    assert wilson(count, of) == pytest.approx((low, high), abs=5e-5)  # printed with four digits


def test_paired_interval_of_newcombe():
    """Newcombe, Statistics in Medicine 17 (1998), p. 2635, method 10, on 36, 12, 2 and 0 pairs."""
    assert paired_difference(36, 2, 12, 0) == pytest.approx((0.0569, 0.3404), abs=5e-5)  # printed with four digits


counts = st.integers(0, 10_000)


@given(counts, counts, counts, counts)
def test_a_paired_interval_holds_the_difference_and_turns_with_it(both, first, second, neither):
    """It contains the difference, lies in [-1, 1], and changes sign where the two change places."""
    of = both + first + second + neither
    if of == 0:
        return
    low, high = paired_difference(both, first, second, neither)
    assert -1 <= low <= (second - first) / of + 1e-12  # float rounding of a difference of thousands
    assert (second - first) / of - 1e-12 <= high <= 1
    assert paired_difference(both, second, first, neither) == pytest.approx((-high, -low), abs=1e-12)


@given(st.integers(1, 10_000))
def test_none_and_all_are_ends_of_their_intervals(of):
    """Exactly, as they are of the interval's equation."""
    assert wilson(0, of)[0] == 0 and wilson(of, of)[1] == 1


@given(st.integers(1, 10_000), st.data())
def test_a_score_interval_holds_the_proportion(of, data):
    """It contains the proportion and lies in [0, 1]."""
    count = data.draw(st.integers(0, of))
    low, high = wilson(count, of)
    assert 0 <= low <= count / of + 1e-15
    assert count / of - 1e-15 <= high <= 1
