"""Scales are searched over all that the chip holds, and judged by the spikes that change."""

import dataclasses
import json

import numpy as np
import pytest

from tet_deploy.errors import GraphError
from tet_deploy.ir.graph import chain
from tet_deploy.ir.nodes import LIF, Conv, Flatten, Input, Linear, Readout
from tet_deploy.passes import calibrate, quantize
from tet_deploy.passes.fit import Port, fits
from tet_deploy.passes.messages import Messages
from tet_deploy.runtimes.reference import ReferenceRuntime

CHANNELS = 12


def network(rng, gain=None, bias=0.05, weight=0.3, threshold=1.0):
    """Events - conv - LIF - readout, each channel of the convolution with a gain of its own, as batch norm leaves it."""
    gain = np.ones(CHANNELS) if gain is None else gain
    weights = rng.normal(weight / 2, weight, (CHANNELS, 2, 3, 3)) * gain[:, None, None, None]
    out = rng.normal(0, 1, (5, CHANNELS * 36)).astype(np.float32)
    return chain(
        (
            Input(name="input", shape=(2, 8, 8), encoding="events"),
            Conv(name="conv", weight=weights.astype(np.float32), bias=(bias * gain).astype(np.float32)),
            *(LIF(name="lif", threshold=threshold), Flatten(name="flatten")),
            *(Linear(name="fc", weight=out), Readout(name="readout")),
        )
    )


def frames_for(rng, samples=24):
    return rng.poisson(0.4, (5, samples, 2, 8, 8)).astype(np.float32)


def flips(graph, int8, frames):
    before, after = (ReferenceRuntime(each).run(frames).spikes["lif"] for each in (graph, int8))
    return float(np.mean(before != after))


def at_the_largest_weight(graph):
    """The network as the scale that maps the largest weight to 127 leaves it."""
    conv, lif = graph["conv"], graph["lif"]
    scale = 127 / float(np.abs(conv.weight).max())
    weight = np.rint(conv.weight.astype(float) * scale) / scale
    held = dataclasses.replace(lif, threshold=max(1, round(lif.threshold * scale)) / scale)
    return graph.replace({"conv": dataclasses.replace(conv, weight=weight.astype(np.float32)), "lif": held})


def dead_input(rng):
    """Weights a thousand times larger, on an input that never sends an event."""
    graph, frames = network(rng), frames_for(rng)
    frames[:, :, 1] = 0
    weight = np.array(graph["conv"].weight)
    weight[:, 1] *= 1000
    return graph.replace({"conv": dataclasses.replace(graph["conv"], weight=weight)}), frames


def dead_channel(rng):
    """A variance of 0 gave one channel a gain of 316; its bias keeps it silent."""
    gain = np.ones(CHANNELS)
    gain[3] = 316
    graph = network(rng, gain)
    bias = np.array(graph["conv"].bias)
    bias[3] = -5000
    return graph.replace({"conv": dataclasses.replace(graph["conv"], bias=bias)}), frames_for(rng)


def spread(rng):
    """Gains of batch norm over two orders of magnitude, some of them huge."""
    gain = np.ones(CHANNELS)
    gain[:2] = (60, 90)
    return network(rng, gain), frames_for(rng)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("make", [dead_input, dead_channel, spread])
def test_outliers_do_not_set_the_scale(make, seed):
    """Where the largest weight sets it, twice as many spikes are others as where the error does, and one in fifty."""
    graph, frames = make(np.random.default_rng(seed))
    other = frames_for(np.random.default_rng(seed + 100))
    if make is dead_input:
        other[:, :, 1] = 0
    int8 = quantize(graph, frames)
    ours, largest = flips(graph, int8, other), flips(graph, at_the_largest_weight(graph), other)
    assert ours < 0.02 < largest and 2 * ours < largest


@pytest.mark.parametrize("factor", [1e-4, 1e-2, 1.0, 1e3, 1e6])
def test_units_do_not_matter(factor):
    """Weights, bias and threshold all a factor larger or smaller: the same spikes, and nothing is refused."""
    rng = np.random.default_rng(0)
    graph, frames = network(rng), frames_for(rng)
    conv, lif = graph["conv"], graph["lif"]
    scaled = dataclasses.replace(conv, weight=conv.weight * np.float32(factor), bias=conv.bias * np.float32(factor))
    other = graph.replace({"conv": scaled, "lif": dataclasses.replace(lif, threshold=lif.threshold * factor)})
    assert flips(other, quantize(other, frames), frames) < 0.005


