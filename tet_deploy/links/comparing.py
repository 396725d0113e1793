"""Any two links of the chain, side by side over the same frames: how the second deviates from the first."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from tet_deploy.batches import FrameBatches, Source
from tet_deploy.contracts import Frames, Progress, Recording, tell_ranges
from tet_deploy.deployment import side_by_side
from tet_deploy.ir.graph import Graph
from tet_deploy.links.deviation import Deviation
from tet_deploy.links.flips import flips
from tet_deploy.links.link import common_probes
from tet_deploy.links.measure import deviation
from tet_deploy.links.pair import Pair
from tet_deploy.pipeline import labels_among, labels_of
from tet_deploy.range_totals import RangeTotals
from tet_deploy.totals import plus

Bars = Callable[[str], Progress | None]


def compare(
    first: Any,
    second: Any,
    frames: Frames | Source,
    labels: Any = None,
    *,
    progress: Bars | None = None,
) -> Deviation:
    """How one link of the chain deviates from another, on the same frames.

    Parameters
    ----------
    first, second
        Each a torch model, a network, or a path: of a checkpoint (CHECKPOINT:traced and CHECKPOINT:folded are the networks
        made from it), of a network (NETWORK:onnx and NETWORK:lava run on these), of an ONNX file, of a Lava bundle, or of a
        recording that `tet-deploy run --out` wrote.
    frames
        [T, B, *shape], or a source of them; memory does not grow with their number. For a recording those that it is of.
    labels
        Classes of the samples, int64 [B]; by default those that the source knows.
    progress
        Given a link's name, returns its progress callback.

    Returns
    -------
    Deviation
        Spikes, membrane potentials and readout of all nodes that both have, decisions and accuracy.

    Raises
    ------
    ArgumentError, ArtifactError
        What is given is no link.
    DataError
        The links are of different networks, or the frames do not fit them.

    Examples
    --------
    >>> print(td.compare(model, int8, frames, labels))  # doctest: +SKIP
    """
    pair = Pair.of(first, second, frames)
    found = compared(pair, pair.batches(frames), labels, progress=progress)
    tell_ranges(found.ranges)
    return found


def compared(pair: Pair, batches: FrameBatches, labels: Any = None, *, progress: Bars | None = None) -> Deviation:
    """As `compare`, of links and frames at hand; labels [B] of these samples, by default those that their source knows."""
    labels = labels_among(pair.first.classes, batches, labels)
    expected = pair.equality_expected(batches)
    total: Deviation | None = None
    for part, one, other in recordings_of(pair, batches, progress=progress):
        one, other = pair.first.in_float_units(one), pair.second.in_float_units(other)
        here = deviation(
            one,
            other,
            (pair.first.thresholds, pair.second.thresholds),
            labels=labels_of(labels, part, batches),
            flips=flips(pair, one, other, part.frames()),
            same_units=pair.first.units == pair.second.units,
            same_network=pair.same_network,
            equality_expected=expected,
            start=part.start,
        )
        known = [_ranges(graph, run, part.start) for graph, run in zip(pair.graphs, (one, other), strict=True)]
        here = dataclasses.replace(here, ranges=known[0] | known[1])
        total = plus(total, here)
    assert total is not None
    return total


def _ranges(graph: Graph | None, recording: Recording, start: int) -> RangeTotals:
    """What left its range in one link's recording; of what no network is at hand the names alone."""
    if graph is not None:
        return RangeTotals.of(graph, recording.ranges, start)
    left = dict.fromkeys((*sorted(name for _, name in recording.ranges.left), *recording.ranges.unknown))
    return RangeTotals(unknown=tuple(left))


def recordings_of(
    pair: Pair, batches: FrameBatches, *, progress: Bars | None = None
) -> Iterator[tuple[FrameBatches, Recording, Recording]]:
    """What both links record, in their own units, so many samples at a time as memory allows."""
    for part, (one, other) in side_by_side(pair, batches, probes=common_probes(pair), progress=progress):
        assert one is not None and other is not None
        yield part, one, other
