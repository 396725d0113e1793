import csv
import dataclasses
import json

import numpy as np
import pytest
from counted_runs import own_table, random_run, still_run

from tet_deploy.counting import ENERGIES, TABLES, Price, estimate, table
from tet_deploy.counting.export import to_dict, write_csv, write_json
from tet_deploy.errors import ArgumentError, ArtifactError, DataError
from tet_deploy.ir.nodes import Conv, Linear
from tet_deploy.passes.fold_pooling import fold_pooling
from tet_deploy.runtimes.reference import ReferenceRuntime
from tet_deploy.testing import random_frames, random_quantized_network


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
