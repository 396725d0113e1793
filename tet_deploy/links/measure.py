"""Two recordings of the same frames, and how the second deviates from the first."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tet_deploy.contracts import Recording
from tet_deploy.errors import DataError
from tet_deploy.links.accuracy import Accuracy
from tet_deploy.links.deviation import BINS, BINS_PER_OCTAVE, LEAST, Deviation, NodeDeviation
from tet_deploy.links.sizes import Spread
from tet_deploy.units import ByChannel, along
from tet_deploy.validation import Divergence, first_spike

Thresholds = tuple[Mapping[str, ByChannel], Mapping[str, ByChannel]]  # of both links, in units of the float network


@dataclass(frozen=True, kw_only=True, eq=False)
class Flips:
    """What is known of the spikes that differ in one population: masks [T, B, *shape], True within those that do.

    Attributes
    ----------
    first_causes
        Nothing that the neuron got since both sides last reset differs.
    explained
        Of those, so close to the threshold that rounding explains them; None where that is not known.
    """

    first_causes: np.ndarray
    explained: np.ndarray | None = None


def deviation(
    first: Recording,
    second: Recording,
    thresholds: Thresholds,
    *,
    labels: np.ndarray | None = None,
    flips: Mapping[str, Flips] | None = None,
    same_units: bool = False,
    same_network: bool = False,
    equality_expected: bool = False,
    start: int = 0,
) -> Deviation:
    """Compare two recordings of the same frames, in units of the float network.

    Parameters
    ----------
    first, second
        Recordings in units of the float network, `runtime` the names of the links.
    thresholds
        Firing thresholds of both in those units.
    labels
        Classes of the samples, [B].
    flips
        What is known of the differing spikes, for every population that both record.
    same_units
        Whether values that are equal here were so before they were converted.
    same_network, equality_expected
        See `Deviation`.
    start
        Number of the recordings' first sample.

    Raises
    ------
    DataError
        The recordings have different steps, samples or classes, or populations of different shape.
    """
    if first.readout.shape != second.readout.shape:
        raise DataError(
            f"{first.runtime} and {second.runtime}: must cover the same steps, samples and classes; got readouts "
            f"{first.readout.shape} and {second.readout.shape}."
        )
    names = [name for name in first.spikes if name in second.spikes]
    for name in names:
        if first.spikes[name].shape != second.spikes[name].shape:
            raise DataError(
                f"node {name!r}: must be of one shape in {first.runtime} and {second.runtime}; got "
                f"{first.spikes[name].shape[2:]} and {second.spikes[name].shape[2:]}. Compare links of the same chain."
            )
    decided = first.decisions, second.decisions
    nodes = {name: _node(name, first, second, thresholds, (flips or {}).get(name)) for name in names}
    readout = Spread.of(second.readout - first.readout)
    equal = readout.largest == 0 and not any(node.differing or node.membrane.largest for node in nodes.values())
    told = flips is not None
    return Deviation(
        first=first.runtime,
        second=second.runtime,
        nodes=nodes,
        readout=readout,
        decisions=int(np.count_nonzero(decided[0] != decided[1])),
        samples=first.samples,
        accuracy=None if labels is None else Accuracy.of(*decided, labels),
        causes=told,
        rounding=told and all(entry.explained is not None for entry in (flips or {}).values()),
        first_spike=_first_spike(names, first, second, thresholds, start),
        equal=equal and same_units,
        same_network=same_network,
        equality_expected=equality_expected,
    )


def _first_spike(
    names: list[str],
    first: Recording,
    second: Recording,
    thresholds: Thresholds,
    start: int,
) -> Divergence | None:
    place = first_spike(first, second, names, {}, start)
    distances = None if place is None else distances_of(place.node, first, second, thresholds)
    if place is None or distances is None:
        return place
    return dataclasses.replace(place, distance=float(distances[(place.step, place.sample - start, *place.neuron)]))


def _node(
    name: str,
    first: Recording,
    second: Recording,
    thresholds: Thresholds,
    flips: Flips | None,
) -> NodeDeviation:
    differs = first.spikes[name] != second.spikes[name]
    found = NodeDeviation(spikes=differs.size, differing=int(np.count_nonzero(differs)))
    if flips is not None:
        explained = flips.explained
        found = dataclasses.replace(
            found,
            first_causes=int(np.count_nonzero(flips.first_causes)),
            explained=0 if explained is None else int(np.count_nonzero(explained)),
        )
    distances = distances_of(name, first, second, thresholds)
    if distances is None:
        return found
    unit = along(thresholds[0].get(name, thresholds[1].get(name, 1.0)), differs.ndim)
    membrane = ((second.potentials[name] - first.potentials[name]) / unit)[~differs]
    bins = np.bincount(_bins((distances / unit)[differs]), minlength=BINS)
    return dataclasses.replace(found, membrane=Spread.of(membrane), distances=tuple(map(int, bins)))


def distances_of(
    name: str,
    first: Recording,
    second: Recording,
    thresholds: Thresholds,
) -> np.ndarray | None:
    """How far the silent side of each differing spike lies below its own threshold, [T, B, *shape]; elsewhere of no meaning.

    None where potentials or thresholds are not known.
    """
    if name not in first.potentials or name not in second.potentials:
        return None
    known = {**thresholds[1], **thresholds[0]}
    if name not in known:
        return None
    limits = [own.get(name, known[name]) for own in thresholds]
    below_first, below_second = (
        along(limit, recording.spikes[name].ndim) - recording.potentials[name]
        for limit, recording in zip(limits, (first, second), strict=True)
    )
    distances: np.ndarray = np.where(second.spikes[name] > 0, below_first, below_second)
    return distances


def _bins(distances: np.ndarray) -> np.ndarray:
    """Bin k holds distances up to 2^(LEAST + k / BINS_PER_OCTAVE) thresholds, bin 0 those of nearly nothing."""
    with np.errstate(divide="ignore"):
        octaves = np.log2(np.maximum(distances, 0)) - LEAST
    bins: np.ndarray = np.clip(np.ceil(octaves * BINS_PER_OCTAVE), 0, BINS - 1).astype(np.int64)
    return bins