@pytest.mark.parametrize("weight", [1e-3, 2e-4, 1e-4, 2e-5])
def test_small_weights_for_a_large_threshold_fit(weight):
    """Thousands of inputs of little weight: the threshold's 17 bit set the scale, and the weights are small integers."""
    rng = np.random.default_rng(0)
    graph = chain(
        (
            Input(name="input", shape=(4096,), encoding="events"),
            Linear(name="fc", weight=rng.uniform(0, weight, (8, 4096)).astype(np.float32)),
            LIF(name="lif", decay=1.0),
            *(Linear(name="out", weight=np.eye(3, 8, dtype=np.float32)), Readout(name="readout")),
        )
    )
    frames = rng.integers(0, 2, (24, 8, 4096)).astype(np.float32)
    int8 = quantize(graph, frames)
    assert 1 <= int8["lif"].threshold <= 2**17 - 1 and int8["fc"].weight.any()
    assert flips(graph, int8, frames) < 0.02


def one_layer(weight, threshold, shape=4):
    return chain(
        (
            Input(name="input", shape=(shape,), encoding="events"),
            Linear(name="fc", weight=np.full((3, shape), weight, np.float32)),
            LIF(name="lif", threshold=threshold),
            *(Linear(name="out", weight=np.ones((2, 3), np.float32)), Readout(name="readout")),
        )
    )


REFUSED = {
    "threshold": (one_layer(1e-3, 1e6), r"'lif': its threshold does not fit .* 3.81e\+03 times too large for its weights"),
    "weights": (one_layer(1e-8, 1.0), r"its threshold does not fit .* \(largest 1e-08\).*weight decay makes it worse"),
    "sums": (one_layer(1.0, 1.0, shape=2000), r"'lif': its sums do not fit the chip's 24 bit .* 1.53 times too large"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_named(case):
    """Which number, by how much, and what would help."""
    graph, message = REFUSED[case]
    with pytest.raises(GraphError, match=message):
        quantize(graph, np.full((2, 2, graph.input.shape[0]), 100, np.float32))


def test_thresholds_are_not_rounded():
    """The scale is one of those at which the threshold is a whole number."""
    rng = np.random.default_rng(0)
    graph, frames = network(rng, threshold=0.7), frames_for(rng)
    int8 = quantize(graph, frames)
    assert int8["lif"].threshold == pytest.approx(0.7 * np.array(int8["lif"].quantization.scale), rel=1e-12)
    assert json.loads(int8.metadata["quantization"])["lif"]["rounding"]["threshold_error"] < 1e-12


@pytest.mark.parametrize("bits", [8, 4, 3])
def test_the_ones_of_a_max_pool_are_not_clipped(bits):
    """Many scales keep every spike of it; one is taken that holds its weights."""
    rng = np.random.default_rng(0)
    pool = Conv(name="pool", weight=np.ones((2, 1, 2, 2), np.float32), stride=(2, 2), groups=2)
    graph = chain(
        (
            Input(name="input", shape=(2, 8, 8), encoding="events"),
            *(pool, LIF(name="lif", threshold=0.5), Flatten(name="flatten")),
            *(Linear(name="fc", weight=rng.normal(0, 1, (5, 32)).astype(np.float32)), Readout(name="readout")),
        )
    )
    frames = rng.integers(0, 2, (4, 24, 2, 8, 8)).astype(np.float32)
    int8 = quantize(graph, frames, bits=bits)
    assert json.loads(int8.metadata["quantization"])["lif"]["clipped_weights"] == 0
    assert flips(graph, int8, frames) == 0


def test_calibration_does_not_depend_on_the_last_bits_of_sums(monkeypatch):
    """Deviations that differ by rounding alone are ties, broken by the scale: any order of additions, one network."""
    rng = np.random.default_rng(0)
    graph, frames = network(rng), frames_for(rng)
    expected = quantize(graph, frames).digest()
    exact = calibrate.deviation
    for _ in range(3):
        monkeypatch.setattr(calibrate, "deviation", lambda *each: exact(*each) * (1 + rng.uniform(-1, 1) * 1e-9))
        assert quantize(graph, frames).digest() == expected


def test_fits_leave_no_population_without_weights():
    """A scale at which all weights round to 0 is none."""
    graph = one_layer(1e-3, 1.0)
    port = Port(node=graph["fc"], messages=Messages(1, (4,)), scale=1.0, limit=127)
    assert fits(graph["lif"], [port], 400.0) == [] and len(fits(graph["lif"], [port], 1000.0)) == 1
