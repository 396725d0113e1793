import csv
import dataclasses
import functools
import itertools
import json
import operator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tet_deploy.counting import ENERGIES, TABLES, Price, estimate, table
from tet_deploy.counting.export import to_dict, write_csv, write_json
from tet_deploy.counting.state import from_state, to_state
from tet_deploy.errors import ArgumentError, ArtifactError, DataError
from tet_deploy.ir.graph import chain
from tet_deploy.ir.nodes import LIF, AvgPool, Conv, Flatten, Input, Linear, Readout
from tet_deploy.passes.fold_pooling import fold_pooling
from tet_deploy.runtimes.reference import ReferenceRuntime
from tet_deploy.testing import random_float_network, random_frames, random_quantized_network


def random_run(seed=0, samples=5, encoding="analog", quantized=False):
    rng = np.random.default_rng(seed)
    graph = (random_quantized_network if quantized else random_float_network)(rng, encoding=encoding, layers=2)
    frames = random_frames(graph, rng, steps=3, samples=samples)
    return graph, ReferenceRuntime(graph).run(frames, probes="spikes"), frames


def pooled_graph(rng):
    return chain(
        [
            Input(name="input", shape=(1, 4, 4)),
            Conv(name="conv", weight=rng.normal(size=(2, 1, 3, 3)).astype(np.float32), padding=(1, 1)),
            LIF(name="lif", decay=1.0),
            AvgPool(name="pool", kernel=(2, 2), stride=(2, 2)),
            Flatten(name="flatten"),
            Linear(name="fc", weight=rng.normal(size=(3, 8)).astype(np.float32)),
            Readout(name="readout"),
        ]
    )


def still_run():
    rng = np.random.default_rng(1)
    graph = pooled_graph(rng)
    frames = np.repeat(rng.normal(size=(1, 4, 1, 4, 4)).astype(np.float32), 3, axis=0)
    return graph, ReferenceRuntime(graph).run(frames, probes="spikes"), frames


def test_layers_steps_and_samples_add_up():
    """Sums over layers and steps, curves over steps and parts all end at the same energy per inference."""
    graph, recording, frames = random_run()
    report = estimate(graph, recording, frames)
    alone = [estimate(graph, recording.sample(b, b + 1), frames[:, b : b + 1]) for b in range(5)]
    for name in report.names:
        each = [one.mean(name) for one in alone]
        assert report.picojoules(name).sum() == pytest.approx(report.mean(name), rel=1e-12)
        assert sum(part.sum() for part in report.parts(name).values()) == pytest.approx(report.mean(name), rel=1e-12)
        assert report.by_layer(name).sum() == pytest.approx(report.mean(name), rel=1e-12)
        assert report.by_step(name)[-1] == report.mean(name) == pytest.approx(np.mean(each), rel=1e-12)
        assert report.std(name) == pytest.approx(np.std(each), rel=1e-9, abs=1e-9)
        np.testing.assert_allclose(
            report.std_by_layer(name), np.std([one.by_layer(name) for one in alone], axis=0), rtol=1e-9, atol=1e-9
        )
        assert (np.diff(report.by_step(name)) >= 0).all()
    assert report.std("event") > 0 and report.std("ann") == 0


def test_a_run_of_t_steps_holds_the_energy_of_every_shorter_one():
    """The curve over steps equals what separate, shorter runs would give."""
    graph, recording, frames = random_run()
    report = estimate(graph, recording, frames)
    for steps in (1, 2):
        short = estimate(graph, ReferenceRuntime(graph).run(frames[:steps], probes="spikes"), frames[:steps])
        for name in ENERGIES:
            assert report.by_step(name)[steps - 1] == pytest.approx(short.mean(name), rel=1e-12)  # another order of summing


RUN = random_run(samples=9)
WHOLE = json.dumps(to_dict(estimate(*RUN)))


@settings(max_examples=25)
@given(cuts=st.sets(st.integers(1, 8)), order=st.randoms(use_true_random=False))
def test_however_samples_are_split_the_report_is_the_same(cuts, order):
    """Parts of any size, added in any order, give every number of the whole to the last bit."""
    graph, recording, frames = RUN
    edges = [0, *sorted(cuts), 9]
    parts = [estimate(graph, recording.sample(a, b), frames[:, a:b]) for a, b in itertools.pairwise(edges)]
    order.shuffle(parts)
    parts = [from_state(json.loads(json.dumps(to_state(part)))) for part in parts]
    assert json.dumps(to_dict(functools.reduce(operator.add, parts))) == WHOLE


