"""Decays of potentials and currents."""

from __future__ import annotations

from collections.abc import Iterator

from tet_deploy import dynamics
from tet_deploy.chips.limits import Chip
from tet_deploy.chips.rules.rule import Rule, Strike
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import LIF, CubaLIF


def _find(graph: Graph, chip: Chip) -> Iterator[Strike]:
    for node in graph:
        if not isinstance(node, (LIF, CubaLIF)):
            continue
        kept = [("potential", node.decay, dynamics.decay_v(node))]
        if isinstance(node, CubaLIF):
            kept.append(("current", node.current_decay, dynamics.decay_u(node)))
        for what, wanted, decay in kept:
            got = dynamics.DECAY_ONE - decay
            if got != wanted * dynamics.DECAY_ONE:
                yield Strike(
                    node=node.name, found=f"its {what} keeps {wanted:.6g} a step in the network, {got}/4096 on the chip"
                )


DECAYS = Rule(
    name="decays",
    says="A decay is 12 bits: potentials keep k/4096 a step, k from 1 to 4096; what is left is truncated towards zero.",
    why="Another factor is rounded, so that the integers follow the float network less closely the longer a sample is.",
    source="lava-nc 0.10 (LIF)",
    published=True,
    way_out="Nothing, if `tet-deploy quantize` said nothing of it; else train with a decay of k/4096, such as 0.5.",
    chips=("loihi1", "loihi2"),
    find=_find,
)
