"""Do two runtimes agree: every spike, every membrane potential, every readout, at every step?"""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tet_deploy import plain
from tet_deploy.contracts import Recording
from tet_deploy.dynamics import FRACTION_BITS
from tet_deploy.errors import DataError, shown
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import ON_CHIP, SoftResetLIF
from tet_deploy.layout import Table
from tet_deploy.range_totals import RangeTotals
from tet_deploy.runtimes.loihi.bundle.loihi_checks.vectors import first_place
from tet_deploy.units import ByChannel, by_channel, of_channel
from tet_deploy.wording import number_of


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """The first place where two recordings differ: the earliest step, and in it the node nearest to the input.

    Attributes
    ----------
    node, step, sample, neuron
        Where: name of the LIF or "readout", step and sample from 0, index of the neuron, (c, h, w) or (n,).
    expected, found
        Membrane potential (or readout) of the reference and of the other runtime there; None if it was not probed.
    distance
        Where a spike differs: threshold minus the potential of the side that stayed silent, in the graph's own units. A
        distance within float rounding means that both are right to their precision.
    """

    node: str
    step: int
    sample: int
    neuron: tuple[int, ...]
    expected: float | None
    found: float | None
    distance: float | None = None

    @classmethod
    def from_state(cls, state: Any) -> Divergence:
        """The divergence of which `state` is `dataclasses.asdict`, as JSON keeps it.

        Raises
        ------
        ArtifactError
            Something else.
        """
        state = plain.mapping(state, "first")
        numbers = ("expected", "found", "distance")
        return cls(
            node=plain.text(state, "node", "first"),
            step=plain.count(state, "step", "first"),
            sample=plain.count(state, "sample", "first"),
            neuron=tuple(map(int, plain.counts(state, "neuron", "first"))),
            **{key: plain.real_or_none(state, key, "first") for key in numbers},
        )

    def __str__(self) -> str:
        text = f"first divergence: node {self.node!r}, step {self.step}, sample {self.sample}, neuron {self.neuron}"
        if self.expected is not None and self.found is not None:
            text += f": expected {self.expected:.9g}, found {self.found:.9g}"
        return text if self.distance is None else f"{text}; {self.distance:.3g} below threshold"


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How one runtime agrees with the reference.

    Attributes
    ----------
    runtime, reference
        Names of the two.
    spikes, potentials, readout
        Number of values that differ.
    compared
        Number of values compared, all three together.
    by_node
        Number of differing spikes and potentials per LIF.
    decisions
        Number of samples on which the decided class differs, of `samples`.
    largest_readout_error
        Largest absolute difference of the readout, in the graph's own units.
    first
        The first divergence, or None.
    ranges
        How many values left the chip's range on these samples, as far as one of the two counted it.
    """

    runtime: str
    reference: str
    spikes: int
    potentials: int
    readout: int
    compared: int
    by_node: Mapping[str, tuple[int, int]]
    decisions: int
    samples: int
    largest_readout_error: float
    first: Divergence | None
    ranges: RangeTotals = field(default_factory=RangeTotals)

    def __repr__(self) -> str:
        return f"<Agreement: {self}>"

    def __str__(self) -> str:
        of = f"of {self.compared:,} values over {number_of('sample', self.samples)}"
        if self.equal:
            return f"{self.runtime} equals {self.reference}, 0 {of} differ"
        counts = f"{number_of('spike', self.spikes)}, {number_of('potential', self.potentials)} and "
        counts += number_of("readout", self.readout)
        return f"{self.runtime} differs from {self.reference} in {counts} {of}; {self.first}"

    def _repr_html_(self) -> str:
        return agreement_table({self.runtime: self}).html()

    def __add__(self, other: Agreement) -> Agreement:
        """That of both runs' samples together."""
        if (self.runtime, self.reference, list(self.by_node)) != (other.runtime, other.reference, list(other.by_node)):
            raise DataError("agreement: only those of the same runtimes and probes can be joined. Keep them apart.")
        found = [agreement.first for agreement in (self, other) if agreement.first is not None]
        return Agreement(
            runtime=self.runtime,
            reference=self.reference,
            by_node={
                name: (spikes + other.by_node[name][0], potentials + other.by_node[name][1])
                for name, (spikes, potentials) in self.by_node.items()
            },
            largest_readout_error=max(self.largest_readout_error, other.largest_readout_error),
            first=min(found, key=self._order, default=None),
            ranges=self.ranges + other.ranges,
            **{name: getattr(self, name) + getattr(other, name) for name in _COUNTS},
        )

    @classmethod
    def from_state(cls, state: Any) -> Agreement:
        """The agreement of which `state` is `dataclasses.asdict`, as JSON keeps it.

        Raises
        ------
        ArtifactError
            Something else.
        """
        state = plain.mapping(state, "agreement")
        nodes = plain.mapping(plain.get(state, "by_node"), "by_node")
        first = plain.get(state, "first")
        found = cls(
            runtime=plain.text(state, "runtime"),
            reference=plain.text(state, "reference"),
            by_node={name: tuple(map(int, plain.counts(nodes, name, "by_node", length=2))) for name in nodes},  # type: ignore[misc]
            largest_readout_error=plain.real(state, "largest_readout_error"),
            first=None if first is None else Divergence.from_state(first),
            ranges=RangeTotals.from_state(plain.get(state, "ranges")),
            **{name: plain.count(state, name) for name in _COUNTS},
        )
        if found.first is not None and found.first.node not in (*nodes, "readout"):
            raise plain.damaged(f"first.node: {shown(found.first.node)} is no node")
        return found

    def _order(self, divergence: Divergence) -> tuple[Any, ...]:
        """What makes a divergence the first: the step, the node nearest to the input, the sample."""
        nodes = [*self.by_node, "readout"]
        return divergence.step, nodes.index(divergence.node), divergence.sample, divergence.neuron

    @property
    def equal(self) -> bool:
        """Whether every compared value is equal."""
        return not (self.spikes or self.potentials or self.readout)

    def counts(self) -> dict[str, int]:
        """Mismatches as a plain dict: spikes, potentials, readout, compared."""
        return {name: getattr(self, name) for name in ("spikes", "potentials", "readout", "compared")}


