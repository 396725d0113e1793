"""The bundle's numpy engine, run in this process."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tet_deploy.exporters.lava_plan import lava_plan
from tet_deploy.ir.nodes import Readout
from tet_deploy.runtimes.loihi.bundle.loihi_engine.pipeline import Pipeline, takes
from tet_deploy.runtimes.loihi.bundle.loihi_engine.records import Records
from tet_deploy.runtimes.loihi.bundle.loihi_engine.regions import balanced, cut
from tet_deploy.runtimes.loihi.bundle.loihi_engine.simulation import all_nodes, simulate
from tet_deploy.runtimes.reference import ReferenceRuntime
from tet_deploy.testing import random_frames, random_quantized_network


def planned(graph):
    """Content of plan.json and of arrays.npz, through JSON as a bundle takes it."""
    plan = lava_plan(graph)
    return json.loads(json.dumps({"input": plan.input, "nodes": plan.nodes, "readout": plan.readout})), plan.arrays


def recorded(folder: Path, graph, frames, run):
    """What `run` of a plan, its arrays, a file of frames and records leaves in the records."""
    plan, arrays = planned(graph)
    np.save(folder / "frames.npy", frames)
    names = [node["name"] for node in plan["nodes"] if node["kind"] == "lif"]
    records = Records(folder, plan, frames.shape[:2], {"spikes": names, "potentials": names}, {})
    run(plan, arrays, folder / "frames.npy", records)
    return {key: np.load(path) for key, path in records.files().items()} | {"readout": np.load(folder / "readout.npy")}


def in_regions(count, rng):
    """Run a plan in so many regions, each with a pipeline of its own, that work in any order."""

    def run(plan, arrays, frames, records):
        regions = cut(all_nodes(plan), arrays, count)
        pipelines = [Pipeline(region.nodes, arrays, str(frames), records) for region in regions]
        for time in range(1, records.steps + 1):
            fired = [pipeline.fire(time) for pipeline in pipelines]
            sent = {name: wires[name] for region, wires in zip(regions, fired, strict=True) for name in region.outgoing}
            for index in rng.permutation(len(regions)):
                taken = {name: sent[name].astype(np.int32) for name in regions[index].incoming}
                pipelines[index].take(time, fired[index] | taken)

    return run


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_engine_equals_the_reference(tmp_path, seed, count):
    """Branches, sums, pools, wraps and saturation: every spike, potential and readout, however the network is cut."""
    rng = np.random.default_rng(seed)
    at_limits = {"encoding": "analog", "wrap": True} if seed % 4 == 0 else {}
    graph = random_quantized_network(rng, currents=seed % 2 == 0, **at_limits)
    frames = random_frames(graph, rng, steps=int(rng.integers(1, 7)), samples=int(rng.integers(1, 4)))
    found = recorded(tmp_path, graph, frames, simulate if count == 1 else in_regions(count, rng))
    expected = ReferenceRuntime(graph).run(frames)
    for name, spikes in expected.spikes.items():
        assert np.array_equal(found[f"spikes/{name}"], spikes)
        assert np.array_equal(found[f"potentials/{name}"], expected.potentials[name])
    last = graph.readout
    sums = Readout(name=last.name, inputs=last.inputs, quantization=last.quantization)  # the host adds bias and leak
    expected = ReferenceRuntime(graph.replace({last.name: sums})).run(frames)
    assert np.array_equal(found["readout"].astype(np.int64) << 6, expected.readout)


@pytest.mark.parametrize("seed", range(20))
def test_regions_are_a_network_cut_in_pieces(seed):
    """Each node stands in one region, in the plan's order, synapses beside their population, and every wire has two ends."""
    plan, arrays = planned(random_quantized_network(np.random.default_rng(seed)))
    nodes = all_nodes(plan)
    for count in (1, 2, 3, 100):
        regions = cut(nodes, arrays, count)
        assert len(regions) <= count
        home = {node["name"]: region for region in regions for node in region.nodes}
        assert sorted(home) == sorted(node["name"] for node in nodes)
        order = [node["name"] for node in nodes]
        for region in regions:
            places = [order.index(node["name"]) for node in region.nodes]
            assert places == sorted(places)
            for node in region.nodes:
                for name in takes(node):
                    sums = node["kind"] in ("lif", "readout")
                    assert home[name] is region or (not sums and name in region.incoming and name in home[name].outgoing)


@settings(max_examples=200)
@given(works=st.lists(st.integers(1, 50), min_size=1, max_size=9), count=st.integers(1, 5))
def test_regions_share_the_work_as_well_as_neighbours_can(works, count):
    """No other way to cut a list into so many runs has a smaller largest sum, but for a thousandth."""
    parts = balanced(works, count)
    assert [index for start, stop in parts for index in range(start, stop)] == list(range(len(works)))
    places = range(1, len(works))
    ways = [cuts for size in range(min(count, len(works))) for cuts in itertools.combinations(places, size)]
    bounds = [[0, *cuts, len(works)] for cuts in ways]
    best = min(max(sum(works[a:b]) for a, b in itertools.pairwise(bound)) for bound in bounds)
    assert len(parts) <= count
    assert max(sum(works[start:stop]) for start, stop in parts) <= best * 1.002


def test_small_networks_stay_in_one_process():
    """Where a second process would cost more than it does, there is none."""
    plan, arrays = planned(random_quantized_network(np.random.default_rng(0)))
    assert len(cut(all_nodes(plan), arrays, None)) == 1
