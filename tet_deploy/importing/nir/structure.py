"""Nodes and edges of a NIR file: nested graphs flattened, every node on a way from the input to the output, no loops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tet_deploy.errors import GraphError, cut, shown
from tet_deploy.importing.nir.fields import NirNode
from tet_deploy.importing.nir.hdf5 import AGAIN, Table, Tree
from tet_deploy.ir.names import check_name

_GRAPH, _INPUT, _OUTPUT = "NIRGraph", "Input", "Output"
_MALFORMED = "The file is malformed, or was edited. " + AGAIN


@dataclass(frozen=True, eq=False)
class NirNetwork:
    """The nodes in an order in which each stands behind those that feed it; what nodes of nested graphs send passes through
    these graphs' own Input and Output."""

    version: str
    nodes: Mapping[str, NirNode]
    sources: Mapping[str, tuple[str, ...]]

    @property
    def input(self) -> NirNode:
        """The node that frames enter."""
        return next(node for node in self.nodes.values() if not self.sources[node.name])

    @cached_property
    def users(self) -> Mapping[str, tuple[str, ...]]:
        """Names of the nodes that take what each node sends."""
        found: dict[str, list[str]] = {name: [] for name in self.nodes}
        for name, before in self.sources.items():
            for source in before:
                found[source].append(name)
        return {name: tuple(users) for name, users in found.items()}


def read_structure(tree: Tree) -> NirNetwork:
    """The network that the groups of a file describe.

    Raises
    ------
    GraphError
        No NIR graph, or one that is malformed, recurrent, or has several inputs or outputs.
    """
    graph = tree.get("node")
    kind = graph.get("type") if isinstance(graph, dict) else None
    if not isinstance(graph, dict) or not isinstance(kind, str) or kind != _GRAPH:
        found = cut(", ".join(map(str, tree))) or "nothing"
        raise GraphError(
            f"no NIR network: a NIR file has a group 'node' of type {_GRAPH}; found {found}. Give another file."
        )
    version = tree.get("version", "")
    if not isinstance(version, str):
        raise GraphError(f"'version' must be text such as '1.0.8'; got {type(version).__name__}. {_MALFORMED}")
    nodes, edges = _flattened(graph, "")
    for name in nodes:
        check_name(name)
    for (source, target), count in Counter(edges).items():
        if count > 1:
            raise GraphError(f"the edge from {source!r} to {target!r} stands twice. {_MALFORMED}")
    sources: dict[str, tuple[str, ...]] = dict.fromkeys(nodes, ())
    for source, target in edges:
        sources[target] += (source,)
    network = NirNetwork(version, nodes, sources)
    order = _ordered(sources, network.users)
    network = NirNetwork(version, {name: nodes[name] for name in order}, sources)
    _check_ends(network)
    return network


def _flattened(graph: Mapping[str, Any], prefix: str) -> tuple[dict[str, NirNode], list[tuple[str, str]]]:
    """Nodes by full names, and edges between them; those of a nested graph bear its name and a dot before their own."""
    NirNode(prefix.removesuffix(".") or "/", _GRAPH, graph).check((), ("type", "nodes", "edges"))
    members = graph.get("nodes")
    if not isinstance(members, dict) or not members:
        raise GraphError(f"graph {shown(prefix or '/')}: holds no nodes. {_MALFORMED}")
    nodes: dict[str, NirNode] = {}
    edges: list[tuple[str, str]] = []
    graphs: dict[str, Mapping[str, str]] = {}  # nested ones, with the kinds of their own nodes
    for own, fields in members.items():
        name = f"{prefix}{own}"
        kind = fields.get("type") if isinstance(fields, dict) else None
        if not isinstance(kind, str):
            raise GraphError(f"node {shown(name)}: says no type. {_MALFORMED}")
        new = {name: NirNode(name, kind, {key: value for key, value in fields.items() if key != "type"})}
        if kind == _GRAPH:
            new, inner = _flattened(fields, f"{name}.")
            edges += inner
            graphs[name] = {f"{name}.{each}": member["type"] for each, member in fields["nodes"].items()}
        clash = next((each for each in new if each in nodes), None)
        if clash is not None:
            raise GraphError(f"node {shown(clash)}: a nested graph holds a node of that name too. Rename one of them.")
        nodes |= new
    for source, target in _edges(graph.get("edges"), prefix or "/"):
        edges.append((_end(prefix + source, _OUTPUT, nodes, graphs), _end(prefix + target, _INPUT, nodes, graphs)))
    return nodes, edges


def _edges(found: Any, where: str) -> Table:
    if isinstance(found, np.ndarray) and not found.size:
        return []
    if not isinstance(found, list) or not all(len(row) == 2 for row in found):
        raise GraphError(f"graph {shown(where)}: edges must be pairs of names of nodes. {_MALFORMED}")
    return found


def _end(name: str, kind: str, nodes: Mapping[str, NirNode], graphs: Mapping[str, Mapping[str, str]]) -> str:
    """The node that an edge means: of a nested graph its only Input or Output; older files name its inner nodes."""
    if name in nodes:
        return name
    if name not in graphs:
        raise GraphError(f"an edge names {shown(name)}, and no node is called so. {_MALFORMED}")
    ends = [each for each, found in graphs[name].items() if found == kind]
    if len(ends) != 1:
        raise GraphError(f"graph {shown(name)}: must have one {kind}; found {_listed(ends)}. Export it with one.")
    return ends[0]


def _ordered(sources: Mapping[str, tuple[str, ...]], users: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Names such that each stands behind its sources, as far as possible in the file's order."""
    waiting = {name: len(before) for name, before in sources.items()}
    order = [name for name, count in waiting.items() if not count]
    for name in order:  # it grows
        for user in users[name]:
            waiting[user] -= 1
            if not waiting[user]:
                order.append(user)
    if len(order) < len(sources):
        ordered = set(order)
        loop = _listed(name for name in sources if name not in ordered)
        raise GraphError(
            f"nodes {loop}: feed each other in a loop, or stand behind one. Recurrent networks have no exact form here: "
            "export the network without the recurrent connection."
        )
    return order


def _check_ends(network: NirNetwork) -> None:
    """One Input, one Output, and every node on a way from the one to the other."""
    outer = [node for node in network.nodes.values() if node.kind == _INPUT and not network.sources[node.name]]
    outputs = [node for node in network.nodes.values() if node.kind == _OUTPUT and not network.users[node.name]]
    for kind, found in ((_INPUT, outer), (_OUTPUT, outputs)):
        if len(found) != 1:
            names = _listed(node.name for node in found)
            raise GraphError(f"a network needs one {kind}; found {names}. Export it with one tensor there.")
    unfed = [node for name, node in network.nodes.items() if not network.sources[name] and node.kind != _INPUT]
    unused = [node for name, node in network.nodes.items() if not network.users[name] and node.kind != _OUTPUT]
    for nodes, what in ((unfed, "nothing feeds it"), (unused, "nothing uses what it sends")):
        if nodes:
            raise nodes[0].refused(what, "Connect the node, or leave it out of what is exported.")


def _listed(names: Iterable[str]) -> str:
    return cut(", ".join(map(repr, names))) or "none"
