"""Layers that quantization splits: synapse nodes that add up to one, called NAME, NAME.part2, NAME.part3 and so on.

Numbers that other layers of the network have in such names are left out.
"""

from __future__ import annotations

import itertools
from collections.abc import Container

from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import WEIGHTED

_PART = ".part"


def part_names(layer: str, count: int, taken: Container[str] = ()) -> list[str]:
    """What the parts of a layer are called, in a network with nodes of these names."""
    numbered = (f"{layer}{_PART}{number}" for number in itertools.count(2))
    return [layer, *itertools.islice((name for name in numbered if name not in taken), count - 1)]


def whole_name(graph: Graph, name: str) -> str:
    """The name of the layer that a node adds up to with others; its own where it is one by itself.

    The name alone does not tell, as layers are called what their modules are. A part is a quantized synapse node that ends
    where its layer does, receives what that receives, and counts nothing of a network without spikes, which its layer does.
    """
    node, (layer, _, number) = graph[name], name.rpartition(_PART)
    if not isinstance(node, WEIGHTED) or node.quantization is None or node.dense_macs != 0:
        return name
    if not number.isdecimal() or int(number) < 2 or f"{layer}{_PART}{int(number)}" != name:
        return name
    beside = [other for population in graph.consumers(name) for other in population.inputs]
    return layer if layer in beside and graph[layer].inputs == node.inputs else name
