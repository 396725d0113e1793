"""Spike traffic of each sample: how many events reached each layer, and how many synapses they passed, counted in int64.

synops = sum over the non-zero inputs of F, with F the fan-out of each input element (`tet_deploy.ir.shapes.fan_out`), so
strides, dilation, groups and borders are exact. No count is ever summed in floating point.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import NamedTuple

import numpy as np

from tet_deploy.contracts import Frames, Recording, check_frames
from tet_deploy.counting.signals import Signal, signals, total, weighted_total
from tet_deploy.counting.synapses import Synapses, adds_bias, synapses
from tet_deploy.errors import DataError, GraphError
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import LIF, WEIGHTED, Add, CubaLIF, LeakyReadout, Output, SoftResetLIF, Spiking
from tet_deploy.ir.values import SPIKE, Value, values
from tet_deploy.reprs import short_repr

NEURON_KINDS = {
    "lif": "a spike sets the potential to 0, which costs nothing more",
    "cuba_lif": "its current is added to the potential in every step: one addition",
    "soft_reset_lif": "a spike lowers the potential by the threshold: one addition",
}
PER_EVENT = {
    "events": "non-zero inputs of a synaptic layer",
    "synops": "synapses those events pass, borders excluded, zero weights included",
    "synops_effective": "the same without synapses whose weight is 0",
    "unit_synops": "layers fed by no spikes: the synapses that inputs of exactly 1 pass",
    "unit_synops_effective": "the same without synapses whose weight is 0",
    "spike_synops": "layers fed by sums of spikes: synapses that are passed if each spike of a sum passes them by itself",
    "spike_synops_effective": "the same without synapses whose weight is 0",
    "pool_synops": "pooled layers: synapses that the spikes before the pooling pass once it is folded into the layer",
    "pool_synops_effective": "the same without synapses whose weight is 0",
    "pool_additions": "pooled layers: spikes added into averages, where pooling is not folded",
    "residual_additions": "additions of a skip connection, or of a readout that counts spikes: one per spike, or one per "
    "element that is no spike",
    "spikes": "spikes of a population",
}
PER_STEP = {
    "outputs": "output elements",
    "most_spikes": "layers fed by spikes: how many an input element can be the sum or average of",
    "mac_dense": "synapses inside the borders: multiply-accumulates of a dense pass",
    "mac_dense_effective": "the same without synapses whose weight is 0",
    "mac_padded": "multiply-accumulates as the literature counts them, the border's zeros included",
    "bias_additions": "one per output of a layer with a bias",
    "neuron_updates": "neurons of a population, one comparison each",
    "leak_multiplications": "potentials and synaptic currents that neurons, or a leaky readout, multiply by a decay",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Traffic:
    """Counts of every synaptic layer, population and skip connection of one network, L rows in graph order.

    Attributes
    ----------
    layers, kinds
        Names, and one of `SYNAPTIC_KINDS`, of `NEURON_KINDS`, or 'add'.
    input_fed
        bool [L]: layers that the network's input reaches without a LIF between.
    per_event
        int64 [L, T, B] for each name in `PER_EVENT`.
    per_step
        int64 [L] for each name in `PER_STEP`: the same in every step of every sample.
    input_sum
        float64 [L, T, B], sum over the elements of a synaptic layer's input; a whole number where it is spikes.
    input_size
        int64 [L]: what that is divided by to give the mean; 0 for other rows.
    static_input
        Whether every sample showed the same frame in all steps.
    """

    layers: tuple[str, ...]
    kinds: tuple[str, ...]
    input_fed: np.ndarray
    per_event: Mapping[str, np.ndarray]
    per_step: Mapping[str, np.ndarray]
    input_sum: np.ndarray
    input_size: np.ndarray
    static_input: bool
    __repr__ = short_repr

    @property
    def input_mean(self) -> np.ndarray:
        """Mean over the elements of a synaptic layer's input (the firing rate where it is spikes), float64 [L, T, B]."""
        return np.asarray(self.input_sum / np.maximum(self.input_size, 1)[:, None, None])

    def __getitem__(self, column: str) -> np.ndarray:
        """int64 [L, T, B] (read-only where it is the same in every step)."""
        if column in self.per_event:
            return self.per_event[column]
        return np.broadcast_to(self.per_step[column][:, None, None], self.input_sum.shape)


