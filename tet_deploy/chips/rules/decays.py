"""Decays of potentials and currents."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tet_deploy import dynamics
from tet_deploy.chips.limits import Chip
from tet_deploy.chips.rules.rule import Rule, Strike
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import LIF, CubaLIF, LeakyReadout


def _find(graph: Graph, chip: Chip) -> Iterator[Strike]:
    for node in graph:
        if isinstance(node, (LIF, CubaLIF, LeakyReadout)):
            yield from _rounded(node.name, "potential", node.decay, dynamics.decay_v(node))
        if isinstance(node, CubaLIF):
            yield from _rounded(node.name, "current", node.current_decay, dynamics.decay_u(node))


def _rounded(name: str, what: str, wanted: float | np.ndarray, decay: int | np.ndarray) -> Iterator[Strike]:
    kept, factors = dynamics.DECAY_ONE - np.atleast_1d(decay), np.atleast_1d(np.asarray(wanted, np.float64))
    differing = np.flatnonzero(kept != factors * dynamics.DECAY_ONE)
    if differing.size:
        first = differing[0]
        found = f"its {what} keeps {factors[first]:.6g} a step in the network, {kept[first]}/4096 on the chip"
        others = f"; {differing.size} channels are rounded" if differing.size > 1 else ""
        yield Strike(node=name, found=f"{found}{others}")


DECAYS = Rule(
    name="decays",
    says="A decay is 12 bits: potentials keep k/4096 a step, k from 1 to 4096; what is left is truncated towards zero.",
    why="Another factor is rounded, so that the integers follow the float network less closely the longer a sample is.",
    source="lava-nc 0.10 (LIF)",
    published=True,
    way_out="None is needed if `tet-deploy quantize` said nothing of it. Else train with a decay of k/4096, such as 0.5.",
    chips=("loihi1", "loihi2"),
    find=_find,
)
