"""An energy report as tables for people: the named energies by each table of prices, what that rests on, and each layer."""

from __future__ import annotations

from fractions import Fraction

from tet_deploy.counting.bootstrap import CONFIDENCE, RESAMPLES, SEED, intervals
from tet_deploy.counting.break_even import break_even
from tet_deploy.counting.conventions import MEANINGS, WORDS
from tet_deploy.counting.extras import extras
from tet_deploy.counting.model import EnergyReport
from tet_deploy.counting.synapses import FED_BY
from tet_deploy.counting.traffic import NEURON_KINDS
from tet_deploy.layout import Table
from tet_deploy.wording import number_of

# What stands in place of a break-even rate, in the order of the title's words.
_NO_RATE = {"any": "at every rate it costs less", "none": "at no rate does it cost less", "-": "nothing to compare with"}


def energy_table(report: EnergyReport, samples: str = "") -> Table:
    """The named energies of one inference, by each table; `samples` says of which samples."""
    rows = []
    for name in (name for name in MEANINGS if any(name in priced.names for priced in report.by_table)):
        row: list[object] = [f"{WORDS[name]} (default)" if name == report.default else WORDS[name]]
        for priced in report.by_table:
            mean, std = _nanojoules(priced.mean(name), priced.std(name)) if name in priced.names else ("", "")
            row += mean, std if report.samples > 1 else ""  # one sample does not deviate from itself
        rows.append((*row, MEANINGS[name]))
    of = "mean and standard deviation over" if report.samples > 1 else "of"
    title = f"Energy per inference in nJ, {of} {inferences(report, samples)}"
    title += f"; with {report.policies.unusual}" if report.policies.unusual else ""
    tables = (column for priced in report.by_table for column in (priced.table.label, "std"))
    return Table(title, ("energy", *tables, "what it is"), rows, text=("what it is",))


def inferences(report: EnergyReport, samples: str) -> str:
    """What the numbers are of: samples, by default their number, and how many steps each of them took."""
    return f"{samples or number_of('sample', report.samples)}, {number_of('step', report.steps)} each"


def summary_table(report: EnergyReport) -> Table | None:
    """How sure the default energy is, and extras that no energy includes, by each table; None where there is neither."""
    priced, sure = report.by_table, intervals(report)["tables"]
    rows: list[tuple[str, ...]] = []
    title = f"In nJ, of the default energy, '{WORDS[report.default]}'"
    if report.samples > 1:
        between = (" to ".join(_nanojoules(*sure[each.table.name])) for each in priced)
        rows.append((f"{100 * CONFIDENCE:.0f} % interval of the mean", *between))
        title += f"; interval of {RESAMPLES:,} resamples, seed {SEED}"
    found = [{extra.what: extra for extra in extras(each)} for each in priced]
    for what in dict.fromkeys(what for some in found for what in some):
        cells = (_nanojoules(some[what].picojoules)[0] if what in some else "" for some in found)
        rows.append((f"extra, in no energy above: {what}", *cells))
    return Table(title, ("what", *(each.table.label for each in priced)), rows) if rows else None


def rate_table(report: EnergyReport) -> Table | None:
    """Firing rates, and those at which it would cost the same without spikes; None where no layer is fed by spikes."""
    found = [break_even(priced) for priced in report.by_table]
    places = ("all layers", *report.traffic.layers)
    by_place = [*zip(*((each.network, *each.layers) for each in found), strict=True)]
    alike = all(rate.measured == rates[0].measured for rates in by_place for rate in rates)
    measured = report.by_table[:1] if alike else report.by_table
    rows = []
    for place, rates in zip(places, by_place, strict=True):
        if any(rate.measured is not None for rate in rates):
            shown = (*(rate.measured for rate in rates[: len(measured)]), *(rate.break_even for rate in rates))
            rows.append((place, *map(_percent, shown)))
    columns = ["rate"] if alike else [f"rate by {priced.table.label}" for priced in measured]
    columns += [f"break-even by {priced.table.label}" for priced in report.by_table]
    title = f"Firing rate, weighted by synapses, and the one at which it costs as much as '{WORDS['ann']}'"
    title += "".join(f"; {word}: {meaning}" for word, meaning in _NO_RATE.items() if any(word in row[1:] for row in rows))
    return Table(title, ("fed by spikes", *columns), rows) if rows else None


def layer_table(report: EnergyReport) -> Table:
    """Operations and the default energy of each synaptic layer, means per inference."""
    counts = {
        "events": report.traffic["events"],
        "multiplications": report.multiplications(report.policies.input),
        "additions": report.additions(),
    }
    means = {name: value.sum(axis=1) / report.samples for name, value in counts.items()}
    spent = {f"nJ by {priced.table.label}": priced.by_layer(report.default) for priced in report.by_table}
    rows = []
    for index, (layer, kind) in enumerate(zip(report.traffic.layers, report.traffic.kinds, strict=True)):
        if kind not in NEURON_KINDS:
            numbers = (
                *(f"{values[index]:,.1f}" for values in means.values()),
                *_nanojoules(*(pj[index] for pj in spent.values())),
            )
            rows.append((layer, FED_BY.get(kind, "an addition"), *numbers))
    title = f"Per layer and inference; energy '{WORDS[report.default]}'"
    return Table(title, ("layer", "fed by", *means, *spent), rows, text=("fed by",))


def _nanojoules(*picojoules: float) -> tuple[str, ...]:
    return tuple(f"{value / 1000:,.3f}" for value in picojoules)


def _percent(rate: Fraction | None) -> str:
    """A rate as people read it; none below 0 can be had, and none above 1."""
    if rate is None:
        return "-"
    return "none" if rate < 0 else "any" if rate > 1 else f"{float(100 * rate):#.3g} %".replace(". %", " %")
