import dataclasses
import json

import numpy as np
import pytest

from tet_deploy.contracts import Recording
from tet_deploy.errors import ArgumentError, DataError
from tet_deploy.exporters.to_lava import to_lava
from tet_deploy.ir.graph import Graph, chain
from tet_deploy.ir.nodes import LIF, Conv, CubaLIF, Flatten, Input, Linear, Quantization, Readout, Spiking
from tet_deploy.runtimes.loihi.session import LavaNumpyRuntime, LavaRuntime
from tet_deploy.runtimes.reference import ReferenceRuntime
from tet_deploy.testing import random_frames, random_quantized_network

UNITS = Quantization(scale=1.0)


def run_on_lava(graph, frames, tmp_path, python, **options) -> Recording:
    """By default in three processes, however small the network is, so that wires cross from one into another."""
    options = {"processes": 3, **options}
    return LavaRuntime(to_lava(graph, tmp_path / "net.lava"), python.path, timeout=60, **options).run(frames)


def assert_equal(recording: Recording, expected: Recording):
    """Every spike, every membrane potential and the readout of every step, in the types that recordings promise."""
    assert recording.readout.dtype == np.int64
    assert np.array_equal(recording.readout, expected.readout)
    for kind, dtype in (("spikes", np.uint8), ("potentials", np.int32)):
        observed, wanted = getattr(recording, kind), getattr(expected, kind)
        assert list(observed) == list(wanted)
        for name in wanted:
            assert observed[name].dtype == dtype
            assert np.array_equal(observed[name], wanted[name]), f"{kind} of {name}"


def forced(rng, currents=False) -> Graph:
    """A random network whose currents wrap and whose potentials reach their limits, and which spikes all the same."""
    graph = random_quantized_network(rng, encoding="analog", wrap=True, currents=currents)
    changes = {
        node.name: dataclasses.replace(
            node,
            bias=rng.choice([-4096, 4095, 0, 900], graph.shapes[node.name][0]).astype(np.int16),
            threshold=int(rng.integers(1, 4000)),
        )
        for node in graph.of_kind(Spiking)
    }
    first = graph.of_kind(Conv)[0]
    changes[first.name] = dataclasses.replace(first, weight=rng.choice([-127, 127, 90], first.weight.shape).astype(np.int8))
    return graph.replace(changes)


@pytest.mark.parametrize(("seed", "currents"), [(s, False) for s in range(16)] + [(s, True) for s in range(16, 24)])
def test_random_networks_equal_the_reference(lava_python, tmp_path, seed, currents):
    """Signed biases, strides, groups, dilation, graded negative input, any decay: every integer of every step is equal."""
    rng = np.random.default_rng(seed)
    graph = random_quantized_network(rng, currents=currents)
    frames = random_frames(graph, rng, steps=int(rng.integers(1, 7)), samples=int(rng.integers(1, 5)))
    assert_equal(run_on_lava(graph, frames, tmp_path, lava_python), ReferenceRuntime(graph).run(frames))


@pytest.mark.parametrize(("seed", "currents"), [(s, False) for s in range(6)] + [(s, True) for s in range(6, 10)])
def test_networks_at_the_limits_equal_the_reference(lava_python, tmp_path, seed, currents):
    """Currents that wrap and potentials that saturate are the same integers in Lava."""
    rng = np.random.default_rng(1000 + seed)
    graph = forced(rng, currents)
    frames = random_frames(graph, rng, steps=6, samples=2)
    expected = ReferenceRuntime(graph).run(frames)
    assert max(spikes.sum() for spikes in expected.spikes.values()) > 0
    assert_equal(run_on_lava(graph, frames, tmp_path, lava_python), expected)


@pytest.mark.parametrize(
    ("seed", "currents"), [(0, False), (3, False), (1000, False), (1004, False), (4, True), (1006, True)]
)
def test_lavas_own_models_equal_the_reference(lava_python, tmp_path, seed, currents):
    """What our process models compute is what Lava's own compute, ordinary networks and forced ones."""
    rng = np.random.default_rng(seed)
    graph = forced(rng, currents) if seed >= 1000 else random_quantized_network(rng, currents=currents)
    frames = random_frames(graph, rng, steps=4, samples=2)
    assert_equal(run_on_lava(graph, frames, tmp_path, lava_python, stock=True), ReferenceRuntime(graph).run(frames))