@pytest.mark.parametrize("pooled_first", [False, True])
@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), samples=st.integers(2, 9), order=st.permutations(range(5)))
def test_how_frames_lie_in_memory_changes_no_bit(pooled_first, seed, samples, order):
    """Sums of floats have one order: of a copy, of a view with other strides, and of each sample alone."""
    rng = np.random.default_rng(seed)
    first = [AvgPool(name="first", kernel=(3, 3), stride=(1, 1))] if pooled_first else []
    size = 4 if pooled_first else 6
    conv = Conv(name="conv", weight=np.ones((1, 3, 3, 3), np.float32))
    lif, readout = LIF(name="lif", decay=0.5), Readout(name="readout")
    fc = Linear(name="fc", weight=np.ones((2, (size - 2) ** 2), np.float32))
    graph = chain([Input(name="input", shape=(3, 6, 6)), *first, conv, lif, Flatten(name="flatten"), fc, readout])
    frames = (rng.normal(size=(2, samples, 3, 6, 6)) * 10.0 ** rng.integers(-6, 6, (2, samples, 3, 1, 1))).astype(np.float32)
    strided = np.ascontiguousarray(frames.transpose(order)).transpose(np.argsort(order))
    recording = ReferenceRuntime(graph).run(frames, probes="spikes")
    whole = to_dict(estimate(graph, recording, frames))
    assert to_dict(estimate(graph, recording, strided)) == whole
    alone = [estimate(graph, recording.sample(b, b + 1), strided[:, b : b + 1]) for b in range(samples)]
    assert to_dict(functools.reduce(operator.add, alone)) == whole


def own_table(name="45nm-fp32", picojoules=1.7):
    """A table of a user's: the paper's with another price, under a name of the user's choice."""
    return dataclasses.replace(table("45nm-fp32"), name=name, addition=Price(picojoules=picojoules, source="my own"))


@pytest.mark.parametrize("own", [own_table("7nm"), own_table(), own_table(picojoules=3), own_table(picojoules=1e-300)])
def test_states_keep_the_prices_and_not_only_their_names(own):
    """A table of one's own, even under the name of one of ours, is read back with its prices, sources and tables beside."""
    report = estimate(*RUN, table=[own, "loihi1"])
    same = from_state(json.loads(json.dumps(to_state(report))))
    assert same.table == own and to_dict(same) == to_dict(report)
    assert to_dict(same + report) == to_dict(report + same)


def test_parts_that_differ_in_what_the_network_decides_do_not_join():
    """Otherwise the sum would depend on which comes first; only a file that was changed can bring that about."""
    report = estimate(*RUN)
    traffic = report.traffic
    outputs = {"per_step": {**traffic.per_step, "outputs": traffic.per_step["outputs"] + 1}}
    changes = [outputs, {"input_size": traffic.input_size + 1}, {"input_fed": ~traffic.input_fed}]
    others = [dataclasses.replace(report, traffic=dataclasses.replace(traffic, **change)) for change in changes]
    for other in (*others, dataclasses.replace(report, dense_macs=report.dense_macs + 1)):
        with pytest.raises(DataError, match="Keep them apart"):
            report + other


@pytest.mark.filterwarnings("error")
def test_very_bright_frames_are_counted_in_silence():
    """A sum of inputs beyond int64 is a mean like any other: no energy multiplies it."""
    graph, recording, frames = RUN
    report = estimate(graph, recording, np.where(frames == 0, frames, np.float32(1e30)))
    assert report.traffic.input_mean[0].min() > 1e28
    assert report.mean("rate") == estimate(*RUN).mean("rate")


def test_sums_beyond_64_bit_are_refused():
    """No count wraps: adding up more samples than fit says so."""
    report = estimate(*RUN)
    with pytest.raises(DataError, match="at most 2\\^60"):
        for _ in range(70):
            report = report + report
    assert report.mean("event") == estimate(*RUN).mean("event")


def test_still_images_join_to_still_images_only():
    """'cached' stays while every sample is a still image, and goes with the first that is none."""
    graph, recording, frames = still_run()
    still = estimate(graph, recording, frames)
    assert "cached" in (still + still).names
    moving = frames.copy()
    moving[1] += 1
    other = estimate(graph, ReferenceRuntime(graph).run(moving, probes="spikes"), moving)
    joined = from_state(json.loads(json.dumps(to_state(still + other))))
    assert "cached" not in joined.names and to_dict(joined) == to_dict(other + still)


