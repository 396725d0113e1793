"""Format 1, as version 0.1 wrote it, and how its networks are carried over.

It had no checksum and no writer. Its digest covered nodes and arrays byte for byte; what a layer had cost before average
pooling was folded into it stood outside, as JSON in the metadata.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from tet_deploy.errors import GraphError, shown
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import WEIGHTED, Node
from tet_deploy.ir.shapes import padded_macs

_DENSE_MACS_KEY = "dense_macs"
_DIGEST_KEY = "digest_of_format_1"
_ARRAYS = ("weight", "bias", "mean", "variance", "gamma", "beta")  # in the order of the fields in 0.1


def digest(records: Sequence[tuple[dict[str, Any], dict[str, np.ndarray]]]) -> str:
    """SHA-256 of plain fields and arrays as they stand in the file."""
    sha = hashlib.sha256()
    for plain, arrays in records:
        little = {name: array.astype(array.dtype.newbyteorder("<"), copy=False) for name, array in arrays.items()}
        layout = {name: [array.dtype.str, list(array.shape)] for name, array in little.items()}
        sha.update(json.dumps([plain, layout], sort_keys=True).encode())
        for name in sorted(little, key=_ARRAYS.index):
            sha.update(little[name].tobytes())
    return sha.hexdigest()


def check_kinds(records: Sequence[tuple[dict[str, Any], dict[str, np.ndarray]]]) -> None:
    """Refuse what 0.1 could write and no later version knows.

    Raises
    ------
    GraphError
        A Delay, which nothing in 0.1 made by itself.
    """
    for plain, _ in records:
        if plain.get("kind") == "Delay":
            raise GraphError(
                f"node {shown(plain.get('name'))}: version 0.1 had Delays; branches are balanced by the Lava exporter now. "
                "Use tet_deploy 0.1 for it, or build the network without."
            )


def carried_over(graph: Graph, digest: str) -> Graph:
    """The network with what layers cost before folding on the layers themselves; the old digest stays in the metadata.

    There the accuracy gets the name that says of which network it is.

    Raises
    ------
    GraphError
        A file of format 1 that holds fields of a later one, or counts that are none.
    """
    metadata = dict(graph.metadata)
    unfolded = json.loads(metadata.pop(_DENSE_MACS_KEY, "{}"))
    layers = [node for node in graph if isinstance(node, WEIGHTED)]
    if not isinstance(unfolded, dict) or any(layer.dense_macs is not None for layer in layers):
        raise GraphError("its counts of multiply-accumulates before folding are damaged. Lower the network again.")
    changes: dict[str, Node | None] = {}
    for layer in layers:
        own = padded_macs(layer, graph.shapes[layer.name])
        macs = unfolded.get(layer.name, own)
        if macs != own:
            changes[layer.name] = dataclasses.replace(layer, dense_macs=macs)
    if "accuracy" in metadata:  # 0.1 did not say whose
        metadata |= {"trained_accuracy": metadata.pop("accuracy"), "trained_accuracy_of": "the float network as trained"}
    return Graph(graph.replace(changes).nodes, {**metadata, _DIGEST_KEY: digest})
