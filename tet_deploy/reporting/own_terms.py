"""A network's layers in the words of whoever wrote them: a pool that was folded into a convolution is named again."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import AvgPool, BatchNorm, Conv, Flatten, Linear, Node, Pair, Population, to_record
from tet_deploy.ir.unfold_pooling import unfold_pooling


def own_terms(graph: Graph, node: Node) -> str:
    """What a node is, as its author would say it: '2x2 average pool, then 3x3 conv, padding 1'."""
    if not isinstance(node, (Conv, Linear)):
        return as_deployed(node)
    if isinstance(node, Conv) and node.dense_macs == 0 and not is_identity(node):
        return as_deployed(node).replace("depthwise conv", "max pool")
    windows, layer = _unfolded(graph, node)
    if windows != (1, 1):
        return f"{_by(windows)} average pool, then {as_deployed(layer)}"
    folded = ", with an average pool folded into it" if node.dense_macs else ""
    return as_deployed(node) + folded


def as_deployed(node: Node) -> str:
    """What a node is, with what is not usual of it."""
    match node:
        case Conv():
            said = [f"{_by(node.weight.shape[2:])} {'depthwise ' if _depthwise(node) else ''}conv"]
            said += [f"stride {_size(node.stride)}"] if node.stride != (1, 1) else []
            said += [f"padding {_size(node.padding)}"] if node.padding != (0, 0) else []
            said += [f"dilation {_size(node.dilation)}"] if node.dilation != (1, 1) else []
            said += [f"{node.groups} groups"] if node.groups != 1 and not _depthwise(node) else []
            return ", ".join(said)
        case Linear():
            return f"linear, {node.weight.shape[1]:,} to {node.weight.shape[0]:,}"
        case AvgPool():
            return f"{_by(node.kernel)} average pool, stride {_size(node.stride)}"
        case BatchNorm():
            return "batch norm"
        case Population():
            return _population(node)
    return node.kind


def folding_rows(graph: Graph) -> list[dict[str, str]]:
    """One row for each layer with weights: its name, what its author wrote, and what stands there now."""
    return [
        {"layer": node.name, "written": own_terms(graph, node), "deployed": as_deployed(node)}
        for node in graph
        if isinstance(node, (Conv, Linear)) and not is_identity(node)
    ]


def is_identity(node: Node) -> bool:
    """Whether a node hands its input on: a flatten, or a synapse from each neuron to its like, as shortcuts become."""
    return isinstance(node, Flatten) or (isinstance(node, Conv) and _depthwise(node) and node.weight.shape[2:] == (1, 1))


def _unfolded(graph: Graph, node: Conv | Linear) -> tuple[Pair, Conv | Linear]:
    source = graph[node.inputs[0]]
    while isinstance(source, Flatten):
        source = graph[source.inputs[0]]
    shape = graph.shapes[source.name]
    if not node.dense_macs or len(shape) != 3:
        return (1, 1), node
    floats = dataclasses.replace(node, weight=np.asarray(node.weight, dtype=np.float32), bias=None, quantization=None)
    return unfold_pooling(floats, shape)


def _depthwise(node: Conv) -> bool:
    return node.groups == len(node.weight) > 1 and node.weight.shape[1] == 1


def _population(node: Population) -> str:
    plain: dict[str, Any] = to_record(node)[0]
    said = [node.kind]
    for name in ("current_decay", "decay", "reset", "comparison"):
        value = plain.get(name)
        if value is not None and (name, value) not in (("reset", "zero"), ("comparison", ">")):
            said.append(f"{name.replace('_', ' ')} {value}")
    return ", ".join(said)


def _size(pair: Pair) -> str:
    return str(pair[0]) if pair[0] == pair[1] else _by(pair)


def _by(pair: tuple[int, ...]) -> str:
    return "x".join(map(str, pair))
