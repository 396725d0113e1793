"""From a recorded run to its energy report: the traffic is counted, then priced."""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Sequence

import numpy as np

from tet_deploy.arguments import flag
from tet_deploy.contracts import Frames, Recording, check_frames, check_shown
from tet_deploy.counting import energies
from tet_deploy.counting.conventions import Policies, default_energy
from tet_deploy.counting.model import EnergyReport, energy_names, priced_layers, tallied
from tet_deploy.counting.tables import Chosen, EnergyTable, choose
from tet_deploy.counting.totals import Totals
from tet_deploy.counting.traffic import Traffic, count
from tet_deploy.errors import DataError
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import WEIGHTED
from tet_deploy.ir.shapes import dense_macs
from tet_deploy.ir.spec import need_graph
from tet_deploy.range_totals import RangeTotals

_SAMPLES_AT_ONCE = 32  # bounds the integer copies of spikes made while counting


def estimate(
    graph: Graph,
    recording: Recording,
    frames: Frames,
    *,
    table: Chosen | Sequence[Chosen] | None = None,
    input_policy: str | None = None,
    pool_policy: str = "fold",
    effective: bool = False,
    ones: str = "multiplied",
    sums: str = "multiplied",
    still: str = "every step",
) -> EnergyReport:
    """Estimate the energy of a recorded run from its spikes.

    Parameters
    ----------
    graph
        The network that ran: traced, lowered or quantized.
    recording
        Holds the spikes of every LIF (`probes="spikes"`).
    frames
        What was shown to it, [T, B, *shape].
    table
        Name of an energy table, see `TABLES`, a TOML file of your own, see `user_tables`, or a table; or several, to have
        them side by side: the first is the report's. By default that of the network's own number format (45nm-int8 for a
        quantized one, 45nm-fp32 for floats), and beside it the TET paper's, 45nm-fp32.
    input_policy
        'dense' or 'event'; by default 'dense' for an analog input and 'event' for event frames. A layer that sees event
        counts is typed 'analog', as in the literature, though only counts other than 1 would need a multiplication.
    pool_policy
        'fold' or 'mac', for networks whose average pooling has not been folded yet.
    effective
        Leave out synapses whose weight is 0.
    ones
        'added': inputs of exactly 1, as binary frames hold, cost additions where they would be multiplied.
    sums
        'added': a sum of k spikes (SEW) costs k additions at each synapse, not one multiplication.
    still
        'once': the layer that sees a still image is computed in step 1, and its result added at every step.

    Returns
    -------
    EnergyReport
        In picojoules; several named energies, each per layer, step and sample.

    Raises
    ------
    ArgumentError
        An unknown table or policy.
    DataError, GraphError
        A recording that does not fit, a layer whose input was not recorded.

    Examples
    --------
    >>> report = estimate(graph, recording, frames)  # doctest: +SKIP
    >>> report.mean(report.default)  # doctest: +SKIP
    """
    chosen = (input_policy, pool_policy, effective, ones, sums, still)
    return counted_each(graph, recording, frames, table, *chosen)[0]


def counted_each(
    graph: Graph,
    recording: Recording,
    frames: Frames,
    table: Chosen | Sequence[Chosen] | None = None,
    input_policy: str | None = None,
    pool_policy: str = "fold",
    effective: bool = False,
    ones: str = "multiplied",
    sums: str = "multiplied",
    still: str = "every step",
) -> tuple[EnergyReport, np.ndarray]:
    """As `estimate`, and int64 [2, T, B]: each sample's multiply-accumulates and additions behind the default energy."""
    by_encoding = "event" if need_graph(graph).input.sends_counts else "dense"
    prices, *beside = choose(table, quantized=graph.is_quantized)
    policies = Policies(
        input=by_encoding if input_policy is None else input_policy,
        pool=pool_policy,
        zero_weights="left out" if flag("effective", effective) else "counted",
        ones=ones,
        sums=sums,
        still=still,
    )
    frames = check_frames(frames, graph.input.shape, graph.input.encoding)
    check_shown(recording, frames)
    if still == "once" and (frames != frames[:1]).any():
        raise DataError("frames: change over time, so no layer can be computed once. Leave out still='once'.")
    starts = range(0, recording.samples, _SAMPLES_AT_ONCE)
    parts = (count(graph, recording.sample(a, a + _SAMPLES_AT_ONCE), frames[:, a : a + _SAMPLES_AT_ONCE]) for a in starts)
    tables = (prices, *beside)
    reports, operations = zip(
        *(_report(graph, recording.runtime, traffic, tables, policies) for traffic in parts), strict=True
    )
    report = dataclasses.replace(functools.reduce(operator.add, reports), ranges=RangeTotals.of(graph, recording.ranges))
    return report, np.concatenate(operations, axis=2)


def _report(
    graph: Graph, runtime: str, traffic: Traffic, tables: tuple[EnergyTable, ...], policies: Policies
) -> tuple[EnergyReport, np.ndarray]:
    macs, totals = _dense_macs(graph, traffic), Totals.of(traffic)
    whole = np.where(np.array(traffic.kinds)[:, None, None] == "analog", 0, traffic.input_sum)  # no energy needs the others

    def column(name: str) -> np.ndarray:
        if name == "dense_macs":
            return np.broadcast_to(macs[:, None, None], traffic.input_sum.shape)
        return np.rint(whole).astype(np.int64) if name == "input_sum" else traffic[name]

    def squares(table: EnergyTable, name: str) -> tuple[int, ...]:
        terms = energies.terms(name, priced_layers(totals, macs), table, policies)
        spent = energies.per_sample(terms, column, energies.denominator(terms))
        return tuple(int(total) for total in (np.vstack([spent, spent.sum(axis=0)]) ** 2).sum(axis=1))

    names = {table.name: energy_names(table, policies, totals) for table in tables}
    behind = energies.terms(default_energy(policies.input), priced_layers(totals, macs), tables[0], policies)
    parts = (energies.MACS, energies.ADDITIONS)
    operations = np.stack([energies.counted(behind, part, column).sum(axis=0) for part in parts])  # [2, T, B]
    each = np.column_stack([*operations.sum(axis=1), np.ones(totals.samples, np.int64)])
    report = EnergyReport(
        traffic=totals,
        table=tables[0],
        beside=tables[1:],
        policies=policies,
        dense_macs=macs,
        squares={table.name: {name: squares(table, name) for name in names[table.name]} for table in tables},
        operations=tallied(each),
        runtime=runtime,
        digest=graph.digest(),
    )
    return report, operations


def _dense_macs(graph: Graph, traffic: Traffic) -> np.ndarray:
    """Multiply-accumulates of one dense pass per layer, int64 [L]."""
    macs = {node.name: dense_macs(node, graph.shapes[node.name]) for node in graph if isinstance(node, WEIGHTED)}
    return np.array([macs.get(name, 0) for name in traffic.layers], dtype=np.int64)
