"""An energy report as plain JSON values, without loss, so that parts of a data set can be counted apart and added."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from tet_deploy import plain
from tet_deploy.counting.conventions import MEANINGS, Policies
from tet_deploy.counting.model import EnergyReport, tallied
from tet_deploy.counting.synapses import SYNAPTIC_KINDS
from tet_deploy.counting.tables import OPERATIONS, OPTIONAL, EnergyTable, Price, choose
from tet_deploy.counting.totals import LARGEST, Totals
from tet_deploy.counting.traffic import NEURON_KINDS, PER_EVENT, PER_STEP
from tet_deploy.errors import ArgumentError, ArtifactError, DataError, shown
from tet_deploy.range_totals import RangeTotals

_MOST_DIGITS = 4000  # of an integer; sums of squares of energies have some fifty, with prices of 1e-300 pJ a thousand
_LARGEST_INPUT = 10**300  # of a sum of floats, whose mean must be one


def to_state(report: EnergyReport) -> dict[str, Any]:
    """In plain JSON values, with the prices themselves: another version may have others under the same name."""
    traffic = report.traffic
    return {
        "layers": list(traffic.layers),
        "kinds": list(traffic.kinds),
        "input_fed": [int(fed) for fed in traffic.input_fed],
        "samples": traffic.samples,
        "steps": traffic.steps,
        "per_event": {name: counts.tolist() for name, counts in traffic.per_event.items()},
        "per_step": {name: counts.tolist() for name, counts in traffic.per_step.items()},
        "input_sum": [[[total.numerator, total.denominator] for total in row] for row in traffic.input_sum],
        "input_size": traffic.input_size.tolist(),
        "static_input": int(traffic.static_input),
        "tables": [dataclasses.asdict(table) for table in (report.table, *report.beside)],
        "policies": dataclasses.asdict(report.policies),
        "dense_macs": report.dense_macs.tolist(),
        "squares": {table: {name: list(sums) for name, sums in found.items()} for table, found in report.squares.items()},
        "operations": report.operations.T.tolist(),
        "runtime": report.runtime,
        "digest": report.digest,
        "ranges": report.ranges.to_state(),
    }


def from_state(state: Any) -> EnergyReport:
    """What `to_state` gave.

    Raises
    ------
    ArtifactError
        Something else; the message names the field.
    """
    state = plain.mapping(state, "energy")
    names, kinds = plain.texts(state, "layers"), plain.texts(state, "kinds")
    rows, steps = len(names), plain.count(state, "steps", least=1)
    if not rows:
        raise plain.damaged("layers: must be one or more")
    if len(kinds) != rows or not set(kinds) <= {*SYNAPTIC_KINDS, *NEURON_KINDS, "add"}:
        raise plain.damaged(f"kinds: must be {rows} kinds of layers")
    try:
        traffic = Totals(
            layers=tuple(names),
            kinds=tuple(kinds),
            input_fed=_flags("input_fed", plain.counts(state, "input_fed", length=rows)),
            samples=plain.count(state, "samples", least=1),
            per_event=_columns(state, "per_event", PER_EVENT, rows, steps),
            per_step=_columns(state, "per_step", PER_STEP, rows, None),
            input_sum=_fractions(state, kinds, steps),
            input_size=plain.counts(state, "input_size", length=rows),
            static_input=bool(_flags("static_input", plain.count(state, "static_input"))),
        )
    except DataError as error:
        raise ArtifactError(f"per_event, per_step, samples: {error}") from error
    dense_macs = plain.counts(state, "dense_macs", length=rows)
    if dense_macs.sum(dtype=np.float64) * traffic.samples * steps > LARGEST:
        raise plain.damaged("dense_macs: must add up to at most 2^60 over all samples")
    policies = plain.mapping(plain.get(state, "policies"), "policies")
    priced = _tables(state)
    try:
        chosen = Policies(
            **{field.name: plain.text(policies, field.name, "policies", most=100) for field in dataclasses.fields(Policies)}
        )
    except ArgumentError as error:
        raise plain.damaged(str(error)) from error
    report = EnergyReport(
        traffic=traffic,
        table=priced[0],
        beside=priced[1:],
        policies=chosen,
        dense_macs=dense_macs,
        squares=_squares(state, [table.name for table in priced], rows),
        operations=_operations(state, traffic.samples),
        runtime=plain.text(state, "runtime"),
        digest=plain.text(state, "digest"),
        ranges=RangeTotals.from_state(plain.get(state, "ranges")),
    )
    *operations, often = report.operations.T.tolist()
    summed = [sum(map(operator.mul, column, often)) for column in operations]
    if summed != [report.multiplications(chosen.input).sum(), report.additions().sum()]:
        raise plain.damaged("operations: do not add up to the counts")
    for each in report.by_table:
        for name in each.names:
            _check_spread(each, name)
    return report


def _columns(
    state: Mapping[str, Any], key: str, names: Mapping[str, str], rows: int, steps: int | None
) -> dict[str, np.ndarray]:
    found = plain.mapping(plain.get(state, key), key)
    if steps is None:
        return {name: plain.counts(found, name, key, length=rows) for name in names}
    return {name: plain.grid(found, name, rows, steps, key) for name in names}


def _flags(key: str, value: Any) -> np.ndarray:
    if np.max(value) > 1:
        raise plain.damaged(f"{key}: must be 0 or 1")
    return np.asarray(value, dtype=bool)


def _tables(state: Mapping[str, Any]) -> tuple[EnergyTable, ...]:
    try:
        return choose([_table(plain.mapping(entry, "tables")) for entry in plain.entries(state, "tables")], quantized=False)
    except ArgumentError as error:
        raise plain.damaged(f"tables: {error}") from error


def _table(entry: Mapping[str, Any]) -> EnergyTable:
    name, description = plain.text(entry, "name", "tables"), plain.text(entry, "description", "tables")
    prices = {each: _price(entry, each) for each in OPERATIONS}
    return EnergyTable(name=name, description=description, estimate=plain.flag(entry, "estimate", "tables"), **prices)


def _price(entry: Mapping[str, Any], operation: str) -> Any:
    value, where = plain.get(entry, operation, "tables"), f"tables.{operation}"
    if value is None and operation in OPTIONAL:
        return None
    price = plain.mapping(value, where)
    return Price(
        picojoules=plain.get(price, "picojoules", where),
        source=plain.text(price, "source", where),
        secondary=plain.flag(price, "secondary", where),
    )


def _fractions(state: Mapping[str, Any], kinds: list[str], steps: int) -> np.ndarray:
    value, rows = plain.get(state, "input_sum"), len(kinds)
    right = isinstance(value, list) and len(value) == rows
    right = right and all(isinstance(row, list) and len(row) == steps for row in value)
    if not right or not all(_is_ratio(pair) for row in value for pair in row):
        raise plain.damaged(f"input_sum: must be {rows} x {steps} ratios of integers")
    found = np.empty((rows, steps), dtype=object)
    for row, step in np.ndindex(rows, steps):
        found[row, step] = total = Fraction(*value[row][step])
        if kinds[row] != "analog" and not (total.denominator == 1 and 0 <= total <= LARGEST):
            ratio = shown(value[row][step])
            raise plain.damaged(f"input_sum: spikes add up to whole numbers of 0 to 2^60; found {ratio}")
    return found


def _is_ratio(pair: Any) -> bool:
    right = isinstance(pair, list) and len(pair) == 2 and all(_is_integer(number) for number in pair)
    return right and pair[1] > 0 and abs(pair[0]) <= pair[1] * _LARGEST_INPUT


def _is_integer(value: Any) -> bool:
    return type(value) is int and abs(value) < 10**_MOST_DIGITS


def _operations(state: Mapping[str, Any], samples: int) -> np.ndarray:
    value = plain.entries(state, "operations", length=3)
    length = len(plain.counts({"operations": value[0]}, "operations"))
    columns = plain.grid({"operations": value}, "operations", 3, length)
    if sum(columns[2].tolist()) != samples:
        raise plain.damaged(f"operations: must be those of {samples} samples")
    return tallied(columns.T)


def _squares(state: Mapping[str, Any], names: list[str], rows: int) -> dict[str, dict[str, tuple[int, ...]]]:
    squares = plain.mapping(plain.get(state, "squares"), "squares")
    found: dict[str, dict[str, tuple[int, ...]]] = {}
    for table in names:
        energies = plain.mapping(plain.get(squares, table, "squares"), "squares")
        for name, sums in energies.items():
            right = isinstance(sums, list) and len(sums) == rows + 1 and all(_is_integer(one) and one >= 0 for one in sums)
            if name not in MEANINGS or not right:
                raise plain.damaged(f"squares: those of {shown(name)} must be {rows + 1} integers")
            found.setdefault(table, {})[name] = tuple(sums)
    return found


def _check_spread(report: EnergyReport, name: str) -> None:
    """See that the squares are there and fit the sums: no variance is negative."""
    try:
        if not (np.isfinite(report.std(name)) and np.isfinite(report.std_by_layer(name)).all()):
            raise ValueError
    except (KeyError, ValueError, OverflowError) as error:
        raise plain.damaged(f"squares: do not fit the counts of {name}") from error
