import dataclasses

import numpy as np
import pytest
from network_shapes import linear, network, units, weight

from tet_deploy.chips.limits import CHIPS, LOIHI1, LOIHI2
from tet_deploy.chips.rules import RULES, strikes
from tet_deploy.chips.rules.reset_interval import power_of_two
from tet_deploy.errors import GraphError
from tet_deploy.ir.nodes import CubaLIF
from tet_deploy.testing import random_float_network


def small(steps="4", **changes):
    graph = network((3,), linear("fc1", 4, 3), linear("fc2", 2, 4, last=True), steps=steps)
    return graph.replace({name: dataclasses.replace(graph[name], **fields) for name, fields in changes.items()})


def lif(**fields):
    return {"fc1.lif": fields}


CASES = [  # rule, chip, network, node, words, whether it breaks
    ("reset interval", LOIHI2, small("6"), None, "6 steps", False),
    ("message bits", LOIHI1, small(), "input", "8 bits of 1", True),
    ("weights", LOIHI1, small(fc1={"quantization": units(7)}), "fc1", "stored in 8", False),
    ("weights", LOIHI2, small(fc1={"weight": weight(4, 3).astype(np.int16) * 128}), "fc1", "128 of 127", True),
    ("decays", LOIHI2, small(**lif(decay=0.3)), "fc1.lif", "1229/4096", False),
    ("decays", LOIHI2, small(**lif(decay=0.0)), "fc1.lif", "1/4096", False),
    ("decays", LOIHI2, small(**lif(decay=np.array([0.5, 0.3, 0.5, 0.7]))), "fc1.lif", "2 channels are rounded", False),
    ("thresholds", LOIHI2, small(**lif(threshold=2**17)), "fc1.lif", "131,072", True),
    ("biases", LOIHI2, small(**lif(bias=np.array([0, 5000, 0, 0], np.int16))), "fc1.lif", "5,000", True),
    (
        "biases",
        LOIHI2,
        small(**lif(bias=np.ones(4, np.int16), quantization=dataclasses.replace(units(), bias_exponent=9))),
        "fc1.lif",
        "exponent 9 of 7",
        True,
    ),
]


@pytest.mark.parametrize(("rule", "chip", "graph", "node", "words", "breaks"), CASES, ids=[case[0] for case in CASES])
def test_a_rule_strikes_where_it_is_broken(rule, chip, graph, node, words, breaks):
    """Each rule strikes at the node that breaks it, says what it found, and nowhere in a network that keeps it."""
    (strike,) = strikes(graph, chip)[rule]
    assert strike.node == node and words in strike.found and strike.breaks is breaks
    assert strike.way_out or next(one for one in RULES if one.name == rule).way_out
    kept = strikes(small(), LOIHI2)
    assert not any(kept.values())


def test_a_synaptic_current_that_lasts_is_told():
    """A current keeps at most 4095/4096 a step on a chip."""
    graph = small()
    current = CubaLIF(name="fc1.lif", inputs=("fc1",), threshold=50, current_decay=1.0, quantization=units())
    (strike,) = strikes(graph.replace({"fc1.lif": current}), LOIHI2)["decays"]
    assert "its current keeps 1 a step in the network, 4095/4096 on the chip" in strike.found


def test_every_rule_has_a_reason_a_source_and_a_way_out():
    """Rules are told apart by their names, and none lacks what a reader needs."""
    assert len({rule.name for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert all((rule.says, rule.why, rule.source, rule.way_out)) and set(rule.chips) <= set(CHIPS)


def test_float_networks_are_refused():
    """Rules are about integers."""
    with pytest.raises(GraphError, match="Quantize it"):
        strikes(random_float_network(np.random.default_rng(0)), LOIHI1)


@pytest.mark.parametrize(("steps", "period"), [(1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (16, 16), (17, 32)])
def test_the_next_power_of_two(steps, period):
    """The least power of two that so many steps fit into."""
    assert power_of_two(steps) == period
