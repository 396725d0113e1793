"""The nodes of a plan, computed step by step as Lava's processes compute them. numpy only.

In step t of Lava's time each synapse sends the sums that it made in step t - 1, each population fires from what its synapses
send, and then synapses and sums take what was fired. So a step has two halves, and what is fired elsewhere in step t is
needed in the second half alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np

from .convolution import Convolution
from .messages import Messages
from .neurons import CURRENT_LIVES_ONE_STEP, Neurons, Population
from .records import Clock, Record, Records, optional_record

Node = Mapping[str, Any]  # of a plan; the input has the kind "input", the readout "readout"
Fired = dict[str, np.ndarray]
_EXACT_IN_FLOAT32 = 2**24
_TOGETHER = 2**14  # neurons
_STATES = {"potentials": "v", "wrapped": "wrapped", "saturated": "saturated"}  # what is recorded, as `Neurons` calls it


class Pipeline:
    """Some nodes of a plan with their states.

    Parameters
    ----------
    nodes
        In the plan's order, each synapse beside the population that it ends in.
    arrays
        Content of arrays.npz.
    frames
        File of frames [T, B, *shape].
    records
        Where to write what, and the period of resets.
    """

    def __init__(self, nodes: Sequence[Node], arrays: Mapping[str, np.ndarray], frames: str, records: Records) -> None:
        made: dict[str, _Synapses] = {}
        self._source: list[_Source] = []
        self._sums: list[_Sum] = []
        self._readout: list[_Readout] = []
        populations: list[_Population] = []
        for node in nodes:
            kind = node["kind"]
            if kind == "input":
                self._source.append(_Source(node, frames, records))
            elif kind == "sum":
                self._sums.append(_Sum(node))
            elif kind == "lif":
                populations.append(_Population(node, arrays, [made[source] for source in node["sources"]], records))
            elif kind == "readout":
                self._readout.append(_Readout(node, [made[source] for source in node["sources"]], records))
            else:
                made[node["name"]] = _Synapses(node, arrays, records)
        self._groups = [_Group(together, records.period) for together in _batches(populations)]
        self._taking: list[_Synapses | _Sum] = [*made.values(), *self._sums]

    def fire(self, time: int) -> Fired:
        """First half of a step: what each of its nodes but the synapses sends."""
        fired = {node.name: node.fire(time) for node in (*self._source, *self._sums)}
        for group in self._groups:
            fired |= group.fire(time)
        for readout in self._readout:
            readout.fire(time)
        return fired

    def take(self, time: int, fired: Mapping[str, np.ndarray]) -> None:
        """Second half: its synapses and sums take what was fired in this step, here and elsewhere."""
        for node in self._taking:
            node.take(time, fired)


def takes(node: Node) -> list[str]:
    """Names of the nodes from which another takes what it sends, or its sums."""
    return list(node["sources"]) if "sources" in node else [node["source"]] if "source" in node else []


def current_decay(node: Node) -> int:
    """Lava's du of a population: the plan says how much of a current is lost, where not all is."""
    return int(node.get("current_decay", CURRENT_LIVES_ONE_STEP + 1) - 1)


class _Source:
    def __init__(self, node: Node, frames: str, records: Records) -> None:
        self.name = node["name"]
        self._messages = Messages(frames, node, records.period)
        self._clipped = optional_record(records.where("clipped", self.name))

    def fire(self, time: int) -> np.ndarray:
        messages = self._messages.at(time)
        if self._clipped is not None:
            self._clipped.write(time, self._messages.clipped)
        return messages


class _Synapses:
    """A Conv, which wraps its sums into 24 bit, or a Dense, which need not."""

    def __init__(self, node: Node, arrays: Mapping[str, np.ndarray], records: Records) -> None:
        self._source, self._graded = node["source"], node["message_bits"] > 0
        weight = arrays[node["weight"]]
        self._wrapped = optional_record(records.where("wrapped", node["name"]))
        if node["kind"] == "dense":
            self._make: Convolution | _Dense = _Dense(weight)
            self._shape, self._flat = (weight.shape[1],), False
        else:
            pairs = (tuple(node[key]) for key in ("stride", "padding", "dilation"))
            self._shape, self._flat = tuple(node["input_shape"]), node["flat_output"]
            self._make = Convolution(weight, self._shape, *pairs, node["groups"])
        self.sums = self._laid_out(self._make(np.zeros(self._shape, bool)))

    def take(self, time: int, fired: Mapping[str, np.ndarray]) -> None:
        data = fired[self._source].reshape(self._shape)
        self.sums = self._laid_out(self._make(data if self._graded or data.dtype == bool else data != 0))
        if self._wrapped is not None:
            self._wrapped.write(time, self._make.wrapped)

    def _laid_out(self, sums: np.ndarray) -> np.ndarray:
        return sums.reshape(-1) if self._flat else sums


