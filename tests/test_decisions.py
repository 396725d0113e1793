import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tet_deploy.decisions import confusion


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3))))
def test_each_sample_is_counted_once_where_it_belongs(pairs):
    """Rows are true classes, columns decisions; parts of the samples add up."""
    labels, decisions = np.array([*pairs, (0, 0)], dtype=np.int64).T
    expected = np.zeros((4, 4), dtype=np.int64)
    for true, decided in zip(labels, decisions, strict=True):
        expected[true, decided] += 1
    np.testing.assert_array_equal(confusion(labels, decisions, 4), expected)
    parts = confusion(labels[:2], decisions[:2], 4) + confusion(labels[2:], decisions[2:], 4)
    np.testing.assert_array_equal(parts, expected)


@pytest.mark.parametrize("classes", [1, 5])
def test_no_samples_are_no_counts(classes):
    """A matrix of zeros."""
    none = np.zeros(0, dtype=np.int64)
    assert confusion(none, none, classes).shape == (classes, classes) and not confusion(none, none, classes).any()
