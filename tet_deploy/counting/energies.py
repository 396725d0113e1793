"""What each named energy adds up: a list of terms, each a price times a counted column of some layers.

Prices are decimals and counts are integers, so an energy is an exact rational; it becomes a float when it is read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from tet_deploy.counting.conventions import PARTS, Policies
from tet_deploy.counting.tables import EnergyTable

MACS, ADDITIONS, ELEMENTS, NEURONS = PARTS
Column = Callable[[str], np.ndarray]  # name -> int64 [L, ...], steps last but for samples


class Layers(NamedTuple):
    """What the terms need to know of the L layers, besides their counts.

    Attributes
    ----------
    kinds, input_fed
        As in `Traffic`.
    dense_macs
        int64 [L]: multiply-accumulates of the dense pass.
    input_size
        int64 [L]: what a sum over a layer's input is divided by to give its mean; 0 where it has none.
    """

    kinds: Sequence[str]
    input_fed: np.ndarray
    dense_macs: np.ndarray
    input_size: np.ndarray


@dataclass(frozen=True)
class Term:
    """One price times one column.

    Attributes
    ----------
    part
        One of `PARTS`.
    price
        Picojoules of one counted operation, exactly.
    column
        Of `Traffic`, or "dense_macs".
    share
        Per layer, how much of what is counted costs that price; 0 where it costs nothing, negative where it is taken off.
    once
        Whether it is paid in the first step only.
    """

    part: str
    price: Fraction
    column: str
    share: tuple[Fraction, ...]
    once: bool = False


def terms(name: str, layers: Layers, table: EnergyTable, policies: Policies) -> list[Term]:
    """The terms of one named energy, see `conventions.MEANINGS`."""
    kinds = np.array(layers.kinds)
    every, analog = np.ones(len(kinds), bool), kinds == "analog"

    def term(part: str, price: str, column: str, rows: np.ndarray, once: bool = False, sign: int = 1) -> Term:
        return Term(part, _price(table, price), column, tuple(Fraction(sign * int(row)) for row in rows), once)

    def counted(column: str) -> str:
        return column if policies.zero_weights == "counted" else f"{column}_effective"

    if name == "ann":
        return [term(MACS, "dense_mac", "dense_macs", every, once=True)]
    if name == "rate":
        share = tuple(
            Fraction(int(macs), int(size)) if size and not is_analog else Fraction(0)
            for macs, size, is_analog in zip(layers.dense_macs, layers.input_size, analog, strict=True)
        )
        firing = Term(ADDITIONS, _price(table, "addition"), "input_sum", share)
        return [term(MACS, "mac", "dense_macs", analog), firing]

    policies = policies.of(name)
    dense, folded, one_by_one = policies.input == "dense", policies.pool == "fold", policies.sums == "added"
    ways = (
        (MACS, "mac", "mac_dense" if dense else "synops", kinds == "analog"),
        (ADDITIONS, "addition", "synops", kinds == "spike"),
        (ADDITIONS, "addition", "pool_synops", kinds == "pooled") if folded else (MACS, "mac", "synops", kinds == "pooled"),
        (ADDITIONS, "addition", "spike_synops", kinds == "graded")
        if one_by_one
        else (MACS, "mac", "synops", kinds == "graded"),
    )
    once = layers.input_fed if policies.still == "once" else ~every
    found = []
    for rows, in_step_1 in ((once, True), (~once, False)):
        found += [term(part, price, counted(column), fed & rows, in_step_1) for part, price, column, fed in ways]
        if policies.ones == "added":
            ones = counted("unit_synops"), analog & rows, in_step_1
            found += [term(MACS, "mac", *ones, sign=-1), term(ADDITIONS, "addition", *ones)]
    if not folded:
        found.append(term(ADDITIONS, "addition", "pool_additions", kinds == "pooled"))
    found.append(term(ELEMENTS, "element_addition", "outputs", once))
    if name == "full":
        found += [term(ELEMENTS, "element_addition", column, every) for column in ("bias_additions", "residual_additions")]
        neurons = ("neuron_update", "neuron_updates"), ("spike", "spikes"), ("leak_multiplication", "leak_multiplications")
        found += [term(NEURONS, price, column, every) for price, column in neurons]
        more = {"soft_reset_lif": "spikes", "cuba_lif": "outputs"}  # additions of neurons
        found += [term(NEURONS, "element_addition", column, kinds == kind) for kind, column in more.items()]
    return [some for some in found if any(some.share)] or found[:1]


def denominator(found: Sequence[Term]) -> int:
    """The smallest number by which all energies of these terms become whole."""
    return math.lcm(*((term.price * share).denominator for term in found for share in term.share))


def amounts(found: Sequence[Term], column: Column, unit: int) -> np.ndarray:
    """Energy in units of 1/unit picojoules, Python ints [L, ...] as the columns have them; `once` columns at [:, 0] only.

    Parameters
    ----------
    column
        Gives int64 [L, T] or [L, T, B].
    """
    total: np.ndarray | None = None
    for term in found:
        factors = np.array([int(term.price * share * unit) for share in term.share], dtype=object)
        counts = column(term.column).astype(object)
        if term.once:
            counts[:, 1:] = 0
        part = factors.reshape(-1, *(1,) * (counts.ndim - 1)) * counts
        total = part if total is None else total + part
    assert total is not None
    return total


def counted(found: Sequence[Term], part: str, column: Column) -> np.ndarray:
    """Operations behind one part of an energy but `rate`, whatever they cost: int64 as the columns have them."""
    total = np.zeros_like(column("events"))
    for term in found:
        if term.part == part:
            counts = np.array(column(term.column))
            if term.once:
                counts[:, 1:] = 0
            total += np.array([int(share) for share in term.share]).reshape(-1, *(1,) * (counts.ndim - 1)) * counts
    return total


def price_of(found: Sequence[Term], part: str) -> Fraction:
    """Picojoules of one operation of that part; 0 where there is none. All terms of multiplications have one price."""
    return next((term.price for term in found if term.part == part), Fraction(0))


def per_sample(found: Sequence[Term], column: Column, unit: int) -> np.ndarray:
    """Energy of each inference in units of 1/unit picojoules: Python ints [L, B] from columns int64 [L, T, B]."""

    def over_time(name: str) -> np.ndarray:
        return np.asarray(column(name).sum(axis=1, keepdims=True))

    def first(name: str) -> np.ndarray:
        return column(name)[:, :1]

    each, once = [term for term in found if not term.once], [term for term in found if term.once]
    parts = [amounts(some, counts, unit)[:, 0] for some, counts in ((each, over_time), (once, first)) if some]
    return np.asarray(sum(parts[1:], start=parts[0]))


def _price(table: EnergyTable, operation: str) -> Fraction:
    return Fraction(str(table.prices[operation].picojoules))  # as it is written, 0.9 and not its nearest float
