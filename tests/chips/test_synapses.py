import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tet_deploy.chips.demands import Projection
from tet_deploy.chips.limits import LOIHI1, LOIHI2
from tet_deploy.chips.synapses import Taken, links, seen, taken

GEOMETRY = {
    "kernel": st.integers(1, 4),
    "stride": st.integers(1, 3),
    "padding": st.integers(0, 2),
    "dilation": st.integers(1, 2),
    "inputs": st.integers(7, 12),
    "part": st.integers(1, 9),
}


def outputs_of(kernel, stride, padding, dilation, inputs):
    return (inputs + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def dense(inputs, bits=8):
    return Projection(name="fc", source="lif", inputs=(inputs, 1, 1), bits=bits, message_bits=0)


def conv(inputs, kernel, *, bits=8, stride=1, padding=0, groups=1):
    pairs = tuple((size, size) for size in (kernel, stride, padding, 1))
    return Projection(name="conv", source="lif", inputs=inputs, bits=bits, message_bits=0, window=pairs, groups=groups)


@pytest.mark.parametrize(
    ("chip", "synapses", "part", "whole", "expected"),
    [
        (LOIHI1, dense(100), (50, 1, 1), (50, 1, 1), Taken(100 * 7, 100)),  # 50 * 8 + 10 = 410 bits
        (LOIHI1, dense(10), (100, 1, 1), (100, 1, 1), Taken(10 * (9 + 5), 10)),  # 64 * 8 + 10, 36 * 8 + 10
        (LOIHI1, dense(10, bits=7), (50, 1, 1), (50, 1, 1), Taken(10 * 7, 10)),  # 7 bits are stored in 8
        (LOIHI1, dense(10, bits=6), (50, 1, 1), (50, 1, 1), Taken(10 * 5, 10)),  # 50 * 6 + 10 = 310 bits
        (LOIHI1, conv((2, 1, 1), 1), (3, 1, 1), (3, 1, 1), Taken(2, 1)),  # one list of 6 weights of 8 + 6 bits
        (LOIHI2, dense(784), (64, 1, 1), (128, 1, 1), Taken(784 * 21, 784)),  # 64 * 20 + 16 = 1296 bits
        (LOIHI2, conv((3, 66, 200), 3, stride=2, bits=5), (24, 32, 4), (24, 32, 99), Taken(27 * 3, 2)),
        (LOIHI2, conv((8, 4, 4), 1, groups=8, bits=2), (8, 4, 4), (8, 4, 4), Taken(8, 2)),
        (LOIHI2, conv((8, 4, 4), 1, groups=8, bits=2), (3, 4, 4), (8, 4, 4), Taken(3, 2)),
    ],
)
def test_words_and_axons(chip, synapses, part, whole, expected):
    """Words and axons by hand, of both rules."""
    assert taken(chip, synapses, part, whole) == expected


@given(**GEOMETRY)
def test_what_is_seen(kernel, stride, padding, dilation, inputs, part):
    """Positions, patterns and the span agree with a convolution's matrix, written out."""
    whole = outputs_of(kernel, stride, padding, dilation, inputs)
    part = min(part, whole)
    first = min((whole // part // 2) * part if part < whole else 0, whole - part)
    matrix = np.zeros((part, inputs), int)  # 1 + kernel element
    for output, tap in itertools.product(range(part), range(kernel)):
        position = (first + output) * stride - padding + tap * dilation
        if 0 <= position < inputs:
            matrix[output, position] = 1 + tap
    columns = [column for column in matrix.T if column.any()]
    found = seen(kernel, stride, padding, dilation, inputs, part, whole)
    assert found.positions == len(columns)
    patterns = {tuple(sorted(column[column > 0])) for column in columns}
    assert sum(found.patterns.values()) == len(patterns)
    assert sum(size * number for size, number in found.patterns.items()) == sum(map(len, patterns))
    spans = [np.flatnonzero(column)[-1] - np.flatnonzero(column)[0] + 1 for column in columns]
    assert found.span == max(spans, default=1)


@given(**GEOMETRY)
def test_links(kernel, stride, padding, dilation, inputs, part):
    """An input is linked to as many parts as hold an output that sees it."""
    outputs = outputs_of(kernel, stride, padding, dilation, inputs)
    expected = [set() for _ in range(inputs)]
    for output, tap in itertools.product(range(outputs), range(kernel)):
        position = output * stride - padding + tap * dilation
        if 0 <= position < inputs:
            expected[position].add(output // part)
    assert links(kernel, stride, padding, dilation, inputs, outputs, part) == tuple(map(len, expected))
