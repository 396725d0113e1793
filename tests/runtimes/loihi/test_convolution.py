import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tet_deploy import dynamics
from tet_deploy.ir.nodes import Conv
from tet_deploy.runtimes.loihi.bundle.loihi_engine.convolution import Convolution


def compare(node, x):
    """Run the module on [I, H, W] messages in Lava's layout and compare with the sums that define a Conv."""
    prepared = Convolution(
        node.weight[:, :, ::-1, ::-1].transpose(0, 3, 2, 1),
        x.T.shape,
        *(pair[::-1] for pair in (node.stride, node.padding, node.dilation)),
        node.groups,
    )
    expected = dynamics.wrap24(dynamics.synaptic_sum(node, x[None])[0].astype(np.int64))
    for _ in range(2):  # the second call finds the buffers of the first
        assert np.array_equal(prepared(x.T).T, expected)
    return prepared


@st.composite
def cases(draw):
    groups = draw(st.integers(1, 3))
    channels, out_channels = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    kernel, stride, padding, dilation = ((draw(st.integers(low, 3)), draw(st.integers(low, 3))) for low in (1, 1, 0, 1))
    size = tuple(dilation[i] * (kernel[i] - 1) + 1 + draw(st.integers(0, 4)) for i in (0, 1))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weight = rng.integers(-127, 128, (out_channels, channels // groups, *kernel)).astype(np.int8)
    repeats = draw(st.sampled_from([(1, 1), (2, 1), (1, 3), (2, 2)]))  # as a folded pool would
    weight = weight.repeat(repeats[0], axis=2).repeat(repeats[1], axis=3)
    size = tuple(size[i] * repeats[i] for i in (0, 1))
    stride, padding = (tuple(pair[i] * repeats[i] for i in (0, 1)) for pair in (stride, padding))
    dilation = tuple(dilation[i] if repeats[i] == 1 else 1 for i in (0, 1))
    node = Conv(name="conv", weight=weight, stride=stride, padding=padding, dilation=dilation, groups=groups)
    spikes = rng.random((channels, *size)) < 0.3
    limit = draw(st.sampled_from([0, 127, 2**22]))  # spikes, int8 messages, messages that make sums wrap
    return node, spikes if limit == 0 else spikes * rng.integers(-limit, limit + 1, spikes.shape)


@settings(max_examples=200)
@given(case=cases())
def test_any_convolution_equals_the_definition(case):
    """Strides, padding, dilation, groups, repeated taps, spikes and graded messages: the same integers, wrapped."""
    compare(*case)


def test_repeated_taps_are_recognised():
    """A folded 2 x 2 pool becomes a sum over inputs; a kernel that is not repeated throughout does not."""
    rng = np.random.default_rng(0)
    weight = rng.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8).repeat(2, axis=2).repeat(2, axis=3)
    x = rng.random((3, 8, 8)) < 0.5
    assert compare(Conv(name="a", weight=weight, stride=(2, 2), padding=(2, 2)), x)._pool == (2, 2)
    broken = weight.copy()
    broken[0, 0, 0, :2] //= 2  # rows 0 and 1 differ now; columns still come in pairs
    assert compare(Conv(name="b", weight=broken, stride=(2, 2), padding=(2, 2)), x)._pool == (2, 1)
    assert compare(Conv(name="c", weight=weight, stride=(2, 2), padding=(1, 1)), x)._pool == (1, 1)
    assert compare(Conv(name="d", weight=weight, stride=(2, 2)), x[:, :7, :7])._pool == (1, 1)


@pytest.mark.parametrize("extra", [-1, 0, 1])
@pytest.mark.parametrize("limit", [2**23, 2**24, 2**25])
def test_sums_around_each_limit_are_exact(limit, extra):
    """One below, at and one above where sums wrap, and where float32 stops being exact."""
    weight = np.array([127, 1], np.int8).reshape(1, 2, 1, 1)
    high, low = divmod(limit + extra, 127)
    for sign in (1, -1):
        compare(Conv(name="conv", weight=weight), sign * np.array([high, low]).reshape(2, 1, 1))


def test_no_spikes_give_zeros():
    """An empty input is answered without computing."""
    node = Conv(name="conv", weight=np.ones((2, 1, 3, 3), np.int8))
    compare(node, np.zeros((1, 5, 4), bool))
