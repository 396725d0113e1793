"""What the templates of the page show, worked out from the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from tet_deploy.calibration_table import calibration_table
from tet_deploy.chips.resources import Resources
from tet_deploy.chips.tables import limit_table, population_table, rule_table, struck, verdict
from tet_deploy.counting.as_table import inferences, rate_table, summary_table
from tet_deploy.counting.conventions import MEANINGS, WORDS
from tet_deploy.counting.export import notes
from tet_deploy.counting.model import EnergyReport
from tet_deploy.counting.synapses import FED_BY
from tet_deploy.counting.traffic import NEURON_KINDS
from tet_deploy.errors import DataError
from tet_deploy.ir.certificates import certificate_table
from tet_deploy.ir.table import graph_rows
from tet_deploy.layout import Table
from tet_deploy.reporting import plots
from tet_deploy.reporting.called import REFERENCE, called
from tet_deploy.reporting.confusion_plot import confusion_plot, most_confused
from tet_deploy.reporting.data import ReportData
from tet_deploy.reporting.membrane_plot import membrane_plot
from tet_deploy.reporting.network_drawing import network_drawing
from tet_deploy.reporting.origin import HEAD
from tet_deploy.reporting.own_terms import folding_rows
from tet_deploy.reporting.sample_plot import sample_plot
from tet_deploy.reporting.units import energy_text, energy_unit, percent, significant
from tet_deploy.sensitivity_table import kept_table

_POOLS = {
    "average pool": "An average pool is part of the layer behind it, whose kernel grew by it.",
    "max pool": "A max pool of spikes is neurons, each of which fires if any of its inputs does.",
}


def contents(data: ReportData) -> dict[str, Any]:
    """What the templates ask for, by name."""
    return {
        "facts": {name: data.provenance[name] for name in HEAD if name in data.provenance},
        "confused": [] if data.confusion is None else most_confused(data.confusion),
        "graph": graph_rows(data.graph) if data.graph else [],
        "folding": _folding(folding_rows(data.graph) if data.graph else []),
        "of": _of(data),
        "reference": REFERENCE,
        "tiles": _tiles(data),
        "energy": _energy(data.energy, data.samples),
        "ranges": _range_tables(data),
        "resources": _resources(data.resources),
        "plots": _plots(data),
        "views": [sample_plot(view, f"sample-{index}") for index, view in enumerate(data.views)],
    }


def _folding(rows: list[dict[str, str]]) -> dict[str, Any] | None:
    """The layers that became others, and how that comes about in this network."""
    changed = [row for row in rows if row["written"] != row["deployed"]]
    said = ["Batch norms, where there were any, are part of the weights and biases, which leaves a layer's shape as it was."]
    said += [words for pool, words in _POOLS.items() if any(pool in row["written"] for row in changed)]
    said += [f"{len(changed)} of {len(rows)} layers stand there otherwise than written:" if changed else "No layer changed."]
    return {"changed": changed, "said": " ".join(said)} if rows else None


def _of(data: ReportData) -> str:
    """Which samples the accuracies of all stages are of, if of the same."""
    found = {data.accuracy_of.get(name, data.samples) for name in data.accuracy}
    return found.pop() if len(found) == 1 else ""


class _Tile(NamedTuple):
    """One of the large numbers at the top."""

    label: str
    value: str
    note: str = ""
    mark: str = ""


def _tiles(data: ReportData) -> list[_Tile]:
    stages = list(data.accuracy.items())
    tiles = [
        _Tile(f"Accuracy, {called(name)}", percent(value), _accuracy_note(data, name))
        for name, value in dict([*stages[:1], *stages[-1:]]).items()
    ]
    if data.mismatches:
        wrong = sum(mismatched(counts) for counts in data.mismatches.values())
        compared = sum(counts["compared"] for counts in data.mismatches.values())
        mark = "fail" if wrong or not compared else "pass"
        tiles.append(_Tile("Mismatches between runtimes", f"{wrong:,}", f"of {compared:,} values", mark))
    if data.energy:
        tiles += [_energy_tile(report) for report in data.energy.by_table]
    return tiles


def _accuracy_note(data: ReportData, name: str) -> str:
    of = data.accuracy_of.get(name, data.samples)
    if name not in data.accuracy_intervals:
        return of
    low, high = data.accuracy_intervals[name]
    return f"{percent(low)} to {percent(high)} with 95 % confidence{of and ', of '}{of}"


def _energy_tile(report: EnergyReport) -> _Tile:
    """The energy to quote by one table, and how the network without spikes compares."""
    name, mean = report.default, report.mean(report.default)
    note = f"± {energy_text(report.std(name))} over {report.samples:,} samples" if report.samples > 1 else "of one sample"
    if "ann" in report.names and mean > 0:
        dense = report.mean("ann")
        note += f"; one dense pass without spikes: {energy_text(dense)}, {significant(dense / mean)} times that"
    return _Tile(f"Energy per inference, {WORDS[name]}, table {report.table.label}", energy_text(mean), note)


def mismatched(counts: Mapping[str, int]) -> int:
    """Values of one runtime that differ from the reference."""
    return counts["spikes"] + counts["potentials"] + counts["readout"]


def _plots(data: ReportData) -> dict[str, str]:
    """Inline SVG by name; what the data allows. Its texts are escaped, so the page takes it as it is."""
    drawn = {}
    if data.accuracy_by_step:
        drawn["accuracy_by_step"] = plots.accuracy_by_step(data.accuracy_by_step)
    if data.confusion is not None:
        drawn["confusion"] = confusion_plot(data.confusion)
    if data.membranes:
        drawn["membranes"] = membrane_plot(data.membranes)
    if data.firing_rates:
        drawn["firing_rates"] = plots.firing_rates(data.firing_rates)
    if data.energy:
        drawn["energy_by_layer"] = plots.energy_by_layer(data.energy)
        for number, report in enumerate(data.energy.by_table):
            drawn[f"named_energies_{number}"] = plots.named_energies(report, number)
    if data.energy and len(data.energy_accuracy_by_step):
        if len(data.energy_accuracy_by_step) != data.energy.steps:
            raise DataError(
                f"energy_accuracy_by_step: needs one accuracy for each of the {data.energy.steps} counted steps; "
                f"got {len(data.energy_accuracy_by_step)}."
            )
        drawn["accuracy_over_energy"] = plots.accuracy_over_energy(data.energy, data.energy_accuracy_by_step)
    if data.graph:
        drawn["network"] = network_drawing(data.graph, data.firing_rates, data.latency)
    if data.training:
        drawn["training"] = plots.training_curves(data.training)
    return drawn


def _range_tables(data: ReportData) -> list[Table]:
    """What no frames can make a quantized network do, and what quantization made of it."""
    if data.graph is None or not data.graph.is_quantized:
        return []
    certified = [certificate_table(data.graph, data.latency)] if data.latency else []
    return [*certified, *filter(None, [calibration_table(data.graph.metadata), kept_table(data.graph)])]


def _resources(found: Resources | None) -> dict[str, Any] | None:
    """What the page's section on a chip shows."""
    if found is None:
        return None
    tables = [population_table(found, "The network"), rule_table(found), limit_table(found)]
    return {"fits": found.fits, "verdict": verdict(found), "struck": struck(found), "tables": tables}


