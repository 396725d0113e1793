"""A deviation as tables for people and as values for machines."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from tet_deploy.layout import Table
from tet_deploy.links.accuracy import Accuracy
from tet_deploy.links.deviation import Deviation, NodeDeviation
from tet_deploy.passes.snap_to_grid import OFF_GRID

_SHARES = (0.5, 0.9, 1.0)  # quantiles of the distance to threshold


def deviation_tables(found: Deviation, samples: str = "") -> Iterator[Table | str]:
    """Nodes, readout and decisions, then the first spike that differs; `samples` says of which samples."""
    nodes = {**found.nodes, **({"all": found.total} if len(found.nodes) > 1 else {})}
    title = f"{found.second} against {found.first}" + (f", {samples}" if samples else "")
    if nodes:
        columns = ("population", "spikes", "differ", *("first causes", "rounding explains")[: found.causes + found.rounding])
        yield Table(title, columns, [_spikes(name, node, found) for name, node in nodes.items()])
    if not found.equal and any(node.membrane.count for node in nodes.values()):
        title = "Difference of the membrane potential, and how far from the threshold spikes differ; in thresholds"
        columns = ("population", "rms", "largest", *(f"{share:.0%} of spikes" for share in _SHARES))
        yield Table(title, columns, [_membrane(name, node) for name, node in nodes.items()])
    yield from _in_words(found)


def _in_words(found: Deviation) -> Iterator[str]:
    """Readout, decisions, accuracy, and whether all is as it must be."""
    if not found.nodes:
        yield "Spikes were not compared: one of the two tells none. Export with --probes all, or run so."
    if found.equal:
        yield f"{found}."
    else:
        yield (
            f"Readout: differs by {found.readout.rms:.3g} rms, {found.readout.largest:.3g} at most. "
            f"Decisions: {found.decisions:,} of {found.samples:,} differ."
        )
    if found.accuracy is not None:
        yield accuracy_in_words(found.accuracy)
    if found.first_spike is not None:
        first = str(found.first_spike)
        yield f"{first[:1].upper()}{first[1:]}."
    if found.same_network and not found.equal and not found.equality_expected:
        yield f"{OFF_GRID} Here: --snap-frames."
    if found.equality_expected and not found.equal:
        yield "Both are the same network, so that every value must be equal: this is a fault."


def link_values(found: Deviation) -> dict[str, Any]:
    """What a report says of one link of the chain, in plain JSON values; the readout in units of the float network."""
    values: dict[str, Any] = {
        "first": found.first,
        "second": found.second,
        "samples": found.samples,
        "spikes": found.spikes,
        "differing": found.differing,
        "decisions": found.decisions,
        "readout": found.readout.largest,
        "equal": found.equal,
        "fault": found.equality_expected and not found.equal,
    }
    if found.accuracy is not None:
        values["accuracy"] = [found.accuracy.first, found.accuracy.second]
        values["accuracy_difference"] = list(found.accuracy.intervals()["difference"])
    return values


def accuracy_in_words(accuracy: Accuracy) -> str:
    """Both accuracies and their difference with 95 % intervals."""
    known = accuracy.intervals()
    low, high = known["difference"]
    return (
        f"Accuracy: {accuracy.first:.2%} ({_span(known['first'])}) to {accuracy.second:.2%} ({_span(known['second'])}): "
        f"{100 * (accuracy.second - accuracy.first):+.2f} points, 95 % interval {100 * low:+.2f} to {100 * high:+.2f}."
    )


def deviation_values(found: Deviation) -> dict[str, Any]:
    """One JSON object."""
    values: dict[str, Any] = {
        "first": found.first,
        "second": found.second,
        "samples": found.samples,
        "equal": found.equal,
        "same_network": found.same_network,
        "equality_expected": found.equality_expected,
        "spikes": {"compared": found.spikes, "differ": found.differing},
        "readout": {"rms": found.readout.rms, "largest": found.readout.largest},
        "decisions": found.decisions,
        "nodes": {name: _values(node, found) for name, node in found.nodes.items()},
        "first_spike": found.first_spike and dataclasses.asdict(found.first_spike),
    }
    if found.accuracy is not None:
        values["accuracy"] = {
            "first": found.accuracy.first,
            "second": found.accuracy.second,
            "loss": found.accuracy.loss,
            "intervals_95": found.accuracy.intervals(),
        }
    return values


def _values(node: NodeDeviation, found: Deviation) -> dict[str, Any]:
    return {
        "spikes": node.spikes,
        "differ": node.differing,
        "first_causes": node.first_causes if found.causes else None,
        "explained_by_rounding": node.explained if found.rounding else None,
        "membrane": {"compared": node.membrane.count, "rms": node.membrane.rms, "largest": node.membrane.largest},
        "distance_quantiles": {f"{share:g}": node.quantile(share) for share in _SHARES},
    }


def _spikes(name: str, node: NodeDeviation, found: Deviation) -> tuple[object, ...]:
    counts = (node.spikes, node.differing, *(node.first_causes, node.explained)[: found.causes + found.rounding])
    return (name, *(f"{count:,}" for count in counts))


def _membrane(name: str, node: NodeDeviation) -> tuple[object, ...]:
    distances = (node.quantile(share) for share in _SHARES)
    return (
        name,
        f"{node.membrane.rms:.2g}",
        f"{node.membrane.largest:.2g}",
        *("-" if distance is None else f"{distance:.2g}" for distance in distances),
    )


def _span(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.2%} to {interval[1]:.2%}"