_COUNTS = ("spikes", "potentials", "readout", "compared", "decisions", "samples")


def ranges(agreements: Mapping[str, Agreement]) -> RangeTotals:
    """What left the chip's range on the samples that were compared with one reference; on the most, where some saw fewer."""
    most = max((agreement.samples for agreement in agreements.values()), default=0)
    found = (agreement.ranges for agreement in agreements.values() if agreement.samples == most)
    return functools.reduce(operator.or_, found, RangeTotals())


def agreement_table(agreements: Mapping[str, Agreement | None], samples: str = "") -> Table:
    """How runtimes agree with the reference: values that differ, of how many; `samples` says of which samples."""
    rows: list[tuple[object, ...]] = []
    for name, a in agreements.items():
        if a is None:
            rows.append((name, *("-" * 5), "did not run"))
            continue
        verdict = "equal" if a.equal else "DIFFERENT"
        counts = (a.spikes, a.potentials, a.readout, a.compared, a.samples)
        rows.append((name, *(f"{count:,}" for count in counts), verdict))
    columns = ("runtime", "spikes", "potentials", "readout", "compared", "samples", "verdict")
    return Table(
        "Values that differ from the reference" + (f", {samples}" if samples else ""), columns, rows, text=("verdict",)
    )


def compare(
    reference: Recording, other: Recording, thresholds: Mapping[str, ByChannel] | None = None, *, start: int = 0
) -> Agreement:
    """Compare two recordings of the same network and frames, value by value.

    Parameters
    ----------
    reference, other
        Recordings over the same steps and samples, with the same probes.
    thresholds
        Firing threshold per node in the units of the potentials (see `thresholds`), for the distance of a divergence.
    start
        Number of the recordings' first sample.

    Raises
    ------
    DataError
        The recordings have different steps, samples, classes or probes.
    """
    if reference.readout.shape != other.readout.shape:
        raise DataError(
            f"recordings of {reference.runtime!r} and {other.runtime!r}: must cover the same steps, samples and classes; "
            f"got readouts {reference.readout.shape} and {other.readout.shape}."
        )
    for what, ours, theirs in (
        ("spikes", reference.spikes, other.spikes),
        ("membrane potentials", reference.potentials, other.potentials),
    ):
        if set(ours) != set(theirs):
            raise DataError(
                f"recordings of {reference.runtime!r} and {other.runtime!r}: must hold the {what} of the same nodes; "
                f"got {sorted(ours) or 'none'} and {sorted(theirs) or 'none'}. Run both with the same probes."
            )
    spikes = {name: reference.spikes[name] != other.spikes[name] for name in reference.spikes}
    potentials = {name: reference.potentials[name] != other.potentials[name] for name in reference.potentials}
    readout = reference.readout != other.readout
    masks = [*spikes.values(), *potentials.values(), readout]
    by_node = {
        name: (_count(spikes.get(name)), _count(potentials.get(name))) for name in dict.fromkeys([*spikes, *potentials])
    }
    return Agreement(
        runtime=other.runtime,
        reference=reference.runtime,
        spikes=sum(_count(mask) for mask in spikes.values()),
        potentials=sum(_count(mask) for mask in potentials.values()),
        readout=_count(readout),
        compared=sum(mask.size for mask in masks),
        by_node=by_node,
        decisions=int(np.count_nonzero(reference.decisions != other.decisions)),
        samples=reference.samples,
        largest_readout_error=float(np.abs(reference.readout.astype(np.float64) - other.readout).max()),
        first=_first(reference, other, spikes, potentials, readout, thresholds or {}, start),
    )


