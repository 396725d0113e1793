"""Parts of a count add up to the whole, also through their states in files."""

import dataclasses
import functools
import itertools
import json
import operator

import numpy as np
import pytest
from counted_runs import own_table, random_run, still_run
from hypothesis import given, settings
from hypothesis import strategies as st

from tet_deploy.counting import estimate
from tet_deploy.counting.export import to_dict
from tet_deploy.counting.state import from_state, to_state
from tet_deploy.errors import ArtifactError, DataError
from tet_deploy.ir.graph import chain
from tet_deploy.ir.nodes import LIF, AvgPool, Conv, Flatten, Input, Linear, Readout
from tet_deploy.runtimes.reference import ReferenceRuntime

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
