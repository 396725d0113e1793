"""An average pool that was folded into a layer is found again."""

import math

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tet_deploy.exporters.to_onnx import to_onnx
from tet_deploy.ir.graph import Graph, chain
from tet_deploy.ir.nodes import LIF, Add, AvgPool, Conv, CubaLIF, Flatten, Input, Linear, Quantization, Readout
from tet_deploy.ir.unfold_pooling import unfold_pooling
from tet_deploy.passes import fold_pooling
from tet_deploy.runtimes.onnx_session import OnnxRuntime
from tet_deploy.runtimes.reference import ReferenceRuntime


def dyadic(rng, *shape):
    """Weights on a grid of 1/16 whose neighbours differ, so that no other window is found in them."""
    return ((rng.permutation(math.prod(shape)).reshape(shape) - math.prod(shape) // 2) / 16).astype(np.float32)


@settings(max_examples=40)
@given(data=st.data())
def test_folded_networks_are_unfolded_and_run_equally(data, tmp_path_factory):
    """The layers come back as they were; spikes, potentials and readout on ONNX Runtime equal the reference's."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    windows = data.draw(st.tuples(*[st.sampled_from([1, 2, 4])] * 2))
    kernel, stride = (data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3))) for _ in range(2))
    padding = data.draw(st.tuples(st.integers(0, 1), st.integers(0, 1)))
    rest = data.draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    size = [3 * k + (0 if padding[i] else rest[i] % k) for i, k in enumerate(windows)]
    groups = data.draw(st.sampled_from([1, 2]))
    weight, bias = dyadic(rng, 4, 2 // groups, *kernel), dyadic(rng, 4)
    conv = Conv(name="conv", weight=weight, bias=bias, stride=stride, padding=padding, groups=groups)
    direct = Conv(name="direct", weight=np.ones((2, 1, 1, 1), dtype=np.float32), groups=2)  # passes on what it takes
    nodes = [Input(name="input", shape=(2, *size)), direct, LIF(name="lif0")]
    nodes += [AvgPool(name="pool", kernel=windows, stride=windows), conv]
    nodes += [LIF(name="lif"), AvgPool(name="last", kernel=(1, 1), stride=(1, 1)), Flatten(name="flatten")]
    shape = chain([*nodes, Readout(name="r")]).shapes["flatten"]
    graph = fold_pooling(chain([*nodes, Linear(name="fc", weight=dyadic(rng, 3, *shape)), Readout(name="readout")]))

    found, layer = unfold_pooling(graph["conv"], graph.shapes["lif0"])
    assert found == windows
    assert np.array_equal(layer.weight, conv.weight)
    assert (layer.stride, layer.padding, layer.groups) == (stride, padding, groups)

    frames = rng.integers(0, 3, (4, 3, 2, *size)).astype(np.float32)
    path = to_onnx(graph, tmp_path_factory.mktemp("net") / "net.onnx", probes="all")
    expected, given_ = ReferenceRuntime(graph).run(frames), OnnxRuntime(path).run(frames)
    assert np.array_equal(given_.readout, expected.readout)
    for name in ("lif0", "lif"):
        assert np.array_equal(given_.spikes[name], expected.spikes[name])
        assert np.array_equal(given_.potentials[name], expected.potentials[name])


def test_a_pool_in_front_of_a_linear_layer_is_found():
    """Over the whole map, as ResNet-19 ends."""
    rng = np.random.default_rng(0)
    linear = Linear(name="fc", weight=dyadic(rng, 3, 5))
    nodes = [
        Input(name="input", shape=(5, 8, 8)),
        AvgPool(name="pool", kernel=(8, 8), stride=(8, 8)),
        Flatten(name="flatten"),
    ]
    graph = fold_pooling(chain([*nodes, linear, Readout(name="readout")]))
    found, layer = unfold_pooling(graph["fc"], (5, 8, 8))
    assert found == (8, 8)
    assert np.array_equal(layer.weight, linear.weight)


UNIT = Quantization(scale=1.0)
MIXING = np.array([[60, -25], [-10, 45]], np.int8).reshape(2, 2, 1, 1)  # a count of 1 fires a neuron of threshold 40


def integers(rng, *shape):
    """Weights of both signs in which neighbours differ."""
    count = math.prod(shape)
    return ((rng.permutation(count).reshape(shape) - count // 2 + 127) % 255 - 127).astype(np.int8)


def widened(weight, windows):
    """The kernel that a pool before it leaves."""
    return weight.repeat(windows[0], axis=-2).repeat(windows[1], axis=-1)


@settings(max_examples=60)
@given(data=st.data())
def test_folded_networks_of_integers_are_unfolded_and_run_equally(data, tmp_path_factory):
    """With convolutions in floats and in integers, of spikes and of their sums, with what leaves its range counted: every
    spike, potential, readout and count is the reference's, and kernels are stored as they were before the pool.
    """
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    windows = data.draw(st.tuples(*[st.sampled_from([1, 2, 4])] * 2))
    kernel, stride, padding = (data.draw(st.tuples(*[st.integers(*ends)] * 2)) for ends in ((1, 3), (1, 3), (0, 1)))
    rest = data.draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    size = tuple(3 * k + (0 if padding[i] else rest[i] % k) for i, k in enumerate(windows))
    decay, sew, groups = (
        data.draw(st.sampled_from([0.5, 1.0, 0.7])),
        data.draw(st.booleans()),
        data.draw(st.sampled_from([1, 2])),
    )
    kind, extra = (CubaLIF, {"current_decay": 0.5}) if data.draw(st.booleans()) else (LIF, {})

    def lif(name, source, cls=LIF, **fields):
        quantization = Quantization(scale=1.0, bits=17, bias_exponent=0)
        return cls(name=name, inputs=(source,), decay=decay, threshold=40, bias=None, quantization=quantization, **fields)

    strides = tuple(map(math.prod, zip(stride, windows, strict=True)))
    paddings = tuple(map(math.prod, zip(padding, windows, strict=True)))
    weight, source = integers(rng, 4, 2 // groups, *kernel), "sum" if sew else "lif0"
    fields = {"stride": strides, "padding": paddings, "groups": groups, "quantization": UNIT}
    nodes = [
        Input(name="input", shape=(2, *size), encoding="events", quantization=UNIT),
        Conv(name="first", inputs=("input",), weight=MIXING, quantization=UNIT),
        lif("lif0", "first"),
        *([Add(name="sum", inputs=("lif0", "lif0"))] if sew else []),
        Conv(name="conv", inputs=(source,), weight=widened(weight, windows), **fields),
        lif("lif1", "conv", kind, **extra),
        Flatten(name="flatten", inputs=("lif1",)),
    ]
    shape = Graph([*nodes, Readout(name="r", inputs=("flatten",), quantization=UNIT)]).shapes["lif1"]
    whole = tuple(length & -length for length in shape[1:])  # the last layer pools by all powers of two
    linear = integers(rng, 3, shape[0], *(length // side for length, side in zip(shape[1:], whole, strict=True)))
    fc = Linear(name="fc", inputs=("flatten",), weight=widened(linear, whole).reshape(3, -1), quantization=UNIT)
    graph = Graph([*nodes, fc, Readout(name="readout", inputs=("fc",), quantization=UNIT)])

    frames = rng.integers(0, 3, (4, 3, 2, *size)).astype(np.float32)
    path = to_onnx(graph, tmp_path_factory.mktemp("net") / "net.onnx", probes="all", ranges=data.draw(st.booleans()))
    expected, found = ReferenceRuntime(graph).run(frames), OnnxRuntime(path).run(frames)
    assert np.array_equal(found.readout, expected.readout)
    for name in expected.spikes:
        assert np.array_equal(found.spikes[name], expected.spikes[name])
        assert np.array_equal(found.potentials[name], expected.potentials[name])
    stored = {tensor.name: math.prod(tensor.dims) for tensor in onnx.load(path).graph.initializer}
    assert stored["/conv/weight"] == weight.size
    assert stored["/fc/weight"] == linear.size


@pytest.mark.parametrize("decay", [0.5, 0.7], ids=["in floats", "in integers"])
def test_a_pool_on_a_direct_connection_is_a_sum_times_a_number(decay, tmp_path):
    """A shortcut that pools has one weight for each channel, beside a convolution of the same source."""
    rng = np.random.default_rng(0)
    shortcut = widened(np.array([3, 5], np.int8).reshape(2, 1, 1, 1), (2, 2))
    fields = {"stride": (2, 2), "inputs": ("lif0",), "quantization": UNIT}
    neurons = {"decay": decay, "threshold": 40, "quantization": Quantization(scale=1.0, bits=17)}
    graph = Graph(
        [
            Input(name="input", shape=(2, 6, 8), encoding="events", quantization=UNIT),
            Conv(name="first", inputs=("input",), weight=MIXING, quantization=UNIT),
            LIF(name="lif0", inputs=("first",), **neurons),
            Conv(name="conv", weight=integers(rng, 2, 2, 3, 3), padding=(1, 1), **fields),
            Conv(name="shortcut", weight=shortcut, groups=2, **fields),
            LIF(name="lif1", inputs=("conv", "shortcut"), **neurons),
            Flatten(name="flatten", inputs=("lif1",)),
            Linear(name="fc", inputs=("flatten",), weight=integers(rng, 3, 24), quantization=UNIT),
            Readout(name="readout", inputs=("fc",), quantization=UNIT),
        ]
    )
    frames = rng.integers(0, 3, (5, 2, 2, 6, 8)).astype(np.float32)
    path = to_onnx(graph, tmp_path / "net.onnx", probes="all")
    kernels = [math.prod(tensor.dims) for tensor in onnx.load(path).graph.initializer if tensor.name.startswith("/shortcut")]
    assert shortcut.size not in kernels
    expected, found = ReferenceRuntime(graph).run(frames), OnnxRuntime(path).run(frames)
    assert expected.spikes["lif1"].any()
    assert np.array_equal(found.potentials["lif1"], expected.potentials["lif1"])
    assert np.array_equal(found.readout, expected.readout)


@pytest.mark.parametrize(("times", "unfolded"), [(31, True), (32, False)], ids=["124 at most", "128 at most"])
def test_a_window_of_integers_adds_up_to_what_a_product_takes(times, unfolded, tmp_path):
    """A sum of four sums of 32 spikes is beyond 127: the kernel stays as wide as it is."""
    weight = integers(np.random.default_rng(0), 2, 1, 3, 3)
    nodes = [
        Input(name="input", shape=(1, 6, 6), encoding="events", quantization=UNIT),
        Conv(name="first", inputs=("input",), weight=np.full((1, 1, 1, 1), 100, np.int8), quantization=UNIT),
        LIF(name="lif0", inputs=("first",), decay=0.7, threshold=40, quantization=Quantization(scale=1.0, bits=17)),
        Add(name="sum", inputs=("lif0",) * times),
        Conv(name="conv", inputs=("sum",), weight=widened(weight, (2, 2)), stride=(2, 2), padding=(2, 2), quantization=UNIT),
        LIF(name="lif1", inputs=("conv",), decay=0.7, threshold=40, quantization=Quantization(scale=1.0, bits=17)),
        Flatten(name="flatten", inputs=("lif1",)),
        Linear(name="fc", inputs=("flatten",), weight=integers(np.random.default_rng(1), 3, 18), quantization=UNIT),
        Readout(name="readout", inputs=("fc",), quantization=UNIT),
    ]
    graph, frames = Graph(nodes), np.random.default_rng(2).integers(0, 3, (4, 2, 1, 6, 6)).astype(np.float32)
    path = to_onnx(graph, tmp_path / "net.onnx", probes="all")
    stored = {tensor.name: math.prod(tensor.dims) for tensor in onnx.load(path).graph.initializer}
    assert (stored["/conv/weight"] == weight.size) == unfolded
    expected, found = ReferenceRuntime(graph).run(frames), OnnxRuntime(path).run(frames)
    assert np.array_equal(found.potentials["lif1"], expected.potentials["lif1"])


EQUAL = np.ones((2, 1, 2, 2), dtype=np.float32)


@pytest.mark.parametrize(
    ("conv", "shape"),
    [
        (Conv(name="conv", weight=EQUAL), (1, 4, 4)),  # windows overlap
        (Conv(name="conv", weight=EQUAL, stride=(2, 2), padding=(1, 1)), (1, 4, 4)),  # half a window of padding
        (Conv(name="conv", weight=EQUAL, stride=(2, 2), padding=(2, 2)), (1, 5, 5)),  # a rest that meets the padding
        (Conv(name="conv", weight=EQUAL, stride=(2, 2), dilation=(2, 2)), (1, 4, 4)),
        (Conv(name="conv", weight=EQUAL * np.arange(4, dtype=np.float32).reshape(2, 2), stride=(2, 2)), (1, 4, 4)),
        (Conv(name="conv", weight=np.ones((2, 1, 3, 3), dtype=np.float32), stride=(3, 3)), (1, 9, 9)),  # ninths round
        (Conv(name="conv", weight=EQUAL * np.float32(1e38), stride=(2, 2)), (1, 4, 4)),  # four times that is too large
        (Conv(name="conv", weight=EQUAL.astype(np.float64) * 1e38, stride=(2, 2)), (1, 4, 4)),  # in a file of float32 too
    ],
)
def test_what_is_no_pool_stays(conv, shape):
    """The very same layer comes back."""
    found, layer = unfold_pooling(conv, shape)
    assert found == (1, 1)
    assert layer is conv