def _count(mask: np.ndarray | None) -> int:
    return 0 if mask is None else int(np.count_nonzero(mask))


def _first(
    reference: Recording,
    other: Recording,
    spikes: Mapping[str, np.ndarray],
    potentials: Mapping[str, np.ndarray],
    readout: np.ndarray,
    thresholds: Mapping[str, ByChannel],
    start: int,
) -> Divergence | None:
    differs = {
        name: np.logical_or.reduce([group[name] for group in (spikes, potentials) if name in group])
        for name in dict.fromkeys([*spikes, *potentials])
    }
    place = first_place([*differs.items(), ("readout", readout)])
    if place is None:
        return None
    name, index = place
    step, sample, *neuron = index
    expected, found = (_shown(recording, name, index) for recording in (reference, other))
    distance = None
    if name in spikes and spikes[name][index] and name in thresholds and expected is not None and found is not None:
        silent = found if reference.spikes[name][index] else expected
        distance = of_channel(thresholds[name], neuron[0]) - silent
    return Divergence(
        node=name,
        step=step,
        sample=start + sample,
        neuron=tuple(neuron),
        expected=expected,
        found=found,
        distance=distance,
    )


def first_spike(
    reference: Recording, other: Recording, names: Sequence[str], thresholds: Mapping[str, ByChannel], start: int = 0
) -> Divergence | None:
    """The first of the spikes of these populations that differ, with both potentials where both were recorded."""
    spikes = {name: reference.spikes[name] != other.spikes[name] for name in names}
    return _first(reference, other, spikes, {}, np.zeros(0, bool), thresholds, start)


def _shown(recording: Recording, name: str, index: tuple[int, ...]) -> float | None:
    shown = recording.readout if name == "readout" else recording.potentials.get(name)
    return None if shown is None else float(shown[index])


def thresholds(graph: Graph) -> dict[str, ByChannel]:
    """Firing threshold of each population, in the units of its recorded membrane potential.

    Not of neurons that subtract twice: where they are silent their potential may lie above it.
    """
    unit = 2.0**FRACTION_BITS if graph.is_quantized else 1.0
    nodes = [node for node in graph if isinstance(node, (*ON_CHIP, SoftResetLIF)) and node.reset != "subtract-twice"]
    return {node.name: by_channel(np.asarray(node.threshold) * unit) for node in nodes}
