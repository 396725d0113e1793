"""When each node of a pipeline answers, and how long what it needs has to wait, so that all branches arrive together.

In a Lava step a synapse sends the sums of the step before, and a population answers in the same step. So synapses cost one
step, populations none; a sum of spikes, which is made of synapses too, costs one. A branch that is shorter than another into
the same node waits in relays, each a step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import WEIGHTED, Add, Flatten, Input, Population
from tet_deploy.ir.spec import behind_flatten


@dataclass(frozen=True)
class Schedule:
    """The timing of a deployable network.

    Attributes
    ----------
    latency
        Per node, steps from a frame's own step until the node answers to it; a synapse's is its population's.
    waits
        Per sender, the longest that one of its consumers needs it late, in steps; 0 for most.
    """

    latency: Mapping[str, int]
    waits: Mapping[str, int]

    def wait(self, source: str, consumer: str) -> int:
        """Steps by which a synapse or a sum needs late what its source sends."""
        return self.latency[consumer] - 1 - self.latency[source]


def schedule(graph: Graph) -> Schedule:
    """The earliest timing in which all inputs of each node belong to one step of one sample."""
    latency: dict[str, int] = {}
    for node in graph:
        if isinstance(node, Input):
            latency[node.name] = 0
        elif isinstance(node, Population):
            latency[node.name] = max(latency[name] for name in node.inputs)
            latency |= dict.fromkeys(node.inputs, latency[node.name])
        else:
            step = 0 if isinstance(node, Flatten) else 1
            latency[node.name] = max(latency[name] for name in node.inputs) + step
    found = Schedule(latency, {})
    waits = {node.name: 0 for node in graph}
    for node in graph:
        if isinstance(node, (*WEIGHTED, Add)):
            for name in node.inputs:
                source = behind_flatten(graph, name).name
                waits[source] = max(waits[source], found.wait(source, node.name))
    return Schedule(latency, waits)
