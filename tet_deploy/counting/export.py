"""An energy report as JSON and as a table of its layers in CSV; each carries prices, sources and policies."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from tet_deploy.counting.bootstrap import intervals
from tet_deploy.counting.break_even import break_even_values
from tet_deploy.counting.conventions import MEANINGS, WORDS
from tet_deploy.counting.extras import extras
from tet_deploy.counting.model import EnergyReport
from tet_deploy.counting.synapses import FED_BY, SYNAPTIC_KINDS
from tet_deploy.counting.tables import EnergyTable
from tet_deploy.counting.traffic import PER_EVENT, PER_STEP
from tet_deploy.files import Kind, begins_with, written_whole

LAYERS = Kind("a table of layers that tet_deploy wrote", begins_with(b"layer,kind,input_mean,"))
ENERGY = Kind("an energy report of tet_deploy", begins_with(b'{\n "unit": "pJ per inference; counts per inference;'))


def to_dict(report: EnergyReport) -> dict[str, Any]:
    """The report in plain JSON values: totals, per layer, and both per step; energies in picojoules per inference."""
    return {
        "unit": "pJ per inference; counts per inference; by_step is cumulative, per_step is not",
        "default": report.default,
        "samples": report.samples,
        "steps": report.steps,
        "runtime": report.runtime,
        "network": report.digest,
        "table": _prices(report.table),
        "beside": [
            _prices(priced.table) | {"energies": _energies(priced), "layers": _layer_energies(priced)}
            for priced in report.by_table[1:]
        ],
        "policies": dataclasses.asdict(report.policies),
        "notes": notes(report),
        "energies": _energies(report),
        "interval": intervals(report),
        "break_even": break_even_values(report),
        "extras": [row._asdict() for priced in report.by_table for row in extras(priced)],
        **report.summary(),
        "columns": PER_EVENT | PER_STEP,
        "layers": _layers(report),
    }


def _energies(report: EnergyReport) -> dict[str, Any]:
    return {
        name: {
            "words": WORDS[name],
            "meaning": MEANINGS[name],
            "mean": report.mean(name),
            "std": report.std(name),
            "by_step": report.by_step(name).tolist(),
        }
        for name in report.names
    }


def _prices(table: EnergyTable) -> dict[str, Any]:
    prices = {name: dataclasses.asdict(price) for name, price in table.prices.items()}
    return {"name": table.name, "description": table.description, "estimate": table.estimate, "prices": prices}


def notes(report: EnergyReport) -> list[str]:
    """What the numbers of this report rest on, in sentences."""
    found = [f"The default energy is '{WORDS[report.default]}': {MEANINGS[report.default]}."]
    found += [
        f"A layer that gets {FED_BY[kind]} is {text}."
        for kind, text in SYNAPTIC_KINDS.items()
        if kind in report.traffic.kinds
    ]
    if "pooled" not in report.traffic.kinds:
        found.append("No average pooling stands in this network (what there was is folded into weights).")
    elif report.policies.pool == "fold":
        found.append("Average pooling is counted as it is deployed: folded into the next layer, additions only.")
    else:
        found.append("Average pooling is counted unfolded: averages are formed by additions and then multiplied.")
    found += _said(report)
    rate, ann = WORDS["rate"], WORDS["ann"]
    zero_weights = "left out" if report.policies.zero_weights == "left out" else "included"
    found.append(f"Synapses whose weight is 0 are {zero_weights} ('{rate}' and '{ann}' always include them).")
    found.append(
        f"'{ann}' has the kernels as they were before average pooling was folded into them. Pooling itself costs nothing in "
        f"it, nor in '{rate}'."
    )
    for table in (report.table, *report.beside):
        if table.dense_mac is None:
            found.append(f"The table {table.name} has no price for a network without spikes, so '{ann}' is missing there.")
        if table.estimate:
            found.append(f"The table {table.name} is an estimate: its prices were not measured.")
        found += [
            f"{table.name}: the price of one {name} is a secondary number."
            for name, p in table.prices.items()
            if p.secondary
        ]
    return [*found, f"No energy prices memory accesses. '{WORDS['full']}' alone includes the neurons."]


def _said(report: EnergyReport) -> list[str]:
    """What the policies say of inputs and sums."""
    policies, found = report.policies, []
    if policies.ones == "added":
        found.append("An input of exactly 1 counts as additions, any other as multiplications.")
    elif policies.input == "event":
        found.append(
            "The layer that sees the input counts as multiplications, as in the literature, though an event count of 1 "
            "needs only an addition."
        )
    if policies.sums == "added":
        found.append("A sum of k spikes counts as k additions at each synapse.")
    if policies.still == "once":
        found.append("The layer that sees the still images is computed once, and its result added at every step.")
    return found


def _layers(report: EnergyReport) -> list[dict[str, Any]]:
    traffic, samples = report.traffic, report.samples
    counts = {column: traffic[column] / samples for column in (PER_EVENT | PER_STEP)}  # [L, T]
    means = traffic.input_mean.mean(axis=1)
    return [
        {
            "layer": energies["layer"],
            "kind": kind,
            "input_mean": float(means[row]),
            "counts": {column: float(value[row].sum()) for column, value in counts.items() if value[row].any()},
            "counts_per_step": {column: value[row].tolist() for column, value in counts.items() if value[row].any()},
            "energy_pj": energies["energy_pj"],
        }
        for row, (energies, kind) in enumerate(zip(_layer_energies(report), traffic.kinds, strict=True))
    ]


def _layer_energies(report: EnergyReport) -> list[dict[str, Any]]:
    """Each layer's energies by one table."""
    by_layer, spent = _by_layer(report), {name: report.picojoules(name) for name in report.names}  # [L, T]
    return [
        {
            "layer": layer,
            "energy_pj": {
                name: {"mean": float(mean[row]), "std": float(std[row]), "per_step": spent[name][row].tolist()}
                for name, (mean, std) in by_layer.items()
            },
        }
        for row, layer in enumerate(report.traffic.layers)
    ]


