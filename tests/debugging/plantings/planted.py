"""A fault that was planted, and how to plant one that changes anything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import tet_deploy as td
from tet_deploy.contracts import Recording
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import Node, Population
from tet_deploy.testing import random_float_network, random_frames


@dataclass(frozen=True, kw_only=True, eq=False)
class Planted:
    """What is given to the debugger, and what it has to find."""

    expected: Graph
    found: Recording
    frames: np.ndarray
    described: Graph | None
    node: str
    cause: str


def changed(rng, graph: Graph, kinds, change: Callable[[Node], Node | None], frames) -> tuple[Graph, str] | None:
    """A copy with one node changed such that the run differs, and the population that the node is or feeds."""
    nodes = [node for node in graph if isinstance(node, kinds)]
    before = td.run(graph, frames)
    for index in rng.permutation(len(nodes)):
        node = nodes[index]
        other = change(node)
        if other is None:
            continue
        copy = graph.replace({node.name: other})
        population = node.name if isinstance(node, Population) else graph.consumers(node.name)[0].name
        if not td.pipeline.validation.compare(before, td.run(copy, frames)).equal:
            return copy, population
    return None


def in_a_graph(cause: str, kinds, change, network=random_float_network):
    """A fault in the arrays or numbers of one node, of which the network itself tells."""

    def plant(rng) -> Planted | None:
        graph = network(rng)
        frames = random_frames(graph, rng, steps=6, samples=4)
        found = changed(rng, graph, kinds, lambda node: change(rng, node), frames)
        if found is None:
            return None
        copy, population = found
        return Planted(
            expected=graph, found=td.run(copy, frames), frames=frames, described=copy, node=population, cause=cause
        )

    return plant
