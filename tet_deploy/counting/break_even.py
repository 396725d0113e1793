"""The firing rate at which a spiking network costs what the same network costs without spikes.

The rate r of a layer is the share of its synapses that a spike passes in a step: a mean firing rate in which each input
weighs as many times as it has synapses. With S the cost of a step in which every spike came that can come, summed over the
layers that spikes feed, and F what the other layers spend, an inference of T steps costs exactly

    E(r) = F + r T S          so that          r* = (E_ann - F) / (T S),  and of one layer  r* = E_ann / (T S)

r is measured as (E - F) / (T S). Where all of S has one price, r is the share of synapses; where sums of spikes are
multiplied and spikes added, synapses weigh as they cost. r* > 1 cannot be reached: there spikes are always cheaper. r* < 0
says that F alone is dearer than the network without spikes.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from tet_deploy.counting.conventions import WORDS
from tet_deploy.counting.energies import Term, amounts
from tet_deploy.counting.model import EnergyReport
from tet_deploy.errors import ArgumentError


class Rate(NamedTuple):
    """Measured and break-even rate, exactly; None where no spike feeds the layer or there is no price without spikes."""

    measured: Fraction | None
    break_even: Fraction | None

    def __str__(self) -> str:
        if self.measured is None:
            return "no layer is fed by spikes"
        if self.break_even is None:
            return f"measured {_percent(self.measured)}; nothing to compare it with"
        if self.break_even < 0:
            return f"at no rate: what spikes do not feed is dearer by itself; measured {_percent(self.measured)}"
        if self.break_even >= 1:
            return f"at any rate up to 100 %; measured {_percent(self.measured)}"
        return f"at {_percent(self.break_even)}; measured {_percent(self.measured)}"


class BreakEven(NamedTuple):
    """Of the whole network, and of each of its L layers."""

    network: Rate
    layers: tuple[Rate, ...]


def break_even(report: EnergyReport, name: str | None = None) -> BreakEven:
    """The break-even rates under a named energy of synapses, by default the report's.

    Raises
    ------
    ArgumentError
        `rate`, `ann` or `full`, which are no sums over synapses.
    """
    name = name or report.default
    if name in ("rate", "ann", "full"):
        raise ArgumentError(f"break-even rate: is of synapses alone; got {name!r}. Choose 'event' or 'dense_in'.")
    terms, unit = report.terms(name)
    by_spikes = [_by_spikes(report, term) for term in terms]
    count, rows = report.samples * unit, len(report.traffic.layers)
    fed = np.isin(report.traffic.kinds, ("spike", "pooled", "graded"))
    spent = [Fraction(int(cost), count) for cost in amounts(terms, report.column, unit).sum(axis=1)]
    most = [sum((each[row] for each in by_spikes), Fraction(0)) * report.steps for row in range(rows)]
    ann: list[Fraction] | None = None
    if "ann" in report.names:
        dense, of_ann = report.terms("ann")
        ann = [Fraction(int(cost), of_ann * report.samples) for cost in amounts(dense, report.column, of_ann).sum(axis=1)]
    layers = tuple(
        Rate(spent[row] / most[row], ann[row] / most[row] if ann and ann[row] else None) if most[row] else Rate(None, None)
        for row in range(rows)
    )
    whole, rest = sum(most, Fraction(0)), sum((spent[row] for row in range(rows) if not fed[row]), Fraction(0))
    if not whole:
        return BreakEven(Rate(None, None), layers)
    network = Rate((sum(spent, Fraction(0)) - rest) / whole, (sum(ann, Fraction(0)) - rest) / whole if ann else None)
    return BreakEven(network, layers)


def break_even_values(report: EnergyReport) -> dict[str, Any]:
    """The rates by each table in plain JSON values, and what they are."""

    def plain(rate: Rate) -> dict[str, float | None]:
        return {key: None if value is None else float(value) for key, value in rate._asdict().items()}

    tables = {}
    for priced in report.by_table:
        found = break_even(priced)
        layers = zip(report.traffic.layers, found.layers, strict=True)
        by_layer = {layer: plain(rate) for layer, rate in layers if rate.measured is not None}
        tables[priced.table.name] = plain(found.network) | {"layers": by_layer}
    meaning = "share of synapses that a spike passes in a step; at the break-even one an inference costs what 'ann' does"
    return {"meaning": meaning, "energy": report.default, "words": WORDS[report.default], "tables": tables}


def _by_spikes(report: EnergyReport, term: Term) -> list[Fraction]:
    """What a term costs each layer in a step in which every spike came; 0 where no spikes feed it."""
    per_step, column = report.traffic.per_step, term.column
    effective = "_effective" if column.endswith("_effective") else ""
    dense = per_step[f"mac_dense{effective}"]
    most = {
        "synops": dense,
        "pool_synops": dense * per_step["most_spikes"],
        "spike_synops": dense * per_step["most_spikes"],
        "pool_additions": report.traffic.input_size,
    }.get(column.removesuffix("_effective"), np.zeros_like(dense))
    fed = np.isin(report.traffic.kinds, ("spike", "pooled", "graded"))
    return [term.price * share * int(n) * int(is_fed) for share, n, is_fed in zip(term.share, most, fed, strict=True)]


def _percent(rate: Fraction) -> str:
    return f"{float(100 * rate):.3g} %"
