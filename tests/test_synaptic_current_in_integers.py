"""Neurons with a synaptic current in a chip's integers: their step, what bounds it, and every runtime of it."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tet_deploy as td
from tet_deploy import dynamics
from tet_deploy.contracts import recorded
from tet_deploy.debugging import causes
from tet_deploy.debugging.diagnosis import diagnosis_of
from tet_deploy.errors import GraphError, QuantizationWarning
from tet_deploy.ir.certificates import certificates
from tet_deploy.ir.graph import chain
from tet_deploy.ir.nodes import LIF, CubaLIF, Input, Linear, Quantization, Readout
from tet_deploy.links.sensitivity import with_one_quantized
from tet_deploy.passes.rounding import rounding
from tet_deploy.runtimes.reference import ReferenceRuntime
from tet_deploy.testing import random_float_network, random_frames, random_quantized_network
from tet_deploy.validation import compare

LIMIT, PERIOD = 2**23, 2**24
UNIT = Quantization(scale=1.0)


def network(fan_in, *, bits=8, weight=127, **fields):
    """Two neurons, each with so many inputs of its own, all of one weight."""
    fields = {"threshold": 2**17 - 1, "quantization": UNIT} | fields
    weights = np.repeat(np.eye(2), fan_in, axis=1) * weight
    return chain(
        [
            Input(name="input", shape=(2 * fan_in,), quantization=Quantization(scale=1.0, bits=bits)),
            Linear(name="fc", weight=weights.astype(np.int8), quantization=UNIT),
            CubaLIF(name="lif", **fields),
            Linear(name="out", weight=np.eye(2, dtype=np.int8), quantization=UNIT),
            Readout(name="readout", quantization=UNIT),
        ]
    )


def toward_zero(state, share):
    """state * share / 4096 in Python's own integers."""
    return (abs(state) * share >> 12) * (1 if state >= 0 else -1)


def stepped(arriving, current_decay, decay, bias, threshold):
    """Currents, potentials and spikes of one neuron, as lava-nc 0.10 has them: decays are shares of 4096."""
    u, v, seen = 0, 0, []
    for a in arriving:
        u = toward_zero(u, current_decay) + 64 * a
        u = u - PERIOD if u > LIMIT else u + PERIOD if u <= -LIMIT else u
        v = min(max(toward_zero(v, decay) + u + bias, -(LIMIT - 1)), LIMIT - 1)
        spike = v > 64 * threshold
        v = 0 if spike else v
        seen.append((u, v, spike))
    return seen


SUMS = st.one_of(
    st.integers(-(2**18), 2**18),
    st.builds(lambda near, off: near + off, st.sampled_from([0, 2**17, -(2**17), 2**18, -(2**18)]), st.integers(-2, 2)),
)


@settings(max_examples=300)
@given(
    st.lists(SUMS, min_size=1, max_size=12),
    st.one_of(st.integers(0, 4095), st.sampled_from([0, 1, 2048, 4095])),
    st.one_of(st.integers(1, 4096), st.sampled_from([1, 2048, 4096])),
    st.integers(-4095, 4095),
    st.integers(0, 7),
    st.one_of(st.integers(1, 2**17 - 1), st.sampled_from([1, 2**17 - 1])),
)
def test_each_step_is_that_of_the_chip(arriving, current_decay, decay, mantissa, exponent, threshold):
    """Wrapping, truncation, limits and ties included; counted is what wrapped and what was held."""
    node = CubaLIF(
        name="lif",
        decay=decay / 4096,
        current_decay=current_decay / 4096,
        threshold=threshold,
        bias=np.array([mantissa], np.int16),
        quantization=Quantization(scale=1.0, bias_exponent=exponent),
    )
    u, v = np.zeros((1, 1), np.int64), np.zeros((1, 1), np.int64)
    for a, (current, potential, fires) in zip(
        arriving, stepped(arriving, current_decay, decay, mantissa << exponent, threshold), strict=True
    ):
        sums = np.array([[a]], np.int64)
        full = dynamics.unwrapped_current(node, u, sums)
        u = dynamics.synaptic_current(node, u, sums)
        held = dynamics.is_held(node, v, u)
        assert dynamics.wraps_once(full)[0, 0] == (full[0, 0] != u[0, 0])
        assert held[0, 0] == (toward_zero(int(v[0, 0]), decay) + current + (mantissa << exponent) < -(LIMIT - 1))
        spikes, v = dynamics.step(node, v, u)
        assert (u[0, 0], v[0, 0], spikes[0, 0]) == (current, potential, fires)


