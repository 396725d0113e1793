"""The input's scale is chosen for what most frames are; what lies beyond is clipped, and no event is lost unsaid."""

import json
import warnings

import numpy as np
import pytest

from tet_deploy.batches import FrameBatches
from tet_deploy.errors import QuantizationWarning
from tet_deploy.ir.graph import chain
from tet_deploy.ir.nodes import LIF, Conv, Flatten, Input, Linear, Readout
from tet_deploy.passes import quantize
from tet_deploy.passes.input_scale import _reached
from tet_deploy.runtimes.reference import ReferenceRuntime


def network(rng, encoding, largest=1.0):
    """Frames - conv - LIF - readout, for frames whose values are mostly up to `largest`."""
    weight = rng.normal(0.1, 0.4, (6, 1, 3, 3)) / largest
    return chain(
        (
            Input(name="input", shape=(1, 8, 8), encoding=encoding),
            Conv(name="conv", weight=weight.astype(np.float32), bias=rng.normal(0, 0.1, 6).astype(np.float32)),
            *(LIF(name="lif"), Flatten(name="flatten")),
            *(Linear(name="fc", weight=rng.normal(0, 1, (4, 216)).astype(np.float32)), Readout(name="readout")),
        )
    )


def flips(graph, int8, frames):
    before, after = (ReferenceRuntime(each).run(frames).spikes["lif"] for each in (graph, int8))
    return float(np.mean(before != after))


def hot_pixel(frames):
    frames[:, :, 0, 0, 0] *= 2000


def one_hot_value(frames):
    frames[1, 3, 0, 4, 4] = 5000


def bright_frame(frames):
    frames[2, 1] *= 200


@pytest.mark.parametrize("spoil", [hot_pixel, one_hot_value, bright_frame])
def test_one_outlier_does_not_decide_an_analog_scale(spoil):
    """Real numbers up to 1 with a few that are a thousand times larger: these are clipped, the others stay fine."""
    rng = np.random.default_rng(0)
    frames = rng.random((4, 24, 1, 8, 8)).astype(np.float32)
    graph, clean = network(rng, "analog"), frames.copy()
    spoil(frames)
    int8 = quantize(graph, frames)
    seen = json.loads(int8.metadata["calibration"])["input"]
    assert seen["greatest"] == frames.max() and 0 < seen["clipped"] < 0.05
    assert int8.input.quantization.scale > 40
    assert flips(graph, int8, clean) < 0.02


@pytest.mark.parametrize("spoil", [hot_pixel, one_hot_value, bright_frame])
def test_one_outlier_does_not_decide_a_scale_of_counts(spoil):
    """Counts of a few, and a few of thousands: an event is sent as 1, and nothing is told."""
    rng = np.random.default_rng(1)
    frames = rng.poisson(1.0, (4, 24, 1, 8, 8)).astype(np.float32)
    graph = network(rng, "events", largest=2)
    spoil(frames)
    with warnings.catch_warnings():
        warnings.simplefilter("error", QuantizationWarning)
        int8 = quantize(graph, frames)
    assert int8.input.quantization.scale == 1.0
    assert json.loads(int8.metadata["calibration"])["input"]["clipped"] == np.mean(frames > 127) > 0


def test_counts_that_are_large_everywhere_are_scaled_and_that_is_told():
    """Counts up to 900, all alike: clipping would change more spikes; what is sent as 0 is said."""
    rng = np.random.default_rng(2)
    frames = rng.integers(0, 900, (4, 24, 1, 8, 8)).astype(np.float32)
    with pytest.warns(
        QuantizationWarning, match=r"counts up to 899 are sent at a scale of 0.14.*counts up to 3 are sent as 0"
    ) as told:
        int8 = quantize(network(rng, "events", largest=450), frames)
    assert int8.input.quantization.scale < 1
    assert {warning.filename for warning in told} == {__file__}  # the line that quantizes


def test_without_outliers_nothing_is_clipped():
    """Uniform noise off any grid: the largest value is the largest message."""
    rng = np.random.default_rng(3)
    frames = rng.random((4, 24, 1, 8, 8)).astype(np.float32)
    int8 = quantize(network(rng, "analog"), frames)
    assert int8.input.quantization.scale == pytest.approx(127 / frames.max())
    assert json.loads(int8.metadata["calibration"])["input"]["clipped"] == 0


def test_percentiles_do_not_depend_on_how_samples_are_split(monkeypatch):
    """The histogram adds up: read one sample at a time or all at once."""
    rng = np.random.default_rng(4)
    frames = rng.normal(0, 1, (3, 50, 1, 8, 8)).astype(np.float32)
    batches = FrameBatches.of(network(rng, "analog"), frames)
    whole = _reached(batches, float(np.abs(frames).max()))
    monkeypatch.setattr("tet_deploy.passes.input_scale._AT_ONCE", 1)
    assert whole == _reached(batches, float(np.abs(frames).max()))
    assert whole[0] == np.abs(frames).max() and len(whole) > 2
    assert np.mean(np.abs(frames) > whole[-1]) <= 0.05