HOSTILE = {
    "nothing": lambda state: state.clear(),
    "layers": lambda state: state.update(layers=[1, 2]),
    "kinds": lambda state: state.update(kinds=["spike"]),
    "samples": lambda state: state.update(samples=-1),
    "steps": lambda state: state.update(steps=10**30),
    "per_event": lambda state: state["per_event"].update(synops=[[-1]]),
    "per_event.spikes": lambda state: state["per_event"]["spikes"].pop(),
    "per_step": lambda state: state["per_step"].update(outputs="many"),
    "input_sum": lambda state: state["input_sum"][0].__setitem__(0, [1, 0]),
    "per_event.*2\\^60": lambda state: state["per_event"]["spikes"][-1].__setitem__(0, 2**62),
    "samples: .*2\\^60": lambda state: state.update(samples=2**60),
    "input_sum: must": lambda state: state["input_sum"][0].__setitem__(0, [10**350, 1]),
    "input_size: must be": lambda state: state.update(input_size=[10**5000]),
    "dense_macs: must add up": lambda state: state["dense_macs"].__setitem__(0, 2**60),
    "input_size": lambda state: state.update(input_size=[2.5]),
    "dense_macs": lambda state: state.update(dense_macs=None),
    "layers: must be one": lambda state: state.update(layers=[], kinds=[], steps=2**40),
    "input_fed": lambda state: state["input_fed"].__setitem__(0, 7),
    "static_input": lambda state: state.update(static_input=2),
    "input_sum: spikes": lambda state: state["input_sum"][state["kinds"].index("spike")].__setitem__(0, [-1, 1]),
    r"input_sum: spikes .*\[1, 2\]": lambda state: state["input_sum"][state["kinds"].index("spike")].__setitem__(0, [1, 2]),
    "tables: must be an object": lambda state: state.update(tables=["45nm-fp32"]),
    "tables: must be a list": lambda state: state.update(tables="45nm-fp32"),
    "tables: .*one or more": lambda state: state.update(tables=[]),
    "tables: .*needs a name of its own": lambda state: state["tables"].append(
        {**state["tables"][0], "description": "another"}
    ),
    "tables.spike: is missing": lambda state: state["tables"][0].pop("spike"),
    "tables: price .*nan": lambda state: state["tables"][0]["mac"].update(picojoules=float("nan")),
    "tables: price .*-1": lambda state: state["tables"][0]["mac"].update(picojoules=-1),
    "tables: price .*'1'": lambda state: state["tables"][0]["mac"].update(picojoules="1"),
    "tables: price .*True": lambda state: state["tables"][0]["mac"].update(picojoules=True),
    "tables.mac.secondary": lambda state: state["tables"][0]["mac"].update(secondary=1),
    "policy": lambda state: state["policies"].update(input="sparse"),
    "policies.pool": lambda state: state["policies"].update(pool="fold" * 100),
    "squares": lambda state: state["squares"].clear(),
    "squares: do not fit": lambda state: state["squares"]["45nm-fp32"].update(event=[0] * (len(state["layers"]) + 1)),
    "squares: those of": lambda state: state["squares"]["45nm-fp32"].update(event=[10**999]),
    "operations: must be a list of 3": lambda state: state["operations"].pop(),
    "operations: must be those of 9 samples": lambda state: state["operations"][2].__setitem__(0, 10),
    "operations: do not add up": lambda state: state["operations"][0].__setitem__(0, 2**62),
    "operations: must be . whole": lambda state: state["operations"].__setitem__(1, [-1]),
    "tables.estimate": lambda state: state["tables"][0].update(estimate=0),
    "policies.ones": lambda state: state["policies"].pop("ones"),
    "policy 'sums'": lambda state: state["policies"].update(sums="halved"),
    "runtime": lambda state: state.update(runtime=3),
}


@pytest.mark.parametrize("message", HOSTILE)
def test_what_is_no_state_of_a_report_is_refused(message):
    """Each value is checked, and the error names it in one line."""
    state = to_state(estimate(*RUN))
    HOSTILE[message](state)
    with pytest.raises(ArtifactError, match=message if message != "nothing" else "layers: is missing") as caught:
        from_state(state)
    assert "\n" not in str(caught.value)


def test_only_like_reports_join():
    """Reports of another table or network are not added up."""
    run = random_run()
    report = estimate(*run)
    for other in (estimate(*run, table="45nm-int8"), estimate(*run, effective=True), estimate(*random_run(seed=4))):
        with pytest.raises(DataError, match="only reports of one network"):
            report + other


