"""A network on a chip as tables and sentences for people."""

from __future__ import annotations

from tet_deploy.chips.limits import CLASSES, CORES, INPUT_AXONS, MEMORY, OUTPUT_AXONS
from tet_deploy.chips.resources import Resources
from tet_deploy.chips.rules import RULES
from tet_deploy.chips.splitting import Share
from tet_deploy.layout import Table
from tet_deploy.wording import number_of


def resource_text(found: Resources, name: str) -> list[str | Table]:
    """All that is to be said, part by part: populations, the verdict, rules, limits."""
    details = "\n".join([*struck(found), ""])
    return [population_table(found, name), *verdict(found), rule_table(found), *filter(None, [details]), limit_table(found)]


def population_table(found: Resources, name: str) -> Table:
    """What each population takes."""
    what = "memory and axons are estimates" if found.estimated else "memory by nengo-loihi's rule"
    host = f" without {', '.join(found.on_host)}, which the host computes" if found.on_host else ""
    title = (
        f"{name} on {found.chip.title}{host}, of the fullest core of each population; {what}, the split over cores is ours"
    )
    classes = ("Vth",) if CLASSES in found.chip.limits else ()
    columns = ("node", "neurons", "cores", "each holds", "words", "axons in", "out", *classes, "bits in", "fullest")
    rows = [_row(found, share) for share in found.shares.values()]
    return Table(title, columns, rows, text=("fullest",))


def _row(found: Resources, share: Share) -> tuple[object, ...]:
    demand, used = share.demand, share.used
    binding = share.binding(found.chip)
    return (
        demand.name,
        f"{demand.neurons:,}",
        share.cores or "none fits",
        "x".join(map(str, share.box)),
        f"{used[MEMORY]:,}",
        f"{used[INPUT_AXONS]:,}",
        f"{used[OUTPUT_AXONS]:,}",
        *((used[CLASSES],) if CLASSES in found.chip.limits else ()),
        max((one.message_bits or 1 for one in demand.projections), default=1),
        f"{share.fill(found.chip)[binding]:.0%} {binding}",
    )


def verdict(found: Resources) -> list[str]:
    """Whether it fits, in one sentence, or why not."""
    most = found.chip.most(CORES)
    taken = f"{number_of('core', found.cores)} of {most} a chip: {found.chips} x {found.chip.title}"
    last = found.cores - (found.chips - 1) * most
    full = f", {found.cores / most:.0%} full" if found.chips == 1 else f", the last {last / most:.0%} full"
    said = "estimated to fit" if found.estimated else "fits"
    if found.fits:
        return [f"{said}: {taken}{full}"]
    missing = [share.demand.name for share in found.shares.values() if not share.cores]
    rest = f" without {', '.join(missing)}" if missing else ""
    return [f"does not fit ({taken}{rest})", *(problem.message for problem in found.problems)]


def rule_table(found: Resources) -> Table:
    """Each rule of the chip, and at how many nodes it strikes."""
    rows = [(rule.name, rule.says, len(found.strikes[rule.name])) for rule in RULES if rule.name in found.strikes]
    return Table(f"Rules of {found.chip.title}", ("rule", "it says", "strikes"), rows, text=("it says",))


def struck(found: Resources) -> list[str]:
    """Of each rule that strikes the reason, the way out and the source; then where it does, and what was found."""
    lines = []
    for rule in RULES:
        strikes = found.strikes.get(rule.name, ())
        if strikes:
            standing = "published" if rule.published else "inferred"
            lines.append(f"{rule.name}: {rule.why} Way out: {rule.way_out} ({rule.source}; {standing}.)")
        for strike in strikes:
            lines.append(f"  {strike.node or 'the network'}: {strike.found}. {strike.way_out}".rstrip())
    return lines


def limit_table(found: Resources) -> Table:
    """Each limit of the chip with its source."""
    rows = [
        (name, f"{limit.value:,} {limit.unit}", limit.standing, limit.source) for name, limit in found.chip.limits.items()
    ]
    columns = ("limit", "most", "standing", "source")
    return Table(f"Limits of {found.chip.title}, of a core where not said otherwise", columns, rows, text=columns[1:])
