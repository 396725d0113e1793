"""Conventions side by side and as options, with numbers worked out by hand."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tet_deploy.contracts import Recording
from tet_deploy.counting import WORDS, Price, break_even, energy_table, estimate, summary_table
from tet_deploy.counting.as_table import rate_table
from tet_deploy.counting.bootstrap import intervals
from tet_deploy.counting.conventions import MEANINGS
from tet_deploy.counting.extras import extras
from tet_deploy.errors import ArgumentError, DataError
from tet_deploy.ir.graph import Graph, chain
from tet_deploy.ir.nodes import LIF, Add, Input, Linear, Readout
from tet_deploy.runtimes.reference import ReferenceRuntime
from tet_deploy.testing import random_float_network, random_frames, random_quantized_network

ONES = np.ones((2, 3), np.float32)


def binary_run():
    """Three inputs, two synapses each; two steps of one sample: (1, 0, 2), then (1, 1, 0)."""
    nodes = [Input(name="input", shape=(3,), encoding="events"), Linear(name="fc", weight=ONES), Readout(name="readout")]
    frames = np.array([[[1, 0, 2]], [[1, 1, 0]]], np.float32)
    return chain(nodes), Recording(spikes={}, readout=np.zeros((2, 1, 2), np.float32), runtime="hand"), frames


def sew_run():
    """A sum of two populations into a layer of two synapses: sums (2, 1, 0), then (0, 1, 0); every frame is (1, 1, 1)."""
    square = np.eye(3, dtype=np.float32)
    graph = Graph(
        (
            Input(name="input", shape=(3,)),
            Linear(name="first", inputs=("input",), weight=square),
            LIF(name="a", inputs=("first",)),
            Linear(name="second", inputs=("a",), weight=square),
            LIF(name="b", inputs=("second",)),
            Add(name="sum", inputs=("a", "b")),
            Linear(name="fc", inputs=("sum",), weight=ONES),
            Readout(name="readout", inputs=("fc",)),
        )
    )
    spikes = {"a": [[[1, 1, 0]], [[0, 0, 0]]], "b": [[[1, 0, 0]], [[0, 1, 0]]]}
    spikes = {name: np.array(value, np.uint8) for name, value in spikes.items()}
    recording = Recording(spikes=spikes, readout=np.zeros((2, 1, 2), np.float32), runtime="hand")
    return graph, recording, np.ones((2, 1, 3), np.float32)


BY_HAND = [  # four events pass 8 synapses, 6 of them from a 1; adding those saves 3.7 pJ each
    (binary_run, {}, "event", 8 * 4.6),
    (binary_run, {}, "ones_added", 2 * 4.6 + 6 * 0.9),
    (binary_run, {"ones": "added"}, "event", 2 * 4.6 + 6 * 0.9),
    (binary_run, {"ones": "added"}, "dense_in", (12 - 6) * 4.6 + 6 * 0.9),
    # 18 multiplications in `first`, 6 additions in `second`, and in `fc` 6 multiplications of sums or 8 additions of spikes
    (sew_run, {}, "dense_in", (18 + 6) * 4.6 + 6 * 0.9),
    (sew_run, {}, "sums_added", 18 * 4.6 + (6 + 8) * 0.9),
    (sew_run, {"sums": "added"}, "dense_in", 18 * 4.6 + (6 + 8) * 0.9),
    (sew_run, {"sums": "added"}, "full", 18 * 4.6 + (6 + 8) * 0.9 + 2 * 0.9 + 12 * 0.9 + 12 * 3.7),
    (sew_run, {"ones": "added"}, "event", 6 * 4.6 + (18 + 6) * 0.9),
    (sew_run, {}, "zeros_left_out", (6 + 6) * 4.6 + 2 * 0.9),
    (sew_run, {"effective": True, "ones": "added", "sums": "added"}, "event", (6 + 2 + 8) * 0.9),
    (sew_run, {}, "cached", (9 + 6) * 4.6 + 6 * 0.9 + 2 * 3 * 0.9),
    (sew_run, {"still": "once"}, "dense_in", (9 + 6) * 4.6 + 6 * 0.9 + 2 * 3 * 0.9),
    (sew_run, {"still": "once", "ones": "added"}, "event", 6 * 4.6 + (9 + 6) * 0.9 + 2 * 3 * 0.9),
]


@pytest.mark.parametrize(("run", "options", "name", "picojoules"), BY_HAND)
def test_each_convention_costs_what_one_counts_by_hand(run, options, name, picojoules):
    """As an option and as an energy beside the default; layers, parts and steps of it add up."""
    report = estimate(*run(), **options)
    assert report.mean(name) == pytest.approx(picojoules, rel=1e-12)  # floats of exact rationals
    assert sum(part.sum() for part in report.parts(name).values()) == pytest.approx(picojoules, rel=1e-12)
    assert report.std(name) == 0 and report.by_step(name)[-1] == report.mean(name)
    assert report.operations.tolist() == [[report.multiplications(report.policies.input).sum(), report.additions().sum(), 1]]


def test_a_convention_that_is_chosen_is_not_shown_beside_itself():
    """What stands beside the default differs from it by one convention that this network makes count."""
    assert estimate(*binary_run()).names[5:] == ("ones_added",)
    assert estimate(*binary_run(), ones="added").names[5:] == ()
    assert estimate(*sew_run()).names[5:] == ("cached", "sums_added", "zeros_left_out")
    assert estimate(*sew_run(), still="once", effective=True).names[5:] == ("sums_added",)


def test_what_is_printed_are_words():
    """No key of the interface stands in a table; all of them stand in what programs read."""
    report = estimate(*sew_run(), table="all")
    assert set(WORDS) == set(MEANINGS)
    shown = [str(row[0]) for row in energy_table(report).rows] + [repr(report), str(summary_table(report))]
    assert all(
        name not in text.split() for text in shown for name in ("event", "dense_in", "rate:", "full", "ann", "cached")
    )
    assert [row[0].removesuffix(" (default)") for row in energy_table(report).rows] == [WORDS[name] for name in report.names]


def test_frames_that_move_are_not_computed_once():
    """Neither beside the default nor as an option."""
    with pytest.raises(DataError, match="change over time, so no layer can be computed once"):
        estimate(*binary_run(), still="once")


def test_the_break_even_rate_is_where_both_networks_cost_the_same():
    """By hand: 82.8 pJ do not depend on spikes, 71.4 would be spent if all came, and the dense pass costs 110.4."""
    network, layers = break_even(estimate(*sew_run()))
    assert network.break_even == Fraction("27.6") / Fraction("71.4")
    assert network.measured == Fraction("33") / Fraction("71.4")
    assert [layer.break_even for layer in layers] == [None, None, Fraction(23, 9), None, None, Fraction(1, 2)]
    assert [layer.measured for layer in layers] == [None, None, Fraction(1, 3), None, None, Fraction(1, 2)]
    added = break_even(estimate(*sew_run(), sums="added")).layers[-1]
    assert (added.measured, added.break_even) == (Fraction(8, 24), Fraction("27.6") / Fraction("21.6"))
    assert break_even(estimate(*binary_run())).network == (None, None)
    with pytest.raises(ArgumentError, match="break-even rate: is of synapses alone; got 'full'"):
        break_even(estimate(*sew_run()), "full")


@pytest.mark.parametrize("sums", ["added", "multiplied"])
@pytest.mark.parametrize("first", [1, 40])
def test_what_stands_for_a_rate_is_explained(sums, first):
    """The title tells of each word in the table that is no number, and of no other."""
    graph, recording, frames = sew_run()
    found = rate_table(estimate(graph, recording, frames * first, sums=sums))
    shown = {cell for row in found.rows for cell in row[1:] if not cell.endswith("%")}
    assert shown and {part.partition(": ")[0] for part in found.title.split("; ")[1:]} == shown


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), quantized=st.booleans(), name=st.sampled_from(["event", "dense_in"]))
def test_rates_give_the_energies_back(seed, quantized, name):
    """F + r T S is the counted energy at the measured rate, and that of the dense pass at the break-even one."""
    rng = np.random.default_rng(seed)
    graph = (random_quantized_network if quantized else random_float_network)(rng)
    frames = random_frames(graph, rng, steps=3, samples=2)
    report = estimate(graph, ReferenceRuntime(graph).run(frames, probes="spikes"), frames)
    for priced in report.by_table:
        rate = break_even(priced, name).network
        if rate.measured is None:
            continue
        every = {node: np.ones_like(s) for node, s in ReferenceRuntime(graph).run(frames, probes="spikes").spikes.items()}
        full = Recording(spikes=every, readout=np.zeros((3, 2, 1), np.float32), runtime="all")
        none = Recording(spikes={node: 0 * s for node, s in every.items()}, readout=full.readout, runtime="none")
        most, least = (estimate(graph, run, frames, table=priced.table).exact_mean(name) for run in (full, none))
        assert least + rate.measured * (most - least) == priced.exact_mean(name)
        assert least + rate.break_even * (most - least) == priced.exact_mean("ann")


def test_the_interval_is_that_of_drawing_samples():
    """The same in whatever order samples came; about 1.96 standard errors wide on both sides, and none of one sample."""
    rng = np.random.default_rng(0)
    graph = random_float_network(rng, encoding="events")
    frames = random_frames(graph, rng, steps=3, samples=60)
    recording = ReferenceRuntime(graph).run(frames, probes="spikes")
    report = estimate(graph, recording, frames)
    parts = [estimate(graph, recording.sample(b, b + 1), frames[:, b : b + 1]) for b in reversed(range(60))]
    found = intervals(report)
    assert intervals(sum(parts[1:], start=parts[0])) == found
    low, high = found["tables"]["45nm-fp32"]
    error = report.std("event") / 60**0.5
    assert low < report.mean("event") < high
    assert (high - low) / (2 * 1.96 * error) == pytest.approx(1, abs=0.15)  # of 1,000 draws
    assert intervals(parts[0])["tables"] == {"45nm-fp32": None}


def test_extras_stand_in_no_energy():
    """What a table prices beside operations is listed apart: 30 synapses, 24 weights of the dense pass, 12 potentials."""
    plain, extra = (estimate(*sew_run(), table=name) for name in ("45nm-fp32", "45nm-fp32-8kB"))
    assert [plain.mean(name) for name in plain.names] == [extra.mean(name) for name in extra.names]
    assert extras(plain) == []
    assert [row.picojoules for row in extras(extra)] == [30 * 5.0, 24 * 5.0, 24 * 5.0]
    static = dataclasses.replace(extra.table, name="own", static_step=Price(picojoules=2.5, source="a meter"))
    assert extras(estimate(*sew_run(), table=static))[-1] == ("own", "static, all steps", 5.0, "a meter")
