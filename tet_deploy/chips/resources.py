"""Does a network fit a chip? Asked before it is exported, and answered population by population."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tet_deploy.chips.demands import demands
from tet_deploy.chips.limits import CORES, LOIHI1, Chip, chip_named
from tet_deploy.chips.remedies import Problem, problems
from tet_deploy.chips.rules import RULES, Strike, strikes
from tet_deploy.chips.splitting import Share, split
from tet_deploy.errors import ArgumentError, GraphError
from tet_deploy.exporters.lava_host import host_part
from tet_deploy.exporters.lava_plan import lava_plan
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.spec import need_graph
from tet_deploy.wording import number_of


@dataclass(frozen=True, kw_only=True, eq=False)
class Resources:
    """A network on a chip.

    Attributes
    ----------
    chip
        Its limits, each with its source.
    on_host
        Names of the nodes that the host computes, if it does any.
    shares
        Each population on its cores, by its name, those that the Lava plan adds included.
    problems
        Why it does not fit, and what would help; none if it fits.
    strikes
        Where each of the chip's rules matters in the network, by the rule's name.
    """

    chip: Chip
    on_host: tuple[str, ...]
    shares: Mapping[str, Share]
    problems: tuple[Problem, ...]
    strikes: Mapping[str, tuple[Strike, ...]]

    def __repr__(self) -> str:
        found = "fits" if self.fits else f"does not fit, {number_of('problem', len(self.problems))}"
        return f"<Resources: {self.chip.title}, {number_of('core', self.cores)}, chips {self.chips}: {found}>"

    @property
    def fits(self) -> bool:
        """Whether nothing stands against it."""
        return not self.problems

    @property
    def cores(self) -> int:
        """Cores of all populations that fit any."""
        return sum(share.cores for share in self.shares.values())

    @property
    def chips(self) -> int:
        """Chips that so many cores take."""
        return max(1, -(-self.cores // self.chip.most(CORES)))

    @property
    def estimated(self) -> bool:
        """Whether memory and axons are estimates, by fits to published tables, and not by a published rule."""
        return self.chip is not LOIHI1

    def to_dict(self) -> dict[str, Any]:
        """All of it in plain JSON values."""
        return {
            "chip": self.chip.name,
            "fits": self.fits,
            "cores": self.cores,
            "chips": self.chips,
            "estimated": self.estimated,
            "on_host": list(self.on_host),
            "populations": [_row(share, self.chip) for share in self.shares.values()],
            "problems": [dataclasses.asdict(problem) for problem in self.problems],
            "limits": {name: dataclasses.asdict(limit) for name, limit in self.chip.limits.items()},
            "rules": [
                {
                    **{key: getattr(rule, key) for key in ("name", "says", "why", "source", "published", "way_out")},
                    "strikes": [dataclasses.asdict(strike) for strike in self.strikes[rule.name]],
                }
                for rule in RULES
                if rule.name in self.strikes
            ],
        }


def _row(share: Share, chip: Chip) -> dict[str, Any]:
    demand, fill = share.demand, share.fill(chip)
    return {
        "population": demand.name,
        "kind": demand.kind,
        "shape": list(demand.shape),
        "neurons": demand.neurons,
        "synapses": [
            {"name": one.name, "from": one.source, "bits": one.bits, "message_bits": one.message_bits or 1}
            for one in demand.projections
        ],
        "cores": share.cores,
        "core_holds": list(share.box),
        "fullest_core": dict(share.used),
        "fill": {name: round(part, 4) for name, part in fill.items()},
        "binds": share.binding(chip),
    }


def map_resources(graph: Graph, chip: str, *, chips: int = 1, encoder: str | None = None) -> Resources:
    """What a network takes of a chip's cores, whether it fits, which limit binds, and which rules strike.

    Parameters
    ----------
    graph
        A quantized, deployable network; how many bits its weights have decides what they take.
    chip
        "loihi1" or "loihi2".
    chips
        How many there are.
    encoder
        "host" where the first layer is the host's, as `td.export` takes it; its populations then need no core.

    Returns
    -------
    Resources
        For Loihi 1 by a published rule for what synapses take, for Loihi 2 by estimates; how populations are split over
        cores is ours in both cases.

    Raises
    ------
    GraphError
        A float network, or one that no Lava bundle can be made of; the message names the node.
    ArgumentError
        No chip of that name, or none at all, or no such encoder.

    Examples
    --------
    >>> found = td.map_resources(int8, "loihi2")
    >>> found.fits, found.cores
    (True, 2)
    """
    kind = chip_named(chip)
    if not isinstance(chips, int) or isinstance(chips, bool) or chips < 1:
        raise ArgumentError(f"chips: must be 1 or more; got {chips!r}.")
    if not need_graph(graph).is_quantized:
        raise GraphError(
            "how many bits its weights have decides what a network takes of a chip, and this one holds floats. "
            "Quantize it: td.quantize, or tet-deploy quantize."
        )
    plan, on_host = lava_plan(graph), host_part(graph, encoder)
    wanted = demands(plan, on_host)
    shares, found = split(wanted, kind), strikes(graph, kind, on_host)
    return Resources(
        chip=kind, on_host=on_host, shares=shares, problems=problems(wanted, kind, chips, shares, found), strikes=found
    )
