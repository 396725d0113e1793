"""Biases of neurons."""

from __future__ import annotations

from collections.abc import Iterator

from tet_deploy import dynamics
from tet_deploy.chips.limits import Chip
from tet_deploy.chips.rules.rule import Rule, Strike
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import LIF, CubaLIF


def _find(graph: Graph, chip: Chip) -> Iterator[Strike]:
    for node in graph:
        if not isinstance(node, (LIF, CubaLIF)) or node.bias is None or node.quantization is None:
            continue
        low, high = int(node.bias.min(initial=0)), int(node.bias.max(initial=0))
        exponent = node.quantization.bias_exponent
        if not -dynamics.LARGEST_BIAS_MANTISSA - 1 <= low <= high <= dynamics.LARGEST_BIAS_MANTISSA:
            yield Strike(node=node.name, found=f"mantissas from {low:,} to {high:,} of -4,096 to 4,095", breaks=True)
        if exponent > dynamics.LARGEST_BIAS_EXPONENT:
            found = f"exponent {exponent} of {dynamics.LARGEST_BIAS_EXPONENT}"
            yield Strike(node=node.name, found=found, breaks=True)


BIASES = Rule(
    name="biases",
    says="A bias is a mantissa of 13 bits times 2^(0 to 7), one exponent for a population.",
    why="Lava stores a larger mantissa as another number (40000 becomes -25536) and says nothing.",
    source="lava-nc 0.10 (LIF)",
    published=True,
    way_out="Quantize again; `td.quantize` chooses scales whose biases fit.",
    chips=("loihi1", "loihi2"),
    find=_find,
)
