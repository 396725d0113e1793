"""An energy report as JSON and as a table of its layers in CSV; each carries prices, sources and policies."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from tet_deploy.counting.conventions import CACHED, ENERGIES
from tet_deploy.counting.model import EnergyReport
from tet_deploy.counting.synapses import SYNAPTIC_KINDS
from tet_deploy.counting.tables import EnergyTable
from tet_deploy.counting.traffic import PER_EVENT, PER_STEP
from tet_deploy.files import Kind, begins_with, written_whole

LAYERS = Kind("a table of layers that tet_deploy wrote", begins_with(b"layer,kind,input_mean,"))
ENERGY = Kind("an energy report of tet_deploy", begins_with(b'{\n "unit": "pJ per inference; counts per inference;'))


def to_dict(report: EnergyReport) -> dict[str, Any]:
    """The report in plain JSON values: totals, per layer, and both per step; energies in picojoules per inference."""
    explained = ENERGIES | {"cached": CACHED}
    totals = {
        name: {
            "meaning": explained[name],
            "mean": report.mean(name),
            "std": report.std(name),
            "by_step": report.by_step(name).tolist(),
        }
        for name in report.names
    }
    return {
        "unit": "pJ per inference; counts per inference; by_step is cumulative, per_step is not",
        "default": report.default,
        "samples": report.samples,
        "steps": report.steps,
        "runtime": report.runtime,
        "network": report.digest,
        "table": _prices(report.table),
        "beside": [_prices(table) for table in report.beside],
        "policies": dataclasses.asdict(report.policies),
        "notes": notes(report),
        "energies": totals,
        **report.summary(),
        "columns": PER_EVENT | PER_STEP,
        "layers": _layers(report),
    }


def _prices(table: EnergyTable) -> dict[str, Any]:
    prices = {name: dataclasses.asdict(price) for name, price in table.prices.items()}
    return {"name": table.name, "description": table.description, "prices": prices}


def notes(report: EnergyReport) -> list[str]:
    """What the numbers of this report rest on, in sentences."""
    found = [f"The default energy is '{report.default}': {ENERGIES[report.default]}."]
    found += [
        f"A layer of kind '{kind}' is {text}." for kind, text in SYNAPTIC_KINDS.items() if kind in report.traffic.kinds
    ]
    if "pooled" not in report.traffic.kinds:
        found.append("No average pooling stands in this network (what there was is folded into weights).")
    elif report.policies.pool == "fold":
        found.append("Average pooling is counted as it is deployed: folded into the next layer, additions only.")
    else:
        found.append("Average pooling is counted unfolded: averages are formed by additions and then multiplied.")
    if report.policies.input == "event":
        found.append(
            "The layer that sees the input counts as multiplications, as in the literature, though an event count of 1 "
            "needs only an addition."
        )
    zero_weights = "left out" if report.policies.zero_weights == "left out" else "included"
    found.append(f"Synapses whose weight is 0 are {zero_weights} ('rate' and 'ann' always include them).")
    found.append(
        "'ann' is one dense pass with the kernels as they were before average pooling was folded into them. Pooling itself "
        "costs nothing in it, nor in 'rate'."
    )
    for table in (report.table, *report.beside):
        if table.dense_mac is None:
            found.append(f"The table {table.name} has no price for a network without spikes, so 'ann' is missing there.")
        found += [
            f"{table.name}: the price of one {name} is a secondary number."
            for name, p in table.prices.items()
            if p.secondary
        ]
    return [*found, "Memory accesses are not priced. 'full' alone includes the neurons."]


def _layers(report: EnergyReport) -> list[dict[str, Any]]:
    traffic, samples = report.traffic, report.samples
    counts = {column: traffic[column] / samples for column in (PER_EVENT | PER_STEP)}  # [L, T]
    means, spent = traffic.input_mean.mean(axis=1), {name: report.picojoules(name) for name in report.names}  # [L, T]
    by_layer = {name: (report.by_layer(name), report.std_by_layer(name)) for name in report.names}
    return [
        {
            "layer": layer,
            "kind": kind,
            "input_mean": float(means[row]),
            "counts": {column: float(value[row].sum()) for column, value in counts.items() if value[row].any()},
            "counts_per_step": {column: value[row].tolist() for column, value in counts.items() if value[row].any()},
            "energy_pj": {
                name: {"mean": float(mean[row]), "std": float(std[row]), "per_step": spent[name][row].tolist()}
                for name, (mean, std) in by_layer.items()
            },
        }
        for row, (layer, kind) in enumerate(zip(traffic.layers, traffic.kinds, strict=True))
    ]


def layer_rows(report: EnergyReport) -> list[dict[str, Any]]:
    """One flat row per layer: kind, counts and energies per inference, then what they rest on."""
    policies = dataclasses.asdict(report.policies)
    context = {
        "runtime": report.runtime,
        "samples": report.samples,
        "steps": report.steps,
        "table": report.table.name,
        "sources": "; ".join(f"{name} {price.picojoules} pJ: {price.source}" for name, price in report.table.prices.items()),
        **{f"policy_{name}": value for name, value in policies.items()},
        "default_energy": report.default,
    }
    rows = []
    for layer in _layers(report):
        row = {name: layer[name] for name in ("layer", "kind", "input_mean")}
        row |= {column: layer["counts"].get(column, 0.0) for column in (PER_EVENT | PER_STEP)}
        for name, value in layer["energy_pj"].items():
            row |= {f"{name}_pj_mean": value["mean"], f"{name}_pj_std": value["std"]}
        rows.append(row | context)
    return rows


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
