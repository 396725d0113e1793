"""Energy per inference: counted operations times what each would cost, under several named conventions side by side.

One number would hide its assumptions, so every report carries all of `ENERGIES` and says which of them is the default.
"""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from tet_deploy.counting import energies
from tet_deploy.counting.conventions import ENERGIES, PARTS, VARIANTS, WORDS, Policies, default_energy
from tet_deploy.counting.tables import EnergyTable
from tet_deploy.counting.totals import Totals
from tet_deploy.errors import ArgumentError, DataError
from tet_deploy.layout import Table
from tet_deploy.range_totals import RangeTotals
from tet_deploy.wording import number_of

Squares = Mapping[str, Mapping[str, tuple[int, ...]]]


@dataclass(frozen=True, kw_only=True, eq=False)
class EnergyReport:
    """What one network cost on a number of samples, in picojoules.

    Reports of other samples are joined with `+`. All that is kept are integers, three of them for samples that cost alike,
    so the numbers are the same, to the last bit, however the samples were split and in whatever order.

    Attributes
    ----------
    traffic
        The counts: per layer and step, summed over samples.
    table
        Prices and their sources.
    beside
        Other tables whose energies are to be shown beside those of `table`, see `by_table`.
    dense_macs
        int64 [L]: multiply-accumulates of the dense pass that `ann` prices, see `ir.shapes.dense_macs`.
    squares
        For each table and named energy L+1 integers: the squares of what each layer, and last the whole network, spends on
        an inference, summed over samples; in units of the terms' denominator, see `energies`.
    operations
        int64 [D, 3], sorted: multiply-accumulates and additions of a sample behind the default energy, and how many samples
        had so many.
    runtime, digest
        Which runtime the spikes come from, and which network ran.
    ranges
        How many values left the chip's range, so that other spikes were counted than the float network's.
    """

    traffic: Totals
    table: EnergyTable
    policies: Policies
    dense_macs: np.ndarray
    squares: Squares
    operations: np.ndarray
    runtime: str
    digest: str
    beside: tuple[EnergyTable, ...] = ()
    ranges: RangeTotals = field(default_factory=RangeTotals)

    def __repr__(self) -> str:
        energies = ", ".join(
            f"{priced.mean(self.default) / 1000:,.1f} nJ by {priced.table.name}" for priced in self.by_table
        )
        shown = f"{number_of('sample', self.samples)} of {number_of('step', self.steps)}"
        return f"<EnergyReport: {WORDS[self.default]}, {energies}; {shown}>"

    def __str__(self) -> str:
        return str(self._table())

    def _repr_html_(self) -> str:
        return self._table().html()

    def _table(self) -> Table:
        from tet_deploy.counting.as_table import energy_table  # which needs this class

        return energy_table(self)

    @property
    def by_table(self) -> tuple[EnergyReport, ...]:
        """The same counts priced by each of the tables, this report's own first."""
        return (self, *(dataclasses.replace(self, table=table, beside=()) for table in self.beside))

    @property
    def default(self) -> str:
        """The energy to quote: 'dense_in' for images, 'event' for event frames, unless the policy says otherwise."""
        return default_energy(self.policies.input)

    @property
    def names(self) -> tuple[str, ...]:
        """Energies this report can give: `ann` if it has a price, and those of `VARIANTS` that may differ here."""
        return energy_names(self.table, self.policies, self.traffic)

    @property
    def steps(self) -> int:
        """Number of time steps T."""
        return self.traffic.steps

    @property
    def samples(self) -> int:
        """Number of samples B."""
        return self.traffic.samples

    def alike_each_step(self) -> Fraction:
        """Picojoules of the default energy that each sample spends in each step whatever it shows, exactly."""
        terms, _ = self.terms(self.default)
        operations = self.operations[:, 2] @ self.operations[:, :2]
        prices = (energies.price_of(terms, part) for part in (energies.MACS, energies.ADDITIONS))
        spent = sum((price * int(n) for price, n in zip(prices, operations, strict=True)), Fraction(0))
        return (self.exact_mean(self.default) - spent / self.samples) / self.steps

    def parts(self, name: str) -> dict[str, np.ndarray]:
        """One energy split by `PARTS`: float64 [L, T] each, mean picojoules. `ann`, a single pass, lies in step 1."""
        terms, unit = self.terms(name)
        return {
            part: self._per_inference(energies.amounts(some, self.column, unit) if some else self._nothing(), unit)
            for part, some in ((part, [term for term in terms if term.part == part]) for part in PARTS)
        }

    def picojoules(self, name: str) -> np.ndarray:
        """One energy per layer and step, mean over samples: float64 [L, T]."""
        return self._per_inference(*self._whole(name))

    def by_layer(self, name: str) -> np.ndarray:
        """Mean picojoules of an inference that each layer spends: float64 [L]."""
        whole, unit = self._whole(name)
        return self._per_inference(whole.sum(axis=1), unit)

    def mean(self, name: str) -> float:
        """Picojoules per inference, averaged over samples."""
        return float(self.exact_mean(name))

    def exact_mean(self, name: str) -> Fraction:
        """The same before it is rounded to a float."""
        whole, unit = self._whole(name)
        return Fraction(whole.sum(), unit * self.samples)

    def std(self, name: str) -> float:
        """Standard deviation over samples of the picojoules per inference (division by B)."""
        whole, unit = self._whole(name)
        return self._spread(name, whole.sum(), unit, -1)

    def std_by_layer(self, name: str) -> np.ndarray:
        """The same for what each layer spends: float64 [L]."""
        whole, unit = self._whole(name)
        return np.array([self._spread(name, spent.sum(), unit, row) for row, spent in enumerate(whole)])

    def by_step(self, name: str) -> np.ndarray:
        """Mean picojoules of an inference that ends after step 1..T: float64 [T]."""
        whole, unit = self._whole(name)
        return self._per_inference(whole.sum(axis=0).cumsum(), unit)

    def multiplications(self, input_policy: str) -> np.ndarray:
        """Multiply-accumulates with the network's input counted 'dense' or by 'event': int64 [L, T], summed over samples."""
        return energies.counted(self.terms(default_energy(input_policy))[0], energies.MACS, self.column)

    def additions(self) -> np.ndarray:
        """Synaptic additions: int64 [L, T], summed over samples."""
        return energies.counted(self.terms("event")[0], energies.ADDITIONS, self.column)

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
            "counts": {name: int(value.sum()) / self.samples for name, value in counts.items()},
        }

    def _means(self) -> dict[str, float]:
        return {name: self.mean(name) for name in ENERGIES if name in self.names}

    def __add__(self, other: EnergyReport) -> EnergyReport:
        """The report of both reports' samples together."""
        fields = ("digest", "table", "beside", "policies", "runtime")
        same = all(getattr(self, field) == getattr(other, field) for field in fields)
        if not same or not np.array_equal(self.dense_macs, other.dense_macs):
            raise DataError("energy: only reports of one network, runtime, table and policy can be joined. Keep them apart.")
        squares = {
            table: {
                name: tuple(map(operator.add, sums, other.squares[table][name]))
                for name, sums in found.items()
                if name in other.squares[table]
            }
            for table, found in self.squares.items()
        }
        return dataclasses.replace(
            self,
            traffic=self.traffic + other.traffic,
            squares=squares,
            operations=tallied(np.concatenate([self.operations, other.operations])),
            ranges=self.ranges + other.ranges,
        )

    def terms(self, name: str) -> tuple[list[energies.Term], int]:
        """What one energy adds up, and into how many units a picojoule is split so that all of it is whole."""
        if name not in self.names:
            raise ArgumentError(f"energy {name!r}: this report has no energy of that name; it has {', '.join(self.names)}.")
        terms = energies.terms(name, priced_layers(self.traffic, self.dense_macs), self.table, self.policies)
        return terms, energies.denominator(terms)

    def _whole(self, name: str) -> tuple[np.ndarray, int]:
        """One energy over all samples: Python ints [L, T], and their unit."""
        terms, unit = self.terms(name)
        return energies.amounts(terms, self.column, unit), unit

    def column(self, name: str) -> np.ndarray:
        """What a term multiplies, [L, T], summed over samples."""
        if name == "dense_macs":
            return np.repeat(self.dense_macs[:, None] * self.samples, self.steps, axis=1)
        return self.traffic.input_sum if name == "input_sum" else self.traffic[name]

    def _nothing(self) -> np.ndarray:
        return np.zeros((len(self.traffic.layers), self.steps), dtype=object)

    def _per_inference(self, amounts: np.ndarray, unit: int) -> np.ndarray:
        """Units over all samples as mean picojoules, each rounded once."""
        share = np.frompyfunc(lambda amount: float(Fraction(amount, unit * self.samples)), 1, 1)
        return np.asarray(share(amounts), dtype=np.float64)

    def _spread(self, name: str, total: int, unit: int, row: int) -> float:
        mean = Fraction(total, unit * self.samples)
        square = Fraction(self.squares[self.table.name][name][row], unit**2 * self.samples)
        return math.sqrt(square - mean**2)


