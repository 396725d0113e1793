"""Streams run side by side and begin anew one by one; each gives what it would give alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tet_deploy as td
from tet_deploy.contracts import recorded
from tet_deploy.errors import ArgumentError, RangeWarning
from tet_deploy.testing import random_float_network, random_frames, random_quantized_network
from tet_deploy.validation import compare


@pytest.mark.parametrize("runtime", ["reference", "onnx"])
@settings(max_examples=12)
@given(seed=st.integers(0, 2**32 - 1), quantized=st.booleans(), streams=st.integers(1, 4), steps=st.integers(1, 9))
def test_streams_reset_at_random_equal_separate_runs(runtime, seed, quantized, streams, steps):
    """Whatever is reset when, each stretch of each stream is a whole run of its frames, in every value."""
    rng = np.random.default_rng(seed)
    graph = (random_quantized_network if quantized else random_float_network)(rng, layers=1)
    frames = random_frames(graph, rng, steps=steps, samples=streams)
    begun, seen = np.zeros(streams, int), []
    with td.Stream(graph, runtime=runtime, samples=streams, probes="all") as stream:
        for t, frame in enumerate(frames):
            seen.append(stream.step(frame))
            assert stream.steps.tolist() == (t + 1 - begun).tolist()
            for b, start in enumerate(begun):
                alone = td.run(graph, frames[start : t + 1, b : b + 1], probes="all")
                assert compare(alone, recorded(seen[start:], "stream").sample(b, b + 1)).equal
                assert stream.mean_readout[b].tolist() == (alone.sums[-1, 0] / (t + 1 - start)).tolist()
                assert stream.decisions[b] == alone.decisions[0]
            mask = rng.random(streams) < 0.4
            stream.reset(mask)
            begun[mask] = t + 1


@pytest.mark.parametrize("quantized", [False, True])
def test_a_stream_opens_the_file_of_a_step_graph(quantized, tmp_path):
    """`stream=True` and the earlier `states=True` write the same bytes, and what they write steps as the network does."""
    rng = np.random.default_rng(1)
    graph = (random_quantized_network if quantized else random_float_network)(rng)
    frames = random_frames(graph, rng, steps=3, samples=2)
    path = td.export(graph, tmp_path / "step.onnx", to="onnx", stream=True, probes="all")
    earlier = td.export(graph, tmp_path / "states.onnx", to="onnx", states=True, probes="all")
    assert path.read_bytes() == earlier.read_bytes()
    with td.Stream(path, samples=2, probes="all") as stream:
        found = recorded([stream.step(frame) for frame in frames], "file")
    assert compare(td.run(graph, frames, probes="all"), found).equal


def test_a_file_tells_once_that_values_left_the_chips_range(tmp_path):
    """Without the network at hand, the node and what it did."""
    graph = random_quantized_network(np.random.default_rng(0), layers=1)
    stream = td.Stream(td.export(graph, tmp_path / "net.onnx", to="onnx", stream=True))
    frame = np.full((1, *graph.input.shape), 10.0**6)
    with pytest.warns(RangeWarning, match=r"net\.onnx: values left the chip's range, of \w+ \(clipped\)") as told:
        stream.step(frame)
        stream.step(frame)
    assert len(told) == 1


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ([True], r"bool of shape \(2,\)"),
        ([0, 1], r"got int64 of shape \(2,\)"),
        (True, r"of shape \(\)"),
        ([[True, False]], r"\(1, 2\)"),
    ],
)
def test_a_mask_of_another_form_is_refused(mask, message):
    """An index, a number and a mask of other streams are none, and nothing is reset."""
    rng = np.random.default_rng(0)
    graph = random_quantized_network(rng, layers=1)
    stream = td.Stream(graph, samples=2)
    stream.step(random_frames(graph, rng, steps=1, samples=2)[0])
    with pytest.raises(ArgumentError, match=message):
        stream.reset(mask)
    assert stream.steps.tolist() == [1, 1]


def test_a_stream_that_has_just_begun_has_no_decision():
    """Which ones have seen nothing is said; the latency is of all steps since the stream was made."""
    rng = np.random.default_rng(0)
    graph = random_quantized_network(rng, layers=1)
    stream = td.Stream(graph, samples=3)
    with pytest.raises(ArgumentError, match="no step was taken"):
        stream.latency  # noqa: B018
    for frame in random_frames(graph, rng, steps=5, samples=3):
        stream.step(frame)
    stream.reset(np.array([True, False, True]))
    with pytest.raises(ArgumentError, match=r"stream \[0, 2\] has seen no frame yet"):
        stream.decisions  # noqa: B018
    found = stream.latency
    assert found.steps == 5 and 0 < found.p50 <= found.p90 <= found.p99 <= found.longest


def test_what_no_stream_can_run_is_refused(tmp_path):
    """A rule that is none or of another network, and a file on another runtime."""
    graph = random_quantized_network(np.random.default_rng(0), layers=1)
    path = td.export(graph, tmp_path / "net.onnx", to="onnx", stream=True)
    with pytest.raises(ArgumentError, match="must be an EarlyStop"):
        td.Stream(graph, stop=0.5)
    with pytest.raises(ArgumentError, match="calibrated for another network"):
        td.Stream(path, stop=td.EarlyStop(threshold=1.0, steps=2, digest="0" * 64))
    with pytest.raises(ArgumentError, match="an ONNX file is run by 'onnx'"):
        td.Stream(path, runtime="reference")