def test_decays_are_twelve_bits():
    """A current keeps 0 to 4095/4096 in each step, never all; a potential 1/4096 to all."""
    for decay, found in [(0.0, 4096), (0.5, 2048), (1.0, 1), (0.99999, 1), (1 / 4096, 4095), (0.9, 410)]:
        assert dynamics.decay_u(CubaLIF(name="lif", current_decay=decay)) == found
    assert dynamics.decay_u(LIF(name="lif", decay=0.9)) == dynamics.decay_u(Readout(name="readout")) == 4096


@pytest.mark.parametrize("current_decay", [0.0, 0.5, 0.75, 4095 / 4096])
@pytest.mark.parametrize("sign", [1, -1])
def test_sums_that_are_certified_never_wrap(current_decay, sign):
    """However long the largest that is certified lasts, its current fits; a little more does not for ever."""
    node = CubaLIF(name="lif", current_decay=current_decay, quantization=UNIT)
    most = 2**17 * dynamics.decay_u(node) // 4096 - 1

    def wraps(arriving):
        current, left = np.zeros((1, 1), np.int64), False
        for _ in range(60_000 if current_decay > 0.9 else 200):
            full = dynamics.unwrapped_current(node, current, np.array([[arriving]], np.int64))
            left, current = left or bool(dynamics.wraps_once(full)), dynamics.wrap_once(full)
        return left

    within, beyond = (network(1, bits=bits, weight=1, current_decay=current_decay) for bits in (most.bit_length(), 20))
    assert certificates(within)["lif"].cannot_wrap and not certificates(beyond)["lif"].cannot_wrap
    assert not wraps(sign * most)
    assert wraps(sign * (most + 3 + most // 2000))


@pytest.mark.filterwarnings("ignore::tet_deploy.errors.RangeWarning")
@pytest.mark.parametrize("runtime", ["reference", "onnx"])
@pytest.mark.parametrize("current_decay", [0.0, 0.5, 0.9, 1.0])
def test_what_wraps_and_is_held_is_the_chips_and_counted(current_decay, runtime):
    """With sums up to where a simulator's int32 still holds them."""
    fan_in = 16 if current_decay == 1 else 60
    units = Quantization(scale=1.0, bias_exponent=7)
    graph = network(
        fan_in, current_decay=current_decay, decay=0.75, bias=np.array([-4000, 300], np.int16), quantization=units
    )
    rng = np.random.default_rng(0)
    frames = (rng.integers(-127, 128, (30, 4, 2, 1)) * (rng.random((30, 4, 2, fan_in)) < 0.9)).astype(np.float32)
    sums, frames = 127 * frames.sum(axis=3).astype(int), frames.reshape(30, 4, -1)
    found = td.run(graph, frames, runtime=runtime)
    shares = [4096 - dynamics.decay_u(graph["lif"]), 3072]
    for sample, neuron in np.ndindex(4, 2):
        bias = int(graph["lif"].bias[neuron]) << 7
        steps = stepped(sums[:, sample, neuron].tolist(), *shares, bias, 2**17 - 1)
        assert [step[1] for step in steps] == found.potentials["lif"][:, sample, neuron].tolist()
        assert [step[2] for step in steps] == found.spikes["lif"][:, sample, neuron].tolist()
    assert found.ranges.wrapped["lif"].sum() > 20 and found.ranges.saturated["lif"].sum() > 0
    for kind in ("wrapped", "saturated"):
        counted = getattr(ReferenceRuntime(graph).run(frames).ranges, kind)["lif"]
        assert np.array_equal(getattr(found.ranges, kind)["lif"], counted)


def test_sums_that_no_simulator_holds_are_refused(tmp_path):
    """By name: one wrap would not bring such a current back, and it would grow beyond int32."""
    graph = network(17, current_decay=1.0)
    with pytest.raises(GraphError, match=r"node 'lif': largest possible sum over its synapses must lie in 0\.\.270\d{3}"):
        td.export(graph, tmp_path / "net.onnx", to="onnx")


@pytest.mark.parametrize("seed", range(16))
def test_onnx_gives_every_spike_and_potential_of_the_reference(seed):
    """And counts the same that left its range."""
    rng = np.random.default_rng(seed)
    graph = random_quantized_network(rng, wrap=seed % 2 == 0, currents=True)
    frames = random_frames(graph, rng, 1 + seed % 5, 3)
    found = {runtime: td.run(graph, frames, runtime=runtime) for runtime in ("reference", "onnx")}
    assert compare(found["reference"], found["onnx"]).equal
    for kind in ("wrapped", "saturated"):
        one, other = (getattr(run.ranges, kind) for run in found.values())
        assert {name: array.tolist() for name, array in one.items()} == {k: a.tolist() for k, a in other.items()}


@pytest.mark.parametrize("runtime", ["reference", "onnx"])
def test_a_run_goes_on_from_potential_and_current(runtime):
    """Step by step gives the whole run, of maps and of vectors, wrapped currents included."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        graph = random_quantized_network(rng, wrap=True, currents=True, layers=2)
        frames = random_frames(graph, rng, 5, 2)
        stream = td.Stream(graph, samples=2, runtime=runtime, probes="all")
        assert compare(td.run(graph, frames), recorded([stream.step(frame) for frame in frames], "steps")).equal


@pytest.mark.filterwarnings("ignore::tet_deploy.errors.QuantizationWarning")
def test_quantized_neurons_follow_the_float_ones():
    """Weights that are whole numbers, a decay of 12 bits and no bias: no spike differs."""
    weight = np.float32([[1, 2, -1], [3, -2, 1], [-1, 1, 1]])
    layers = Linear(name="fc", weight=weight), CubaLIF(name="lif", current_decay=0.75, decay=0.5, threshold=2.5)
    graph = chain([Input(name="input", shape=(3,)), *layers, Linear(name="out", weight=weight), Readout(name="readout")])
    frames = np.random.default_rng(0).integers(-4, 5, (8, 30, 3)).astype(np.float32)
    int8 = td.quantize(graph, frames)
    entry = json.loads(int8.metadata["quantization"])["lif"]
    assert int8["lif"].kind == "CubaLIF" and entry["differing"] == 0 and entry["deviation"] < 1e-4
    assert np.array_equal(td.run(int8, frames).spikes["lif"], td.run(graph, frames).spikes["lif"])


def test_the_scale_leaves_room_for_the_current():
    """A current that lasts is ten times its sums: the scale is such that none wraps on the calibration frames."""
    frames = np.ones((40, 2, 2), np.float32)
    weight = np.eye(2, dtype=np.float32)
    for decay in (0.0, 0.9, 0.99):
        neurons = CubaLIF(name="lif", current_decay=decay, decay=0.5, threshold=3000.0)
        layers = Linear(name="fc", weight=weight * 100), neurons, Linear(name="out", weight=weight)
        int8 = td.quantize(chain([Input(name="input", shape=(2,)), *layers, Readout(name="readout")]), frames)
        found, seen = td.run(int8, frames), json.loads(int8.metadata["quantization"])["lif"]["largest_sum_seen"]
        assert not found.ranges.left and seen <= dynamics.LARGEST_SYNAPTIC_SUM
        steady = (1 - decay**40) / (1 - decay)
        assert seen == pytest.approx(100 * steady * int8["lif"].quantization.scale, rel=0.02)


def test_the_bias_is_what_flows_through_the_current_on_the_mean():
    """A chip adds it to the potential, which gets as much of it in the calibration frames' steps."""
    weight, frames = np.eye(2, dtype=np.float32), np.zeros((5, 2, 2), np.float32)
    frames[:, 1] = 1
    layer = Linear(name="fc", weight=weight, bias=np.float32([0.25, -0.125]))
    neurons = CubaLIF(name="lif", current_decay=0.5, decay=0.5, threshold=8.0)
    graph = chain(
        [Input(name="input", shape=(2,)), layer, neurons, Linear(name="out", weight=weight), Readout(name="readout")]
    )
    int8 = td.quantize(graph, frames)
    current, flowed = np.zeros(2), np.zeros(2)
    for _ in frames:
        current = 0.5 * current + np.array([0.25, -0.125])
        flowed += current
    assert 5 * td.units.real_bias(int8["lif"]) == pytest.approx(flowed, rel=1e-3)


def test_rounded_decays_are_told():
    """A current that should last for ever decays in a chip; what 12 bits make of another is part of the error."""
    held = CubaLIF(name="lif", current_decay=0.9, decay=0.5, threshold=1000, quantization=UNIT)
    for decay in (0.9, 0.99, 0.999):
        trained = dataclasses.replace(held, current_decay=decay, threshold=1000.0)
        kept, gains = round(decay * 4096) / 4096, []
        for share in (decay, kept):
            current = potential = 0.0
            for _ in range(50):
                current = share * current + 1
                potential = 0.5 * potential + current
            gains.append(potential)
        cut = (sum(0.5**t for t in range(50)) + gains[1]) / 64 / 1000
        found = rounding(trained, held, None, 50)
        assert found.current_decay == kept and found.decay == 0.5
        assert found.decay_error == pytest.approx(abs(gains[1] / gains[0] - 1) + cut, rel=1e-12)
    frames, weight = np.ones((4, 2, 2), np.float32), np.eye(2, dtype=np.float32)
    neurons = CubaLIF(name="lif", current_decay=1.0, threshold=100.0)
    layers = Linear(name="fc", weight=weight), neurons, Linear(name="out", weight=weight)
    with pytest.warns(QuantizationWarning, match=r"current_decay 1 is 4095/4096 in the chip's 12 bit, the most"):
        td.quantize(chain([Input(name="input", shape=(2,)), *layers, Readout(name="readout")]), frames)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.filterwarnings("ignore::tet_deploy.errors.QuantizationWarning")
def test_quantized_random_networks_run_alike(seed):
    """From float networks with branches, thresholds by channel and both comparisons."""
    rng = np.random.default_rng(seed)
    graph = td.lower(random_float_network(rng, currents=True))
    frames = random_frames(graph, rng, 5, 4)
    int8 = td.quantize(graph, frames, rounding_limit=1e9)
    assert td.validate(int8, frames, runtimes=["reference", "onnx"])["onnx"].equal


def test_a_bias_behind_the_current_is_diagnosed():
    """What a chip's way of adding it changes has a name of its own."""
    layer = Linear(name="fc", weight=np.eye(2, dtype=np.float32), bias=np.float32([0.5, 0.25]))
    neurons = CubaLIF(name="lif", current_decay=0.75, decay=1.0, threshold=2.0)
    out = Linear(name="out", weight=np.eye(2, dtype=np.float32))
    graph = chain([Input(name="input", shape=(2,)), layer, neurons, out, Readout(name="readout")])
    frames = np.random.default_rng(0).integers(-2, 3, (9, 40, 2)).astype(np.float32)
    int8 = td.quantize(graph, frames)
    diagnosis = diagnosis_of(graph, td.run(int8, frames), frames, described=int8)
    assert diagnosis.causes[0].cause == causes.BIAS_BEHIND and diagnosis.causes[0].share > 0.9
    alone = graph.replace({"fc": dataclasses.replace(layer, inputs=("input",), bias=None)})
    int8 = td.quantize(alone, frames)
    found = diagnosis_of(alone, td.run(int8, frames), frames, described=int8)
    assert causes.BIAS_BEHIND not in {cause.cause for cause in found.causes}


def test_one_rounded_population_of_a_float_network_keeps_its_bias():
    """Its decays, threshold and weights are the chip's."""
    weight = np.float32([[1, 0.3], [0.2, 1]])
    layer = Linear(name="fc", weight=weight, bias=np.float32([0.5, 0.25]))
    neurons = CubaLIF(name="lif", current_decay=0.7, decay=0.3, threshold=2.0)
    out = Linear(name="out", weight=weight)
    graph = chain([Input(name="input", shape=(2,)), layer, neurons, out, Readout(name="readout")])
    int8 = td.quantize(graph, np.ones((9, 4, 2), np.float32))
    mixed = with_one_quantized(graph, int8, "lif")
    assert np.array_equal(mixed["fc"].bias, layer.bias) and not np.array_equal(mixed["fc"].weight, weight)
    assert mixed["lif"].current_decay == 2867 / 4096 and mixed["lif"].decay == 1229 / 4096