def energy_names(table: EnergyTable, policies: Policies, traffic: Totals) -> tuple[str, ...]:
    """The named energies that a table can price for such traffic.

    What decides is the network, and whether all samples were still images: not what happened to flow.
    """
    names = [name for name in ENERGIES if name != "ann" or table.dense_mac is not None]
    zeros = traffic.per_step["mac_dense"] != traffic.per_step["mac_dense_effective"]
    there = {
        "cached": traffic.static_input and traffic.steps > 1 and traffic.input_fed.any(),
        "ones_added": policies.input == "event" and "analog" in traffic.kinds,
        "sums_added": "graded" in traffic.kinds,
        "pools_multiplied": "pooled" in traffic.kinds,
        "zeros_left_out": zeros.any(),
    }
    return (*names, *(name for name in VARIANTS if there[name] and policies.varied_by(name)))


def tallied(rows: np.ndarray) -> np.ndarray:
    """Rows [N, 3] as `EnergyReport.operations` has them: those whose first two numbers are the same are one, in order."""
    found, at = np.unique(rows[:, :2], axis=0, return_inverse=True)
    samples = np.zeros(len(found), dtype=np.int64)
    np.add.at(samples, at.ravel(), rows[:, 2])
    return np.column_stack([found, samples])


def priced_layers(traffic: Totals, macs: np.ndarray) -> energies.Layers:
    """What the terms of an energy need to know of the layers."""
    return energies.Layers(traffic.kinds, traffic.input_fed, macs, traffic.input_size)
