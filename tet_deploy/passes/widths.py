"""How many bits the weights of each synapse node have: one number for all, or by name."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tet_deploy.arguments import nearest
from tet_deploy.errors import ArgumentError, shown
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import WEIGHTED

WIDEST = 8  # bits of a signed weight on the chip
REST = "default"  # the name that stands for all nodes that are not named

Bits = int | Mapping[str, int]


def widths(graph: Graph, bits: Bits) -> dict[str, int]:
    """The bits of each synapse node of a network, by its name.

    Parameters
    ----------
    bits
        2 to 8, for all; or by the names of synapse nodes, with "default" for the others, which have 8 if it is not there.

    Raises
    ------
    ArgumentError
        A number or a name that is none.
    """
    names = [node.name for node in graph if isinstance(node, WEIGHTED)]
    if not isinstance(bits, Mapping):
        return dict.fromkeys(names, _width(bits, "bits"))
    for name in bits:
        if name not in (*names, REST):
            hint = nearest(name, names, f" Its synapse nodes: {shown(', '.join(names))}.")
            raise ArgumentError(f"bits: the network has no synapse node {shown(name)}.{hint}")
    found = {name: _width(value, f"bits of {name!r}") for name, value in bits.items()}
    return {name: found.get(name, found.get(REST, WIDEST)) for name in names}


def _width(value: object, what: str) -> int:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or not 2 <= value <= WIDEST:
        raise ArgumentError(f"{what}: must lie in 2..{WIDEST}, the widest signed weight on the chip; got {shown(value)}.")
    return int(value)


def parsed(words: list[str]) -> Bits:
    """What a command line says, in words such as `4`, `conv1=8` and `4,conv1=8`; a number alone is the default.

    Raises
    ------
    ArgumentError
        A word that is neither, or the same name twice.
    """
    found: dict[str, int] = {}
    for part in (part for word in words for part in map(str.strip, word.split(","))):
        name, _, number = part.rpartition("=")
        name = name or REST
        if not number.isdecimal() or part.startswith("="):
            raise ArgumentError(f"bits: must be a number, or NAME=NUMBER; got {shown(part)}.")
        if name in found:
            raise ArgumentError(f"bits: {shown(name)} has two numbers. Give one.")
        found[name] = int(number)
    return found[REST] if list(found) == [REST] else found
