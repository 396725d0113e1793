"""What a run shows of each population, one step at a time.

A step begins with the potential that was recorded before it, and with the spikes that were recorded of its sources. A fault
in one population leaves every other one as it is, however far its spikes spread.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tet_deploy.contracts import Recording
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import LeakyReadout, Population, Spiking
from tet_deploy.meaning import over_time


class Flow:
    """What each node of a network sends, [T, B, *shape], where its populations send the spikes that were recorded.

    Parameters
    ----------
    graph
        Any network; what lies between populations is worked out as it says.
    recording
        With the spikes of every population, by the names that the network gives them.
    frames
        What was shown, [T, B, *shape].
    """

    def __init__(self, graph: Graph, recording: Recording, frames: np.ndarray) -> None:
        self.graph, self.frames = graph, frames
        self.number = np.int64 if graph.is_quantized else np.float32  # in which runtimes hand values on
        self._sent = {name: spikes.astype(self.number) for name, spikes in recording.spikes.items()}
        self._sent[graph.input.name] = over_time(graph.input, [frames]).astype(self.number)

    def __getitem__(self, name: str) -> np.ndarray:
        """What the node of that name sends."""
        if name not in self._sent:
            node = self.graph[name]
            self._sent[name] = over_time(node, [self[source] for source in node.inputs]).astype(self.number)
        return self._sent[name]

    def presynaptic(self, population: Population) -> np.ndarray:
        """The sum of what its inputs send; what reaches the membrane of it says `meaning.through_current`."""
        total, *others = (self[source] for source in population.inputs)
        for part in others:
            total = total + part
        return total


@dataclass(frozen=True, kw_only=True, eq=False)
class Steps:
    """Every step of one population, [T, B, *shape] each.

    Attributes
    ----------
    before, after
        The membrane potential before a step, and after it and its reset; of a readout, what it keeps and what it sends.
    spikes
        Where it fired; False for a readout.
    """

    before: np.ndarray
    after: np.ndarray
    spikes: np.ndarray

    @classmethod
    def of(cls, population: Population, recording: Recording) -> Steps:
        """Those that a recording holds."""
        if not isinstance(population, Spiking):
            sent = recording.readout
            before = _a_step_before(sent) if isinstance(population, LeakyReadout) else np.zeros_like(sent)
            return cls(before=before, after=sent, spikes=np.zeros(sent.shape, bool))
        after = recording.potentials[population.name]
        after = after.astype(np.int64 if after.dtype.kind == "i" else after.dtype)
        return cls(
            before=_a_step_before(after),
            after=after,
            spikes=recording.spikes[population.name].astype(bool),
        )

    def differ(self, other: Steps, tolerance: float = 0.0) -> np.ndarray:
        """Where one fires and the other does not, or both are silent with potentials farther apart than that."""
        apart = np.abs(self.after.astype(np.float64) - other.after) > tolerance
        return np.asarray((self.spikes != other.spikes) | (~self.spikes & ~other.spikes & apart))


def _a_step_before(potentials: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros_like(potentials[:1]), potentials[:-1]])
