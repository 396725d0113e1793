"""Thresholds, and how many a core holds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tet_deploy import dynamics
from tet_deploy.chips.limits import CLASSES, Chip
from tet_deploy.chips.rules.rule import Rule, Strike
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import LIF, CubaLIF


def _find(graph: Graph, chip: Chip) -> Iterator[Strike]:
    for node in graph:
        if not isinstance(node, (LIF, CubaLIF)):
            continue
        largest, distinct = int(np.max(node.threshold)), len(np.unique(node.threshold))
        if largest > dynamics.LARGEST_THRESHOLD:
            found = f"thresholds reach {largest:,} of {dynamics.LARGEST_THRESHOLD:,}"
            yield Strike(node=node.name, found=found, breaks=True)
        if CLASSES in chip.limits and distinct > chip.most(CLASSES):
            yield Strike(
                node=node.name,
                found=f"{distinct} thresholds of {chip.most(CLASSES)} a core: its channels are spread over more cores",
                way_out=f"`tet-deploy quantize --threshold-classes {chip.most(CLASSES)}`.",
            )


THRESHOLDS = Rule(
    name="thresholds",
    says="A threshold is 17 bits, shifted by 6, and a neuron fires above it; a core of Loihi 1 holds 8 different ones.",
    why="A larger one silently becomes another number; more classes than a core holds cost cores.",
    source="lava-nc 0.10 (LIF); nengo-loihi 1.1, discretize.py",
    published=True,
    way_out="Quantize again; if that refuses, train with a threshold nearer to the weights.",
    chips=("loihi1", "loihi2"),
    find=_find,
)
