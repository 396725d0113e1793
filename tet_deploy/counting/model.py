"""Energy per inference: counted operations times what each would cost, under several named conventions side by side.

One number would hide its assumptions, so every report carries all of `ENERGIES` and says which of them is the default.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tet_deploy.contracts import Frames, Recording, check_frames
from tet_deploy.counting.as_table import energy_table
from tet_deploy.counting.conventions import ENERGIES, PARTS, Policies
from tet_deploy.counting.tables import EnergyTable, choose
from tet_deploy.counting.traffic import Traffic, count, merge
from tet_deploy.errors import ArgumentError, DataError
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import WEIGHTED
from tet_deploy.ir.shapes import dense_macs
from tet_deploy.ir.spec import need_graph

_SAMPLES_AT_ONCE = 32  # bounds the integer copies of spikes made while counting


@dataclass(frozen=True, kw_only=True, eq=False)
class EnergyReport:
    """What one network cost on a number of samples, in picojoules.

    Reports of successive samples are joined with `+`, so that a large set need not be recorded at once.

    Attributes
    ----------
    traffic
        The counts: per layer, step and sample.
    table
        Prices and their sources.
    beside
        Other tables whose energies are to be shown beside those of `table`, see `by_table`.
    dense_macs
        int64 [L]: multiply-accumulates of the dense pass that `ann` prices, see `ir.shapes.dense_macs`.
    runtime, digest
        Which runtime the spikes come from, and which network ran.
    """

    traffic: Traffic
    table: EnergyTable
    policies: Policies
    dense_macs: np.ndarray
    runtime: str
    digest: str
    beside: tuple[EnergyTable, ...] = ()

    def __repr__(self) -> str:
        energies = ", ".join(
            f"{priced.mean(self.default) / 1000:,.1f} nJ by {priced.table.name}" for priced in self.by_table
        )
        return f"<EnergyReport: '{self.default}' {energies}; {self.samples} samples of {self.steps} steps>"

    def __str__(self) -> str:
        return str(energy_table(self))

    def _repr_html_(self) -> str:
        return energy_table(self).html()

    @property
    def by_table(self) -> tuple[EnergyReport, ...]:
        """The same counts priced by each of the tables, this report's own first."""
        return (self, *(dataclasses.replace(self, table=table, beside=()) for table in self.beside))

    @property
    def default(self) -> str:
        """The energy to quote: 'dense_in' for images, 'event' for event frames, unless the policy says otherwise."""
        return "dense_in" if self.policies.input == "dense" else "event"

    @property
    def names(self) -> tuple[str, ...]:
        """Energies this report can give; 'cached' only if all samples were still images, 'ann' if priced."""
        names = [name for name in ENERGIES if name != "ann" or self.table.dense_mac is not None]
        if self.traffic.static_input and self.steps > 1 and self.traffic.input_fed.any():
            names.append("cached")
        return tuple(names)

    @property
    def steps(self) -> int:
        """Number of time steps T."""
        return int(self.traffic.input_mean.shape[1])

    @property
    def samples(self) -> int:
        """Number of samples B."""
        return int(self.traffic.input_mean.shape[2])

    def parts(self, name: str) -> dict[str, np.ndarray]:
        """One energy split by `PARTS`: float64 [L, T, B] each, in picojoules. `ann`, a single pass, lies in step 1."""
        if name not in self.names:
            raise ArgumentError(f"energy {name!r}: this report has no energy of that name; it has {', '.join(self.names)}.")
        traffic, price = self.traffic, self._price
        macs, additions = self._synaptic_parts(name)
        elements, neurons = np.zeros_like(macs), np.zeros_like(macs)
        if name == "full":
            elements = price("element_addition") * (traffic["bias_additions"] + traffic["residual_additions"])
            neurons = price("neuron_update") * traffic["neuron_updates"] + price("spike") * traffic["spikes"]
            neurons = neurons + price("leak_multiplication") * traffic["leak_multiplications"]
        elif name == "cached":
            macs[traffic.input_fed, 1:] = 0
            elements = price("element_addition") * (traffic.input_fed[:, None, None] * traffic["outputs"])
        return dict(zip(PARTS, (macs, additions, elements, neurons), strict=True))

    def _synaptic_parts(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Energy of multiply-accumulates and of synaptic additions."""
        traffic, price = self.traffic, self._price
        if name == "ann":
            macs = np.zeros(traffic.input_mean.shape)
            macs[:, 0] = price("dense_mac") * self.dense_macs[:, None]
            return macs, np.zeros_like(macs)
        if name == "rate":
            analog, padded = traffic.of_kind("analog"), self.dense_macs[:, None, None]
            return price("mac") * (analog * padded), price("addition") * (~analog * traffic.input_mean * padded)
        first = {"event": "event", "dense_in": "dense"}.get(name, self.policies.input)
        return price("mac") * self.multiplications(first), price("addition") * self.additions()

    def picojoules(self, name: str) -> np.ndarray:
        """One energy per layer, step and sample: float64 [L, T, B]."""
        return np.asarray(sum(self.parts(name).values()))

    def per_inference(self, name: str) -> np.ndarray:
        """One energy per sample over all layers and steps: float64 [B], in picojoules."""
        return np.asarray(self.picojoules(name).sum(axis=(0, 1)))

    def mean(self, name: str) -> float:
        """Picojoules per inference, averaged over samples."""
        return float(self.per_inference(name).mean())

    def std(self, name: str) -> float:
        """Standard deviation over samples of the picojoules per inference (division by B)."""
        return float(self.per_inference(name).std())

    def by_step(self, name: str) -> np.ndarray:
        """Mean picojoules of an inference that ends after step 1..T: float64 [T]."""
        return np.asarray(self.picojoules(name).sum(axis=0).mean(axis=1).cumsum())

    def multiplications(self, input_policy: str) -> np.ndarray:
        """Multiply-accumulates with the network's input counted 'dense' or by 'event': int64 [L, T, B]."""
        dense, event = self.traffic[self._column("mac_dense")], self.traffic[self._column("synops")]
        by_event = ("graded", "pooled") if self.policies.pool == "mac" else ("graded",)
        first = self.traffic.of_kind("analog") * (dense if input_policy == "dense" else event)
        return np.asarray(first + self.traffic.of_kind(*by_event) * event)

    def additions(self) -> np.ndarray:
        """Synaptic additions: int64 [L, T, B]."""
        pooled = self._column("pool_synops") if self.policies.pool == "fold" else "pool_additions"
        return np.asarray(self.traffic.of_kind("spike") * self.traffic[self._column("synops")] + self.traffic[pooled])

    def summary(self) -> dict[str, dict[str, Any]]:
        """Means per inference in plain numbers: {'energy_pj': {name: ...}, 'counts': {name: ...}} and 'energy_pj_by_table'.

        `energy_pj` holds the names of `ENERGIES` by this report's table, `energy_pj_by_table` by each table. Of the counts,
        `mac_event`, `mac_dense` and `mac_padded` are the layers that see the network's input (or another value that is no
        spike).
        """
        analog = self.traffic.of_kind("analog")
        counts = {name: self.traffic[name] for name in ("events", "synops", "synops_effective")}
        counts["additions"] = self.additions()
        counts["multiplications"] = self.multiplications(self.policies.input)
        counts["mac_event"] = analog * self.traffic["synops"]
        for name in ("mac_dense", "mac_padded"):
            counts[name] = analog * self.traffic[name]
        for name in ("bias_additions", "residual_additions", "neuron_updates", "leak_multiplications", "spikes"):
            counts[name] = self.traffic[name]
        return {
            "energy_pj": self._means(),
            "energy_pj_by_table": {report.table.name: report._means() for report in self.by_table},
            "counts": {name: float(value.sum()) / self.samples for name, value in counts.items()},
        }

    def _means(self) -> dict[str, float]:
        return {name: self.mean(name) for name in ENERGIES if name in self.names}

    def __add__(self, other: EnergyReport) -> EnergyReport:
        """The report of this report's samples followed by the other's."""
        fields = ("digest", "table", "beside", "policies", "runtime")
        if any(getattr(self, field) != getattr(other, field) for field in fields):
            raise DataError("energy: only reports of one network, runtime, table and policy can be joined. Keep them apart.")
        return dataclasses.replace(self, traffic=merge([self.traffic, other.traffic]))

    def _price(self, operation: str) -> float:
        return self.table.prices[operation].picojoules

    def _column(self, name: str) -> str:
        return name if self.policies.zero_weights == "counted" else f"{name}_effective"


def estimate(
    graph: Graph,
    recording: Recording,
    frames: Frames,
    *,
    table: str | EnergyTable | Sequence[str | EnergyTable] | None = None,
    input_policy: str | None = None,
    pool_policy: str = "fold",
    effective: bool = False,
) -> EnergyReport:
    """Estimate the energy of a recorded run from its spikes.

    Parameters
    ----------
    graph
        The network that ran: traced, lowered or quantized.
    recording
        Holds the spikes of every LIF (`probes="spikes"`).
    frames
        What was shown to it, [T, B, *shape].
    table
        Name of an energy table, see `TABLES`, or one of your own; or several, to have them side by side: the first is the
        report's. By default that of the network's own number format (45nm-int8 for a quantized one, 45nm-fp32 for floats),
        and beside it the TET paper's, 45nm-fp32.
    input_policy
        'dense' or 'event'; by default 'dense' for an analog input and 'event' for event frames. A layer that sees event
        counts is typed 'analog', as in the literature, though only counts other than 1 would need a multiplication.
    pool_policy
        'fold' or 'mac', for networks whose average pooling has not been folded yet.
    effective
        Leave out synapses whose weight is 0.

    Returns
    -------
    EnergyReport
        In picojoules; several named energies, each per layer, step and sample.

    Raises
    ------
    ArgumentError
        An unknown table or policy.
    DataError, GraphError
        A recording that does not fit, a layer whose input was not recorded.

    Examples
    --------
    >>> report = estimate(graph, recording, frames)  # doctest: +SKIP
    >>> report.mean(report.default)  # doctest: +SKIP
    """
    by_encoding = "event" if need_graph(graph).input.encoding == "events" else "dense"
    prices, *beside = choose(table, quantized=graph.is_quantized)
    policies = Policies(
        input=by_encoding if input_policy is None else input_policy,
        pool=pool_policy,
        zero_weights="left out" if effective else "counted",
    )
    frames = check_frames(frames, graph.input.shape, graph.input.encoding)
    if frames.shape[:2] != (recording.steps, recording.samples):
        raise DataError(
            f"frames: must be those of the recording, {recording.steps} steps of {recording.samples} samples; "
            f"got {frames.shape[0]} steps of {frames.shape[1]}."
        )
    starts = range(0, recording.samples, _SAMPLES_AT_ONCE)
    traffic = merge([_part(graph, recording, frames, start) for start in starts])
    return EnergyReport(
        traffic=traffic,
        table=prices,
        beside=tuple(beside),
        policies=policies,
        dense_macs=_dense_macs(graph, traffic),
        runtime=recording.runtime,
        digest=graph.digest(),
    )


def _part(graph: Graph, recording: Recording, frames: np.ndarray, start: int) -> Traffic:
    stop = start + _SAMPLES_AT_ONCE
    return count(graph, recording.sample(start, stop), frames[:, start:stop])


def _dense_macs(graph: Graph, traffic: Traffic) -> np.ndarray:
    """Multiply-accumulates of one dense pass per layer, int64 [L]."""
    macs = {node.name: dense_macs(node, graph.shapes[node.name]) for node in graph if isinstance(node, WEIGHTED)}
    return np.array([macs.get(name, 0) for name in traffic.layers], dtype=np.int64)
