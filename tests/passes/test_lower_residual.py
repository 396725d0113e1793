"""Sums before a population become synapses of its own; nothing that it computes changes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tet_deploy.errors import GraphError
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import LIF, WEIGHTED, Add, AvgPool, Conv, Flatten, Input, Linear, Population, Readout
from tet_deploy.ir.spec import DEPLOYABLE, TRACED, check
from tet_deploy.passes import fold, lower_residual
from tet_deploy.runtimes.reference import ReferenceRuntime
from tet_deploy.validation import compare

SIZE = 6


class Drawing:
    """A traced network with sums, pools and shortcuts of every kind, on maps of one size."""

    def __init__(self, rng):
        self.rng = rng
        self.nodes = [Input(name="input", shape=(2, SIZE, SIZE), encoding="events")]
        self.spikes, self.sums = [], []

    def weight(self, *shape):
        return (self.rng.integers(-32, 33, shape) / 32).astype(np.float32)  # so that every order of summation is exact

    def add(self, node):
        self.nodes.append(node)
        return node.name

    def conv(self, source):
        weight = self.weight(2, 2, 3, 3)
        return self.add(Conv(name=f"conv{len(self.nodes)}", inputs=(source,), weight=weight, padding=(1, 1)))

    def sum(self, *sources):
        return self.add(Add(name=f"sum{len(self.nodes)}", inputs=sources))

    def lif(self, source):
        self.spikes.append(self.add(LIF(name=f"lif{len(self.nodes)}", inputs=(source,), threshold=0.5)))

    def graph(self):
        rng = self.rng
        shared = self.conv("input")
        self.lif(shared)
        self.lif(self.sum(shared, self.spikes[0]))  # a layer that two populations share
        for _ in range(int(rng.integers(1, 5))):
            terms = [self.conv(str(rng.choice(self.spikes))), str(rng.choice(self.spikes))]
            if rng.random() < 0.5:
                terms[0] = self.sum(terms[0], self.conv(str(rng.choice(self.spikes))))  # a sum in a sum
            if rng.random() < 0.5:
                graded = self.sum(str(rng.choice(self.spikes)), str(rng.choice(self.spikes)))  # spikes, twice the same too
                terms.append(graded)
                if rng.random() < 0.5:
                    terms.append(self.conv(graded))  # then it stays, as a layer takes it
            self.lif(self.sum(*terms))
        for name in [node.name for node in self.nodes]:
            if name != "input" and not any(name in node.inputs for node in self.nodes) and name not in self.spikes:
                self.lif(name)
        used = {name for node in self.nodes for name in node.inputs}
        last = self.sum(*[name for name in self.spikes if name not in used], self.spikes[0])
        pooled = self.add(AvgPool(name="pool", inputs=(last,), kernel=(2, 2), stride=(2, 2)))
        flat = self.add(Flatten(name="flatten", inputs=(pooled,)))
        self.add(Linear(name="fc", inputs=(flat,), weight=self.weight(3, 2 * (SIZE // 2) ** 2)))
        self.add(Readout(name="readout", inputs=("fc",)))
        return Graph(tuple(self.nodes))


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32))
def test_no_spike_no_potential_and_no_readout_changes(seed):
    """Nested sums, shared layers, pooled ends and spikes added twice: the same values from synapses alone."""
    rng = np.random.default_rng(seed)
    graph = check(Drawing(rng).graph(), TRACED)
    lowered = check(fold(graph), DEPLOYABLE)
    frames = rng.integers(0, 3, (5, 3, 2, SIZE, SIZE)).astype(np.float32)
    before, after = (ReferenceRuntime(net, dtype=np.float64).run(frames) for net in (graph, lowered))
    agreement = compare(before, after)
    assert agreement.equal, str(agreement.first)
    assert lower_residual(lowered) is lowered
    for node in lowered.of_kind(Population):
        assert all(isinstance(lowered[name], WEIGHTED) for name in node.inputs)


def small(*nodes, ends="lif"):
    """input -> conv -> first (LIF), the given nodes, and a readout behind `ends`."""
    return Graph(
        (
            Input(name="input", shape=(1, 2, 2)),
            Conv(name="conv", inputs=("input",), weight=np.ones((1, 1, 1, 1), np.float32)),
            LIF(name="first", inputs=("conv",)),
            *nodes,
            Flatten(name="flatten", inputs=(ends,)),
            Linear(name="fc", inputs=("flatten",), weight=np.ones((2, 4), np.float32)),
            Readout(name="readout", inputs=("fc",)),
        )
    )


def test_an_identity_shortcut_becomes_a_synapse_of_ones():
    """It is named for its population, and stands right before it."""
    second = Conv(name="second", inputs=("first",), weight=np.ones((1, 1, 1, 1), np.float32))
    graph = small(second, Add(name="sum", inputs=("second", "first")), LIF(name="lif", inputs=("sum",)))
    lowered = lower_residual(graph)
    assert [node.name for node in lowered] == [
        *("input", "conv", "first", "second", "lif.identity", "lif", "flatten", "fc", "readout")
    ]
    assert lowered["lif"].inputs == ("second", "lif.identity")
    assert (lowered["lif.identity"].weight == 1).all()


def test_a_sum_of_spikes_that_a_layer_takes_stays():
    """SEW: whole numbers travel to the layers behind."""
    second = Conv(name="second", inputs=("first",), weight=np.ones((1, 1, 1, 1), np.float32))
    graph = small(second, LIF(name="lif", inputs=("second",)), Add(name="sum", inputs=("lif", "first")), ends="sum")
    assert lower_residual(graph) is graph


def test_a_sum_that_a_layer_takes_must_be_of_spikes():
    """What is wrong is named, with the layer that takes it and the way out."""
    second = Conv(name="second", inputs=("first",), weight=np.ones((1, 1, 1, 1), np.float32))
    graph = small(second, Add(name="sum", inputs=("second", "first")), ends="sum")
    with pytest.raises(GraphError, match=r"'sum': feeds 'flatten'.*'second', a Conv, sends none\. Put a LIF"):
        lower_residual(graph)
