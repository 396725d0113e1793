"""A runtime driven a step at a time gives what a whole run gives."""

import re

import numpy as np
import pytest

import tet_deploy as td
from tet_deploy.contracts import recorded
from tet_deploy.errors import ArgumentError, ArtifactError, DataError
from tet_deploy.exporters.to_onnx import to_onnx
from tet_deploy.ir.graph import chain
from tet_deploy.ir.nodes import LIF, Conv, Flatten, Input, Linear, Readout
from tet_deploy.runtimes.onnx_session import OnnxRuntime
from tet_deploy.runtimes.reference import ReferenceRuntime
from tet_deploy.testing import random_float_network, random_frames, random_quantized_network
from tet_deploy.validation import compare


def reference(graph, folder):
    return ReferenceRuntime(graph)


def onnx(graph, folder):
    return OnnxRuntime(to_onnx(graph, folder / "net.onnx", probes="all", states=True))


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("make", [reference, onnx])
@pytest.mark.parametrize("seed", range(4))
def test_a_run_is_the_fold_of_its_steps(make, quantized, seed, tmp_path):
    """Every spike, potential and readout is equal, and a state can be taken up again: it is a value."""
    rng = np.random.default_rng(seed)
    graph = (random_quantized_network if quantized else random_float_network)(rng)
    frames, runtime = random_frames(graph, rng, steps=5, samples=2), make(graph, tmp_path)
    states, steps = [runtime.start(2)], []
    for frame in frames:
        seen, state = runtime.step(states[-1], frame)
        steps.append(seen)
        states.append(state)
    whole = runtime.run(frames)
    assert compare(whole, recorded(steps, "steps")).equal
    assert compare(ReferenceRuntime(graph).run(frames), whole).equal
    again, _ = runtime.step(states[2], frames[2])
    assert compare(recorded([steps[2]], "first"), recorded([again], "again")).equal


def test_a_file_without_states_says_how_to_get_them(tmp_path):
    """Steps need an export with states; a whole run does not."""
    graph = random_quantized_network(np.random.default_rng(0), layers=1)
    runtime = OnnxRuntime(to_onnx(graph, tmp_path / "net.onnx"))
    with pytest.raises(ArtifactError, match=r"has no states.*--stream"):
        runtime.start(1)


def test_a_frame_that_does_not_fit_is_refused():
    """The layout is checked at every step."""
    runtime = ReferenceRuntime(random_quantized_network(np.random.default_rng(0)))
    with pytest.raises(DataError, match="frame: a step takes"):
        runtime.step(runtime.start(1), np.zeros((1, 2)))


@pytest.mark.parametrize("runtime", ["reference", "onnx"])
@pytest.mark.parametrize("quantized", [False, True])
def test_a_stream_decides_as_a_run_does(runtime, quantized):
    """Step by step its readout, its spikes and its decision are those of the run; reset begins anew."""
    rng = np.random.default_rng(5)
    graph = (random_quantized_network if quantized else random_float_network)(rng)
    frames = random_frames(graph, rng, steps=4, samples=3)
    whole = td.run(graph, frames, runtime=runtime)
    with td.Stream(graph, runtime=runtime, samples=3, probes="all") as stream:
        for _ in range(2):
            steps = []
            for t, frame in enumerate(frames):
                steps.append(stream.step(frame))
                assert np.array_equal(stream.decisions, whole.decisions_by_step[t])
            assert compare(whole, recorded(steps, "stream")).equal and stream.steps.tolist() == [4, 4, 4]
            stream.reset()


def test_one_stream_takes_frames_without_an_axis_of_samples():
    """A camera gives [C, H, W]; a frame that does not fit changes nothing, and no frame gives no decision."""
    rng = np.random.default_rng(6)
    graph = random_quantized_network(rng)
    frames = random_frames(graph, rng, steps=3, samples=1)
    stream = td.Stream(graph)
    with pytest.raises(ArgumentError, match="has seen no frame"):
        stream.decisions  # noqa: B018
    for frame in frames:
        with pytest.raises(DataError, match="frame: a step takes"):
            stream.step(frame[0, 0])
        stream.step(frame[0])
    assert np.array_equal(stream.decisions, td.run(graph, frames).decisions)


@pytest.mark.parametrize("runtime", ["reference", "onnx"])
def test_one_stream_takes_lines_without_an_axis_of_samples(runtime):
    """Of a network of lines, [C, L] is a frame, and [B, C, L] one of each stream."""
    rng = np.random.default_rng(0)
    nodes = [
        Input(name="input", shape=(2, 1, 6), encoding="events"),
        Conv(name="conv", weight=rng.normal(size=(3, 2, 1, 3)).astype(np.float32)),
        LIF(name="lif", threshold=0.5),
        Flatten(name="flatten"),
        Linear(name="fc", weight=rng.normal(size=(2, 12)).astype(np.float32)),
        Readout(name="readout"),
    ]
    frames = rng.poisson(0.5, (3, 1, 2, 6)).astype(np.float32)
    graph = td.lower(chain(nodes), frames)
    for shown in (frames, frames[:, 0], frames[:, 0, :, None], frames[:, :, :, None]):
        with td.Stream(graph, runtime=runtime) as stream:
            found = [stream.step(frame).readout for frame in shown]
        assert np.array_equal(found, td.run(graph, frames).readout)


@pytest.mark.parametrize("runtime", ["reference", "onnx"])
@pytest.mark.parametrize(
    ("found", "way_out"),
    [
        ((3, 8, 7), r"frame\[None\]"),
        ((4, 6, 3, 8, 7), "show them one by one"),
        ((6, 8, 7, 3), r"np\.moveaxis\(frame, -1, 1\)"),
        ((6, 3, 8, 8), "of another size"),
        ((), "of another size"),
    ],
)
def test_a_frame_that_does_not_fit_is_told_as_it_was_given(runtime, found, way_out):
    """Its own shape, that of a step, and a way out that fits."""
    graph = random_float_network(np.random.default_rng(0), encoding="events")
    message = rf"^frame: a step takes \[B, 3, 8, 7\]; got shape {re.escape(str(found))}\. .*{way_out}"
    with td.Stream(td.lower(graph), runtime=runtime, samples=6) as stream, pytest.raises(DataError, match=message):
        stream.step(np.zeros(found))


def test_what_cannot_be_streamed_is_refused():
    """Half a stream, and a runtime of that name."""
    graph = random_quantized_network(np.random.default_rng(0))
    for options, message in (({"samples": 0}, "at least 1"), ({"runtime": "loihi"}, "none of that name")):
        with pytest.raises(ArgumentError, match=message):
            td.Stream(graph, **options)


@pytest.mark.parametrize("runtime", ["reference", "onnx"])
@pytest.mark.parametrize(("held", "shown"), [(3, 1), (1, 3), (2, 3)])
def test_a_frame_of_other_samples_than_the_stream_is_refused(runtime, held, shown):
    """No stream is shown another's frame; the state stays as it was."""
    rng = np.random.default_rng(0)
    graph = random_float_network(rng, layers=1)
    frames = random_frames(graph, rng, steps=2, samples=3)
    with td.Stream(graph, runtime=runtime, samples=held) as stream:
        stream.step(frames[0, :held])
        with pytest.raises(DataError, match=rf"frame: shows {shown} samples? to a state of {held}\."):
            stream.step(frames[1, :shown])
        seen = stream.step(frames[1, :held]).readout
    np.testing.assert_array_equal(seen, td.run(graph, frames[:, :held], runtime=runtime).readout[1])
