"""Make everything that feeds a population a synapse of its own, so that populations sum and no sum of sums is left.

    LIF(branch(x) + x)   ->   a LIF with two synapses: the branch's last layer, and an identity, a 1x1 layer of ones

An `Add` that reaches populations only goes; a layer that several populations share is given to each of them as a copy. What
is left of `Add` sums spikes for a layer that multiplies them (SEW): whole numbers travel on it, from 0 to the number of
spikes that were added.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from tet_deploy.errors import GraphError
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import WEIGHTED, Add, Conv, Linear, Node, Population
from tet_deploy.ir.spec import NORM_FREE, SYNAPTIC
from tet_deploy.ir.values import GRADED, SPIKE, values
from tet_deploy.passes.step import step


@step(requires=NORM_FREE, ensures=SYNAPTIC)
def lower_residual(graph: Graph) -> Graph:
    """Connect every population to synapses alone; the same graph where that is so already.

    Raises
    ------
    GraphError
        A sum of anything but spikes that a layer, not a population, takes.
    """
    dissolved = _dissolved(graph)
    if not dissolved and all(_is_lowered(graph, node) for node in graph if isinstance(node, Population)):
        return graph
    lowered = _Lowering(graph, dissolved)
    for node in graph:
        lowered.add(node)
    return Graph(tuple(lowered.nodes), graph.metadata)


def _is_lowered(graph: Graph, node: Population) -> bool:
    return all(isinstance(graph[name], WEIGHTED) and len(graph.consumers(name)) == 1 for name in node.inputs)


def _dissolved(graph: Graph) -> set[str]:
    """Names of the sums whose terms the populations behind them take for themselves.

    Raises
    ------
    GraphError
        A sum that has to stay, as a layer takes it, and is none of spikes.
    """
    found: set[str] = set()
    sent = values(graph)
    for node in reversed(graph.nodes):
        if not isinstance(node, Add):
            continue
        others = [user for user in graph.consumers(node.name) if not isinstance(user, Population) and user.name not in found]
        if not others:
            found.add(node.name)
        elif sent[node.name].kind != GRADED:
            wrong = next(name for name in node.inputs if sent[name].kind not in (SPIKE, GRADED))
            raise GraphError(
                f"node {node.name!r}: feeds {others[0].name!r}, a {others[0].kind}, so it must sum spikes only; "
                f"{wrong!r}, a {graph[wrong].kind}, sends none. Put a LIF behind the sum or before it."
            )
    return found


class _Lowering:
    """The nodes so far; copies and identities are made where a population asks for them."""

    def __init__(self, graph: Graph, dissolved: set[str]) -> None:
        self.graph, self.dissolved = graph, dissolved
        self.nodes: list[Node] = []
        self.taken = {node.name for node in graph}
        self.given: set[str] = set()  # layers that a population has already

    def add(self, node: Node) -> None:
        if isinstance(node, Population):
            ports = [self._port(node, name) for source in node.inputs for name in self._terms(source)]
            self.nodes.append(dataclasses.replace(node, inputs=tuple(ports)))
        elif node.name not in self.dissolved:
            self.nodes.append(node)

    def _terms(self, name: str) -> Iterator[str]:
        if name not in self.dissolved:
            yield name
            return
        for source in self.graph[name].inputs:
            yield from self._terms(source)

    def _port(self, population: Population, name: str) -> str:
        """The synapse node through which a population takes what `name` sends."""
        source = self.graph[name]
        if not isinstance(source, WEIGHTED):
            return self._append(identity(source, self.graph.shapes[name], self._new_name(f"{population.name}.identity")))
        if name not in self.given:
            self.given.add(name)
            return name
        return self._append(dataclasses.replace(source, name=self._new_name(f"{name}.copy")))

    def _append(self, node: Node) -> str:
        self.nodes.append(node)
        return node.name

    def _new_name(self, name: str) -> str:
        number, free = 1, name
        while free in self.taken:
            number += 1
            free = f"{name}_{number}"
        self.taken.add(free)
        return free


def identity(source: Node, shape: tuple[int, ...], name: str) -> Conv | Linear:
    """A synapse node that sends on what it gets: a depthwise 1x1 convolution of ones, or a unit matrix.

    It stands for no layer's multiply-accumulates: a network without spikes would just add.
    """
    if len(shape) == 3:
        ones = np.ones((shape[0], 1, 1, 1), np.float32)
        return Conv(name=name, inputs=(source.name,), weight=ones, groups=shape[0], dense_macs=0)
    return Linear(name=name, inputs=(source.name,), weight=np.eye(shape[0], dtype=np.float32), dense_macs=0)