def layer_rows(report: EnergyReport) -> list[dict[str, Any]]:
    """One flat row per layer: kind, counts and energies per inference, then what they rest on.

    Energies are by the report's table; those by another that stands beside it have its name behind an @.
    """
    context = {
        "runtime": report.runtime,
        "samples": report.samples,
        "steps": report.steps,
        "network": report.digest,
        "table": report.table.name,
        "sources": _sources(report.table),
        **{f"policy_{name}": value for name, value in dataclasses.asdict(report.policies).items()},
        "default_energy": report.default,
    }
    tables = [("" if priced is report else f"@{priced.table.name}", _by_layer(priced)) for priced in report.by_table]
    context |= {f"sources@{table.name}": _sources(table) for table in report.beside}
    rows = []
    for number, layer in enumerate(_layers(report)):
        row = {name: layer[name] for name in ("layer", "kind", "input_mean")}
        row |= {column: layer["counts"].get(column, 0.0) for column in (PER_EVENT | PER_STEP)}
        for at_table, by_layer in tables:
            for name, (mean, std) in by_layer.items():
                row |= {f"{name}_pj_mean{at_table}": float(mean[number]), f"{name}_pj_std{at_table}": float(std[number])}
        rows.append(row | context)
    return rows


def _by_layer(report: EnergyReport) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Mean and standard deviation of each energy, float64 [L] both."""
    return {name: (report.by_layer(name), report.std_by_layer(name)) for name in report.names}


def _sources(table: EnergyTable) -> str:
    return "; ".join(f"{name} {price.picojoules} pJ: {price.source}" for name, price in table.prices.items())


def write_json(report: EnergyReport, path: str | os.PathLike[str]) -> Path:
    """Write `to_dict` as JSON, also over another one.

    Raises
    ------
    ArtifactError
        The file cannot be written, or another kind of file lies there.
    """
    with written_whole(path, ENERGY) as temporary:
        temporary.write_text(json.dumps(to_dict(report), indent=1) + "\n", encoding="utf-8")
    return Path(path)


def write_csv(report: EnergyReport, path: str | os.PathLike[str]) -> Path:
    """Write `layer_rows` as CSV, also over another such table.

    Raises
    ------
    ArtifactError
        The file cannot be written, or another kind of file lies there.
    """
    rows = layer_rows(report)
    with written_whole(path, LAYERS) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return Path(path)
