"""What operations do not include: fetching values from memory, and the power that flows whether spikes do or not.

None of this is in any named energy. Each extra is there only if the table has a price for it, with its source:

    weights       weight_access     x one for each synaptic operation: no weight is used twice, so it is an upper bound
    potentials    potential_access  x two for each neuron and step: one read, one write
    static        static_step       x T

The network without spikes reads one weight for each multiply-accumulate by the same bound.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from tet_deploy.counting.energies import ADDITIONS, MACS, counted
from tet_deploy.counting.model import EnergyReport


class Extra(NamedTuple):
    """Picojoules of an inference, mean over samples, that no energy includes."""

    table: str
    what: str
    picojoules: float
    source: str


def extras(report: EnergyReport) -> list[Extra]:
    """The extras that the report's table has prices for; the same counts as the default energy."""
    terms, _ = report.terms(report.default)
    synaptic = sum(int(counted(terms, part, report.column).sum()) for part in (MACS, ADDITIONS))
    potentials = 2 * int(report.traffic["neuron_updates"].sum())
    rows = [
        ("weight_access", "weights read, spiking", Fraction(synaptic, report.samples)),
        ("weight_access", "weights read, not spiking", Fraction(int(report.dense_macs.sum()))),
        ("potential_access", "potentials read and written", Fraction(potentials, report.samples)),
        ("static_step", "static, all steps", Fraction(report.steps)),
    ]
    prices = report.table.prices
    return [
        Extra(report.table.name, what, float(Fraction(str(prices[name].picojoules)) * often), prices[name].source)
        for name, what, often in rows
        if name in prices
    ]