def test_default_energy_follows_the_input():
    """Images are multiplied densely by default, event frames by event; the caller may say otherwise."""
    image, events = random_run(encoding="analog"), random_run(encoding="events")
    assert estimate(*image).default == "dense_in"
    assert estimate(*events).default == "event"
    assert estimate(*events, input_policy="dense").default == "dense_in"
    report = estimate(*events)
    extras = {"bias and skip additions", "neurons"}
    synaptic = sum(value for part, value in report.parts("full").items() if part not in extras)
    np.testing.assert_allclose(synaptic, report.picojoules("event"), rtol=1e-15)  # each part is rounded once


def test_effective_counts_leave_zero_weights_out():
    """With half of the weights set to 0 the effective energy drops; ann and rate stay structural."""
    graph, _, frames = random_run()
    changes = {}
    for node in graph:
        if isinstance(node, (Conv, Linear)):
            weight = node.weight.copy()
            weight.reshape(-1)[::2] = 0
            changes[node.name] = dataclasses.replace(node, weight=weight)
    graph = graph.replace(changes)
    recording = ReferenceRuntime(graph).run(frames, probes="spikes")
    structural, effective = (estimate(graph, recording, frames, effective=flag) for flag in (False, True))
    for name in ("event", "dense_in", "full"):
        assert effective.mean(name) < structural.mean(name)
    for name in ("ann", "rate"):
        assert effective.mean(name) == structural.mean(name)


def test_still_images_may_be_computed_once():
    """'cached' multiplies the first layer in step 1 only and adds its result at every step."""
    report = estimate(*still_run())
    macs = 4.6 * report.traffic["mac_dense"][0, 0] / report.samples
    outputs = 2 * 4 * 4
    assert report.mean("dense_in") - report.mean("cached") == pytest.approx(2 * macs - 3 * 0.9 * outputs, rel=1e-9)
    assert "cached" not in estimate(*random_run()).names
    assert list(report.summary()["energy_pj"]) == list(ENERGIES)


def test_integrate_and_fire_multiplies_no_leak():
    """A decay of 1 costs no multiplication."""
    assert estimate(*still_run()).traffic["leak_multiplications"].sum() == 0


def test_the_dense_pass_is_that_of_the_network_before_folding():
    """Folding widens kernels, which a network without spikes would not have: `ann` stays as it was, as do the others."""
    graph, recording, frames = still_run()
    folded = fold_pooling(graph)
    before, after = estimate(graph, recording, frames), estimate(folded, recording, frames)
    assert after.traffic["mac_padded"].sum() > before.traffic["mac_padded"].sum()
    for name in ("ann", "event", "dense_in", "full"):
        assert after.mean(name) == pytest.approx(before.mean(name), rel=1e-12)  # pooling counts as folded; sums reorder


def test_quantized_input_events_are_non_zero_messages():
    """A pixel that rounds to message 0 is no event."""
    graph, recording, frames = random_run(quantized=True)
    faint = frames.copy()
    faint[:, :, 0, 0, 0] = 1e-4  # far below half a message
    silent = frames.copy()
    silent[:, :, 0, 0, 0] = 0
    first = [estimate(graph, recording, x).traffic["events"][0] for x in (faint, silent)]
    np.testing.assert_array_equal(first[0], first[1])


def test_tables_carry_sources():
    """Every price says where it was read, the fp32 prices are the paper's, and secondary ones are marked."""
    for entry in TABLES.values():
        assert all(price.source for price in entry.prices.values())
    fp32, int8, loihi = (table(name) for name in ("45nm-fp32", "45nm-int8", "loihi1"))
    assert (fp32.addition.picojoules, fp32.mac.picojoules, fp32.leak_multiplication.picojoules) == (0.9, 4.6, 3.7)
    assert int8.mac.secondary and int8.mac.picojoules / int8.addition.picojoules == pytest.approx(3.0)
    assert (loihi.addition.picojoules, loihi.neuron_update.picojoules, loihi.spike.picojoules) == (23.6, 81.0, 1.7)


@pytest.mark.parametrize("price", [-1, float("nan"), float("inf"), "1", None, True, 10**30])
def test_a_price_is_a_finite_number_of_at_least_0(price):
    """Anything else is refused where the price is made."""
    with pytest.raises(ArgumentError, match="price of an operation: must be a number of 0 to"):
        Price(picojoules=price, source="none")


