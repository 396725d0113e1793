"""Which quantized networks convolve in float32: small ones, where it is exact; either way the integers are the same."""

import dataclasses
import math

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tet_deploy.exporters.to_onnx import to_onnx
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import LIF, Conv, Flatten, Input, Linear, Quantization, Readout
from tet_deploy.runtimes.onnx_session import OnnxRuntime
from tet_deploy.runtimes.reference import ReferenceRuntime

UNIT = Quantization(scale=1.0)


def _network(channels=4, size=6, decay=0.5, weight=20, ports=1, threshold=100, groups=1, kernel=(3, 3), stride=(1, 1)):
    """Two convolutions with neurons behind each, the second of several ports, and a readout of two classes."""
    rng = np.random.default_rng(channels)

    def conv(name, source, inputs):
        drawn = rng.integers(-weight, weight + 1, (channels, inputs // groups, *kernel)).astype(np.int8)
        drawn[0, 0, 0, 0] = weight
        fields = {"stride": stride, "groups": groups, "padding": (kernel[0] // 2, kernel[1] // 2), "quantization": UNIT}
        return Conv(name=name, inputs=(source,), weight=drawn, **fields)

    def lif(name, *sources):
        bias = rng.integers(-4000, 4000, channels).astype(np.int16)
        quantization = Quantization(scale=1.0, bits=17, bias_exponent=int(rng.integers(0, 4)))
        return LIF(name=name, inputs=sources, decay=decay, threshold=threshold, bias=bias, quantization=quantization)

    second = [conv(f"conv2{i}", "lif1", channels) for i in range(ports)]
    neurons = channels * math.prod(len(range(0, len(range(0, size, step)), step)) for step in stride)
    return Graph(
        [
            Input(name="input", shape=(2 * groups, size, size), quantization=UNIT),
            conv("conv1", "input", 2 * groups),
            lif("lif1", "conv1"),
            *second,
            lif("lif2", *(port.name for port in second)),
            Flatten(name="flat", inputs=("lif2",)),
            Linear(name="fc", inputs=("flat",), weight=rng.integers(-9, 9, (2, neurons)).astype(np.int8), quantization=UNIT),
            Readout(name="readout", inputs=("fc",), quantization=UNIT),
        ]
    )


def _kinds(path):
    return {node.op_type for node in onnx.load(path).graph.node}


def _assert_equal(graph, path, frames):
    found, expected = OnnxRuntime(path, threads=1).run(frames), ReferenceRuntime(graph).run(frames)
    assert np.array_equal(found.readout, expected.readout)
    for name in expected.spikes:
        assert np.array_equal(found.spikes[name], expected.spikes[name])
        assert np.array_equal(found.potentials[name], expected.potentials[name])


@pytest.mark.parametrize("options", [{}, {"ports": 3}, {"decay": 1.0}, {"weight": 50}, {"groups": 2}])
@pytest.mark.parametrize("threshold", [3000, np.array([100, 2000, 1, 131071], np.int32)], ids=["one", "by channel"])
def test_small_networks_convolve_in_float32_and_give_the_same_integers(options, threshold, tmp_path):
    """Every spike, potential and readout is the reference's, from rest and from given states; weights stay int8."""
    graph = _network(threshold=threshold, **options)
    frames = np.random.default_rng(0).integers(-127, 128, (9, 3, *graph.input.shape)).astype(np.float32)
    for stream in (False, True):
        path = to_onnx(graph, tmp_path / f"{stream}.onnx", probes="all", stream=stream)
        assert "Conv" in _kinds(path)
        types = {tensor.name: tensor.data_type for tensor in onnx.load(path).graph.initializer}
        assert types["/conv1/weight"] == onnx.TensorProto.INT8
        _assert_equal(graph, path, frames)
    runtime, reference = OnnxRuntime(path, threads=1), ReferenceRuntime(graph)
    state, expected = runtime.start(3), reference.start(3)
    for frame in frames:
        (step, state), (right, expected) = runtime.step(state, frame), reference.step(expected, frame)
        assert np.array_equal(step.potentials["lif2"], right.potentials["lif2"])


def test_a_convolution_may_feed_neurons_several_times(tmp_path):
    """What it sends counts as often as it is named: its weights are multiplied, not its name given twice."""
    graph = _network(ports=2, threshold=2000)
    repeated = dataclasses.replace(graph["lif2"], inputs=("conv20", "conv21", "conv20", "conv20"))
    graph = graph.replace({"lif2": repeated, "lif1": dataclasses.replace(graph["lif1"], inputs=("conv1", "conv1"))})
    path = to_onnx(graph, tmp_path / "net.onnx", probes="all")
    assert "Conv" in _kinds(path)
    _assert_equal(graph, path, np.random.default_rng(0).integers(-127, 128, (9, 3, *graph.input.shape)).astype(np.float32))


@pytest.mark.parametrize(
    "options", [{"decay": 0.75}, {"channels": 64, "weight": 127, "ports": 3}, {"channels": 64}, {"channels": 64, "size": 9}]
)
def test_others_convolve_in_integers(options, tmp_path):
    """Where float32 would round, a sum may wrap, or products in integers save more than im2col costs."""
    graph = _network(**options)
    path = to_onnx(graph, tmp_path / "net.onnx", probes="all")
    assert "Conv" not in _kinds(path)
    frames = np.random.default_rng(1).integers(-127, 128, (3, 2, *graph.input.shape)).astype(np.float32)
    _assert_equal(graph, path, frames)


def test_files_that_count_what_left_the_range_convolve_in_integers(tmp_path):
    """A population that may be held is counted in integers, and so its network convolves in them."""
    graph = _network(weight=127)
    bias = dataclasses.replace(graph["lif1"], bias=np.full(4, -4000, np.int16), decay=1.0)
    graph = Graph([bias if node.name == "lif1" else node for node in graph])
    counted = to_onnx(graph, tmp_path / "counted.onnx", ranges=True)
    assert "Conv" not in _kinds(counted) and "lif1.saturated" in {out.name for out in onnx.load(counted).graph.output}


@settings(max_examples=40)
@given(data=st.data())
def test_any_small_network_gives_the_same_integers(data, tmp_path_factory):
    """Any kernel, stride, weights up to where a sum may wrap, and potentials that are held at the limit or not."""
    graph = _network(
        channels=data.draw(st.integers(1, 8)),
        size=data.draw(st.integers(1, 7)),
        decay=data.draw(st.sampled_from([0.5, 1.0])),
        weight=data.draw(st.sampled_from([1, 30, 60, 127])),
        ports=data.draw(st.integers(1, 3)),
        threshold=data.draw(st.integers(1, 131071)),
        kernel=data.draw(st.sampled_from([(1, 1), (3, 3), (3, 1), (5, 3)])),
        stride=data.draw(st.sampled_from([(1, 1), (2, 1), (2, 3)])),
    )
    path = to_onnx(graph, tmp_path_factory.mktemp("onnx") / "net.onnx", probes="all")
    rng = np.random.default_rng(data.draw(st.integers(0, 2**31)))
    frames = rng.choice([-127, -1, 0, 1, 127], (10, 2, *graph.input.shape)).astype(np.float32)
    frames[5:] = frames[5]
    _assert_equal(graph, path, frames)