def count(graph: Graph, recording: Recording, frames: Frames) -> Traffic:
    """Count the traffic of a recorded run.

    Parameters
    ----------
    graph
        The network that ran: as traced, lowered, or quantized (then an input event is a non-zero integer message).
    recording
        Must hold the spikes of every LIF.
    frames
        What was shown to it, [T, B, *shape].

    Raises
    ------
    DataError
        The recording lacks spikes, or does not fit the frames.
    GraphError
        A layer is fed by another layer without a LIF between, so that the recording does not hold its input.
    """
    frames = check_frames(frames, graph.input.shape, graph.input.encoding)
    _check_recording(graph, recording, frames)
    layers = {layer.node.name: layer for layer in synapses(graph)}
    sent = values(graph)
    flowing = signals(graph, recording, frames)
    rows = []
    for node in graph:
        if isinstance(node, WEIGHTED):
            rows.append(_synaptic_row(graph, layers[node.name], flowing[node.inputs[0]], sent[node.inputs[0]]))
        elif isinstance(node, Spiking):
            rows.append(_population_row(graph, node, recording.spikes[node.name]))
        elif isinstance(node, Add):
            rows.append(_add_row(graph, node, sent, flowing))
        elif isinstance(node, Output):
            rows += _output_rows(graph, node, sent, flowing)
    return _assemble(rows, frames.shape[:2], static=bool((frames == frames[:1]).all()))


class _Row(NamedTuple):
    layer: str
    kind: str
    input_fed: bool
    per_event: dict[str, np.ndarray]  # int64 [T, B]
    per_step: dict[str, int]
    input_sum: np.ndarray | float = 0.0  # [T, B]
    input_size: int = 0


def _assemble(rows: list[_Row], steps_samples: tuple[int, ...], static: bool) -> Traffic:
    def stack(name: str) -> np.ndarray:
        counts = [np.asarray(row.per_event.get(name, 0), dtype=np.int64) for row in rows]
        return np.stack([np.broadcast_to(part, steps_samples) for part in counts])

    return Traffic(
        layers=tuple(row.layer for row in rows),
        kinds=tuple(row.kind for row in rows),
        input_fed=np.array([row.input_fed for row in rows]),
        per_event={name: stack(name) for name in PER_EVENT},
        per_step={name: np.array([row.per_step.get(name, 0) for row in rows], dtype=np.int64) for name in PER_STEP},
        input_sum=np.stack([np.broadcast_to(np.asarray(row.input_sum, np.float64), steps_samples) for row in rows]),
        input_size=np.array([row.input_size for row in rows], dtype=np.int64),
        static_input=static,
    )


def _synaptic_row(graph: Graph, layer: Synapses, source: Signal | None, value: Value) -> _Row:
    node = layer.node
    if source is None:
        raise GraphError(
            f"node {node.name!r}: counting needs its input to come from the frames or from a LIF; {node.inputs[0]!r} is a "
            f"{graph[node.inputs[0]].kind}, whose values are not recorded. Lower the network: td.lower."
        )
    active = source.values != 0
    if layer.kind == "skip":
        additions = {"events": total(active), "residual_additions": total(source.values)}
        biases = layer.outputs * adds_bias(graph, node)
        return _Row(node.name, "skip", False, additions, {"outputs": layer.outputs, "bias_additions": biases})
    per_event = {"events": total(active), **_passed("synops", active, layer)}
    if layer.kind == "pooled":
        per_event |= {**_passed("pool_synops", source.values, layer), "pool_additions": total(source.values)}
    elif layer.kind == "graded":
        per_event |= _passed("spike_synops", source.values, layer)
    elif layer.kind == "analog":
        per_event |= _passed("unit_synops", source.values == source.divisor, layer)
    per_step = {
        "outputs": layer.outputs,
        "most_spikes": 0 if layer.kind == "analog" else round(value.greatest * source.divisor),
        "mac_dense": layer.dense,
        "mac_dense_effective": int(layer.fan_out_effective.sum()),
        "mac_padded": layer.padded,
        "bias_additions": layer.outputs * adds_bias(graph, node),
    }
    size = layer.inputs * source.divisor
    return _Row(node.name, layer.kind, layer.input_fed, per_event, per_step, total(source.values), size)


