"""Turn a float network into the integers of a Loihi core.

All synapses into a population (neurons or readout) share a scale s, in integer units per unit of membrane potential:

    weight mantissa     round(W * s / s_in)     2 to 8 bit;  s_in is the scale of the messages, 1 for spikes
    threshold mantissa  round(Vth * s)          17 bit
    bias                round(b * s * 64)       13 bit << 0..7, held by the population; clipped where that is least harm;
                                                of neurons with a synaptic current see `fit.held_bias`

A neuron with hard reset does not care what s is, so s is free: for each population we take the one whose spikes and membrane
potentials, on calibration frames, stay nearest to those of the float neuron fed by the same spikes; among those at which the
threshold is a whole number. As a core holds few thresholds, all channels have one s, or one of a few (see
`passes.threshold_classes`); those whose thresholds differ are first measured by them. Upstream layers are already quantized
when a population is calibrated, so errors do not add up unseen.
"""

from __future__ import annotations

import dataclasses
import json
import math
import numbers
from collections import Counter

import numpy as np

from tet_deploy import dynamics
from tet_deploy.arguments import whole
from tet_deploy.batches import FrameBatches, Source
from tet_deploy.contracts import Frames, Progress
from tet_deploy.errors import ArgumentError, GraphError, QuantizationWarning, warn
from tet_deploy.ir.certificates import certificates
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import (
    LIF,
    ON_CHIP,
    WEIGHTED,
    Add,
    CubaLIF,
    Flatten,
    Input,
    LeakyReadout,
    Node,
    Population,
    Quantization,
)
from tet_deploy.ir.parts import part_names
from tet_deploy.ir.spec import FLOAT, INTEGER
from tet_deploy.passes.calibrate import Calibrated, calibrate
from tet_deploy.passes.fit import Port, check_populations, held_bias, is_uniform, with_one_threshold
from tet_deploy.passes.input_scale import input_units
from tet_deploy.passes.messages import Messages
from tet_deploy.passes.rounding import REFUSED, Rounding, as_summary, check_rounding, readout_rounding, rounding
from tet_deploy.passes.step import step
from tet_deploy.passes.threshold_classes import MOST_CLASSES
from tet_deploy.passes.widths import WIDEST, Bits, widths
from tet_deploy.units import ByChannel, by_channel

METADATA_KEY, CALIBRATION_KEY = "quantization", "calibration"
_CLIPPED = 0.5  # of a population's weights; a larger share is told
_AT_ONCE = 2**22  # values of the largest edge that are held at a time


@step(requires=FLOAT, ensures=INTEGER)
def quantize(
    graph: Graph,
    calibration: Frames | Source,
    *,
    bits: Bits = WIDEST,
    threshold_classes: int = MOST_CLASSES,
    rounding_limit: float = REFUSED,
    progress: Progress | None = None,
) -> Graph:
    """Quantize weights, biases and thresholds, calibrated on frames.

    Parameters
    ----------
    graph
        A deployable float network, see `passes.lower`.
    calibration
        Frames [T, B, *shape] to calibrate on, or a source of them; a few dozen training samples are enough. Memory does not
        grow with their number.
    bits
        Width of the signed weights, 2 to 8: of all, or by the names of synapse nodes, as in {"conv1": 8, "default": 4}; what
        is not named has the default, or 8.
    threshold_classes
        How many thresholds, each with a scale of its own, the channels of a population may have at most: 1 to 8, which a
        Loihi core holds. A population is split where that lowers the deviation by a tenth or more.
    rounding_limit
        Largest error, as a share of the threshold, that rounding decay, threshold and bias may make over the T steps of the
        frames (see `passes.rounding`); beyond it the network is refused.

    Returns
    -------
    Graph
        The same nodes with integer arrays and their scales. `metadata["quantization"]` holds, as JSON, each population's
        scale, share of spikes that differ, share of potentials that meet the threshold exactly, share of clipped weights,
        error from rounding its parameters, and how far its synaptic sums and potentials went;
        `metadata["calibration"]`, of the input, the least and the greatest value seen, in how many samples, and the share of
        the values that were clipped.

    Raises
    ------
    ArgumentError
        Another number of bits than 2..8 or of classes than 1..8, or a name that no synapse node has.
    GraphError
        The graph is not deployable or is quantized already, a population has no integers or fits no scale, or its
        parameters do not survive rounding.
    DataError
        The calibration frames do not fit the network, or are all zero.

    Warns
    -----
    QuantizationWarning
        Decay, threshold and bias are rounded by more than little, or a decay becomes 0 or 1; event counts are sent at a
        scale below 1; most weights of a population are clipped, as its threshold is small beside them.

    Examples
    --------
    >>> int8 = td.quantize(graph, calibration=frames)
    >>> int8["conv"].weight.dtype, int8["conv"].quantization.bits
    (dtype('int8'), 8)
    """
    bits_of = widths(graph, bits)
    check_populations(graph)
    frames = FrameBatches.of(graph, calibration).behind(graph.input)
    if isinstance(rounding_limit, bool) or not isinstance(rounding_limit, numbers.Real) or not rounding_limit >= 0:
        raise ArgumentError(f"rounding_limit: must be a share of the threshold, 0 or more; got {rounding_limit!r}.")
    threshold_classes = whole("threshold_classes", threshold_classes, greatest=MOST_CLASSES)
    quantized = _Quantizer(graph, frames, bits_of, threshold_classes, rounding_limit)
    for index, node in enumerate(graph):
        quantized.add(node)
        if progress:
            progress(index + 1, len(graph))
    done = Graph(tuple(quantized.nodes), graph.metadata).with_metadata(**{CALIBRATION_KEY: json.dumps(quantized.seen)})
    return certified(done, quantized.summary)


