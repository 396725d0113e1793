"""The interval between resets."""

from __future__ import annotations

from collections.abc import Iterator

from tet_deploy.chips.limits import Chip
from tet_deploy.chips.rules.rule import Rule, Strike
from tet_deploy.ir.graph import Graph


def power_of_two(steps: int) -> int:
    """The least power of two that so many steps fit into."""
    return 1 << (steps - 1).bit_length()


def _find(graph: Graph, chip: Chip) -> Iterator[Strike]:
    steps = graph.metadata.get("steps", "")
    if not steps.isdecimal() or int(steps) < 1:
        return
    period = power_of_two(int(steps))
    if period != int(steps):
        yield Strike(
            node=None,
            found=f"its samples have {steps} steps, so that on hardware each takes {period}",
            way_out=f"Leave silent steps between samples: `tet-deploy export --to lava --period {period}`.",
        )


RESET_INTERVAL = Rule(
    name="reset interval",
    says="Neurons are reset every 2^k steps.",
    why="Samples follow each other without a gap, and every one has to begin with neurons at rest.",
    source="Intel's notebooks for Loihi 2",
    published=True,
    way_out="Export with --period, the next power of two.",
    chips=("loihi2",),
    find=_find,
)
