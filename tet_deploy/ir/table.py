"""A network as a table: one row per node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tet_deploy.ir.nodes import WEIGHTED, Node, Quantization, to_record
from tet_deploy.ir.shapes import Shape, fan_out
from tet_deploy.layout import Table

if TYPE_CHECKING:
    from tet_deploy.ir.graph import Graph  # it imports this module, to show itself


def graph_rows(graph: Graph) -> list[dict[str, Any]]:
    """One row per node: node, kind, inputs, shape, settings, parameters, bits and fan-out.

    `bits` is the width of the node's own integers, or of its floats; `fan_out` the synapses that leave an input element,
    smallest to largest (borders have fewer).
    """
    return [
        {
            "node": node.name,
            "kind": node.kind,
            "inputs": ", ".join(node.inputs),
            "shape": "x".join(map(str, graph.shapes[node.name])),
            "settings": _settings(node),
            "parameters": sum(array.size for array in to_record(node)[1].values()),
            "bits": _bits(node),
            "fan_out": _fan_out(node, graph.shapes[node.inputs[0]] if node.inputs else ()),
        }
        for node in graph
    ]


def summary(graph: Graph) -> str:
    """What it is, in a line."""
    known = f"{graph.metadata['model']}, " if "model" in graph.metadata else ""
    kind = "quantized" if graph.is_quantized else "float"
    return f"{known}{kind} network of {len(graph)} nodes, digest {graph.digest()[:16]}"


def graph_table(graph: Graph, name: str = "") -> Table:
    """The rows as a table, under what the network is called."""
    title = f"{name}: {summary(graph)}" if name else summary(graph)
    columns = ("node", "kind and settings", "shape", "parameters", "bits", "fan-out")
    rows = [
        (
            row["node"],
            ", ".join(filter(None, (row["kind"], row["settings"]))),
            *(row[key] for key in ("shape", "parameters", "bits", "fan_out")),
        )
        for row in graph_rows(graph)
    ]
    return Table(title, columns, rows, text=("kind and settings",))


def _settings(node: Node) -> str:
    """The node's parameters that are not arrays, the usual values left out."""
    plain, arrays = to_record(node)
    parts = ["kernel " + "x".join(map(str, arrays["weight"].shape[2:]))] if node.kind == "Conv" else []
    usual = {"stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "groups": 1, "reset": "zero"}
    for name, value in plain.items():
        if name in ("kind", "name", "inputs", "shape", "quantization") or usual.get(name) == value:
            continue
        parts.append(f"{name} {'x'.join(map(str, value)) if isinstance(value, list) else value}")
    for name in ("decay", "threshold"):
        if name in arrays:
            parts.append(f"{name}s {arrays[name].min():g} to {arrays[name].max():g}")
    if "deviation" in arrays:
        parts.append("normalizes its frames")
    return ", ".join(parts)


def _bits(node: Node) -> int | None:
    quantization = getattr(node, "quantization", None)
    if isinstance(quantization, Quantization):
        return quantization.bits
    arrays = to_record(node)[1].values()
    return max((array.dtype.itemsize * 8 for array in arrays), default=None)


def _fan_out(node: Node, x: Shape) -> str:
    if not isinstance(node, WEIGHTED):
        return ""
    synapses = fan_out(node, x)
    low, high = int(np.min(synapses)), int(np.max(synapses))
    return str(high) if low == high else f"{low} to {high}"
