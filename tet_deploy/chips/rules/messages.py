"""What one message can carry."""

from __future__ import annotations

from collections.abc import Iterator

from tet_deploy.chips.limits import MESSAGE_BITS, Chip
from tet_deploy.chips.rules.rule import Rule, Strike
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import Add, Input
from tet_deploy.ir.values import values

_HOST = "Let the host compute the first layer and send its spikes: `tet-deploy export --to lava --encoder host`."
_SUMS = "Use Loihi 2, or a network whose shortcuts end in front of neurons (spiking_resnet34, resnet19), not behind them."


def _find(graph: Graph, chip: Chip) -> Iterator[Strike]:
    most = chip.most(MESSAGE_BITS)
    sent = values(graph)
    for node in graph:
        if not isinstance(node, (Input, Add)):
            continue
        magnitude = int(sent[node.name].magnitude)
        bits = magnitude.bit_length() + (sent[node.name].least < 0)
        if bits > most:
            kind = "frames" if isinstance(node, Input) else "sums of spikes"
            yield Strike(
                node=node.name,
                found=f"its {kind} reach {magnitude:,}, which takes {bits} bits of {most}",
                breaks=True,
                way_out=_HOST if isinstance(node, Input) else _SUMS,
            )


MESSAGES = Rule(
    name="message bits",
    says="A message carries 1 bit on Loihi 1: a spike; on Loihi 2 it carries a number.",
    why="Images, event counts above one and sums of spikes (SEW) cannot enter or pass a chip that knows spikes alone.",
    source="Davies et al., IEEE Micro 38(1), 2018; lava-nc 0.10 for the 24 bits of Loihi 2",
    published=True,
    way_out="Use Loihi 2, or bring spikes alone to the chip.",
    chips=("loihi1", "loihi2"),
    find=_find,
)
