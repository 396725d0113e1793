"""The energy of whole networks against a slow loop that follows every event over every synapse, in exact rationals.

The loop is `EventLoop` in conftest.py.
"""

from collections import Counter
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tet_deploy.counting import estimate
from tet_deploy.counting.tables import TABLES
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import LIF, Add, AvgPool, Conv, Flatten, Input, Linear, Readout
from tet_deploy.passes import fold, quantize, snap_to_grid
from tet_deploy.runtimes.reference import ReferenceRuntime
from tet_deploy.testing import random_float_network, random_frames, random_quantized_network


def energies(loops, encoding, prices):
    """{name: picojoules per inference} of several samples, in exact rationals."""
    price = {name: Fraction(str(price.picojoules)) for name, price in prices.items()}
    counts = sum((loop.counts for loop in loops), Counter())
    additions = price["addition"] * counts["additions"]
    event, dense = (price["mac"] * (counts[first] + counts["graded"]) for first in ("mac_event", "mac_dense"))
    found = {"event": event + additions, "dense_in": dense + additions}
    elements = price["element_addition"] * (counts["bias_additions"] + counts["residual_additions"])
    neurons = price["neuron_update"] * counts["neuron_updates"] + price["spike"] * counts["spikes"]
    leaks = price["leak_multiplication"] * counts["leak_multiplications"]
    found["full"] = found["event" if encoding == "events" else "dense_in"] + elements + neurons + leaks
    default, mac = found["event" if encoding == "events" else "dense_in"], price["mac"]
    found["ones_added"] = default + (price["addition"] - mac) * counts["ones"]
    found["sums_added"] = default + price["addition"] * counts["summed"] - mac * counts["graded"]
    first = counts["effective_analog" if encoding == "events" else "effective_dense"]
    found["zeros_left_out"] = mac * (first + counts["effective_graded"]) + price["addition"] * counts["effective_spike"]
    found["rate"] = sum(price["mac"] * loop.rate_macs + price["addition"] * loop.rate_additions for loop in loops)
    if "dense_mac" in price:
        found["ann"] = price["dense_mac"] * sum(loop.dense_pass for loop in loops)
    return {name: float(value / len(loops)) for name, value in found.items()}


VARIED = {"ones_added": {"ones": "added"}, "sums_added": {"sums": "added"}, "zeros_left_out": {"effective": True}}


def varied(name, run, table):
    """The default energy under the other convention, where a report does not show it beside."""
    report = estimate(*run, table=table, **VARIED[name])
    assert name not in report.names
    return report.mean(report.default)


def assert_counted(event_loop, graph, frames):
    """Every spike, every count and every energy of the loop is the library's, for each table."""
    recording = ReferenceRuntime(graph).run(frames, probes="spikes")
    loops = [event_loop(graph).run(frames[:, sample]) for sample in range(frames.shape[1])]
    for name, spikes in recording.spikes.items():
        for t, b in product(*map(range, spikes.shape[:2])):
            assert {tuple(map(int, at)) for at in np.argwhere(spikes[t, b])} == loops[b].spikes[name][t], name
    expected = sum((loop.counts for loop in loops), Counter())
    by_event = graph.input.encoding == "events"
    expected["multiplications"] = expected["mac_event" if by_event else "mac_dense"] + expected["graded"]
    for table in TABLES:
        report = estimate(graph, recording, frames, table=table)
        counts = report.summary()["counts"]
        names = ("events", "synops", "synops_effective", "additions", "multiplications", "mac_event", "mac_dense")
        names += ("residual_additions", "bias_additions", "neuron_updates", "leak_multiplications", "spikes")
        assert {name: counts[name] for name in names} == {
            name: pytest.approx(expected[name] / frames.shape[1], rel=1e-15)  # one division in float64
            for name in names
        }
        for name, picojoules in energies(loops, graph.input.encoding, TABLES[table].prices).items():
            found = report.mean(name) if name in report.names else varied(name, (graph, recording, frames), table)
            assert found == pytest.approx(picojoules, rel=1e-12), (table, name)  # float64 sums of products
    return recording