def test_loihi_has_no_dense_pass():
    """The Loihi table gives no 'ann', and asking for it says which energies there are."""
    report = estimate(*random_run(), table="loihi1")
    assert "ann" not in report.names and "ann" not in report.summary()["energy_pj"]
    with pytest.raises(ArgumentError, match="it has event, dense_in, rate, full"):
        report.mean("ann")
    counts = report.summary()["counts"]
    assert report.mean("event") == pytest.approx(23.6 * (counts["additions"] + counts["mac_event"]))


def test_the_table_is_that_of_the_numbers_and_the_papers_stands_beside_it():
    """A quantized network is priced as int8 and and as in the paper, a float one as the latter; a named table alone."""
    rng = np.random.default_rng(0)
    graph = random_quantized_network(rng)
    frames = random_frames(graph, rng, 2, 3)
    run = graph, ReferenceRuntime(graph).run(frames, probes="spikes"), frames
    report = estimate(*run)
    assert [priced.table.name for priced in report.by_table] == ["45nm-int8", "45nm-fp32"]
    for priced in report.by_table:
        alone = estimate(*run, table=priced.table.name)
        assert alone.by_table == (alone,)
        assert [priced.mean(name) for name in priced.names] == [alone.mean(name) for name in priced.names]
        assert report.summary()["energy_pj_by_table"][priced.table.name] == alone.summary()["energy_pj"]
    assert (report + report).beside == report.beside
    assert [priced.table.name for priced in estimate(*random_run()).by_table] == ["45nm-fp32"]
    assert [priced.table.name for priced in estimate(*run, table=["loihi1", "45nm-fp32"]).by_table] == [
        "loihi1",
        "45nm-fp32",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"table": "7nm"}, r"energy table '7nm'.*45nm-fp32, 45nm-int8, loihi1"),
        ({"table": [own_table(), "45nm-fp32"]}, "each needs a name of its own; got 45nm-fp32, 45nm-fp32"),
        ({"input_policy": "sparse"}, "'input': must be 'dense' or 'event'; got 'sparse'"),
        ({"pool_policy": "max"}, "'pool': must be 'fold' or 'mac'; got 'max'"),
        ({"effective": "no"}, "effective: must be True or False; got 'no'"),
    ],
)
def test_unknown_names_list_the_known_ones(options, message):
    """A wrong table or policy is answered with the choices."""
    with pytest.raises(ArgumentError, match=message):
        estimate(*random_run(), **options)


def test_frames_of_another_run_are_refused():
    """More frames than recorded samples are not silently ignored."""
    graph, recording, frames = random_run()
    with pytest.raises(DataError, match="3 steps of 4 samples; got 3 steps of 5"):
        estimate(graph, recording.sample(0, 4), frames)


def test_json_and_csv_carry_what_the_numbers_rest_on(tmp_path):
    """Both files name table, source, policies and units, and their layers add up to the total."""
    report = estimate(*still_run())
    plain = json.loads(write_json(report, tmp_path / "energy.json").read_text())
    assert plain == json.loads(json.dumps(to_dict(report)))
    assert plain["table"]["name"] == "45nm-fp32" and "Horowitz" in plain["table"]["prices"]["mac"]["source"]
    expected = {"input": "dense", "pool": "fold", "zero_weights": "counted"}
    expected |= {"ones": "multiplied", "sums": "multiplied", "still": "every step"}
    assert plain["policies"] == expected
    assert plain["unit"].startswith("pJ") and set(plain["energy_pj"]) == set(ENERGIES)
    assert sum(layer["energy_pj"]["full"]["mean"] for layer in plain["layers"]) == pytest.approx(report.mean("full"))
    rows = list(csv.DictReader(write_csv(report, tmp_path / "layers.csv").open()))
    assert [row["layer"] for row in rows] == list(report.traffic.layers)
    assert sum(float(row["dense_in_pj_mean"]) for row in rows) == pytest.approx(report.mean("dense_in"))
    assert all(row["table"] == "45nm-fp32" and "Horowitz" in row["sources"] and row["policy_pool"] == "fold" for row in rows)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["energy.json", "layers.csv"]


def test_unwritable_folder(tmp_path):
    """A folder that does not exist is named, and nothing is left behind."""
    with pytest.raises(ArtifactError, match="nowhere"):
        write_json(estimate(*still_run()), tmp_path / "nowhere" / "energy.json")
    assert not list(tmp_path.iterdir())