class _Dense:
    """Synaptic sums int32 [O] of messages [I]; exact, as none of them leaves 24 bit."""

    wrapped = 0

    def __init__(self, weight: np.ndarray) -> None:
        self._weight = weight
        self._largest = int(np.abs(weight.astype(np.int64)).sum(axis=1).max())
        self._as: dict[type, np.ndarray] = {}

    def __call__(self, data: np.ndarray) -> np.ndarray:
        largest = 1 if data.dtype == bool else int(np.abs(data).max())
        dtype = np.float32 if self._largest * largest < _EXACT_IN_FLOAT32 else np.float64
        if dtype not in self._as:
            self._as[dtype] = self._weight.astype(dtype)
        return (self._as[dtype] @ data.astype(dtype)).astype(np.int32)


class _Sum:
    """Messages of several nodes, added up and sent a step later; of one: a relay."""

    def __init__(self, node: Node) -> None:
        self.name = node["name"]
        self._sources = node["sources"]
        self._sum = np.zeros(node["shape"][::-1], np.int32)

    def fire(self, time: int) -> np.ndarray:
        return self._sum

    def take(self, time: int, fired: Mapping[str, np.ndarray]) -> None:
        first, *others = self._sources
        self._sum = fired[first]
        for other in others:
            self._sum = np.add(self._sum, fired[other], dtype=np.int32)


class _Population:
    """What a population's neurons are, where its sums come from, and what is recorded of it."""

    def __init__(self, node: Node, arrays: Mapping[str, np.ndarray], ports: list[_Synapses], records: Records) -> None:
        self.name, self.ports = node["name"], ports
        threshold, decay = (arrays[each] if isinstance(each, str) else each for each in (node["threshold"], node["decay"]))
        self.neurons = Population(
            shape=tuple(node["shape"][::-1]),
            threshold=threshold,
            dv=decay,
            du=current_decay(node),
            bias=arrays[node["bias"]] if node["bias"] else 0,
            bias_exponent=node["bias_exponent"],
            offset=node["latency"] + 1,
        )
        kinds = ("spikes", "potentials", "wrapped", "saturated")
        places = {kind: records.where(kind, self.name) for kind in kinds}
        self.records = {kind: Record(**where) for kind, where in places.items() if where is not None}


class _Group:
    """Populations whose neurons are computed together."""

    def __init__(self, populations: list[_Population], period: int) -> None:
        self._populations = populations
        self._neurons = Neurons([population.neurons for population in populations], period)

    def fire(self, time: int) -> Fired:
        sums = [[port.sums for port in population.ports] for population in self._populations]
        spikes = self._neurons.step(time, sums)
        for index, population in enumerate(self._populations):
            for kind, record in population.records.items():
                data = spikes[index] if kind == "spikes" else getattr(self._neurons, _STATES[kind])[index]
                record.write(time, np.transpose(data))  # [W, H, C] becomes [C, H, W]
        return {population.name: fired for population, fired in zip(self._populations, spikes, strict=True)}


class _Readout:
    def __init__(self, node: Node, ports: list[_Synapses], records: Records) -> None:
        self._ports = ports
        self._record = optional_record(records.where("readout", node["name"]))
        self._clock = Clock(records.clock)

    def fire(self, time: int) -> None:
        if self._record is not None:
            self._record.write(time, reduce(np.add, [port.sums for port in self._ports]))
        self._clock.tick(time)


def _batches(populations: Iterable[_Population]) -> list[list[_Population]]:
    """Neighbours with equal decays, few enough for the states to stay in a cache."""
    batches: list[list[_Population]] = []
    size, decays = 0, (None, None)
    for population in populations:
        neurons = population.neurons
        more = math.prod(neurons.shape)
        alike = isinstance(neurons.dv, int) and decays == (neurons.dv, neurons.du)  # those of channels go by themselves
        if batches and alike and size + more <= _TOGETHER:
            batches[-1].append(population)
            size += more
        else:
            batches.append([population])
            size, decays = more, (neurons.dv if isinstance(neurons.dv, int) else None, neurons.du)
    return batches