def _energy(report: EnergyReport | None, samples: str) -> dict[str, Any] | None:
    """What the page's energy section shows; `samples` says of which samples."""
    if report is None:
        return None
    traffic, additions = report.traffic, report.additions()
    macs, synops = report.multiplications(report.policies.input), traffic["synops"]
    spent = [priced.by_layer(report.default) for priced in report.by_table]
    layers = [
        {
            "layer": layer,
            "kind": FED_BY[kind],
            "rate": float(traffic.input_mean[row].mean()) if kind in ("spike", "pooled") else None,
            "events": float(traffic["events"][row].sum()) / report.samples,
            "synops": float(synops[row].sum()) / report.samples,
            "macs": float(macs[row].sum()) / report.samples,
            "additions": float(additions[row].sum()) / report.samples,
            "energies": [float(energy[row]) for energy in spent],
        }
        for row, (layer, kind) in enumerate(zip(traffic.layers, traffic.kinds, strict=True))
        if kind not in (*NEURON_KINDS, "add")
    ]
    return {
        "report": report,
        "inferences": inferences(report, samples),
        "units": [_unit(priced) for priced in report.by_table],
        "layers": layers,
        "named": {
            name: meaning for name, meaning in MEANINGS.items() if any(name in priced.names for priced in report.by_table)
        },
        "words": WORDS,
        "tables": [table for table in (summary_table(report), rate_table(report)) if table],
        "notes": notes(report),
    }


def _unit(priced: EnergyReport) -> dict[str, Any]:
    """The one unit of a table's energies: that in which the largest of them reads well."""
    picojoules, name = energy_unit(max(priced.mean(energy) for energy in priced.names))
    return {"picojoules": picojoules, "name": name}
