"""What a rule of a chip is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tet_deploy.chips.limits import Chip
from tet_deploy.ir.graph import Graph


@dataclass(frozen=True, kw_only=True)
class Strike:
    """Where a rule matters in a network.

    Attributes
    ----------
    node
        Its name; None where it is the network as a whole.
    found
        What is there, and what follows from it.
    breaks
        Whether the network cannot run on the chip as it is; otherwise it costs something, or rounds it.
    way_out
        What to do about it; empty where the rule's own says it.
    """

    node: str | None
    found: str
    breaks: bool = False
    way_out: str = ""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule of one or more chips.

    Attributes
    ----------
    name, says
        A word or two, and the rule in a sentence.
    why
        What goes wrong otherwise.
    source, published
        Who says so, and whether the source states it; if not, it was inferred from what the source shows.
    way_out
        What to do where it strikes.
    chips
        Names of the chips that have it.
    find
        Where it strikes in a quantized network.
    """

    name: str
    says: str
    why: str
    source: str
    published: bool
    way_out: str
    chips: tuple[str, ...]
    find: Callable[[Graph, Chip], Iterator[Strike]]