@pytest.mark.parametrize("seed", range(4))
def test_the_numpy_engine_equals_the_reference(tmp_path, seed):
    """The bundle runs in this Python, without Lava, and records the same types and integers."""
    rng = np.random.default_rng(seed)
    graph = forced(rng, currents=seed > 1) if seed % 2 else random_quantized_network(rng, currents=seed > 1)
    frames = random_frames(graph, rng, steps=5, samples=3)
    found = LavaNumpyRuntime(to_lava(graph, tmp_path / "net.lava"), timeout=60).run(frames)
    assert found.runtime == "lava-numpy"
    assert_equal(found, ReferenceRuntime(graph).run(frames))


@pytest.mark.slow
@pytest.mark.parametrize(("stock", "seed"), [(False, s) for s in range(2000, 2100)] + [(True, s) for s in range(2000, 2040)])
def test_many_more_random_networks_equal_the_reference(lava_python, tmp_path, seed, stock):
    """A hundred more with branches, half of them forced, half with currents; forty on Lava's own process models too."""
    rng = np.random.default_rng(seed)
    currents = seed % 4 >= 2
    graph = forced(rng, currents) if seed % 2 else random_quantized_network(rng, currents=currents)
    frames = random_frames(graph, rng, steps=int(rng.integers(1, 9)), samples=3)
    assert_equal(run_on_lava(graph, frames, tmp_path, lava_python, stock=stock), ReferenceRuntime(graph).run(frames))


@pytest.mark.parametrize("stock", [False, True])
@pytest.mark.parametrize("current_decay", [0.0, 0.5, 0.9, 1.0])
def test_currents_wrap_and_are_reset_with_each_sample(lava_python, tmp_path, current_decay, stock):
    """Up to the largest sums that a simulator's int32 holds; own models count what wrapped as the reference does."""
    fan_in, rng = 16 if current_decay == 1 else 60, np.random.default_rng(0)
    weight = np.repeat(np.eye(2), fan_in, axis=1) * 127
    neurons = {"decay": 0.75, "current_decay": current_decay, "threshold": 2**17 - 1}
    graph = chain(
        [
            Input(name="input", shape=(2 * fan_in,), quantization=UNITS),
            Linear(name="fc", weight=weight.astype(np.int8), quantization=UNITS),
            CubaLIF(name="lif", **neurons, bias=np.array([-40, 3], np.int16), quantization=UNITS),
            Linear(name="out", weight=np.eye(2, dtype=np.int8), quantization=UNITS),
            Readout(name="readout", quantization=UNITS),
        ]
    )
    frames = (rng.integers(-127, 128, (12, 3, 2, 1)) * (rng.random((12, 3, 2, fan_in)) < 0.9)).reshape(12, 3, -1)
    found, expected = (
        run_on_lava(graph, frames, tmp_path, lava_python, stock=stock),
        ReferenceRuntime(graph).run(frames.astype(np.float32)),
    )
    assert_equal(found, expected)
    assert expected.ranges.wrapped["lif"].sum() > 3 and expected.spikes["lif"].sum() > 3
    if not stock:
        assert np.array_equal(found.ranges.wrapped["lif"], expected.ranges.wrapped["lif"])


def perceptron(rng, inputs: int, weight_size: int) -> Graph:
    """Two Linear layers on a flat analog input."""
    return chain(
        [
            Input(name="input", shape=(inputs,), quantization=Quantization(scale=60.0)),
            Linear(name="hidden", weight=rng.integers(-weight_size, 128, (9, inputs), dtype=np.int8), quantization=UNITS),
            LIF(name="lif", threshold=4000, bias=rng.integers(-99, 99, 9).astype(np.int16), quantization=UNITS),
            Linear(name="fc", weight=rng.integers(-127, 128, (4, 9), dtype=np.int8), quantization=UNITS),
            Readout(name="readout", quantization=UNITS),
        ]
    )


@pytest.mark.parametrize("stock", [False, True])
@pytest.mark.parametrize(("inputs", "weight_size", "process"), [(20, 127, "dense"), (1300, 0, "conv")])
def test_flat_inputs_equal_the_reference(lava_python, tmp_path, inputs, weight_size, process, stock):
    """A Linear on a flat graded input works as Dense, and as Conv where its sums could wrap."""
    rng = np.random.default_rng(inputs)
    graph = perceptron(rng, inputs, weight_size)
    frames = random_frames(graph, rng, steps=5, samples=2)
    if process == "conv":
        frames = np.abs(frames) + 2  # sums of 1300 * 127 * 127 do wrap
    assert_equal(run_on_lava(graph, frames, tmp_path, lava_python, stock=stock), ReferenceRuntime(graph).run(frames))
    plan = json.loads((tmp_path / "net.lava" / "plan.json").read_text())
    assert plan["nodes"][0]["kind"] == process


