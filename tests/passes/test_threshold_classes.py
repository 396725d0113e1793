"""A few thresholds in a population, each with a scale of its own."""

import dataclasses

import numpy as np
import pytest

from tet_deploy.errors import ArgumentError
from tet_deploy.ir.graph import Graph, chain
from tet_deploy.ir.nodes import LIF, Conv, Flatten, Input, Linear, Readout
from tet_deploy.passes import quantize
from tet_deploy.passes.lower_residual import identity
from tet_deploy.runtimes.reference import ReferenceRuntime
from tet_deploy.validation import compare


def network(gains, rng, **lif):
    """conv - lif - fc; the channels' weights, and with them their thresholds, differ by these gains."""
    weight = rng.normal(size=(len(gains), 2, 3, 3)) * np.reshape(gains, (-1, 1, 1, 1))
    return chain(
        (
            Input(name="input", shape=(2, 6, 6), encoding="events"),
            Conv(name="conv", weight=weight.astype(np.float32), padding=(1, 1)),
            LIF(name="lif", **lif),
            Flatten(name="flatten"),
            Linear(name="fc", weight=rng.normal(size=(4, 36 * len(gains))).astype(np.float32)),
            Readout(name="readout"),
        )
    )


def flipped(graph, quantized, frames, name="lif"):
    before, after = (ReferenceRuntime(each).run(frames, probes="spikes").spikes[name] for each in (graph, quantized))
    return np.count_nonzero(before != after) / np.count_nonzero(before)


def events(rng):
    return rng.poisson(0.5, (8, 16, 2, 6, 6)).astype(np.float32)


@pytest.mark.parametrize("bits", [3, 4, 8])
def test_channels_with_large_gains_no_longer_decide_for_all(bits):
    """With gains over a factor of 64, classes flip far fewer spikes than one scale does."""
    rng = np.random.default_rng(0)
    graph, frames = network(2.0 ** rng.uniform(-3, 3, 16), rng, threshold=1.5), events(rng)
    one, few = (quantize(graph, frames, bits=bits, threshold_classes=classes, rounding_limit=10) for classes in (1, 8))
    assert flipped(graph, few, frames) < 0.75 * flipped(graph, one, frames)
    assert np.unique(one["lif"].threshold).size == 1
    assert 2 <= np.unique(few["lif"].threshold).size <= 8
    scale = np.array(few["lif"].quantization.scale)
    np.testing.assert_allclose(scale * 1.5, few["lif"].threshold, rtol=1e-12)
    assert few["conv"].quantization.scale == few["lif"].quantization.scale  # counts are sent as they are


@pytest.mark.parametrize("most", [2, 3])
def test_no_more_classes_than_asked_for(most):
    """Their number is that of different thresholds."""
    rng = np.random.default_rng(1)
    graph, frames = network(2.0 ** np.arange(-4, 4), rng), events(rng)
    assert np.unique(quantize(graph, frames, bits=4, threshold_classes=most)["lif"].threshold).size == most


def test_channels_that_are_alike_are_not_split():
    """A population that gains little keeps one threshold, a number, and one scale."""
    rng = np.random.default_rng(2)
    quantized = quantize(network(np.ones(8), rng), events(rng))
    assert isinstance(quantized["lif"].threshold, int) and isinstance(quantized["lif"].quantization.scale, float)
    assert isinstance(quantized.readout.quantization.scale, float)


def test_thresholds_that_differ_are_measured_by_themselves():
    """A channel of another threshold gets the integers of the same channel with weights for the common one."""
    rng = np.random.default_rng(3)
    gains = 2.0 ** rng.integers(-2, 3, 8)
    alike, frames = network(np.ones(8), rng, threshold=1.0), events(rng)
    apart = alike.replace(
        {
            "conv": dataclasses.replace(alike["conv"], weight=alike["conv"].weight * np.float32(gains)[:, None, None, None]),
            "lif": dataclasses.replace(alike["lif"], threshold=np.float32(gains)),
        }
    )
    assert flipped(alike, apart, frames) == 0
    first, second = (quantize(graph, frames, threshold_classes=1) for graph in (alike, apart))
    np.testing.assert_array_equal(first["conv"].weight, second["conv"].weight)
    assert first["lif"].threshold == second["lif"].threshold
    np.testing.assert_allclose(np.array(second["lif"].quantization.scale) * gains, first["lif"].quantization.scale)
    assert compare(*(ReferenceRuntime(graph).run(frames) for graph in (first, second))).equal


def test_an_identity_is_its_unit_in_every_channel():
    """Its integers, over all its parts, are round(1 * s) of each channel's scale."""
    rng = np.random.default_rng(4)
    weight = rng.normal(size=(8, 8, 3, 3)) * np.reshape(2.0 ** np.arange(-4, 4), (-1, 1, 1, 1))
    l0 = LIF(name="l0", inputs=("stem",))
    graph = Graph(
        (
            Input(name="input", shape=(2, 6, 6), encoding="events"),
            Conv(name="stem", inputs=("input",), weight=rng.normal(size=(8, 2, 3, 3)).astype(np.float32), padding=(1, 1)),
            l0,
            Conv(name="conv", inputs=("l0",), weight=weight.astype(np.float32), padding=(1, 1)),
            identity(l0, (8, 6, 6), "l1.identity"),
            LIF(name="l1", inputs=("conv", "l1.identity"), threshold=1.2),
            Flatten(name="flatten", inputs=("l1",)),
            Linear(name="fc", inputs=("flatten",), weight=np.eye(4, 288, dtype=np.float32)),
            Readout(name="readout", inputs=("fc",)),
        )
    )
    quantized = quantize(graph, events(rng), bits=5, rounding_limit=10)
    l1 = quantized["l1"]
    assert np.unique(l1.threshold).size > 1
    parts = [quantized[name] for name in l1.inputs if name.startswith("l1.identity")]
    total = np.sum([part.weight[:, 0, 0, 0].astype(int) for part in parts], axis=0)
    np.testing.assert_array_equal(total, np.rint(l1.quantization.scale))


@pytest.mark.parametrize("wrong", [0, 9, True, 1.5, "8", None])
def test_a_core_holds_eight(wrong):
    """Anything but a whole number of 1 to 8 is refused, with what was given."""
    rng = np.random.default_rng(5)
    with pytest.raises(ArgumentError, match=r"threshold_classes: must be a whole number within 1\.\.8; got "):
        quantize(network(np.ones(2), rng), events(rng), threshold_classes=wrong)
