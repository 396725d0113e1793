"""All that a node needs of one step of one sample reaches it in one step of the pipeline."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tet_deploy.exporters.lava_latency import schedule
from tet_deploy.exporters.lava_plan import lava_plan
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import LIF, Add, Conv, Flatten, Input, Linear, Quantization, Readout
from tet_deploy.runtimes.loihi.bundle.loihi_checks.network import check_network
from tet_deploy.testing import random_quantized_network

UNITS = Quantization(scale=1.0)


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32))
def test_branches_are_balanced(seed):
    """The bundle's own check finds one latency along every branch of random networks, and every message's width."""
    graph = random_quantized_network(np.random.default_rng(seed))
    plan = lava_plan(graph)
    content = {"digest": graph.digest(), "input": plan.input, "nodes": plan.nodes, "readout": plan.readout}
    check_network(content, plan.arrays)


def conv(name, source):
    weight = np.ones((1, 1, 3, 3), np.int8)
    return Conv(name=name, inputs=(source,), weight=weight, padding=(1, 1), quantization=UNITS)


def lif(name, *sources):
    return LIF(name=name, inputs=sources, threshold=2, quantization=UNITS)


def test_a_long_skip_waits_in_relays_that_all_its_consumers_share():
    """Three convolutions against none: two relays; a second consumer, one step earlier, takes the first of them."""
    nodes = (
        Input(name="input", shape=(1, 4, 4), quantization=UNITS),
        conv("c0", "input"),
        lif("l0", "c0"),
        conv("c1", "l0"),
        lif("l1", "c1"),
        conv("c2", "l1"),
        conv("short", "l0"),
        lif("l2", "c2", "short"),
        Add(name="sum", inputs=("l2", "l1", "l0")),
        Flatten(name="flatten", inputs=("sum",)),
        Linear(name="fc", inputs=("flatten",), weight=np.ones((2, 16), np.int8), quantization=UNITS),
        Readout(name="readout", inputs=("fc",), quantization=UNITS),
    )
    graph = Graph(nodes)
    timing = schedule(graph)
    assert [timing.latency[name] for name in ("l0", "l1", "l2", "short", "sum", "flatten", "readout")] == [
        1,
        2,
        3,
        3,
        4,
        4,
        5,
    ]
    plan = {node["name"]: node for node in lava_plan(graph).nodes}
    assert plan["short"]["source"] == "l0/late1"
    assert plan["sum"]["sources"] == ["l2", "l1/late1", "l0/late2"]
    assert (plan["sum"]["message_bits"], plan["fc"]["message_bits"]) == ([0, 0, 0], 3)  # 0..3 in signed bits
    assert [name for name in plan if "/late" in name] == ["l0/late1", "l0/late2", "l1/late1"]
