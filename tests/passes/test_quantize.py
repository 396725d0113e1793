"""Quantization keeps the network's behaviour within the chip's integers."""

import dataclasses
import gc
import json
import warnings

import numpy as np
import pytest

from tet_deploy.dynamics import LARGEST_BIAS_MANTISSA, LARGEST_THRESHOLD
from tet_deploy.errors import ArgumentError, DataError, GraphError, QuantizationWarning
from tet_deploy.ir.graph import Graph, chain
from tet_deploy.ir.nodes import LIF, WEIGHTED, Add, Conv, Flatten, Input, Linear, Readout, SoftResetLIF
from tet_deploy.ir.values import SPIKES, weighted_bounds
from tet_deploy.passes import quantize
from tet_deploy.runtimes.reference import ReferenceRuntime
from tet_deploy.support import faults
from tet_deploy.testing import random_float_network, random_frames


def pair(seed, **options):
    rng = np.random.default_rng(seed)
    graph = random_float_network(rng, **options)
    frames = random_frames(graph, rng, steps=5, samples=16)
    return graph, quantize(graph, frames), frames


@pytest.mark.parametrize("seed", range(12))
def test_integers_fit_the_chip(seed):
    """Weights, thresholds and biases lie within a Loihi core's widths."""
    graph, quantized, _ = pair(seed)
    assert quantized.is_quantized
    assert {node.name for node in quantized if ".part" not in node.name} == {node.name for node in graph}
    for node in quantized:
        if isinstance(node, WEIGHTED):
            assert node.weight.dtype == np.int8
            assert np.abs(node.weight.astype(int)).max() <= 127
            assert node.bias is None
        if isinstance(node, LIF):
            assert 1 <= np.min(node.threshold) <= np.max(node.threshold) <= LARGEST_THRESHOLD
            assert node.bias is None or np.abs(node.bias.astype(int)).max() <= LARGEST_BIAS_MANTISSA
            assert 0 <= node.quantization.bias_exponent <= 7


@pytest.mark.parametrize("seed", range(12))
def test_scaled_back_the_readout_is_near_the_float_one(seed):
    """Readout / (64 * scale) stays near the float readout, and few spikes differ."""
    graph, quantized, frames = pair(seed, layers=1)
    before, after = (ReferenceRuntime(g).run(frames) for g in (graph, quantized))
    flips = np.mean(before.spikes["layer0.lif"] != after.spikes["layer0.lif"])
    assert flips < 0.03  # 7-bit weights: about one membrane potential in a hundred lies that near the threshold
    logits = after.readout / (64 * quantized.readout.quantization.scale)
    spread = np.abs(before.readout).mean() + 1
    assert np.abs(logits - before.readout).mean() < 0.15 * spread


@pytest.mark.parametrize(("threshold", "told"), [(1e-3, True), (1.0, False)])
def test_weights_that_are_clipped_for_a_small_threshold_are_told(threshold, told):
    """A threshold that is small beside the weights leaves little but their signs, which is told with its cost."""
    rng = np.random.default_rng(3)
    frames = rng.poisson(1.0, (5, 20, 6)).astype(np.float32)
    nodes = [
        Input(name="x", shape=(6,), encoding="events"),
        Linear(name="fc", weight=rng.normal(size=(8, 6)).astype(np.float32)),
        LIF(name="lif", threshold=threshold),
        Linear(name="out", weight=rng.normal(size=(3, 8)).astype(np.float32)),
        Readout(name="readout"),
    ]
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        quantize(chain(nodes), frames)
    said = [str(one.message) for one in found if one.category is QuantizationWarning]
    assert len(said) == told
    if told:
        assert "node 'lif'" in said[0] and "of its weights are clipped" in said[0] and "of its spikes differ" in said[0]


def test_the_scale_with_the_smallest_deviation_is_taken():
    """One huge weight does not ruin the others: it is clipped when that lowers the error."""
    rng = np.random.default_rng(1)
    graph = random_float_network(rng, layers=1, encoding="events")
    weight = np.array(graph["fc"].weight)
    weight[0, 0] = 2.0 * np.abs(weight).max()
    graph = graph.replace({"fc": dataclasses.replace(graph["fc"], weight=weight)})
    summary = json.loads(quantize(graph, random_frames(graph, rng, 4, 8)).metadata["quantization"])
    assert set(summary) == {"layer0.lif", "readout"}
    for entry in summary.values():
        assert entry["largest_sum_seen"] <= entry["largest_sum_possible"]
        assert 0 <= entry["differing"] <= 1 and entry["deviation"] < 0.05


