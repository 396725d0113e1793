"""An energy report as tables for people: the named energies by each table of prices, and what each layer does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tet_deploy.counting.conventions import ENERGIES
from tet_deploy.counting.traffic import NEURON_KINDS
from tet_deploy.layout import Table

if TYPE_CHECKING:
    from tet_deploy.counting.model import EnergyReport


def energy_table(report: EnergyReport, samples: str = "") -> Table:
    """The named energies of one inference, by each table; `samples` says of which samples."""
    rows = []
    for name in (name for name in ENERGIES if any(name in priced.names for priced in report.by_table)):
        row: list[object] = [f"{name} (default)" if name == report.default else name]
        for priced in report.by_table:
            row += _nanojoules(priced.mean(name), priced.std(name)) if name in priced.names else ("", "")
        rows.append((*row, ENERGIES[name]))
    samples = samples or f"{report.samples:,} samples"
    title = f"Energy per inference in nJ, mean and standard deviation over {samples}, {report.steps} steps each"
    tables = (column for priced in report.by_table for column in (priced.table.name, "std"))
    return Table(title, ("energy", *tables, "what it is"), rows, text=("what it is",))


def layer_table(report: EnergyReport) -> Table:
    """Operations and the default energy of each synaptic layer, means per inference."""
    counts = {
        "events": report.traffic["events"],
        "multiplications": report.multiplications(report.policies.input),
        "additions": report.additions(),
    }
    means = {name: value.sum(axis=1) / report.samples for name, value in counts.items()}
    means |= {f"nJ by {priced.table.name}": priced.by_layer(report.default) / 1000 for priced in report.by_table}
    rows = []
    for index, (layer, kind) in enumerate(zip(report.traffic.layers, report.traffic.kinds, strict=True)):
        if kind not in NEURON_KINDS:
            rows.append((layer, kind, *(f"{values[index]:,.1f}" for values in means.values())))
    title = f"Per layer and inference; energy '{report.default}'"
    return Table(title, ("layer", "kind", *means), rows, text=("kind",))


def _nanojoules(*picojoules: float) -> tuple[str, ...]:
    return tuple(f"{value / 1000:,.3f}" for value in picojoules)
