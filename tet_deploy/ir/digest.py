"""One number for a network: equal digests mean equal results, on any machine and however the numbers were stored.

SHA-256 over the nodes in order: for each a line of JSON, its fields and the layouts of its arrays, keys sorted; then the
arrays, by name. Numbers count by their value: 1 is 1.0, -0.0 is 0.0, and integers are the same in any width and byte order
(they are taken as 64 bit, little endian). The width of floats counts, as folding and snapping round to it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from tet_deploy.ir.nodes import Node, to_record


def digest(nodes: Sequence[Node]) -> str:
    """SHA-256 of kinds, names, edges, parameters and arrays."""
    sha = hashlib.sha256()
    for node in nodes:
        plain, arrays = to_record(node)
        values = {name: _by_value(array) for name, array in arrays.items()}
        layout = {name: [array.dtype.str, list(array.shape)] for name, array in values.items()}
        sha.update(json.dumps([_plain_by_value(plain), layout], sort_keys=True).encode() + b"\n")
        for name in sorted(values):
            sha.update(values[name].data)
    return sha.hexdigest()


def _by_value(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind == "i":
        return array.astype("<i8")
    return np.asarray(array + 0.0, dtype=array.dtype.newbyteorder("<"))  # -0.0 + 0.0 is 0.0


def _plain_by_value(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain_by_value(entry) for key, entry in value.items()}
    return int(value) if isinstance(value, float) and value.is_integer() else value