def test_bound_on_sums_is_reached():
    """The largest possible sum is the sum that the worst binary input gives."""
    weight = np.array([[3, -5, 7], [-4, -4, 1]], np.int8)
    inputs = np.array(np.meshgrid([0, 1], [0, 1], [0, 1])).reshape(3, -1)
    least, greatest = weighted_bounds(weight, SPIKES)
    assert [least.min(), greatest.max()] == [(weight.astype(int) @ inputs).min(), (weight.astype(int) @ inputs).max()]


def test_event_counts_stay_exact():
    """Counts up to 127 are sent as they are."""
    graph, quantized, _ = pair(0, encoding="events")
    assert quantized.input.quantization.scale == 1.0
    assert graph.input.encoding == "events"


def test_the_file_says_what_it_was_calibrated_on():
    """Least and greatest value of the frames, how many samples, and the share of values that were clipped."""
    _, quantized, frames = pair(0, encoding="analog")
    seen = json.loads(quantized.metadata["calibration"])
    assert seen == {"input": {"least": frames.min(), "greatest": frames.max(), "samples": 16, "clipped": 0.0}}


def test_nothing_is_left_open():
    """What calibration keeps outside of memory is closed, so that Python has no resource to warn of."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        pair(0, encoding="analog")
        gc.collect()
    assert not [each for each in told if issubclass(each.category, ResourceWarning)]


def test_bounds_of_frames_without_a_zero_are_those_that_were_seen():
    """Normalised images may all lie on one side of 0."""
    graph, _, frames = pair(0, encoding="analog")
    for signed in (np.abs(frames) + 1, -np.abs(frames) - 1):
        seen = json.loads(quantize(graph, signed).metadata["calibration"])["input"]
        assert (seen["least"], seen["greatest"]) == (signed.min(), signed.max())


def test_images_on_a_power_of_two_grid_stay_exact():
    """Pixels in sixteenths are sent as whole sixteenths, not rounded to 127 levels."""
    rng = np.random.default_rng(0)
    graph = random_float_network(rng, encoding="analog", layers=1)
    frames = rng.integers(0, 17, (2, 8, *graph.input.shape)) / 16
    assert quantize(graph, frames).input.quantization.scale == 16.0
    assert quantize(graph, frames / 3).input.quantization.scale == pytest.approx(127 * 3)


def test_a_large_bias_forces_a_smaller_scale():
    """A bias that the usual scales cannot hold in 13 bit << 7 is still quantized, with coarser weights."""
    rng = np.random.default_rng(2)
    graph = random_float_network(rng, layers=1, encoding="events")
    conv = graph["layer0.conv"]
    conv = dataclasses.replace(conv, weight=conv.weight / 64, bias=np.full_like(conv.bias, 2.0))
    quantized = quantize(graph.replace({"layer0.conv": conv}), random_frames(graph, rng))
    assert np.abs(quantized["layer0.conv"].weight.astype(int)).max() < 127
    assert quantized["layer0.lif"].quantization.bias_exponent >= 6


def _changed(graph, frames, **changes):
    """With other weights, bias or threshold in its first layer, each multiplied."""
    conv, lif = graph["layer0.conv"], graph["layer0.lif"]
    parts = {"weight": conv.weight * np.float32(changes.get("weight", 1)), "bias": None}
    lif = dataclasses.replace(lif, threshold=lif.threshold * changes.get("threshold", 1))
    return quantize(graph.replace({"layer0.conv": dataclasses.replace(conv, **parts), "layer0.lif": lif}), frames)


BAD = {
    "threshold": (
        lambda g, f: _changed(g, f, threshold=1e6),
        GraphError,
        r"'layer0.lif': its threshold does not fit .* times too large for its weights .* weight decay makes it worse",
    ),
    "weights": (lambda g, f: _changed(g, f, weight=1e-7), GraphError, "its threshold does not fit"),
    "twice": (lambda g, f: quantize(quantize(g, f), f), GraphError, "quantized already"),
    "bits": (lambda g, f: quantize(g, f, bits=9), ArgumentError, "must lie in 2..8"),
    "zero": (lambda g, f: quantize(g, f * 0), DataError, "all zero"),
    "rank": (lambda g, f: quantize(g, f[0]), DataError, "time first"),
    "steps": (lambda g, f: quantize(g, f[:0]), DataError, "at least one step"),
    "channels": (lambda g, f: quantize(g, np.repeat(f, 2, axis=2)), DataError, "the network takes"),
    "dtype": (lambda g, f: quantize(g, f.astype(str)), DataError, "dtype"),
    "nan": (lambda g, f: quantize(g, f * np.nan), DataError, "finite"),
    "fractions": (lambda g, f: quantize(g, f + 0.5), DataError, "whole numbers"),
}


@pytest.mark.parametrize("case", BAD)
def test_unfit_requests_are_refused(case):
    """Each wrong request names what is wrong."""
    act, error, message = BAD[case]
    rng = np.random.default_rng(0)
    graph = random_float_network(rng, encoding="events")
    with pytest.raises(error, match=message):
        act(graph, random_frames(graph, rng))


@pytest.mark.parametrize("decay", [1.0, 0.5])
def test_weights_on_a_coarse_grid_keep_the_spikes_of_neurons_that_fire_at_their_threshold(decay):
    """Integrators with weights in sixteenths meet their threshold often; in integers not a spike differs."""
    rng = np.random.default_rng(0)
    weights = [(rng.integers(-8, 9, shape) / 16).astype(np.float32) for shape in ((40, 30), (4, 40))]
    graph = chain(
        (
            Input(name="input", shape=(30,), encoding="events"),
            Linear(name="fc1", weight=weights[0]),
            LIF(name="lif", decay=decay, comparison=">="),
            Linear(name="fc2", weight=weights[1]),
            Readout(name="readout"),
        )
    )
    frames = (rng.random((20, 16, 30)) < 0.2).astype(np.float32)
    int8 = quantize(graph, frames)
    before, after = (ReferenceRuntime(g).run(frames) for g in (graph, int8))
    summary = json.loads(int8.metadata["quantization"])["lif"]
    assert summary["ties"] > 0.004
    differ = int((before.spikes["lif"] != after.spikes["lif"]).sum())
    assert differ == 0 if decay == 1 else differ < 0.01 * before.spikes["lif"].sum()
    assert int8["lif"].comparison == ">"


def test_a_sender_may_be_taken_twice():
    """Spikes that are added to themselves, and a sum of such sums, are quantized; every runtime agrees."""
    rng = np.random.default_rng(0)
    fc = Linear(name="fc", inputs=("flatten",), weight=rng.normal(size=(3, 64)).astype(np.float32))
    graph = Graph(
        (
            Input(name="input", shape=(2, 4, 4), encoding="events"),
            Conv(name="conv", inputs=("input",), weight=rng.normal(size=(4, 2, 3, 3)).astype(np.float32), padding=(1, 1)),
            LIF(name="lif", inputs=("conv",)),
            Add(name="twice", inputs=("lif", "lif")),
            Add(name="more", inputs=("twice", "lif", "twice")),
            *(Flatten(name="flatten", inputs=("more",)), fc, Readout(name="readout", inputs=("fc",))),
        )
    )
    frames = rng.poisson(0.7, (4, 8, 2, 4, 4)).astype(np.float32)
    int8 = quantize(graph, frames)
    before, after = (ReferenceRuntime(g).run(frames) for g in (graph, int8))
    spread = np.abs(before.readout).mean()
    assert spread > 0.5
    assert np.abs(after.readout / (64 * int8.readout.quantization.scale) - before.readout).mean() < 0.1 * spread


@pytest.mark.parametrize("decay", [0.0, 1e-6])
def test_a_neuron_without_memory_keeps_what_12_bit_hold(decay):
    """1/4096 of its potential: the largest decay of a chip, in every runtime, so that it can go there."""
    rng = np.random.default_rng(1)
    graph = random_float_network(rng, layers=1, encoding="events")
    graph = graph.replace({"layer0.lif": dataclasses.replace(graph["layer0.lif"], decay=decay)})
    int8 = quantize(graph, random_frames(graph, rng, 4, 8), rounding_limit=1)
    assert json.loads(int8.metadata["quantization"])["layer0.lif"]["rounding"]["decay"] == 1 / 4096
    assert faults(int8, "lava") == []


def test_neurons_without_integers_are_refused_before_frames_are_read():
    """All of them at once, by name, as `tet-deploy inspect --target lava` does."""

    class Unread:
        steps, shape = 4, (2, 6, 6)

        def __len__(self):
            return 8

        def __getitem__(self, index):
            raise AssertionError("a frame was read")

    graph = random_float_network(np.random.default_rng(0), layers=3, encoding="events")
    first, second, third = (lif.name for lif in graph.of_kind(LIF))
    graph = graph.replace({name: SoftResetLIF(name=name, inputs=graph[name].inputs) for name in (second, third)})
    with pytest.raises(GraphError, match=f"node '{second}': reset must be 'zero'.*Not taken either: '{third}'") as caught:
        quantize(graph, Unread())
    assert first not in str(caught.value)
    assert [fault.node for fault in faults(graph, "lava")] == [second, third]
