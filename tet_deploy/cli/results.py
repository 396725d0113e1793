"""How a command prints its result: as text for people, or as one JSON object."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

import typer

from tet_deploy import counting, terminal
from tet_deploy.debugging import Diagnosis, cause_table
from tet_deploy.energy_curve import curve_table, curve_values
from tet_deploy.links.deviation import Deviation
from tet_deploy.links.tables import deviation_tables, deviation_values
from tet_deploy.links.vectors import Checked
from tet_deploy.passes.snap_to_grid import OFF_GRID
from tet_deploy.range_totals import RangeTotals
from tet_deploy.validation import Agreement, agreement_table
from tet_deploy.wording import number_of
from tet_deploy.work import Done


def print_result(as_json: bool, values: dict[str, Any], text: str) -> None:
    """Print one of the two, as `--json` asks."""
    if as_json:
        print_json(values)
    else:
        terminal.say(text)


def print_json(values: dict[str, Any]) -> None:
    """Print one JSON object."""
    print(json.dumps(values, indent=2))


def show_run(done: Done, as_json: bool) -> None:
    """What `run` and a merge of its parts print."""
    found = done.result
    result = {"runtime": found.runtime, "samples": found.samples, "steps": found.steps, "of": done.which}
    text = f"{found.runtime}: ran {done.which}, {number_of('step', found.steps)} each"
    if found.accuracy is not None:
        result["accuracy"] = found.accuracy
        text += f"; accuracy {found.accuracy:.2%}"
    result["decisions"] = found.decisions.tolist()
    print_result(as_json, result | _ranges(found.ranges), text)
    tell_ranges(found.ranges)


def show_validate(done: Done, as_json: bool) -> None:
    """What `validate` and a merge of its parts print; exit code 1 if a value differs."""
    agreements, on_grid = done.result.agreements, done.result.equality_expected
    if as_json:
        result = {name: _agreement(agreement) for name, agreement in agreements.items()}
        print_json({"of": done.which, "equality_expected": on_grid} | result | _ranges(done.result.ranges))
    else:
        terminal.say(agreement_table(agreements, done.which))
        for agreement in agreements.values():
            if agreement.first is not None:
                terminal.say(f"{agreement.runtime}: {agreement.first}")
        if not on_grid:
            terminal.say(f"{OFF_GRID} Here: --snap-frames.")
    tell_ranges(done.result.ranges)
    raise typer.Exit(0 if all(agreement.equal for agreement in agreements.values()) else 1)


def show_compare(done: Done, as_json: bool, why: Diagnosis | None = None) -> None:
    """What `validate` of two links and a merge of its parts print; exit code 1 if links of one network differ."""
    found: Deviation = done.result
    if as_json:
        causes = None if why is None else dataclasses.asdict(why)
        print_json({"of": done.which, **deviation_values(found), **_ranges(found.ranges), "diagnosis": causes})
    else:
        told_below = why is not None and why.first is not None
        for table in deviation_tables(dataclasses.replace(found, first_spike=None) if told_below else found, done.which):
            terminal.say(table)
        for line in () if why is None else (cause_table(why), str(why)):
            terminal.say(line)
    tell_ranges(found.ranges)
    raise typer.Exit(1 if found.same_network and not found.equal else 0)


def show_vectors(checked: Checked, as_json: bool) -> None:
    """What `validate --vectors` prints; exit code 1 if a value differs."""
    found, (steps, samples) = checked.comparison, checked.vectors.frames.shape[:2]
    values = {"runtime": checked.runtime, "inputs": checked.vectors.inputs, "samples": samples, "steps": steps}
    print_result(as_json, values | found._asdict(), str(checked))
    raise typer.Exit(1 if found.differ else 0)


def show_energy(done: Done, as_json: bool) -> None:
    """What `energy` and a merge of its parts print."""
    if as_json:
        print_json({"of": done.which, **counting.to_dict(done.result), **_ranges(done.result.ranges)})
    else:
        report = done.result
        tables = (counting.summary_table(report), counting.rate_table(report), counting.layer_table(report))
        for table in (counting.energy_table(report, done.which), *tables):
            if table is not None:
                terminal.say(table)
    tell_ranges(done.result.ranges)


def show_curve(done: Done, as_json: bool) -> None:
    """What `energy --curve` and a merge of its parts print."""
    if as_json:
        print_json(_curve(done))
    else:
        terminal.say(curve_table(done.result, done.which))
    tell_ranges(done.result.ranges)


def show_curves(done: Mapping[str, Done], as_json: bool) -> None:
    """What `energy --curve --beside` prints: a curve for each file of a network."""
    if as_json:
        print_json({"networks": {name: _curve(each) for name, each in done.items()}})
    for name, each in done.items():
        if not as_json:
            terminal.say(curve_table(each.result, f"{name}, {each.which}"))
        tell_ranges(each.result.ranges)


def _curve(done: Done) -> dict[str, Any]:
    return {"of": done.which, **curve_values(done.result), **_ranges(done.result.ranges)}


def tell_ranges(totals: RangeTotals) -> None:
    """Say in a line that values left the chip's range."""
    if totals.said:
        terminal.tell(f"warning: {totals}. {totals.advice('tet-deploy quantize --calibration')}")


def _ranges(totals: RangeTotals) -> dict[str, Any]:
    return {"ranges": totals.to_state()}


SHOW: dict[str, Callable[[Done, bool], None]] = {
    "run": show_run,
    "validate": show_validate,
    "compare": show_compare,
    "energy": show_energy,
    "curve": show_curve,
}


def _agreement(agreement: Agreement) -> dict[str, Any]:
    first = None if agreement.first is None else dataclasses.asdict(agreement.first)
    return agreement.counts() | {"samples": agreement.samples, "decisions": agreement.decisions, "first_divergence": first}
