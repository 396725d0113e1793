"""Any two links of the chain, side by side over the same frames: how the second deviates from the first."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from tet_deploy.batches import FrameBatches, Source
from tet_deploy.contracts import Frames, Progress, Recording, tell_ranges
from tet_deploy.data.frames import check_labels
from tet_deploy.deployment import side_by_side
from tet_deploy.errors import DataError
from tet_deploy.links.deviation import Deviation
from tet_deploy.links.flips import flips
from tet_deploy.links.link import Link, common_probes, open_links
from tet_deploy.links.measure import deviation
from tet_deploy.passes.snap_to_grid import frames_fit, snapped
from tet_deploy.range_totals import RangeTotals

Bars = Callable[[str], Progress | None]


class Pair(NamedTuple):
    """Two links that can be compared."""

    first: Link
    second: Link

    @property
    def metadata(self) -> dict[str, str]:
        """Where the network came from, as far as either says."""
        return {**self.second.metadata, **self.first.metadata}

    def digest(self) -> str:
        """Of both networks."""
        return f"{self.first.digest} {self.second.digest}"

    @property
    def same_network(self) -> bool:
        """Whether both execute the same network."""
        return self.first.digest == self.second.digest

    def equality_expected(self, batches: FrameBatches) -> bool:
        """Whether both must agree in every bit: the same integers, or the same floats on their grid."""
        graph = self.first.graph or self.second.graph
        integers = all(factor != 1 for factor in self.first.units.values())
        return self.same_network and (integers or (graph is not None and frames_fit(graph, batches)))

    def snapped(self, batches: FrameBatches) -> FrameBatches:
        """The frames on the grid of the float network among the two, if there is one; see `snap_frames`."""
        graph = next((link.graph for link in self if link.graph is not None and not link.graph.is_quantized), None)
        return batches if graph is None else snapped(graph, batches)

    def batches(self, frames: Frames | Source) -> FrameBatches:
        """Frames for both, no more than were recorded."""
        batches = FrameBatches.fitting(self.first.shape, self.first.encoding, frames)
        known = [link.samples for link in self if link.samples is not None]
        return batches.part(0, min([len(batches), *known]))


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
    shape = getattr(frames, "shape", ())
    shape = tuple(shape) if isinstance(frames, Source) else tuple(shape[2:])
    pair = Pair(*open_links(first, second, shape=shape))
    batches = pair.batches(frames)
    if labels is not None:
        labels = check_labels(labels, samples=len(labels), classes=pair.first.classes)
    found = compared(pair, batches, labels, progress=progress)
    tell_ranges(found.ranges)
    return found


def compared(
    pair: Pair, batches: FrameBatches, labels: np.ndarray | None = None, *, progress: Bars | None = None
) -> Deviation:
    """As `compare`, of links and frames at hand; labels [B] of these samples, by default those that their source knows."""
    if labels is None:
        every = getattr(batches.source, "labels", None)
        labels = None if every is None else np.asarray(every[batches.start : batches.stop])
    elif len(labels) < len(batches):
        raise DataError(f"labels: must be one a sample; got {len(labels)} for {len(batches)} samples.")
    expected = pair.equality_expected(batches)
    total: Deviation | None = None
    for part, one, other in recordings_of(pair, batches, progress=progress):
        start = part.start - batches.start
        one, other = pair.first.in_float_units(one), pair.second.in_float_units(other)
        here = deviation(
            one,
            other,
            (pair.first.thresholds, pair.second.thresholds),
            labels=None if labels is None else labels[start : start + len(part)],
            flips=flips((pair.first, pair.second), one, other, part.frames()),
            same_units=pair.first.units == pair.second.units,
            same_network=pair.same_network,
            equality_expected=expected,
            start=part.start,
        )
        known = _ranges(pair, pair.first, one, part.start) | _ranges(pair, pair.second, other, part.start)
        here = dataclasses.replace(here, ranges=known)
        total = here if total is None else total + here
    assert total is not None
    return total


def _ranges(pair: Pair, link: Link, recording: Recording, start: int) -> RangeTotals:
    """What left its range in one link's recording; of what no network is at hand the names alone."""
    graph = next((each.graph for each in (link, *pair) if each.graph is not None and each.digest == link.digest), None)
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
