"""Synaptic delays."""

from __future__ import annotations

from collections.abc import Iterator

from tet_deploy.chips.limits import DELAY, Chip
from tet_deploy.chips.rules.rule import Rule, Strike
from tet_deploy.exporters.lava_latency import schedule
from tet_deploy.ir.graph import Graph


def _find(graph: Graph, chip: Chip) -> Iterator[Strike]:
    for name, steps in schedule(graph).waits.items():
        if steps > chip.most(DELAY):
            yield Strike(node=name, found=f"it waits {steps} steps, more than a delay of {chip.most(DELAY)} could")


DELAYS = Rule(
    name="delays",
    says="A synapse delays spikes by at most 62 steps.",
    why="Our networks have no delays and branches wait in relays; by hand, delays can take the relays' place up to here.",
    source="lava-dl 0.6, netx",
    published=True,
    way_out="Keep the relays there.",
    chips=("loihi2",),
    find=_find,
)
