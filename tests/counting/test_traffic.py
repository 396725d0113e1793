import dataclasses
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tet_deploy import dynamics
from tet_deploy.contracts import Recording
from tet_deploy.counting.totals import Totals
from tet_deploy.counting.traffic import PER_EVENT, PER_STEP, count
from tet_deploy.errors import DataError, GraphError
from tet_deploy.ir.graph import Graph, chain
from tet_deploy.ir.nodes import LIF, Add, AvgPool, BatchNorm, Conv, Flatten, Input, Linear, Quantization, Readout
from tet_deploy.passes.fold_pooling import fold_pooling
from tet_deploy.runtimes.reference import ReferenceRuntime
from tet_deploy.testing import random_float_network, random_frames, random_quantized_network


def follow_events(graph, recording, frames):
    """Follow every event to every synapse it reaches, one at a time: {layer: (events, synops, effective)}, each [T, B]."""
    quantization = graph.input.quantization
    values = {graph.input.name: dynamics.to_messages(frames, quantization) if quantization else frames}
    values.update(recording.spikes)
    found = {}
    for node in graph:
        if isinstance(node, Flatten):
            source = values[node.inputs[0]]
            values[node.name] = source.reshape(*source.shape[:2], -1)
        if isinstance(node, Add):
            values[node.name] = sum(values[source].astype(int) for source in node.inputs)
        if isinstance(node, (Conv, Linear)):
            found[node.name] = _follow_into(node, values[node.inputs[0]], graph.shapes[node.name])
    return found


def _follow_into(node, values, output_shape):
    events, synops, effective = (np.zeros(values.shape[:2], dtype=np.int64) for _ in range(3))
    for t, b, *element in np.argwhere(values):
        events[t, b] += 1
        for weight in _reached(node, element, output_shape):
            synops[t, b] += 1
            effective[t, b] += weight != 0
    return events, synops, effective


