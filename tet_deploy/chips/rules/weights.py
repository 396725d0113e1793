"""Width and signs of weights."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tet_deploy.chips.limits import LOIHI1, Chip
from tet_deploy.chips.rules.rule import Rule, Strike
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import Conv, Linear

_LARGEST = 127
_UNSTORED = 7


def _find(graph: Graph, chip: Chip) -> Iterator[Strike]:
    for node in graph:
        if not isinstance(node, (Conv, Linear)) or node.quantization is None:
            continue
        largest = int(np.abs(node.weight.astype(np.int64)).max(initial=0))
        bits = node.quantization.bits
        if largest > _LARGEST:
            yield Strike(node=node.name, found=f"weights reach {largest:,} of {_LARGEST}", breaks=True)
        elif chip is LOIHI1 and bits == _UNSTORED:
            way_out = f"Take 8 or 6: `tet-deploy quantize --bits {node.name}=8`."
            yield Strike(node=node.name, found="weights of 7 bits are stored in 8", way_out=way_out)


WEIGHTS = Rule(
    name="weights",
    says="Weights of both signs are even numbers from -256 to 254; Loihi 1 stores 1 to 6 or 8 bits of each.",
    why="A weight w of 8 bits is stored as 2w, so that none may exceed 127; what is larger silently becomes another number.",
    source="lava-nc 0.10 (Dense); nengo-loihi 1.1, block.py",
    published=True,
    way_out="Quantize again: `tet-deploy quantize --bits 8`.",
    chips=("loihi1", "loihi2"),
    find=_find,
)
