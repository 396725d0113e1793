"""The neuron in real numbers and in a Loihi core's integers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tet_deploy import dynamics
from tet_deploy.ir.nodes import LIF, Conv, Linear, Quantization

MAX = 2**23 - 1  # largest membrane potential


def one(value):
    return np.array([value], dtype=np.int64)


def by_the_book(v, a, bias, decay_v, threshold):
    """The fixed-point step for one neuron in plain Python integers, branch by branch."""
    u = a * 64
    if u > 2**23:
        u -= 2**24
    elif u <= -(2**23):
        u += 2**24
    kept = abs(v) * (4096 - decay_v) // 4096
    v = (kept if v >= 0 else -kept) + u + bias
    v = max(-MAX, min(MAX, v))
    spike = v > threshold * 64
    return spike, 0 if spike else v


corner = st.sampled_from([0, 1, -1, 2**17, -(2**17), 2**17 - 1, -(2**17) + 1, 2**23 - 1, -(2**23)])
synaptic_sums = st.one_of(corner, st.integers(-(2**23), 2**23 - 1))
potentials = st.one_of(st.sampled_from([0, 1, -1, -3, 3, MAX, -MAX]), st.integers(-MAX, MAX))


@given(
    v=potentials,
    a=synaptic_sums,
    bias=st.integers(-(2**15) << 7, (2**15 - 1) << 7),
    decay_v=st.sampled_from([0, 1, 1024, 2048, 4095, 4096]),
    threshold=st.integers(0, 2**17 - 1),
)
def test_fixed_point_step_equals_plain_integers(v, a, bias, decay_v, threshold):
    """The vectorised fixed-point step equals one written branch by branch, at every corner."""
    spikes, after = dynamics.fixed_point_lif_step(one(v), one(a), bias, decay_v, threshold)
    assert (bool(spikes[0]), int(after[0])) == by_the_book(v, a, bias, decay_v, threshold)


@pytest.mark.parametrize(
    ("v", "a", "bias", "threshold", "spike", "after"),
    [
        pytest.param(-3, 0, 0, 10, False, -1, id="decay truncates toward zero"),
        pytest.param(3, 0, 0, 10, False, 1, id="positive odd"),
        pytest.param(0, 10, 0, 10, False, 640, id="threshold is strict"),
        pytest.param(0, 10, 1, 10, True, 0, id="one unit above fires and resets"),
        pytest.param(0, 2**17, 0, 2**17 - 1, True, 0, id="u = 2^23 is not wrapped"),
        pytest.param(0, 2**17 + 1, 0, 10, False, -(2**23) + 64, id="u above 2^23 wraps"),
        pytest.param(0, -(2**17), 0, 10, True, 0, id="u = -2^23 wraps to +2^23"),
        pytest.param(-MAX, -(2**17) + 1, 0, 10, False, -MAX, id="saturates below"),
        pytest.param(0, 2**19, 0, 2**17 - 1, True, 0, id="wraps once only, the rest saturates and fires"),
    ],
)
def test_fixed_point_corners(v, a, bias, threshold, spike, after):
    """Each corner of the integer arithmetic gives the value that Lava's fixed-point model gives."""
    spikes, found = dynamics.fixed_point_lif_step(one(v), one(a), bias, 2048, threshold)
    assert (bool(spikes[0]), int(found[0])) == (spike, after)


def test_bias_mantissa_is_stored_in_16_bit():
    """A mantissa of 40000 becomes -25536, as Lava stores it."""
    assert dynamics.shifted_bias(np.array([40000]), 1)[0] == -25536 * 2


@given(a=st.integers(-(2**40), 2**40))
def test_wrap24_keeps_24_bits(a):
    """wrap24 keeps the value modulo 2^24 and lands in [-2^23, 2^23)."""
    wrapped = int(dynamics.wrap24(one(a))[0])
    assert (wrapped - a) % 2**24 == 0
    assert -(2**23) <= wrapped < 2**23


def test_float_step_follows_the_equations():
    """u = v/2 + I; equality with the threshold does not fire; a spike resets to zero."""
    spikes, v = dynamics.lif_step(np.float32([1.0, 1.0, 0.0]), np.float32([0.5, 0.75, 0.25]), 0.5, 1.0)
    assert spikes.tolist() == [False, True, False]
    assert v.tolist() == [1.0, 0.0, 0.25]


def test_messages_round_half_to_even_and_clip():
    """Messages are rounded half to even and clipped symmetrically."""
    frames = np.float32([0.5, 1.5, -2.5, 200, -200])
    assert dynamics.to_messages(frames, Quantization(scale=1.0)).tolist() == [0, 2, -2, 127, -127]


@pytest.mark.parametrize(("decay", "integer"), [(0.5, 2048), (1.0, 0), (0.0, 4095), (1e-6, 4095), (0.75, 1024)])
def test_decay_has_twelve_bits(decay, integer):
    """The factor kept per step becomes the chip's 12-bit decay."""
    assert dynamics.decay_v(LIF(name="lif", decay=decay)) == integer


def test_convolution_equals_the_sum_written_out():
    """Stride, padding, dilation and groups together equal the quadruple sum."""
    rng = np.random.default_rng(0)
    node = Conv(
        name="conv",
        weight=rng.integers(-5, 6, (4, 1, 2, 3)),
        stride=(2, 1),
        padding=(1, 2),
        dilation=(2, 1),
        groups=2,
    )
    x = rng.integers(-3, 4, (1, 2, 6, 5))
    found = dynamics.synaptic_sum(node, x)
    for o, y, z in np.ndindex(found.shape[1:]):
        total = 0
        for i, j in np.ndindex(2, 3):
            row, column = y * 2 - 1 + i * 2, z - 2 + j
            if 0 <= row < 6 and 0 <= column < 5:
                total += x[0, o // 2, row, column] * node.weight[o, 0, i, j]
        assert found[0, o, y, z] == total


def test_linear_is_a_matrix_product():
    """A Linear node's sum is weight @ x."""
    node = Linear(name="fc", weight=np.array([[1, 2], [3, 4]]))
    assert dynamics.synaptic_sum(node, np.array([[1, 1]])).tolist() == [[3, 7]]


@given(
    v=st.floats(-4, 4, width=32),
    current=st.floats(-4, 4, width=32),
    decay=st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    threshold=st.floats(2**-10, 4, width=32),
)
def test_at_the_threshold_is_above_the_float_below_it(v, current, decay, threshold):
    """u >= threshold is u > the next smaller float32: the same spikes and potentials."""
    arrays = np.float32([v]), np.float32([current])
    at = dynamics.lif_step(*arrays, decay, threshold, ">=")
    above = dynamics.lif_step(*arrays, decay, float(np.nextafter(np.float32(threshold), np.float32(0))), ">")
    assert np.array_equal(at[0], above[0]) and np.array_equal(at[1], above[1])