class _Quantizer:
    """Walks the graph in order; holds the integers that each node sends on the calibration frames while others need them."""

    def __init__(
        self, graph: Graph, frames: FrameBatches, bits: dict[str, int], threshold_classes: int, rounding_limit: float
    ) -> None:
        self.graph, self.frames, self.bits = graph, frames, bits
        self.names = {node.name for node in graph}
        self.threshold_classes, self.rounding_limit = threshold_classes, rounding_limit
        self.nodes: list[Node] = []
        self.summary: dict[str, dict[str, object]] = {}
        self.seen: dict[str, dict[str, float]] = {}  # at the input
        self.sent: dict[str, tuple[Messages, float]] = {}  # of Input, Flatten, Add and populations, with their scale
        self.waiting = Counter(name for node in graph for name in _taken(node, graph))
        self.at_once = max(1, _AT_ONCE // (frames.steps * max(map(math.prod, graph.shapes.values()))))  # samples

    def add(self, node: Node) -> None:
        """Quantize one node; a weighted one waits for the population that it feeds."""
        if isinstance(node, Input):
            self._add_input(node)
        elif isinstance(node, Flatten):
            source, scale = self._take(node.inputs[0])
            self.nodes.append(node)
            self.sent[node.name] = source.reshaped(self.graph.shapes[node.name]), scale
        elif isinstance(node, Add):
            self.nodes.append(node)
            self.sent[node.name] = self._sum([self._take(name)[0] for name in node.inputs]), 1.0
        elif isinstance(node, Population):
            self._add_population(node)
        elif not isinstance(node, WEIGHTED):
            raise GraphError(f"node {node.name!r}: a {node.kind} cannot be quantized yet.")

    def _take(self, name: str) -> tuple[Messages, float]:
        """What a node sent, forgotten once its last consumer has it."""
        self.waiting[name] -= 1
        return self.sent[name] if self.waiting[name] else self.sent.pop(name)

    def _add_input(self, node: Input) -> None:
        values = self.frames.values()
        quantization = input_units(self.graph, self.frames, values)
        largest = (dynamics.largest_message(quantization) + 0.5) / quantization.one_scale  # what lies beyond is clipped
        sent, clipped = Messages(self.frames.steps, node.shape, np.int8), 0
        least, greatest = math.inf, -math.inf
        for part in self.frames.batches(self.at_once):
            frames = part.frames()
            least, greatest = min(least, float(frames.min())), max(greatest, float(frames.max()))
            clipped += int((np.abs(frames) > largest).sum())
            sent.append(dynamics.to_messages(frames, quantization))
        share = clipped / (len(self.frames) * self.frames.steps * math.prod(node.shape))
        self.seen[node.name] = {"least": least, "greatest": greatest, "samples": len(self.frames), "clipped": share}
        self.nodes.append(dataclasses.replace(node, quantization=quantization))
        self.sent[node.name] = sent, quantization.one_scale

    def _sum(self, terms: list[Messages]) -> Messages:
        total = Messages(self.frames.steps, terms[0].shape, np.int16)
        for start in range(0, len(self.frames), self.at_once):
            read = [term.read(start, start + self.at_once) for term in terms]
            total.append(np.asarray(np.sum(read, axis=0, dtype=np.int16)))
        return total

    def _add_population(self, node: Population) -> None:
        ports = []
        for name in node.inputs:
            layer = self.graph[name]
            assert isinstance(layer, WEIGHTED)
            messages, scale = self._take(layer.inputs[0])
            limit, adds_up = 2 ** (self.bits[name] - 1) - 1, len(node.inputs) > 1 and is_uniform(layer)
            ports.append(Port(node=layer, messages=messages, scale=scale, limit=limit, adds_up=adds_up))
        measured, ports, units = with_one_threshold(node, ports)
        found = calibrate(measured, ports, self.threshold_classes)
        _tell_clipped(node, found)
        fit, scales = found.fit, np.asarray(found.fit.scale) * units
        names = []
        for port, weights in zip(ports, fit.weights, strict=True):
            for index, name in enumerate(part_names(port.node.name, len(weights), self.names)):
                weight = weights[index]
                quantization = Quantization(scale=by_channel(scales / port.scale), bits=self.bits[port.node.name])
                part = dataclasses.replace(port.node, name=name, weight=weight, bias=None, quantization=quantization)
                self.nodes.append(dataclasses.replace(part, dense_macs=0) if index else part)
                names.append(name)
        assert fit.population.quantization is not None
        quantization = dataclasses.replace(fit.population.quantization, scale=by_channel(scales))
        self.nodes.append(dataclasses.replace(fit.population, inputs=tuple(names), quantization=quantization))
        self.summary[node.name] = _summary(found, quantization.scale, names)
        if isinstance(measured, ON_CHIP) and isinstance(fit.population, ON_CHIP):
            biases = held_bias(measured, ports)
            self._check(measured, rounding(measured, fit.population, biases, self.frames.steps))
        elif isinstance(measured, LeakyReadout):
            self._check(measured, readout_rounding(measured, self.frames.steps))
        if found.sent is not None:
            self.sent[node.name] = found.sent, 1.0

    def _check(self, node: LIF | CubaLIF | LeakyReadout, found: Rounding) -> None:
        check_rounding(node, found, self.rounding_limit)
        self.summary[node.name]["rounding"] = as_summary(found)


def _taken(node: Node, graph: Graph) -> list[str]:
    """The senders that a node takes from, once for each time: a population from those of its synapses."""
    if isinstance(node, Population):
        return [graph[port].inputs[0] for port in node.inputs]
    return [] if isinstance(node, WEIGHTED) else list(node.inputs)


def _tell_clipped(node: Population, found: Calibrated) -> None:
    """More than half are clipped only where the threshold would round to 0 otherwise, see `passes.scales`."""
    if found.fit.clipped_weights > _CLIPPED:
        warn(
            f"node {node.name!r}: {found.fit.clipped_weights:.0%} of its weights are clipped, as a chip's threshold is 1 or "
            f"more and its own is small beside them; {found.differing:.1%} of its spikes differ from the float one.s on "
            "the calibration frames. Retrain with a larger threshold or smaller weights; more bits help if it has few.",
            QuantizationWarning,
        )


def _summary(found: Calibrated, scale: ByChannel, layers: list[str]) -> dict[str, object]:
    return {
        "layers": layers,
        "scale": scale,
        "deviation": found.deviation,
        "differing": found.differing,
        "ties": found.ties,
        "clipped_weights": found.fit.clipped_weights,
        "clipped_biases": found.fit.clipped_biases,
        "largest_sum_seen": found.largest_sum,
        "least_potential_seen": found.least_potential,
    }


def certified(graph: Graph, summary: dict[str, dict[str, object]]) -> Graph:
    """The graph with what happened on the calibration frames, and what can never happen, in its metadata."""
    for name, certificate in certificates(graph).items():
        summary[name] |= {
            "largest_sum_possible": max(-certificate.least_sum, certificate.greatest_sum),
            "wrap_impossible": certificate.cannot_wrap,
            "saturation_impossible": certificate.cannot_saturate,
        }
    return graph.with_metadata(**{METADATA_KEY: json.dumps(summary)})
