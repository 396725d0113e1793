"""Parameters that the chip rounds: the error is known, told where it is large, and refused where it is larger."""

import json
import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tet_deploy import dynamics
from tet_deploy.errors import ArgumentError, GraphError, QuantizationWarning
from tet_deploy.ir.graph import chain
from tet_deploy.ir.nodes import LIF, Input, Linear, Quantization, Readout
from tet_deploy.passes import quantize
from tet_deploy.passes.rounding import rounding
from tet_deploy.testing import random_float_network, random_frames


def network(decay=0.5, threshold=1.0, bias=None, weight=1.0):
    """One input, three neurons, a readout of two."""
    bias = None if bias is None else np.full(3, bias, np.float32)
    return chain(
        (
            Input(name="input", shape=(1,), encoding="events"),
            Linear(name="fc", weight=np.full((3, 1), weight, np.float32), bias=bias),
            LIF(name="lif", decay=decay, threshold=threshold),
            *(Linear(name="out", weight=np.ones((2, 3), np.float32)), Readout(name="readout")),
        )
    )  # fmt: skip


def ones(steps):
    return np.ones((steps, 1, 1), np.float32)


def caught(graph, steps, **options):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        quantized = quantize(graph, ones(steps), **options)
    return quantized, [str(one.message) for one in found if one.category is QuantizationWarning]


TOLD = {
    "never leaks": ({"decay": 0.9999, "threshold": 2900.0}, 3000, "decay 0.9999 is 4096/4096 .* never leaks"),
    "never leaks, few steps": ({"decay": 0.9999}, 4, "never leaks"),
    "a coarse decay": ({"decay": 0.99963, "threshold": 900.0}, 9000, "decay 0.99963 is 4094/4096 .*; over 9000 steps"),
}


@pytest.mark.parametrize("case", TOLD)
def test_a_decay_that_12_bit_change_is_told(case):
    """What it became, over how many steps, and by how much of the threshold; of the line that quantizes."""
    options, steps, message = TOLD[case]
    with pytest.warns(QuantizationWarning, match=message) as told:
        quantize(network(**options), ones(steps))
    assert {warning.filename for warning in told} == {__file__}


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.75, 0.9, 1.0])
def test_nothing_to_tell_is_not_told(decay):
    """Decays that 12 bit hold, or nearly hold, raise no warning; the file has the numbers."""
    quantized, told = caught(network(decay=decay), 8)
    found = json.loads(quantized.metadata["quantization"])["lif"]["rounding"]
    assert not told and found["decay"] == max(1, round(decay * 4096)) / 4096 and found["steps"] == 8
    assert found["decay_error"] < 0.01


@pytest.mark.parametrize("seed", range(6))
def test_random_networks_raise_no_alarm(seed):
    """Their parameters lie within what the chip holds."""
    rng = np.random.default_rng(seed)
    graph = random_float_network(rng)
    with warnings.catch_warnings():
        warnings.simplefilter("error", QuantizationWarning)
        quantize(graph, random_frames(graph, rng, 4, 8))


def test_beyond_the_limit_a_network_is_refused():
    """The limit can be set, and the message says which it was."""
    graph = network(decay=0.9999, threshold=2900.0)
    with pytest.raises(GraphError, match=r"decay 0.9999 .* rounding_limit=0.1 refuses it"):
        quantize(graph, ones(3000), rounding_limit=0.1)
    with pytest.warns(QuantizationWarning, match="0.16 of the threshold"):
        quantize(graph, ones(3000), rounding_limit=0.2)


@pytest.mark.parametrize("limit", [-0.1, float("nan"), "0.1", None, True])
def test_a_limit_is_a_share(limit):
    """Nothing else is taken for one."""
    with pytest.raises(ArgumentError, match="rounding_limit: must be a share"):
        quantize(network(), ones(2), rounding_limit=limit)


@settings(max_examples=60)
@given(
    decay=st.floats(0, 1),
    threshold=st.integers(1, 2000),
    scale=st.floats(0.5, 500),
    current=st.floats(0, 1),
    bias=st.floats(-0.2, 0.2),
    exponent=st.integers(0, 3),
    steps=st.integers(1, 200),
)
def test_the_error_bounds_that_of_a_steady_input(decay, threshold, scale, current, bias, exponent, steps):
    """A float neuron and the chip's, without resets, fed the same integers: never farther apart than told."""
    trained = LIF(name="lif", decay=decay, threshold=threshold / scale)
    mantissa = np.array([round(bias * scale * 64 / 2**exponent)])
    assume(abs(mantissa[0]) < dynamics.LARGEST_BIAS_MANTISSA)
    held = LIF(
        name="lif",
        decay=decay,
        threshold=threshold,
        bias=mantissa,
        quantization=Quantization(scale=scale, bits=17, bias_exponent=exponent),
    )
    found = rounding(trained, held, np.array([bias]), steps)
    a = int(current * threshold)
    v, v_chip = 0.0, np.zeros(1, np.int64)
    for _ in range(steps):
        v = decay * v + a / scale + bias
        kept = np.sign(v_chip) * ((np.abs(v_chip) * (4096 - dynamics.decay_v(held))) >> 12)
        v_chip = kept + (a << 6) + dynamics.shifted_bias(held.bias, exponent)
    off = abs(v_chip[0] / 64 / scale - v) / trained.threshold
    reached = abs(v) / trained.threshold  # the decay's part is a share of where it got
    assert off <= found.decay_error * max(1.0, reached) + found.bias_error + 1e-6
