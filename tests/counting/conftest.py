"""A slow count of what a network costs, in exact rationals, that shares nothing with the counting but the nodes."""

import math
from collections import Counter
from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from tet_deploy.ir.nodes import LIF, Add, Conv, Flatten, Input, LeakyReadout, Linear, Output
from tet_deploy.units import of_channel


@pytest.fixture(scope="session")
def event_loop():
    """EventLoop(graph).run(frames of one sample)."""
    return EventLoop


class EventLoop:
    """One sample's way through a deployable network: it runs the network itself, spike by spike, and adds as it goes.

    Attributes
    ----------
    counts
        What happened, over all layers and steps.
    rate_macs, rate_additions, dense_pass
        Padded multiply-accumulates of the layers that multiply, rate x padded multiply-accumulates of the others; and the
        padded multiply-accumulates of all layers once.
    spikes
        {population: [{neuron that fired}, ...]}, a set for each step.
    """

    def __init__(self, graph):
        self.graph, self.counts = graph, Counter()
        self.rate_macs, self.rate_additions, self.dense_pass = 0, Fraction(0), 0
        self.potentials = {node.name: {} for node in graph}
        self.spikes = {node.name: [] for node in graph if isinstance(node, LIF)}
        self.reaches = {node.name: _synapses(graph, node) for node in graph if isinstance(node, (Conv, Linear))}

    def run(self, frames):
        """Frames [T, *shape]."""
        self.dense_pass = sum(self._macs(self.graph[name]) for name in self.reaches)
        for frame in frames:
            sent = {}  # {node: {element: value other than 0}}
            for node in self.graph:
                sent[node.name] = self._sent(node, [sent[name] for name in node.inputs] or [frame])
        return self

    def _sent(self, node, sources):
        if isinstance(node, Input):
            numbers = {at: _message(value, node.quantization) for at, value in np.ndenumerate(sources[0])}
            return {at: number for at, number in numbers.items() if number}
        if isinstance(node, Flatten):
            _, *sizes = self.graph.shapes[node.inputs[0]]
            return {(_flat(at, sizes),): value for at, value in sources[0].items()}
        if isinstance(node, Add):
            return self._added(node, sources)
        if isinstance(node, LIF):
            return self._fired(node, sources)
        if isinstance(node, Output):
            self.counts["bias_additions"] += 0 if node.bias is None else len(node.bias)
            if isinstance(node, LeakyReadout) and node.decay not in (0, 1):
                self.counts["leak_multiplications"] += math.prod(self.graph.shapes[node.name])
            return {}
        return self._followed(node, sources[0])

    def _followed(self, node, events):
        """Each event over each of its synapses: the sums that the layer sends to its population."""
        outputs = _elements(self.graph.shapes[node.name])
        sums, kind, reaches = {at: Fraction(0) for at in outputs}, self._kind(node), self.reaches[node.name]
        for element, value in events.items():
            self.counts["events"] += 1
            self.counts["residual_additions"] += int(value) if kind == "skip" else 0
            for end, weight in reaches[element]:
                sums[end] += Fraction(weight.item()) * value
                if kind == "skip":
                    continue
                self.counts["synops"] += 1
                self.counts["synops_effective"] += weight != 0
                self.counts["additions"] += kind == "spike"
                self.counts["graded"] += kind == "graded"
                self.counts["mac_event"] += kind == "analog"
                self.counts["ones"] += kind == "analog" and value == 1
                self.counts["summed"] += value if kind == "graded" else 0
                if weight != 0:
                    self.counts[f"effective_{kind}"] += 1
        if kind == "analog":
            self.counts["effective_dense"] += sum(weight != 0 for ends in reaches.values() for _, weight in ends)
            self.counts["mac_dense"] += sum(len(synapses) for synapses in reaches.values())
            self.rate_macs += self._macs(node)
        else:
            self.rate_additions += Fraction(sum(events.values()), len(reaches)) * self._macs(node)
        if node.bias is not None:
            for end in outputs:
                sums[end] += Fraction(node.bias[end[0]].item())
                self.counts["bias_additions"] += 1
        if node.quantization is not None:
            return {end: (total + 2**23) % 2**24 - 2**23 for end, total in sums.items()}
        return sums

    def _kind(self, node):
        """What feeds the layer: frames, spikes or sums of them; an identity beside others, or to a readout, is a skip."""
        source = self.graph[node.inputs[0]]
        while isinstance(source, Flatten):
            source = self.graph[source.inputs[0]]
        (population,) = (user for user in self.graph if node.name in user.inputs)
        one_each = all(sum(weight != 0 for _, weight in ends) <= 1 for ends in self.reaches[node.name].values())
        adds = isinstance(population, Output) or len(population.inputs) > 1
        if node.dense_macs == 0 and one_each and adds and not isinstance(source, Input):
            return "skip"
        return {Input: "analog", LIF: "spike", Add: "graded"}[type(source)]

    def _added(self, node, sources):
        """The first is there already; a spike is one addition more, a sum of spikes one for each element."""
        for name, source in zip(node.inputs[1:], sources[1:], strict=True):
            spikes = isinstance(self.graph[name], LIF)
            self.counts["residual_additions"] += len(source) if spikes else len(_elements(self.graph.shapes[name]))
        total = Counter()
        for source in sources:
            total.update(source)
        return dict(total)

    def _fired(self, node, sources):
        potentials, fired = self.potentials[node.name], {}
        for at in _elements(self.graph.shapes[node.name]):
            total = sum(source[at] for source in sources)
            u = self._potential(node, at, potentials.get(at, Fraction(0)), total)
            threshold = of_channel(node.threshold, at[0]) * (64 if node.quantization else 1)
            fired |= {at: 1} if u > threshold or (node.comparison == ">=" and u == threshold) else {}
            potentials[at] = Fraction(0) if at in fired else u
            self.counts["neuron_updates"] += 1
            self.counts["leak_multiplications"] += of_channel(node.decay, at[0]) not in (0, 1)
            self.counts["bias_additions"] += node.bias is not None
        self.counts["spikes"] += len(fired)
        self.spikes[node.name].append(set(fired))
        return fired

    def _potential(self, node, at, v, total):
        decay = float(of_channel(node.decay, at[0]))
        if node.quantization is None:
            return Fraction(decay) * v + total
        kept = int(v * (4096 - round((1 - decay) * 4096)) / 4096)  # int() rounds towards zero, as the chip does
        bias = 0 if node.bias is None else int(node.bias[at[0]]) * 2**node.quantization.bias_exponent
        u = 64 * total
        if u > 2**23:
            u -= 2**24  # once, as the chip does
        if u <= -(2**23):
            u += 2**24
        return max(1 - 2**23, min(2**23 - 1, kept + u + bias))

    def _macs(self, node):
        """Multiply-accumulates of a dense pass, border included, of what stands here in a network without spikes."""
        every_output = len(_elements(self.graph.shapes[node.name])) * node.weight[0].size
        return every_output if node.dense_macs is None else node.dense_macs


