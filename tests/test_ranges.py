"""What left the chip's range is counted alike by every runtime, adds up however samples are split, and is told once."""

import dataclasses
import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tet_deploy as td
from tet_deploy import dynamics
from tet_deploy.contracts import concatenate, recorded
from tet_deploy.errors import ArtifactError, RangeWarning
from tet_deploy.exporters.to_lava import to_lava
from tet_deploy.exporters.to_onnx import to_onnx
from tet_deploy.ir.graph import Graph, chain
from tet_deploy.ir.nodes import LIF, Conv, Input, Linear, Quantization, Readout
from tet_deploy.range_totals import RangeTotals
from tet_deploy.ranges import KINDS, possible
from tet_deploy.runtimes.loihi.session import LavaRuntime
from tet_deploy.runtimes.onnx_session import OnnxRuntime
from tet_deploy.runtimes.reference import ReferenceRuntime
from tet_deploy.testing import random_float_network, random_frames, random_quantized_network

pytestmark = pytest.mark.filterwarnings("ignore::tet_deploy.errors.RangeWarning")
UNITS = Quantization(scale=1.0)


def beyond(rng) -> Graph:
    """A random network with branches whose messages, sums and potentials leave their range: extreme weights and biases."""
    graph = random_quantized_network(rng, encoding="analog", wrap=True)
    changes = {}
    for node in graph:
        if isinstance(node, LIF):
            bias = rng.choice([-4096, 4095, 0, 900], graph.shapes[node.name][0]).astype(np.int16)
            changes[node.name] = dataclasses.replace(
                node, bias=bias, threshold=int(rng.integers(1, 4000)), decay=rng.choice([0.5, 1.0])
            )
        elif isinstance(node, Conv):
            changes[node.name] = dataclasses.replace(
                node, weight=rng.choice([-127, 127, 90], node.weight.shape).astype(np.int8)
            )
    return graph.replace(changes)


def perceptron(rng, inputs: int = 900) -> Graph:
    """Two Linear layers behind so many analog inputs that sums leave 24 bit before they reach the neurons."""
    return chain(
        [
            Input(name="input", shape=(inputs,), quantization=Quantization(scale=60.0)),
            Linear(name="hidden", weight=rng.integers(60, 128, (9, inputs), dtype=np.int8), quantization=UNITS),
            LIF(name="lif", threshold=4000, bias=rng.integers(-99, 99, 9).astype(np.int16), quantization=UNITS),
            Linear(name="fc", weight=rng.integers(-127, 128, (4, 9), dtype=np.int8), quantization=UNITS),
            Readout(name="readout", quantization=UNITS),
        ]
    )


def large_frames(graph, rng, steps=4, samples=3) -> np.ndarray:
    """Frames beyond what messages hold; flat ones of one sign, so that sums of all of them leave 24 bit."""
    frames = 2 * random_frames(graph, rng, steps, samples)
    return (
        frames
        if len(graph.input.shape) == 3
        else (np.abs(frames) + 1) * rng.choice([-1, 1, 1], (steps, samples, 1)).astype(np.float32)
    )


def counted(recording) -> dict[tuple[str, str], np.ndarray]:
    return {(kind, name): array for kind in KINDS for name, array in getattr(recording.ranges, kind).items()}


def assert_counts_equal(found, expected):
    """Of every node, step and sample, in the types that recordings promise."""
    ours, theirs = counted(found), counted(expected)
    assert list(ours) == list(theirs) and not found.ranges.unknown
    for place, array in theirs.items():
        assert ours[place].dtype == np.int64 and np.array_equal(ours[place], array), place


def by_hand(graph, frames) -> dict[tuple[str, str], np.ndarray]:
    """The same counts from Python's integers, neuron by neuron, for a chain Input-Linear-LIF-Linear-Readout."""
    source, hidden, lif = graph.input, graph["hidden"], graph["lif"]
    steps, samples = frames.shape[:2]
    found = {(kind, name): np.zeros((steps, samples), np.int64) for kind in KINDS for name in possible(graph)[kind]}
    for b in range(samples):
        v = [0] * len(hidden.weight)
        for t in range(steps):
            exact = [float(np.rint(np.float32(x) * np.float32(source.quantization.scale))) for x in frames[t, b]]
            messages = [int(min(127, max(-127, x))) for x in exact]
            found["clipped", "input"][t, b] = sum(abs(x) > 127 for x in exact)
            for n, row in enumerate(hidden.weight.tolist()):
                total = sum(w * x for w, x in zip(row, messages, strict=True))
                a = (total + 2**23) % 2**24 - 2**23
                found["wrapped", "hidden"][t, b] += a != total
                u = a * 64
                inside = -(2**23) < u <= 2**23
                found["wrapped", "lif"][t, b] += not inside
                u = u if inside else u - 2**24 if u > 0 else u + 2**24
                kept = abs(v[n]) * (4096 - dynamics.decay_v(lif)) // 4096 * (1 if v[n] > 0 else -1)
                full = kept + u + int(lif.bias[n])
                found["saturated", "lif"][t, b] += full < -(2**23 - 1)
                v[n] = 0 if full > lif.threshold * 64 else max(full, -(2**23 - 1))
    return found


