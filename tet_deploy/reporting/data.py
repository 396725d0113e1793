"""What a report shows. Every section is optional: what is not given is not shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tet_deploy.chips.resources import Resources
from tet_deploy.contracts import Frames, Recording, as_array
from tet_deploy.counting.export import to_dict
from tet_deploy.counting.model import EnergyReport
from tet_deploy.intervals import wilson
from tet_deploy.ir.certificates import certificate_rows
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.table import graph_rows
from tet_deploy.range_totals import RangeTotals
from tet_deploy.reporting.membranes import Membrane
from tet_deploy.reporting.own_terms import folding_rows
from tet_deploy.reprs import short_repr
from tet_deploy.sensitivity_table import kept


@dataclass(frozen=True, kw_only=True, eq=False)
class SampleView:
    """One sample as the network saw it.

    Attributes
    ----------
    frames
        [T, C, H, W] or [T, N].
    spikes
        Per population [T, *shape], 0 or 1.
    readout
        [T, K].
    label
        The true class, if known.
    number
        Which sample it is, from 0, if known.
    """

    frames: np.ndarray
    spikes: Mapping[str, np.ndarray]
    readout: np.ndarray
    label: int | None = None
    number: int | None = None
    __repr__ = short_repr

    @classmethod
    def of(
        cls, recording: Recording, frames: Frames, sample: int, label: int | None = None, number: int | None = None
    ) -> SampleView:
        """Sample number `sample` of a recording and its frames [T, B, *shape]."""
        return cls(
            frames=as_array(frames)[:, sample],
            spikes={name: spikes[:, sample] for name, spikes in recording.spikes.items()},
            readout=recording.readout[:, sample],
            label=label,
            number=number,
        )

    @property
    def mean_readout(self) -> np.ndarray:
        """Mean readout so far, float64 [T, K]: what a decision after each step rests on."""
        steps = np.arange(1, len(self.readout) + 1)[:, None]
        return np.asarray(np.cumsum(self.readout, axis=0, dtype=np.float64) / steps)

    @property
    def decision(self) -> int:
        """The class with the largest mean readout."""
        return int(self.mean_readout[-1].argmax())


@dataclass(frozen=True, kw_only=True, eq=False)
class ReportData:
    """Everything one report shows.

    Attributes
    ----------
    title
        Heading of the page.
    provenance
        What was run: data, seed, versions, digest of the network; of these "made", "version", "network" and "command" stand
        in the head of the page.
    samples
        What was run, for example "all 360 test samples of digits": accuracies and energies are of these.
    accuracy
        Per stage (trained, folded, ...), in [0, 1].
    accuracy_of
        Per stage whose accuracy is of other samples: of which.
    accuracy_counts
        Per stage the number of those samples, for the 95 % interval of its accuracy (Wilson).
    confusion
        How many samples of which class the network that was run decided as which: int64 [true class, decision].
    confusion_of
        The stage whose decisions these are.
    accuracy_by_step
        Per training method, accuracy if the decision is taken after step 1..T, in [0, 1].
    firing_rates
        Per population, mean spikes per neuron and step.
    membranes
        Per population, how its potentials lie below the threshold.
    chain
        Links of the chain from training to chip, each against the one before, as `links.tables.link_values` gives them.
    reference
        The runtime that the others are compared with.
    mismatches
        Per runtime: {spikes, potentials, readout, compared}, as `Agreement.counts()` gives them.
    divergences
        Per runtime that disagrees: where it did so first.
    energy
        Counts and energies of the network that was run.
    energy_accuracy_by_step
        Accuracy after step 1..T of that network on those samples, for the curve of accuracy over energy.
    views
        Samples to look at.
    training
        Per epoch of the training its loss, and the accuracy where it was measured, in [0, 1].
    graph
        The deployed network, drawn and as a table.
    latency
        Per node, steps until it answers on Lava.
    resources
        What of a chip it takes.
    no_chip
        Why it can go to none.
    ranges
        What left the chip's range, if anything did.
    seconds
        Per stage.
    """

    title: str
    provenance: Mapping[str, str] = field(default_factory=dict)
    samples: str = ""
    accuracy: Mapping[str, float] = field(default_factory=dict)
    accuracy_of: Mapping[str, str] = field(default_factory=dict)
    accuracy_counts: Mapping[str, int] = field(default_factory=dict)
    confusion: np.ndarray | None = None
    confusion_of: str = ""
    accuracy_by_step: Mapping[str, Sequence[float]] = field(default_factory=dict)
    firing_rates: Mapping[str, float] = field(default_factory=dict)
    membranes: Mapping[str, Membrane] = field(default_factory=dict)
    chain: Sequence[Mapping[str, Any]] = ()
    reference: str = "reference"
    mismatches: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    divergences: Mapping[str, str] = field(default_factory=dict)
    energy: EnergyReport | None = None
    energy_accuracy_by_step: Sequence[float] = ()
    views: Sequence[SampleView] = ()
    training: Sequence[Mapping[str, float]] = ()
    graph: Graph | None = None
    latency: Mapping[str, int] = field(default_factory=dict)
    resources: Resources | None = None
    no_chip: str = ""
    ranges: RangeTotals = field(default_factory=RangeTotals)
    seconds: Mapping[str, float] = field(default_factory=dict)
    __repr__ = short_repr

    @property
    def accuracy_intervals(self) -> dict[str, tuple[float, float]]:
        """Per stage whose number of samples is known, the 95 % interval of its accuracy."""
        known = {name: of for name, of in self.accuracy_counts.items() if name in self.accuracy}
        return {name: wilson(round(self.accuracy[name] * of), of) for name, of in known.items()}

    def to_dict(self) -> dict[str, Any]:
        """The data in plain JSON values; sections that were not given are left out."""
        sections = {
            "provenance": dict(self.provenance),
            "samples": self.samples,
            "accuracy": {name: float(value) for name, value in self.accuracy.items()},
            "accuracy_of": dict(self.accuracy_of),
            "accuracy_intervals": {name: list(both) for name, both in self.accuracy_intervals.items()},
            "confusion": None if self.confusion is None else self.confusion.tolist(),
            "accuracy_by_step": {name: [float(v) for v in values] for name, values in self.accuracy_by_step.items()},
            "firing_rates": {name: float(value) for name, value in self.firing_rates.items()},
            "membranes": {name: found.to_dict() for name, found in self.membranes.items()},
            "chain": [dict(link) for link in self.chain],
            "reference": self.reference if self.mismatches else None,
            "mismatches": {name: {k: int(v) for k, v in counts.items()} for name, counts in self.mismatches.items()},
            "divergences": dict(self.divergences),
            "energy": to_dict(self.energy) if self.energy else None,
            "energy_accuracy_by_step": [float(value) for value in self.energy_accuracy_by_step],
            "views": [_view_dict(view) for view in self.views],
            "training": [dict(epoch) for epoch in self.training],
            "graph": graph_rows(self.graph) if self.graph else None,
            "folding": folding_rows(self.graph) if self.graph else None,
            "certificates": certificate_rows(self.graph) if self.graph and self.graph.is_quantized else None,
            "sensitivity": kept(self.graph) if self.graph and self.graph.is_quantized else None,
            "latency": {name: int(steps) for name, steps in self.latency.items()},
            "resources": self.resources.to_dict() if self.resources else None,
            "no_chip": self.no_chip,
            "ranges": self.ranges.to_state() if self.ranges.said else None,
            "seconds": {name: float(value) for name, value in self.seconds.items()},
        }
        return {"title": self.title, **{name: value for name, value in sections.items() if value}}


def _view_dict(sample: SampleView) -> dict[str, Any]:
    return {
        "number": sample.number,
        "label": sample.label,
        "decision": sample.decision,
        "mean_readout": sample.mean_readout.tolist(),
        "spikes_per_step": {
            name: spikes.reshape(len(spikes), -1).sum(axis=1, dtype=np.int64).tolist()
            for name, spikes in sample.spikes.items()
        },
    }


def firing_rates(report: EnergyReport) -> dict[str, float]:
    """Mean spikes per neuron and step of every population that was counted."""
    spikes, updates = report.traffic["spikes"].sum(axis=1), report.traffic["neuron_updates"].sum(axis=1)
    rows = zip(report.traffic.layers, spikes, updates, strict=True)
    return {name: int(fired) / int(neurons) for name, fired, neurons in rows if neurons}
