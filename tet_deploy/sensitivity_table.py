"""What each node costs if it alone is quantized: as a table, and kept in the metadata, of which nothing is trusted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tet_deploy.calibration_table import number, number_text
from tet_deploy.errors import cut
from tet_deploy.ir.graph import Graph
from tet_deploy.layout import Table

KEY = "sensitivity"  # of the metadata
_NUMBERS = ("bits", "readout_rms", "decisions", "samples", "accuracy_loss")


def sensitivity_table(nodes: Sequence[Mapping[str, Any]], of: str) -> Table:
    """The nodes, as `links.sensitivity.sensitivity_values` gives them, by what they cost, the dearest first."""
    known = any(node.get("accuracy_loss") is not None for node in nodes)
    columns = ("only this in integers", "bits", "readout rms", "decisions differ", *(["accuracy"] if known else []))
    rows = []
    for node in nodes:
        loss = number(node.get("accuracy_loss"))
        gain = None if loss is None else 100 * (0 - loss)  # never -0.0
        decisions = f"{number_text(node.get('decisions'), '{:,}')} of {number_text(node.get('samples'), '{:,}')}"
        rms = number_text(node.get("readout_rms"), "{:.3g}")
        accuracy = [number_text(gain, "{:+.2f} points")] if known else []
        rows.append((cut(str(node.get("node"))), number_text(node.get("bits"), "{}"), rms, decisions, *accuracy))
    return Table(f"What each node costs, {of}", columns, rows)


def keep(graph: Graph, nodes: Sequence[Mapping[str, Any]], of: str) -> Graph:
    """The network with the same in its metadata, and with the digest of whose it is."""
    return graph.with_metadata(**{KEY: json.dumps({"network": graph.digest(), "of": of, "nodes": list(nodes)})})


def kept(graph: Graph) -> dict[str, Any] | None:
    """What `keep` wrote: of which samples, and the nodes; None if there is nothing, or it is another network's."""
    try:
        found = json.loads(graph.metadata.get(KEY, ""))
    except (ValueError, RecursionError):
        return None
    nodes = found.get("nodes") if isinstance(found, dict) and found.get("network") == graph.digest() else None
    if not isinstance(nodes, list) or not nodes or not all(isinstance(node, dict) for node in nodes):
        return None
    return {"of": cut(str(found.get("of"))), "nodes": [_plain(node) for node in nodes]}


def kept_table(graph: Graph) -> Table | None:
    """The table of what was kept."""
    found = kept(graph)
    return None if found is None else sensitivity_table(**found)


def _plain(node: Mapping[str, Any]) -> dict[str, Any]:
    return {"node": cut(str(node.get("node"))), **{name: number(node.get(name)) for name in _NUMBERS}}