def _passed(name: str, values: np.ndarray, layer: Synapses) -> dict[str, np.ndarray]:
    """Synapses that so many events at each input pass, and without those whose weight is 0."""
    return {
        name: weighted_total(values, layer.fan_out),
        f"{name}_effective": weighted_total(values, layer.fan_out_effective),
    }


def _population_row(graph: Graph, node: Spiking, spikes: np.ndarray) -> _Row:
    neurons = int(np.prod(graph.shapes[node.name], dtype=np.int64))
    kind, leaks = _neuron(node)
    multiplied = neurons // np.size(leaks) * int(np.sum(leaks))
    per_step = {"outputs": neurons, "neuron_updates": neurons, "leak_multiplications": multiplied}
    return _Row(node.name, kind, False, {"spikes": total(spikes)}, per_step)


@singledispatch
def _neuron(node: Spiking) -> tuple[str, int | np.ndarray]:
    """One of `NEURON_KINDS`, and what each neuron, or one of each channel, multiplies by a decay in every step."""
    raise GraphError(f"node {node.name!r}: nothing is known of what a {node.kind} costs.")


@_neuron.register
def _(node: LIF) -> tuple[str, int | np.ndarray]:
    decays = np.asarray(node.decay)
    return "lif", (decays > 0) & (decays < 1)


@_neuron.register
def _(node: SoftResetLIF) -> tuple[str, int]:
    return "soft_reset_lif", int(0 < node.decay < 1)


@_neuron.register
def _(node: CubaLIF) -> tuple[str, int]:
    return "cuba_lif", (0 < node.decay < 1) + (0 < node.current_decay < 1)


def _add_row(graph: Graph, node: Add, sent: Mapping[str, Value], flowing: Mapping[str, Signal | None]) -> _Row:
    """A branch that ends in a layer accumulates for free (the first branch if none does); each other one is added."""
    elements = int(np.prod(graph.shapes[node.name], dtype=np.int64))
    main = next((source for source in node.inputs if flowing[source] is None), node.inputs[0])
    skips = list(node.inputs)
    skips.remove(main)
    per_step = {"outputs": elements, "bias_additions": elements * adds_bias(graph, node)}
    return _Row(node.name, "add", False, {"residual_additions": _additions(skips, elements, sent, flowing)}, per_step)


def _output_rows(graph: Graph, node: Output, sent: Mapping[str, Value], flowing: Mapping[str, Signal | None]) -> list[_Row]:
    """Spikes that are added up over time, and decays of a leaky readout; what a layer sends accumulates there for free."""
    elements = int(np.prod(graph.shapes[node.name], dtype=np.int64))
    counted = [source for source in node.inputs if flowing[source] is not None]
    leaks = elements * (isinstance(node, LeakyReadout) and 0 < node.decay < 1)
    if not counted and not leaks:
        return []
    additions = {"residual_additions": _additions(counted, elements, sent, flowing)}
    return [_Row(node.name, "add", False, additions, {"leak_multiplications": leaks})]


def _additions(
    sources: Sequence[str], elements: int, sent: Mapping[str, Value], flowing: Mapping[str, Signal | None]
) -> np.ndarray:
    """One for each spike, or for each element of what is none."""
    additions: np.ndarray | int = 0
    for source in sources:
        signal = flowing[source]
        is_spikes = signal is not None and sent[source].kind == SPIKE
        additions = additions + (total(signal.values) if signal is not None and is_spikes else elements)
    return np.asarray(additions)


def _check_recording(graph: Graph, recording: Recording, frames: np.ndarray) -> None:
    for node in graph.of_kind(Spiking):
        spikes = recording.spikes.get(node.name)
        if spikes is None:
            raise DataError(f"recording: lacks the spikes of {node.name!r}, which energy counts. Run with probes='spikes'.")
        wanted = (*frames.shape[:2], *graph.shapes[node.name])
        if spikes.shape != wanted or spikes.dtype.kind not in "bui":
            raise DataError(
                f"recording: the spikes of {node.name!r} must be integers of shape {wanted} to fit the frames; "
                f"got {spikes.dtype} of shape {spikes.shape}. Pass the frames that were run."
            )