@pytest.mark.parametrize("seed", range(4))
def test_the_reference_counts_what_plain_integers_count(seed):
    """Clipped messages, sums that leave 24 bit, shifted sums that do, potentials below the limit: each value, by hand."""
    rng = np.random.default_rng(seed)
    graph = perceptron(rng)
    frames = large_frames(graph, rng, steps=5)
    found, expected = counted(ReferenceRuntime(graph).run(frames)), by_hand(graph, frames)
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[place], expected[place]) for place in expected)
    assert all(array.any() for array in expected.values())


@settings(max_examples=40)
@given(
    weights=st.lists(st.integers(-127, 127), min_size=12, max_size=12),
    frames=st.lists(st.lists(st.floats(-3, 3, width=32), min_size=12, max_size=12), min_size=1, max_size=6),
    decay=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    bias=st.sampled_from([-4096, -1, 0, 4095]),
    exponent=st.integers(0, 7),
)
def test_potentials_at_the_limit_are_counted_exactly(weights, frames, decay, bias, exponent):
    """Reference and ONNX count what Python's integers do, where a neuron falls below the limit or only touches it."""
    units = Quantization(scale=1.0, bias_exponent=exponent)
    graph = chain(
        [
            Input(name="input", shape=(12,), quantization=Quantization(scale=40.0)),
            Linear(name="hidden", weight=np.array([weights], np.int8), quantization=UNITS),
            LIF(name="lif", threshold=131071, decay=decay, bias=np.array([bias], np.int16), quantization=units),
            Linear(name="fc", weight=np.ones((2, 1), np.int8), quantization=UNITS),
            Readout(name="readout", quantization=UNITS),
        ]
    )
    x = np.array(frames, np.float32)[:, None]
    recording, v, held = td.run(graph, x), 0, []
    for step in x[:, 0]:
        messages = np.clip(np.rint(step * np.float32(40)), -127, 127).astype(int).tolist()
        u = ((sum(w * m for w, m in zip(weights, messages, strict=True)) + 2**23) % 2**24 - 2**23) * 64
        u = u - 2**24 if u > 2**23 else u + 2**24 if u <= -(2**23) else u
        full = abs(v) * (4096 - dynamics.decay_v(graph["lif"])) // 4096 * (1 if v > 0 else -1) + u + (bias << exponent)
        held.append(int(full < -(2**23 - 1)))
        v = 0 if full > 131071 * 64 else max(full, -(2**23 - 1))
    counts = recording.ranges.saturated.get("lif", np.zeros((len(held), 1)))  # where a certificate says that none can
    assert counts[:, 0].tolist() == held
    assert_counts_equal(td.run(graph, x, runtime="onnx"), recording)


@pytest.mark.parametrize("seed", range(20))
def test_onnx_counts_what_the_reference_counts(seed):
    """Node by node, step by step, sample by sample, over random networks that leave every range."""
    rng = np.random.default_rng(seed)
    graph = perceptron(rng) if seed % 5 == 0 else beyond(rng)
    frames = large_frames(graph, rng, steps=6, samples=5)
    expected = td.run(graph, frames)
    assert_counts_equal(td.run(graph, frames, runtime="onnx"), expected)
    assert_counts_equal(td.run(graph, frames, runtime="onnx", probes="none", micro_batch=2), expected)


def test_the_random_networks_do_leave_every_range():
    """So that what is compared is not zeros."""
    totals = RangeTotals()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        graph = perceptron(rng) if seed % 5 == 0 else beyond(rng)
        recording = td.run(graph, large_frames(graph, rng, steps=6, samples=5))
        totals += RangeTotals.of(graph, recording.ranges)
    assert all(sum(found.count for found in getattr(totals, kind).values()) > 100 for kind in KINDS)


@pytest.mark.parametrize("seed", [1, 2, 3, 5, 8])
def test_lava_counts_what_the_reference_counts(lava_python, seed):
    """Of every step and sample, through latencies, relays, and the filling and emptying of the pipeline."""
    rng = np.random.default_rng(seed)
    graph = perceptron(rng) if seed % 5 == 0 else beyond(rng)
    frames = large_frames(graph, rng, steps=5, samples=4)
    assert_counts_equal(td.run(graph, frames, runtime="lava"), td.run(graph, frames))


