"""How one link of the chain deviates from another where it cannot be equal: spikes, potentials, readout, decisions.

Potentials are compared in thresholds: a difference of 1 is a whole threshold of the first link's neuron. Where a spike
differs, its distance is how far the potential of the silent side lies below its threshold: a spike that rounding moved lies
close by. All counts are whole numbers and sums of squares are exact, so that results add up, in any order, to the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tet_deploy import plain
from tet_deploy.errors import DataError
from tet_deploy.links.accuracy import Accuracy
from tet_deploy.links.sizes import Spread
from tet_deploy.range_totals import RangeTotals
from tet_deploy.validation import Divergence
from tet_deploy.wording import number_of

BINS_PER_OCTAVE = 4
LEAST, _MOST = -40, 8  # octaves of a histogram of distances, in powers of two; what lies beyond is in the last bins
BINS = (_MOST - LEAST) * BINS_PER_OCTAVE


_NONE = Spread()


@dataclass(frozen=True, kw_only=True)
class NodeDeviation:
    """How one population deviates.

    Attributes
    ----------
    spikes, differing
        Spikes compared, and those that differ.
    first_causes
        Of these, how many have no cause before them: all that the neuron got since both sides last reset was the same.
    explained
        Of the first causes, how many lie so close to the threshold that rounding explains them.
    membrane
        Differences of the potentials in thresholds, where both sides fired or both were silent.
    distances
        Of the differing spikes, how many lie so far from the threshold: a histogram, see `quantile`.
    """

    spikes: int = 0
    differing: int = 0
    first_causes: int = 0
    explained: int = 0
    membrane: Spread = _NONE
    distances: tuple[int, ...] = (0,) * BINS

    def quantile(self, share: float) -> float | None:
        """Distance to threshold, in thresholds, within which this share of the differing spikes lies; None without any.

        It is the upper edge of a bin of the histogram, at most 19 % above the quantile itself.
        """
        counted = np.cumsum(self.distances)
        if not counted[-1]:
            return None
        bin_ = int(np.searchsorted(counted, share * counted[-1]))
        return 0.0 if bin_ == 0 else float(2.0 ** (LEAST + bin_ / BINS_PER_OCTAVE))

    def __add__(self, other: NodeDeviation) -> NodeDeviation:
        return NodeDeviation(
            membrane=self.membrane + other.membrane,
            distances=tuple(map(sum, zip(self.distances, other.distances, strict=True))),
            **{name: getattr(self, name) + getattr(other, name) for name in _NODE_COUNTS},
        )

    def to_state(self) -> dict[str, Any]:
        """In plain JSON values, without loss."""
        counts = {name: getattr(self, name) for name in _NODE_COUNTS}
        return counts | {"membrane": self.membrane.to_state(), "distances": list(self.distances)}

    @classmethod
    def from_state(cls, state: Any, name: str) -> NodeDeviation:
        """What `to_state` gave; an ArtifactError of something else."""
        state = plain.mapping(state, name)
        return cls(
            membrane=Spread.from_state(plain.get(state, "membrane"), f"{name}.membrane"),
            distances=tuple(map(int, plain.counts(state, "distances", name, length=BINS))),
            **{key: plain.count(state, key, name) for key in _NODE_COUNTS},
        )


_NODE_COUNTS = ("spikes", "differing", "first_causes", "explained")


@dataclass(frozen=True, kw_only=True)
class Deviation:
    """How the second of two links deviates from the first.

    Attributes
    ----------
    first, second
        Their names.
    nodes
        Per population that both record, in order.
    readout
        Differences of the readout, in units of the float network.
    decisions, samples
        Number of samples on which the decided class differs, and of all.
    accuracy
        Where labels are known.
    causes, rounding
        Whether `first_causes` and `explained` of the nodes were told; not where a link's network is not at hand.
    first_spike
        The first spike that differs, potentials and distance in units of the float network.
    equal
        Whether both record integers of the same units, or floats, and every value is equal.
    ranges
        How many values left the chip's range in either of the two.
    same_network
        Whether both execute the same network.
    equality_expected
        Whether anything but equality is then a fault: numbers that runtimes must agree on, not floats off the grid.
    """

    first: str
    second: str
    nodes: Mapping[str, NodeDeviation]
    readout: Spread
    decisions: int
    samples: int
    accuracy: Accuracy | None = None
    causes: bool = False
    rounding: bool = False
    first_spike: Divergence | None = None
    equal: bool
    same_network: bool = False
    equality_expected: bool = False
    ranges: RangeTotals = field(default_factory=RangeTotals)

    def __repr__(self) -> str:
        return f"<Deviation: {self}>"

    def __str__(self) -> str:
        if self.equal:
            return f"{self.second} equals {self.first} in every value over {number_of('sample', self.samples)}"
        return (
            f"{self.second} differs from {self.first} in {self.differing:,} of {self.spikes:,} spikes and "
            f"{self.decisions:,} of {self.samples:,} decisions; readout by at most {self.readout.largest:.3g}"
        )

    @property
    def spikes(self) -> int:
        """Spikes compared, of all nodes."""
        return sum(node.spikes for node in self.nodes.values())

    @property
    def differing(self) -> int:
        """Spikes that differ, of all nodes."""
        return sum(node.differing for node in self.nodes.values())

    @property
    def unexplained(self) -> int:
        """First causes that rounding does not explain, of all nodes; 0 where that was not told."""
        return sum(node.first_causes - node.explained for node in self.nodes.values()) if self.rounding else 0

    @property
    def total(self) -> NodeDeviation:
        """All nodes as one."""
        return sum(self.nodes.values(), start=NodeDeviation())

    def __add__(self, other: Deviation) -> Deviation:
        """That of both runs' samples together."""
        alike = ("first", "second", "causes", "rounding", "same_network")
        if [getattr(self, name) for name in alike] != [getattr(other, name) for name in alike] or [*self.nodes] != [
            *other.nodes
        ]:
            raise DataError("deviation: only those of the same links and probes can be joined. Keep them apart.")
        both = self.accuracy and other.accuracy
        found = [deviation.first_spike for deviation in (self, other) if deviation.first_spike is not None]
        return dataclasses.replace(
            self,
            nodes={name: node + other.nodes[name] for name, node in self.nodes.items()},
            readout=self.readout + other.readout,
            decisions=self.decisions + other.decisions,
            samples=self.samples + other.samples,
            accuracy=self.accuracy + other.accuracy if both and self.accuracy and other.accuracy else None,
            first_spike=min(found, key=self._order, default=None),
            equal=self.equal and other.equal,
            equality_expected=self.equality_expected and other.equality_expected,
            ranges=self.ranges + other.ranges,
        )

    def _order(self, place: Divergence) -> tuple[Any, ...]:
        return place.step, [*self.nodes].index(place.node), place.sample, place.neuron

    def to_state(self) -> dict[str, Any]:
        """In plain JSON values, without loss."""
        return {
            "first": self.first,
            "second": self.second,
            "nodes": {name: node.to_state() for name, node in self.nodes.items()},
            "readout": self.readout.to_state(),
            "decisions": self.decisions,
            "samples": self.samples,
            "accuracy": self.accuracy and dataclasses.asdict(self.accuracy),
            "causes": self.causes,
            "rounding": self.rounding,
            "first_spike": self.first_spike and dataclasses.asdict(self.first_spike),
            "equal": self.equal,
            "same_network": self.same_network,
            "equality_expected": self.equality_expected,
            "ranges": self.ranges.to_state(),
        }

    @classmethod
    def from_state(cls, state: Any) -> Deviation:
        """What `to_state` gave.

        Raises
        ------
        ArtifactError
            Something else.
        """
        state = plain.mapping(state, "deviation")
        nodes = plain.mapping(plain.get(state, "nodes"), "nodes")
        first, accuracy = plain.get(state, "first_spike"), plain.get(state, "accuracy")
        found = cls(
            first=plain.text(state, "first"),
            second=plain.text(state, "second"),
            nodes={name: NodeDeviation.from_state(node, f"nodes.{name}") for name, node in nodes.items()},
            readout=Spread.from_state(plain.get(state, "readout"), "readout"),
            decisions=plain.count(state, "decisions"),
            samples=plain.count(state, "samples", least=1),
            accuracy=None if accuracy is None else Accuracy.from_state(accuracy),
            first_spike=None if first is None else Divergence.from_state(first),
            ranges=RangeTotals.from_state(plain.get(state, "ranges")),
            **{
                name: plain.flag(state, name)
                for name in ("causes", "rounding", "equal", "same_network", "equality_expected")
            },
        )
        wrong = found.accuracy is not None and found.accuracy.samples != found.samples
        if wrong or (found.first_spike is not None and found.first_spike.node not in nodes):
            raise plain.damaged("deviation: does not fit its own samples or nodes")
        return found
