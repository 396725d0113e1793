"""Samples padded with silence up to an interval between resets that is a power of two."""

import json
import subprocess
import sys

import numpy as np
import pytest

import tet_deploy as td
from tet_deploy.batches import FrameBatches
from tet_deploy.errors import ArgumentError, ArtifactError, DataError
from tet_deploy.exporters.to_lava import to_lava
from tet_deploy.runtimes.loihi.session import LavaNumpyRuntime, LavaRuntime
from tet_deploy.runtimes.reference import ReferenceRuntime
from tet_deploy.testing import random_frames, random_quantized_network


def drawn(seed, steps, samples=3):
    """A network with biases, on frames whose mean is not 0 where they are analog, and what the reference makes of them."""
    rng = np.random.default_rng(seed)
    graph = random_quantized_network(rng, currents=seed % 2 == 0)
    frames = random_frames(graph, rng, steps, samples)
    return graph, frames, ReferenceRuntime(graph).run(frames)


def assert_equal(found, expected):
    assert np.array_equal(found.readout, expected.readout)
    for kind in ("spikes", "potentials"):
        observed, wanted = getattr(found, kind), getattr(expected, kind)
        assert list(observed) == list(wanted)
        assert all(np.array_equal(observed[name], wanted[name]) for name in wanted), kind


@pytest.mark.parametrize("seed", range(12))
def test_silence_changes_nothing(tmp_path, seed):
    """Readouts, spikes and potentials of the T steps are those of the reference and of ONNX Runtime, whatever T and P."""
    steps = 1 + seed % 6
    graph, frames, expected = drawn(seed, steps)
    period = (8, 16, 1 << (steps - 1).bit_length())[seed % 3]
    found = LavaNumpyRuntime(to_lava(graph, tmp_path / "net.lava", period=period)).run(frames)
    assert found.readout.shape[0] == steps
    assert_equal(found, expected)
    pytest.importorskip("onnxruntime", reason="not installed everywhere")
    assert_equal(td.run(graph, frames, runtime="onnx"), expected)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("stock", [False, True])
def test_on_lava_too(lava_python, tmp_path, seed, stock):
    """Lava, with the bundle's models and with its own: all integers of the T steps are equal."""
    graph, frames, expected = drawn(seed + 20, steps=(5, 3, 6)[seed], samples=2)
    bundle = to_lava(graph, tmp_path / "net.lava", period=8)
    runtime = LavaRuntime(bundle, lava_python.path, stock=stock, timeout=120, processes=2)
    assert_equal(runtime.run(frames), expected)


def test_what_left_its_range_is_counted_in_frames_alone(tmp_path):
    """Counts are of the T steps of each sample: silence is not looked at."""
    rng = np.random.default_rng(4)
    graph = random_quantized_network(rng, encoding="analog", wrap=True)
    frames = random_frames(graph, rng, 3, 2) * 50
    plain = LavaNumpyRuntime(to_lava(graph, tmp_path / "plain")).run(frames).ranges
    padded = LavaNumpyRuntime(to_lava(graph, tmp_path / "padded", period=8)).run(frames).ranges
    for kind in ("clipped", "wrapped", "saturated"):
        one, other = getattr(plain, kind), getattr(padded, kind)
        assert list(one) == list(other)
        assert all(np.array_equal(one[name], other[name]) for name in one)
    assert any(count.any() for count in padded.clipped.values())


def test_batches_of_a_source(tmp_path):
    """Samples that are read a few at a time are padded one by one."""
    graph, frames, expected = drawn(1, steps=3, samples=5)
    runtime = LavaNumpyRuntime(to_lava(graph, tmp_path / "net.lava", period=4))
    parts = list(runtime.recordings(FrameBatches.of(graph, frames), size=2))
    assert np.array_equal(np.concatenate([part.readout for part in parts], axis=1), expected.readout)


def test_more_steps_than_the_period_are_refused(tmp_path):
    """By the host and by run.py, each with the way out; a sample as long as the period runs."""
    graph, frames, expected = drawn(2, steps=4, samples=1)
    bundle = to_lava(graph, tmp_path / "net.lava", period=4)
    assert_equal(LavaNumpyRuntime(bundle).run(frames), expected)
    longer = np.concatenate([frames, frames[:1]])
    with pytest.raises(DataError, match=r"have 5 steps a sample; .* every 4\. Export the network again"):
        LavaNumpyRuntime(bundle).run(longer)
    np.save(tmp_path / "frames.npy", longer)
    command = [sys.executable, bundle / "run.py", tmp_path / "frames.npy", tmp_path / "recording.npz", "--engine", "numpy"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 70 and "Export the network again with period=8 (--period 8)." in done.stderr


@pytest.mark.parametrize("period", [0, -4, 3, 6, 2**21, 4.0, True, "8"])
def test_periods_that_no_chip_has(tmp_path, period):
    """A period must be a power of two."""
    graph, _, _ = drawn(0, steps=1)
    with pytest.raises(ArgumentError, match="power of two"):
        td.export(graph, tmp_path / "net.lava", to="lava", period=period)
    assert not (tmp_path / "net.lava").exists()


def test_a_period_that_was_put_into_the_plan(tmp_path, reseal):
    """A bundle with right checksums and a period that is none is refused."""
    graph, _, _ = drawn(0, steps=1)
    bundle = to_lava(graph, tmp_path / "net.lava", period=8)
    assert json.loads((bundle / "plan.json").read_text())["period"] == 8
    for period in (6, 0, "8", None, 2**30):
        reseal(bundle, lambda plan, period=period: plan.update(period=period))
        with pytest.raises(ArtifactError, match="period"):
            LavaNumpyRuntime(bundle)
