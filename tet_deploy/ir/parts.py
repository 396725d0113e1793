"""Layers that quantization splits: synapse nodes that add up to one, called NAME, NAME.part2, NAME.part3 and so on."""

from __future__ import annotations

from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import WEIGHTED

_PART = ".part"


def part_name(layer: str, index: int) -> str:
    """What the part of a layer with this index, from 0 on, is called."""
    return layer if index == 0 else f"{layer}{_PART}{index + 1}"


def whole_name(graph: Graph, name: str) -> str:
    """The name of the layer that a node adds up to with others; its own where it is one by itself.

    The name alone does not tell, as layers are called what their modules are. A part is a quantized synapse node that ends
    where its layer does, receives what that receives, and counts nothing of a network without spikes, which its layer does.
    """
    node, (layer, _, number) = graph[name], name.rpartition(_PART)
    if not isinstance(node, WEIGHTED) or node.quantization is None or node.dense_macs != 0:
        return name
    if not number.isdecimal() or int(number) < 2 or part_name(layer, int(number) - 1) != name:
        return name
    beside = [other for population in graph.consumers(name) for other in population.inputs]
    return layer if layer in beside and graph[layer].inputs == node.inputs else name