def test_folded_pools_equal_the_reference(lava_python, tmp_path):
    """Kernels in which every tap is repeated, as fold_pooling makes them, take a shortcut to the same integers."""
    rng = np.random.default_rng(0)
    kernel = rng.integers(-127, 128, (5, 3, 3, 3), dtype=np.int8).repeat(2, axis=2).repeat(2, axis=3)
    graph = chain(
        [
            Input(name="input", shape=(2, 8, 12), encoding="events", quantization=UNITS),
            Conv(
                name="conv1", weight=rng.integers(-60, 90, (3, 2, 3, 3), dtype=np.int8), padding=(1, 1), quantization=UNITS
            ),
            LIF(name="lif1", threshold=100, quantization=UNITS),
            Conv(name="conv2", weight=kernel, stride=(2, 2), padding=(2, 2), quantization=UNITS),
            LIF(name="lif2", threshold=300, quantization=UNITS),
            Flatten(name="flatten"),
            Linear(name="fc", weight=rng.integers(-127, 128, (3, 120), dtype=np.int8), quantization=UNITS),
            Readout(name="readout", quantization=UNITS),
        ]
    )
    frames = random_frames(graph, rng, steps=4, samples=3)
    expected = ReferenceRuntime(graph).run(frames)
    assert expected.spikes["lif2"].any()
    assert_equal(run_on_lava(graph, frames, tmp_path, lava_python), expected)


@pytest.fixture(scope="module")
def small(tmp_path_factory, lava_python):
    """A network with two populations, its frames and its bundle."""
    rng = np.random.default_rng(5)
    graph = random_quantized_network(rng, encoding="events", layers=2)
    bundle = to_lava(graph, tmp_path_factory.mktemp("small") / "net.lava")
    return graph, random_frames(graph, rng), LavaRuntime(bundle, lava_python.path, timeout=60)


def test_only_what_the_probes_ask_for_is_recorded(small):
    """'none', 'spikes', one name: the readout is the same, and nothing else comes along."""
    graph, frames, runtime = small
    expected = ReferenceRuntime(graph).run(frames)
    names = [node.name for node in graph.of_kind(LIF)]
    assert len(names) == 2
    for probes, spikes, potentials in (("none", [], []), ("spikes", names, []), ([names[1]], names[1:], names[1:])):
        recording = runtime.run(frames, probes=probes)
        assert (list(recording.spikes), list(recording.potentials)) == (spikes, potentials)
        assert np.array_equal(recording.readout, expected.readout)
        assert all(np.array_equal(recording.spikes[name], expected.spikes[name]) for name in spikes)


def test_progress_counts_lavas_steps(small):
    """Progress rises from 0 to T * B plus the steps that the layers take."""
    _, frames, runtime = small
    seen = []
    runtime.run(frames, probes="none", progress=lambda done, total: seen.append((done, total)))
    total = frames.shape[0] * frames.shape[1] + 3
    assert (seen[0], seen[-1]) == ((0, total), (total, total))
    assert seen == sorted(seen)


def test_the_bundle_is_left_as_it_was(small):
    """Running a bundle writes nothing into it."""
    _, frames, runtime = small
    before = sorted(runtime.bundle.rglob("*"))
    runtime.run(frames, probes="none")
    assert sorted(runtime.bundle.rglob("*")) == before


@pytest.mark.parametrize(
    ("change", "error", "complaint"),
    [
        (lambda frames: frames[:, 0], DataError, "time first; got shape"),
        (lambda frames: frames[:0], DataError, "at least one step"),
        (lambda frames: frames + 0.5, DataError, "whole numbers"),
        (lambda frames: frames.astype(str), DataError, "dtype"),
        (lambda frames: frames * np.nan, DataError, "NaN"),
        (lambda frames: -frames, DataError, "must not be negative"),
    ],
)
def test_frames_that_do_not_fit_are_refused(small, change, error, complaint):
    """Wrong frames stop before Lava is started."""
    _, frames, runtime = small
    with pytest.raises(error, match=complaint):
        runtime.run(change(frames))


def test_unknown_probes_are_refused(small):
    """A probe that names no population stops before Lava is started."""
    _, frames, runtime = small
    with pytest.raises(ArgumentError, match="probe 'nothing'"):
        runtime.run(frames, probes=["nothing"])
