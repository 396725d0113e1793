"""Branches of unequal length."""

from __future__ import annotations

import math
from collections.abc import Iterator

from tet_deploy.chips.limits import Chip
from tet_deploy.chips.rules.rule import Rule, Strike
from tet_deploy.exporters.lava_latency import schedule
from tet_deploy.ir.graph import Graph
from tet_deploy.wording import number_of


def _find(graph: Graph, chip: Chip) -> Iterator[Strike]:
    for name, steps in schedule(graph).waits.items():
        if steps:
            neurons = math.prod(graph.shapes[name])
            relays = "a relay" if steps == 1 else f"{steps} relays"
            late = f"what it sends is needed {number_of('step', steps)} late"
            yield Strike(node=name, found=f"{late}: {relays} of {number_of('neuron', neurons)}")


LATENCY = Rule(
    name="latency",
    says="Synapses cost one step each, so that a shorter branch waits in relays for a longer one.",
    why="Spikes of a shorter branch would meet those of another step; relays, which the exporter adds, hold them back.",
    source="lava-nc 0.10 (order within a step)",
    published=True,
    way_out="None is needed. Blocks of fewer layers, or shortcuts with a layer, take fewer relays.",
    chips=("loihi1", "loihi2"),
    find=_find,
)