def _message(value, quantization):
    if quantization is None:
        return Fraction(value.item())
    return Fraction(max(-127, min(127, round(Fraction(value.item()) * Fraction(quantization.scale)))))


def _elements(shape):
    return list(product(*map(range, shape)))


def _flat(at, sizes):
    place = at[0]
    for index, size in zip(at[1:], sizes, strict=True):
        place = place * size + index
    return place


def _synapses(graph, node):
    """{input element: [(where a synapse of it ends, its weight), ...]}, found by going through every output's window."""
    x, y = graph.shapes[node.inputs[0]], graph.shapes[node.name]
    reaches = {element: [] for element in _elements(x)}
    if isinstance(node, Linear):
        for out, into in product(range(y[0]), range(x[0])):
            reaches[into,].append(((out,), node.weight[out, into]))
        return reaches
    outputs_per_group = y[0] // node.groups
    for out, row, column in _elements(y):
        for (inside, i, j), weight in np.ndenumerate(node.weight[out]):
            channel = out // outputs_per_group * node.weight.shape[1] + inside
            above = row * node.stride[0] - node.padding[0] + i * node.dilation[0]
            left = column * node.stride[1] - node.padding[1] + j * node.dilation[1]
            if (channel, above, left) in reaches:
                reaches[channel, above, left].append(((out, row, column), weight))
    return reaches