def conv(name, source, rng, channels, out=None, size=3, bias=False, **geometry):
    """A convolution of weights and biases that are multiples of 1/8; one in six weights is 0."""
    shape = (out or channels, channels // geometry.get("groups", 1), size, size)
    weight = rng.integers(-4, 8, shape) * (rng.random(shape) < 5 / 6) / 8
    biases = rng.integers(-2, 3, shape[0]).astype(np.float32) / 8 if bias else None
    return Conv(name=name, inputs=(source,), weight=weight.astype(np.float32), bias=biases, **geometry)


def lif(name, *sources, **neuron):
    return LIF(name=name, inputs=sources, **neuron)


PADDED = {"padding": (1, 1)}


def sums_of_spikes(rng):
    """SEW: a sum, a sum of that sum, into convolutions and into the last layer."""
    yield conv("stem", "input", rng, 2, 3, bias=True, **PADDED)
    yield lif("lif0", "stem", decay=1.0)
    yield conv("conv1", "lif0", rng, 3, **PADDED)
    yield lif("lif1", "conv1", decay=0.5)
    yield Add(name="sum1", inputs=("lif1", "lif0"))
    yield conv("conv2", "sum1", rng, 3, bias=True, **PADDED)
    yield lif("lif2", "conv2", decay=0.75, threshold=4.0)
    yield Add(name="sum2", inputs=("lif2", "sum1", "lif0"))
    yield conv("conv3", "sum2", rng, 3, 2, stride=(2, 2))
    yield lif("lif3", "conv3", threshold=5.0)
    yield conv("side", "sum1", rng, 3, 2, stride=(2, 2))
    yield lif("lif4", "side", threshold=2.0)
    yield Add(name="end", inputs=("lif3", "lif4"))


def max_pools(rng):
    """Windows that overlap, padded, and windows that tile."""
    yield conv("stem", "input", rng, 2, 3, **PADDED)
    yield lif("lif0", "stem")
    yield from max_pool("pool1", "lif0", 3, size=3, stride=(2, 2), **PADDED)
    yield conv("conv1", "pool1", rng, 3, 2, size=2, bias=True, **PADDED)
    yield lif("lif1", "conv1")
    yield from max_pool("end", "lif1", 2, size=2, stride=(2, 2))


def max_pool(name, source, channels, size, **geometry):
    """As tracing makes it: a sum of spikes, and neurons that any spike makes fire."""
    ones = np.ones((channels, 1, size, size), np.float32)
    yield Conv(name=f"{name}.sum", inputs=(source,), weight=ones, groups=channels, dense_macs=0, **geometry)
    yield lif(name, f"{name}.sum", threshold=0.5)


def average_pools(rng):
    """A pooled branch and a pooled shortcut, folded into what is behind them."""
    yield conv("stem", "input", rng, 2, 3, size=2)
    yield lif("lif0", "stem")
    yield AvgPool(name="pool", inputs=("lif0",), kernel=(2, 2), stride=(2, 2))
    yield conv("conv1", "pool", rng, 3, bias=True, **PADDED)
    yield Add(name="sum", inputs=("conv1", "pool"))
    yield lif("lif1", "sum")
    yield AvgPool(name="end", inputs=("lif1",), kernel=(2, 2), stride=(1, 1))


def nested_skips(rng):
    """A skip over a block that has a skip itself; identities of spikes and of sums, and branches with layers."""
    yield conv("stem", "input", rng, 2, bias=True, **PADDED)
    yield lif("lif0", "stem")
    yield conv("conv1", "lif0", rng, 2, **PADDED)
    yield Add(name="inner", inputs=("conv1", "lif0"))
    yield lif("lif1", "inner")
    yield conv("conv2", "lif1", rng, 2, bias=True, **PADDED)
    yield conv("downsample", "lif0", rng, 2, size=1)
    yield Add(name="middle", inputs=("conv2", "downsample"))
    yield Add(name="outer", inputs=("middle", "lif1"))
    yield lif("lif2", "outer", decay=1.0)
    yield Add(name="graded", inputs=("lif2", "lif0"))
    yield conv("conv3", "graded", rng, 2, bias=True, **PADDED)
    yield Add(name="last", inputs=("conv3", "graded"))
    yield lif("end", "last")


def identity_first(rng):
    """A sum that names its identity before the layer with the bias."""
    yield conv("stem", "input", rng, 2, **PADDED)
    yield lif("lif0", "stem")
    yield conv("conv1", "lif0", rng, 2, bias=True, **PADDED)
    yield Add(name="sum", inputs=("lif0", "conv1"))
    yield lif("end", "sum")


def geometries(rng):
    """Strides, groups, dilations and paddings, different along the two axes, some that leave a rest."""
    yield conv("stem", "input", rng, 2, 4, stride=(1, 2), padding=(2, 1), dilation=(2, 1), bias=True)
    yield lif("lif0", "stem")
    yield conv("grouped", "lif0", rng, 4, 6, groups=2, padding=(1, 2), dilation=(1, 2))
    yield lif("lif1", "grouped")
    yield conv("depthwise", "lif1", rng, 6, size=2, groups=6, stride=(3, 2), padding=(0, 1), bias=True)
    yield lif("end", "depthwise")


NETWORKS = {  # how many elements the last one sends
    sums_of_spikes: 8,
    max_pools: 8,
    average_pools: 3,
    nested_skips: 50,
    identity_first: 50,
    geometries: 24,
}


def network(make, encoding, rng):
    """Frames 2 x 5 x 5, the nodes that were made, and a layer behind them that takes all."""
    return Graph(
        (
            Input(name="input", shape=(2, 5, 5), encoding=encoding),
            *make(rng),
            Flatten(name="flatten", inputs=("end",)),
            Linear(
                name="fc",
                inputs=("flatten",),
                weight=rng.integers(-8, 9, (3, NETWORKS[make])).astype(np.float32) / 8,
                bias=np.array([0.25, 0, -0.5], np.float32),
            ),
            Readout(name="readout", inputs=("fc",)),
        )
    )


@pytest.mark.parametrize("stage", ["float", "quantized"])
@pytest.mark.parametrize("encoding", ["analog", "events"])
@pytest.mark.parametrize("make", NETWORKS)
def test_networks_of_every_kind_are_counted_event_by_event(event_loop, make, encoding, stage):
    """All that deployed networks are made of, as floats and as integers; every population fires, none always."""
    rng = np.random.default_rng(list(NETWORKS).index(make))
    graph = fold(network(make, encoding, rng))
    frames = random_frames(graph, rng, steps=3, samples=3)
    deployed = quantize(graph, frames) if stage == "quantized" else snap_to_grid(graph, frames)
    recording = assert_counted(event_loop, deployed, frames)
    assert all(0 < spikes.mean() < 1 for spikes in recording.spikes.values())


@pytest.mark.parametrize("stage", ["float", "quantized"])
def test_a_readout_that_counts_spikes_adds_once_for_each(event_loop, stage):
    """Neurons at the end: none of the readout's synapses that carry no weight is counted."""
    rng = np.random.default_rng(0)
    nodes = [node for node in network(geometries, "events", rng) if not isinstance(node, Readout)]
    graph = Graph((*nodes, lif("last", "fc", threshold=0.5), Readout(name="readout", inputs=("last",))))
    frames = random_frames(graph, rng, steps=4, samples=3)
    lowered = fold(graph)
    deployed = quantize(lowered, frames) if stage == "quantized" else snap_to_grid(lowered, frames)
    recording = assert_counted(event_loop, deployed, frames)
    assert 0 < recording.spikes["last"].mean() < 1
    report = estimate(deployed, recording, frames)
    assert dict(zip(report.traffic.layers, report.traffic.kinds, strict=True))["readout.identity"] == "skip"


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), kind=st.sampled_from(["float", "integers", "integers that wrap"]))
def test_random_networks_are_counted_event_by_event(event_loop, seed, kind):
    """Networks with branches, pools, sums and long skips of any kind."""
    rng = np.random.default_rng(seed)
    graph = random_float_network(rng) if kind == "float" else random_quantized_network(rng, wrap="wrap" in kind)
    assert_counted(event_loop, graph, random_frames(graph, rng, steps=3, samples=2))