def _reached(node, element, output_shape):
    """Weights of the synapses that leave one input element."""
    if isinstance(node, Linear):
        yield from node.weight[:, element[0]]
        return
    channel, *position = element
    out_channels, in_per_group, height, width = node.weight.shape
    group, inside = divmod(channel, in_per_group)
    for o, i, j in product(range(out_channels // node.groups), range(height), range(width)):
        starts = [position[axis] + node.padding[axis] - tap * node.dilation[axis] for axis, tap in ((0, i), (1, j))]
        reached = [divmod(start, stride) for start, stride in zip(starts, node.stride, strict=True)]
        if all(rest == 0 and 0 <= at < size for (at, rest), size in zip(reached, output_shape[1:], strict=True)):
            yield node.weight[group * (out_channels // node.groups) + o, inside, i, j]


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), quantized=st.booleans(), sparse=st.booleans())
def test_counting_equals_following_every_event(seed, quantized, sparse):
    """Fan-out counting gives what following each event gives: strides, dilation, groups, borders, zero weights.

    An identity's events are additions of its skip, and no synaptic operations.
    """
    rng = np.random.default_rng(seed)
    graph = (random_quantized_network if quantized else random_float_network)(rng)
    if sparse:
        graph = _with_zero_weights(graph, rng)
    frames = random_frames(graph, rng, steps=2, samples=2)
    recording = ReferenceRuntime(graph).run(frames, probes="spikes")
    traffic = count(graph, recording, frames)
    for layer, columns in follow_events(graph, recording, frames).items():
        row = traffic.layers.index(layer)
        if traffic.kinds[row] == "skip":
            events, *operations = columns
            columns = (events, *(0 * column for column in operations))
        for name, expected in zip(("events", "synops", "synops_effective"), columns, strict=True):
            np.testing.assert_array_equal(traffic[name][row], expected, err_msg=f"{layer} {name}")


def _with_zero_weights(graph, rng):
    changes = {}
    for node in graph:
        if isinstance(node, (Conv, Linear)):
            weight = node.weight * (rng.random(node.weight.shape) < 0.6)
            changes[node.name] = dataclasses.replace(node, weight=weight.astype(node.weight.dtype))
    return graph.replace(changes)


def ones(*shape):
    return np.ones(shape, dtype=np.float32)


def spikes_of(graph, frames, **given_spikes):
    """A recording with chosen spikes, silent where none are given."""
    everything = {
        node.name: given_spikes.get(node.name, np.zeros((*frames.shape[:2], *graph.shapes[node.name]), dtype=np.uint8))
        for node in graph.of_kind(LIF)
    }
    readout = np.zeros((*frames.shape[:2], *graph.shapes[graph.readout.name]), dtype=np.float32)
    return Recording(spikes=everything, readout=readout, runtime="by hand")


def two_layers():
    return chain(
        [
            Input(name="input", shape=(1, 4, 4)),
            Conv(name="conv", weight=ones(2, 1, 3, 3), padding=(1, 1)),
            LIF(name="lif"),
            Flatten(name="flatten"),
            Linear(name="fc", weight=ones(3, 32)),
            Readout(name="readout"),
        ]
    )


def test_kinds_follow_from_the_graph_alone():
    """A population that never fires still feeds a 'spike' layer, and frames of zeros and ones an 'analog' one."""
    graph, frames = two_layers(), np.ones((2, 1, 1, 4, 4), dtype=np.float32)
    traffic = count(graph, spikes_of(graph, frames), frames)
    assert dict(zip(traffic.layers, traffic.kinds, strict=True)) == {"conv": "analog", "lif": "lif", "fc": "spike"}
    assert traffic["events"][traffic.layers.index("fc")].sum() == 0


def test_kinds_through_pooling_and_residual_sums():
    """Flatten passes the kind on, an average over spikes is 'pooled', a sum of spikes 'graded'."""
    graph = sew_graph()
    frames = np.ones((2, 1, 1, 4, 4), dtype=np.float32)
    traffic = count(graph, spikes_of(graph, frames), frames)
    kinds = dict(zip(traffic.layers, traffic.kinds, strict=True))
    assert kinds["stem"] == "analog" and kinds["conv"] == "spike"
    assert kinds["sum"] == "add" and kinds["after"] == "graded"
    assert kinds["fc"] == "pooled"


CONV = {"weight": ones(1, 1, 3, 3), "padding": (1, 1)}


def sew_graph():
    """stem - lif0 - conv - lif1, plus lif0, then conv after - lif2 - pool - fc."""
    return Graph(
        (
            Input(name="input", shape=(1, 4, 4)),
            Conv(name="stem", inputs=("input",), **CONV),
            LIF(name="lif0", inputs=("stem",)),
            Conv(name="conv", inputs=("lif0",), **CONV),
            LIF(name="lif1", inputs=("conv",)),
            Add(name="sum", inputs=("lif1", "lif0")),
            Conv(name="after", inputs=("sum",), **CONV),
            LIF(name="lif2", inputs=("after",)),
            AvgPool(name="pool", inputs=("lif2",), kernel=(2, 2), stride=(2, 2)),
            Flatten(name="flatten", inputs=("pool",)),
            Linear(name="fc", inputs=("flatten",), weight=ones(2, 4)),
            Readout(name="readout", inputs=("fc",)),
        )
    )


def residual_graph():
    """Three sums: spikes onto a layer's output, a layer's output onto another's, spikes onto spikes."""
    return Graph(
        (
            Input(name="input", shape=(1, 4, 4)),
            Conv(name="stem", inputs=("input",), **CONV),
            LIF(name="lif0", inputs=("stem",)),
            Conv(name="conv", inputs=("lif0",), **CONV),
            Conv(name="downsample", inputs=("lif0",), weight=ones(1, 1, 1, 1)),
            Add(name="identity", inputs=("lif0", "conv")),
            Add(name="projection", inputs=("conv", "downsample")),
            LIF(name="lif1", inputs=("identity",)),
            LIF(name="lif2", inputs=("projection",)),
            Add(name="of_spikes", inputs=("lif1", "lif2")),
            Flatten(name="flatten", inputs=("of_spikes",)),
            Linear(name="fc", inputs=("flatten",), weight=ones(2, 16)),
            Readout(name="readout", inputs=("fc",)),
        )
    )


def test_residual_additions():
    """A skip that carries spikes adds one per spike; one that carries a layer's sums adds one per element."""
    graph, frames = residual_graph(), np.ones((1, 1, 1, 4, 4), dtype=np.float32)
    spikes = np.zeros((1, 1, 1, 4, 4), dtype=np.uint8)
    spikes[..., :2, :3] = 1
    traffic = count(graph, spikes_of(graph, frames, lif0=spikes, lif2=spikes), frames)
    additions = dict(zip(traffic.layers, traffic["residual_additions"][:, 0, 0].tolist(), strict=True))
    expected = {"identity": 6, "projection": 16, "of_spikes": 6}
    assert {name: number for name, number in additions.items() if number} == expected


def test_graded_values_count_once():
    """Where two spikes meet in a sum, the layer behind it sees one event."""
    graph, frames = sew_graph(), np.ones((2, 1, 1, 4, 4), dtype=np.float32)
    spikes = np.zeros((2, 1, 1, 4, 4), dtype=np.uint8)
    spikes[1, 0, 0, 1, 1] = 1
    traffic = count(graph, spikes_of(graph, frames, lif0=spikes, lif1=spikes), frames)
    row = traffic.layers.index("after")
    assert traffic["events"][row].sum() == 1
    assert traffic.input_mean[row, 1, 0] == 2 / 16


def quantized(node):
    """The node with int8 weights and a scale, where its kind has one."""
    weight = {"weight": node.weight.astype(np.int8)} if hasattr(node, "weight") else {}
    scale = {"quantization": Quantization(scale=1.0)} if hasattr(node, "quantization") else {}
    return dataclasses.replace(node, **weight, **scale)


@pytest.mark.parametrize("where", ["own", "batch norm", "quantized"])
def test_bias_additions(where):
    """One per output element and step, be the bias the layer's own, a batch norm to fold, or the quantized population's."""
    bias = np.zeros(2, dtype=np.float32)
    norm = BatchNorm(name="norm", mean=bias, variance=bias + 1, gamma=bias + 1, beta=bias, epsilon=1e-5)
    graph = two_layers()
    conv, lif = graph["conv"], graph["lif"]
    changed = {
        "own": [dataclasses.replace(conv, bias=bias), lif],
        "batch norm": [conv, dataclasses.replace(norm, inputs=("conv",)), dataclasses.replace(lif, inputs=("norm",))],
        "quantized": [conv, dataclasses.replace(lif, bias=np.zeros(2, dtype=np.int16))],
    }[where]
    nodes = [graph["input"], *changed, graph["flatten"], graph["fc"], graph["readout"]]
    graph = Graph(tuple(quantized(node) for node in nodes) if where == "quantized" else tuple(nodes))
    frames = np.ones((2, 1, 1, 4, 4), dtype=np.float32)
    traffic = count(graph, spikes_of(graph, frames), frames)
    assert traffic["bias_additions"][:, 1, 0].tolist() == [32, 0, 0]


def test_sums_stay_exact_above_2_to_the_24():
    """An odd count above 2^24, where float32 would be off by one, is exact."""
    graph = chain(
        [
            Input(name="input", shape=(1, 1, 4097)),
            Conv(name="first", weight=ones(1, 1, 1, 1)),
            LIF(name="lif"),
            Flatten(name="flatten"),
            Linear(name="fc", weight=np.ones((4097, 4097), dtype=np.float16)),
            Readout(name="readout"),
        ]
    )
    frames = np.ones((1, 1, 1, 1, 4097), dtype=np.float32)
    traffic = count(graph, spikes_of(graph, frames, lif=np.ones((1, 1, 1, 1, 4097), dtype=np.uint8)), frames)
    row = traffic.layers.index("fc")
    exact = 4097 * 4097
    assert exact > 2**24 and int(np.float32(exact)) != exact
    assert traffic["synops"][row, 0, 0] == traffic["synops_effective"][row, 0, 0] == traffic["mac_dense"][row, 0, 0] == exact


def test_chunks_of_samples_join_to_the_whole():
    """Counting three chunks of samples and joining them gives every count of the whole."""
    rng = np.random.default_rng(3)
    graph = random_float_network(rng, layers=2)
    frames = random_frames(graph, rng, steps=3, samples=7)
    recording = ReferenceRuntime(graph).run(frames, probes="spikes")
    whole = Totals.of(count(graph, recording, frames))
    cuts = [(3, 7), (0, 2), (2, 3)]
    parts = [Totals.of(count(graph, recording.sample(*cut), frames[:, slice(*cut)])) for cut in cuts]
    joined = parts[0] + parts[1] + parts[2]
    assert joined.layers == whole.layers and joined.static_input == whole.static_input and joined.samples == 7
    for name in PER_EVENT | PER_STEP:
        np.testing.assert_array_equal(joined[name], whole[name])
    np.testing.assert_array_equal(joined.input_mean, whole.input_mean)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_counting_pooling_as_folded_equals_folding_it(seed):
    """For windows that tile, the 'fold' policy on the traced network counts what the folded network really does."""
    rng = np.random.default_rng(seed)
    k, kernel, padding, stride = (int(rng.integers(low, high)) for low, high in ((1, 4), (1, 4), (0, 2), (1, 3)))
    size = k * int(rng.integers(3, 5))
    graph = chain(
        [
            Input(name="input", shape=(2, size, size)),
            Conv(name="first", weight=rng.normal(size=(2, 2, 1, 1)).astype(np.float32)),
            LIF(name="lif", threshold=0.3),
            AvgPool(name="pool", kernel=(k, k), stride=(k, k)),
            Conv(name="conv", weight=ones(3, 2, kernel, kernel), padding=(padding,) * 2, stride=(stride,) * 2),
            LIF(name="lif2"),
            AvgPool(name="pool2", kernel=(1, 1), stride=(1, 1)),
            Flatten(name="flatten"),
            Linear(name="fc", weight=ones(2, 3 * ((size // k + 2 * padding - kernel) // stride + 1) ** 2)),
            Readout(name="readout"),
        ]
    )
    folded = fold_pooling(graph)
    frames = rng.normal(size=(2, 2, 2, size, size)).astype(np.float32)
    recording = ReferenceRuntime(graph).run(frames, probes="spikes")
    as_traced, as_folded = (count(network, recording, frames) for network in (graph, folded))
    assert as_folded.kinds == tuple("spike" if kind == "pooled" else kind for kind in as_traced.kinds)
    for layer in ("conv", "fc"):
        row = as_traced.layers.index(layer)
        np.testing.assert_array_equal(as_traced["pool_synops"][row], as_folded["synops"][row])


def test_bad_recordings():
    """Missing spikes, spikes of other frames and unrecorded layer inputs are refused by name."""
    graph, frames = two_layers(), np.ones((2, 3, 1, 4, 4), dtype=np.float32)
    good = spikes_of(graph, frames)
    with pytest.raises(DataError, match=r"lacks the spikes of 'lif'.*probes='spikes'"):
        count(graph, dataclasses.replace(good, spikes={}), frames)
    with pytest.raises(DataError, match=r"'lif' must be integers of shape \(2, 2, 2, 4, 4\)"):
        count(graph, good, frames[:, :2])
    floats = {"lif": good.spikes["lif"].astype(np.float32)}
    with pytest.raises(DataError, match="float32"):
        count(graph, dataclasses.replace(good, spikes=floats), frames)
    with pytest.raises(DataError, match="only counts of one network"):
        Totals.of(count(graph, good, frames)) + Totals.of(count(graph, spikes_of(graph, frames[:1]), frames[:1]))


def test_a_layer_behind_a_layer_is_refused():
    """A layer fed by another layer has an input that no recording holds."""
    weight = ones(1, 1, 1, 1)
    graph = chain(
        [
            Input(name="input", shape=(1, 2, 2)),
            Conv(name="a", weight=weight),
            Conv(name="b", weight=weight),
            LIF(name="lif"),
            Flatten(name="flatten"),
            Linear(name="fc", weight=ones(2, 4)),
            Readout(name="readout"),
        ]
    )
    frames = np.ones((1, 1, 1, 2, 2), dtype=np.float32)
    with pytest.raises(GraphError, match=r"'b'.*'a' is a Conv"):
        count(graph, spikes_of(graph, frames), frames)
