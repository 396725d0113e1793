"""The rules of the chips that a network may break or pay for, and where it does: a linter."""

from __future__ import annotations

from collections.abc import Collection

from tet_deploy.chips.limits import Chip
from tet_deploy.chips.rules.biases import BIASES
from tet_deploy.chips.rules.decays import DECAYS
from tet_deploy.chips.rules.delays import DELAYS
from tet_deploy.chips.rules.latency import LATENCY
from tet_deploy.chips.rules.messages import MESSAGES
from tet_deploy.chips.rules.reset_interval import RESET_INTERVAL
from tet_deploy.chips.rules.rule import Rule, Strike
from tet_deploy.chips.rules.thresholds import THRESHOLDS
from tet_deploy.chips.rules.weights import WEIGHTS
from tet_deploy.errors import GraphError
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.spec import DEPLOYABLE, check

__all__ = ["RULES", "Rule", "Strike", "strikes"]

RULES = (RESET_INTERVAL, MESSAGES, WEIGHTS, DECAYS, THRESHOLDS, BIASES, LATENCY, DELAYS)


def strikes(graph: Graph, chip: Chip, on_host: Collection[str] = ()) -> dict[str, tuple[Strike, ...]]:
    """Where each rule of a chip strikes in a quantized network, by the rule's name; most strike nowhere.

    Parameters
    ----------
    on_host
        Names of nodes that the host computes, in front of the chip: no rule strikes there, nor at the input.

    Raises
    ------
    GraphError
        A float network: most rules are about integers.
    """
    if not graph.is_quantized:
        raise GraphError("a chip's rules are about integers; this network holds floats. Quantize it: td.quantize.")
    check(graph, DEPLOYABLE)
    free = {*on_host, graph.input.name} if on_host else set()
    return {
        rule.name: tuple(strike for strike in rule.find(graph, chip) if strike.node not in free)
        for rule in RULES
        if chip.name in rule.chips
    }
