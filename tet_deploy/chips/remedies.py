"""Why a network does not fit a chip, by how much, and what would help."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tet_deploy.chips.demands import Demand
from tet_deploy.chips.limits import CORES, INPUT_AXONS, MEMORY, NEURONS, Chip
from tet_deploy.chips.rules import Strike
from tet_deploy.chips.splitting import Share, split

_FEWEST_BITS = 2


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What does not fit.

    Attributes
    ----------
    node
        A population, or None where it is the network as a whole.
    limit
        The limit, or the rule, that is broken.
    needed, most
        What is needed, and what there is; None of rules, which are no numbers.
    message
        All of it in words, with what would help.
    """

    node: str | None
    limit: str
    needed: int | None
    most: int | None
    message: str


def problems(
    demands: Sequence[Demand],
    chip: Chip,
    chips: int,
    shares: Mapping[str, Share],
    strikes: Mapping[str, Sequence[Strike]],
) -> tuple[Problem, ...]:
    """Populations of which no neuron fits a core, then too few cores, then rules that are broken."""
    found = [problem for share in shares.values() if not share.cores for problem in _too_large(share, demands, chip)]
    cores, most = sum(share.cores for share in shares.values()), chips * chip.most(CORES)
    if cores > most:
        found.append(_too_many(cores, most, demands, chip, chips, shares))
    for rule, struck in strikes.items():
        for strike in struck:
            if strike.breaks:
                where = "the network" if strike.node is None else f"node {strike.node!r}"
                text = f"{where}: {rule}: {strike.found}. {strike.way_out}".strip()
                found.append(Problem(node=strike.node, limit=rule, needed=None, most=None, message=text))
    return tuple(found)


def _too_large(share: Share, demands: Sequence[Demand], chip: Chip) -> list[Problem]:
    found = []
    for what, needed in share.used.items():
        limit = chip.limits.get(what)
        if limit is None or needed <= limit.value:
            continue
        text = (
            f"population {share.demand.name!r}: a single neuron of it needs {needed:,} {limit.unit} ({what}), "
            f"{needed - limit.value:,} more than the {limit.value:,} of a {chip.title} core ({limit.standing}). "
            f"{_help(what, share, demands, chip)}"
        )
        found.append(Problem(node=share.demand.name, limit=what, needed=needed, most=limit.value, message=text))
    return found


def _help(what: str, share: Share, demands: Sequence[Demand], chip: Chip) -> str:
    senders = ", ".join(repr(one.source) for one in share.demand.projections)
    inputs = sum(one.inputs[0] * one.inputs[1] * one.inputs[2] for one in share.demand.projections)
    if what == MEMORY:
        for bits in _fewer(demands):
            if split(_with_bits(demands, bits), chip)[share.demand.name].cores:
                return f"With fewer bits it fits: `tet-deploy quantize --bits {bits}`."
    kernel = max((math.prod(one.window[0]) for one in share.demand.projections if one.window), default=1)
    if what == MEMORY and kernel > 1:
        return (
            f"Its kernel has {kernel:,} elements for each channel of {senders}: use fewer channels (`tet-deploy train "
            "--width 0.5`), or a smaller kernel; average pooling that was folded into it enlarges it, max pooling or a "
            "stride does not."
        )
    if what in (MEMORY, INPUT_AXONS):
        return (
            f"It listens to {inputs:,} values of {senders}: pool these before, or make that layer narrower "
            "(`tet-deploy train --width 0.5`)."
        )
    return (
        "It sends to too many cores: make the layer behind it narrower (`tet-deploy train --width 0.5`), or give it "
        "weights of fewer bits (`tet-deploy quantize --bits 4`), so that it takes fewer."
    )


def _too_many(
    cores: int, most: int, demands: Sequence[Demand], chip: Chip, chips: int, shares: Mapping[str, Share]
) -> Problem:
    largest = sorted(shares.values(), key=lambda share: -share.cores)[:3]
    takers = ", ".join(f"{share.demand.name!r} takes {share.cores} ({share.binding(chip)})" for share in largest)
    there = f"a {chip.title}" if chips == 1 else f"{chips} x {chip.title}"
    text = f"the network: needs {cores:,} cores, {cores - most:,} more than the {most:,} of {there}: {takers}. "
    for bits in _fewer(demands):
        with_bits = [share.cores for share in split(_with_bits(demands, bits), chip).values()]
        if all(with_bits) and sum(with_bits) <= most:
            text += f"With weights of {bits} bits it takes {sum(with_bits)}: `tet-deploy quantize --bits {bits}`. "
            break
    needed = -(-cores // chip.most(CORES))
    text += (
        f"With half the channels it takes about {_halved(shares):,}: `tet-deploy train --width 0.5`. "
        f"Or use {needed} chips: --chips {needed}."
    )
    return Problem(node=None, limit=CORES, needed=cores, most=most, message=text)


def _halved(shares: Mapping[str, Share]) -> int:
    """Cores with half the channels everywhere: half the neurons, a quarter of the synapses."""
    return sum(-(-share.cores // (2 if share.used[NEURONS] > 1 else 1)) for share in shares.values())


def _fewer(demands: Sequence[Demand]) -> range:
    widest = max((one.bits for demand in demands for one in demand.projections), default=_FEWEST_BITS)
    return range(widest - 1, _FEWEST_BITS - 1, -1)


def _with_bits(demands: Sequence[Demand], bits: int) -> list[Demand]:
    return [
        dataclasses.replace(
            demand,
            projections=tuple(dataclasses.replace(one, bits=min(one.bits, bits)) for one in demand.projections),
        )
        for demand in demands
    ]