@pytest.mark.parametrize(
    "make",
    [
        lambda graph, folder: ReferenceRuntime(graph),
        lambda graph, folder: OnnxRuntime(to_onnx(graph, folder / "net.onnx", states=True, ranges=True)),
    ],
)
def test_steps_and_parts_count_what_the_whole_counts(make, tmp_path):
    """A fold of steps, and samples taken apart and joined again."""
    rng = np.random.default_rng(3)
    graph = beyond(rng)
    frames, runtime = large_frames(graph, rng, steps=4, samples=5), make(graph, tmp_path)
    whole, state, steps = runtime.run(frames, probes="none"), runtime.start(5), []
    for frame in frames:
        seen, state = runtime.step(state, frame, probes="none")
        steps.append(seen)
    assert_counts_equal(recorded(steps, "steps"), whole)
    assert_counts_equal(concatenate([whole.sample(0, 1), whole.sample(1, 4), whole.sample(4, 9)]), whole)


def test_a_certified_network_has_nothing_to_count(tmp_path):
    """Its file has no output more, and only the clipping of frames, which no certificate covers, is looked at."""
    rng = np.random.default_rng(0)
    graph = random_quantized_network(rng, encoding="events", layers=1)
    graph = graph.replace({"layer0.lif": dataclasses.replace(graph["layer0.lif"], decay=0.5)})
    assert possible(graph) == {"clipped": ("input",), "wrapped": (), "saturated": ()}
    plain, counting = (to_onnx(graph, tmp_path / f"{flag}.onnx", ranges=flag) for flag in (False, True))
    assert plain.read_bytes() == counting.read_bytes()
    assert possible(random_float_network(rng)) == dict.fromkeys(KINDS, ())


def test_what_is_not_counted_is_unknown_and_never_zero(tmp_path, lava_python):
    """A file without the outputs, and Lava's own models: nodes are named, and known again beside another run."""
    rng = np.random.default_rng(5)
    graph = perceptron(rng)
    frames = large_frames(graph, rng)
    expected = td.run(graph, frames)
    found = OnnxRuntime(to_onnx(graph, tmp_path / "net.onnx")).run(frames, probes="none")
    assert found.ranges.unknown == ("hidden", "lif") and not found.ranges.wrapped and not found.ranges.saturated
    assert np.array_equal(found.ranges.clipped["input"], expected.ranges.clipped["input"])
    with pytest.warns(RangeWarning, match="how many values of hidden, lif left the chip's range was not counted"):
        stock = td.run(graph, frames, runtime="lava", stock=True)
    assert stock.ranges.unknown == ("hidden", "lif")
    assert np.array_equal(stock.ranges.clipped["input"], expected.ranges.clipped["input"])
    some, all_of_them = (RangeTotals.of(graph, each.ranges) for each in (found, expected))
    assert (some | all_of_them) == (all_of_them | some) == all_of_them
    assert (some + all_of_them).unknown == ("hidden", "lif")


def test_a_bundle_of_before_is_run_and_its_ranges_are_unknown(tmp_path, lava_python):
    """Its plan says nothing of ranges."""
    from tet_deploy.runtimes.loihi.bundle.loihi_checks.bundle import with_checksum

    rng = np.random.default_rng(5)
    graph = perceptron(rng)
    bundle = to_lava(graph, tmp_path / "bundle")
    plan = json.loads((bundle / "plan.json").read_text())
    del plan["ranges"]
    (bundle / "plan.json").write_text(json.dumps(with_checksum(plan)))
    found = LavaRuntime(bundle, lava_python.path).run(large_frames(graph, rng))
    assert set(found.ranges.unknown) == {"input", "hidden", "lif"} and not counted(found)


@pytest.mark.parametrize(
    "ranges",
    [
        3,
        {"wraped": []},
        {"wrapped": "lif"},
        {"wrapped": ["nobody"]},
        {"saturated": ["hidden"]},
        {"clipped": ["lif"]},
        {"saturated": ["lif", "lif"]},
        {"wrapped": [["lif"]]},
    ],
)
def test_a_plan_that_counts_what_there_is_not_is_refused(tmp_path, ranges):
    """Ranges of other kinds, other nodes, twice."""
    from tet_deploy.runtimes.loihi.bundle.loihi_checks.bundle import with_checksum
    from tet_deploy.runtimes.loihi.plan import read_plan

    bundle = to_lava(perceptron(np.random.default_rng(0)), tmp_path / "bundle")
    plan = json.loads((bundle / "plan.json").read_text())
    (bundle / "plan.json").write_text(json.dumps(with_checksum(plan | {"ranges": ranges})))
    with pytest.raises(ArtifactError, match="ranges"):
        read_plan(bundle)


@pytest.mark.parametrize("seed", range(20))
def test_ordinary_networks_give_no_alarm(seed):
    """A float network, and its integers on frames like those of its calibration."""
    rng = np.random.default_rng(seed)
    graph = td.lower(random_float_network(rng))
    int8 = td.quantize(graph, random_frames(graph, rng, 4, 16))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        td.validate(graph, random_frames(graph, rng), runtimes=["reference", "onnx"])
        td.validate(int8, random_frames(graph, rng), runtimes=["reference", "onnx"])
