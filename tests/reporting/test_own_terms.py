import numpy as np
import pytest

from tet_deploy.ir.graph import chain
from tet_deploy.ir.nodes import LIF, AvgPool, Conv, Flatten, Input, Linear, Readout
from tet_deploy.passes.fold_pooling import fold_pooling
from tet_deploy.reporting.contents import _folding
from tet_deploy.reporting.own_terms import folding_rows, is_identity, own_terms


def written(*nodes, side=8):
    """A network of two channels whose layers in the middle are these."""
    return chain(
        [
            Input(name="input", shape=(2, side, side)),
            Conv(name="conv", weight=_weight(2, 2, 3, 3), padding=(1, 1)),
            LIF(name="lif"),
            *nodes,
            LIF(name="last"),
            Flatten(name="flatten"),
            Readout(name="readout"),
        ]
    )


def _weight(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


CASES = {  # what stands behind the first neurons, and what is said of it before and after folding
    "pool and conv": (
        [AvgPool(name="pool", kernel=(2, 2), stride=(2, 2)), Conv(name="x", weight=_weight(3, 2, 3, 3), padding=(1, 1))],
        ("2x2 average pool, then 3x3 conv, padding 1", "6x6 conv, stride 2, padding 2"),
    ),
    "pool of 3x3, which is found no more": (
        [AvgPool(name="pool", kernel=(3, 3), stride=(3, 3)), Conv(name="x", weight=_weight(3, 2, 1, 1))],
        ("3x3 conv, stride 3, with an average pool folded into it", "3x3 conv, stride 3"),
    ),
    "conv alone": (
        [Conv(name="x", weight=_weight(3, 2, 3, 5), stride=(1, 2), dilation=(2, 1))],
        ("3x5 conv, stride 1x2, dilation 2x1",) * 2,
    ),
    "groups": ([Conv(name="x", weight=_weight(4, 1, 3, 3), groups=2)], ("3x3 conv, 2 groups",) * 2),
    "depthwise": ([Conv(name="x", weight=_weight(2, 1, 3, 3), groups=2)], ("3x3 depthwise conv",) * 2),
}


@pytest.mark.parametrize("case", CASES)
def test_layers_are_called_as_their_author_wrote_them(case):
    """A pool that folding hid in a kernel is named again where it can be, and said to be there where it cannot."""
    nodes, (said, deployed) = CASES[case]
    graph = fold_pooling(written(*nodes))
    assert folding_rows(graph)[1] == {"layer": "x", "written": said, "deployed": deployed}
    assert folding_rows(graph)[0]["written"] == "3x3 conv, padding 1"


def test_a_pool_before_a_linear_layer_is_named():
    """Through the flatten in between, with the inputs that the author's layer had."""
    pool, flatten = AvgPool(name="pool", kernel=(2, 2), stride=(2, 2)), Flatten(name="flat")
    nodes = [
        Input(name="input", shape=(2, 8, 8)),
        Conv(name="conv", weight=_weight(2, 2, 1, 1)),
        LIF(name="lif"),
        pool,
        flatten,
        Linear(name="fc", weight=_weight(5, 32)),
        Readout(name="readout"),
    ]
    graph = fold_pooling(chain(nodes))
    assert folding_rows(graph)[1] == {
        "layer": "fc",
        "written": "2x2 average pool, then linear, 32 to 5",
        "deployed": "linear, 128 to 5",
    }


def test_equal_weights_alone_are_no_pool():
    """A kernel that its author made of equal weights keeps its size."""
    graph = written(Conv(name="x", weight=np.ones((3, 2, 2, 2), dtype=np.float32), stride=(2, 2)))
    assert own_terms(graph, graph["x"]) == "2x2 conv, stride 2"


@pytest.mark.parametrize(("side", "expected"), [(1, True), (3, False)])
def test_a_shortcut_is_no_layer(side, expected):
    """A synapse from each neuron to its like is an identity; a depthwise kernel is not."""
    node = Conv(name="x", weight=np.ones((2, 1, side, side), dtype=np.float32), groups=2)
    assert is_identity(node) == expected


def test_folding_is_told_of_pools_that_are_there():
    """Average pools and max pools each in a sentence of their own, and none where there is none."""
    said = {"average pool": "An average pool is part", "max pool": "A max pool of spikes is"}
    for pool in (*said, ""):
        rows = [{"layer": "x", "written": f"2x2 {pool}, then 3x3 conv" if pool else "conv", "deployed": "conv"}]
        told = _folding(rows)["said"]
        assert [name for name, words in said.items() if words in told] == ([pool] if pool else [])
        assert ("1 of 1 layers stand" in told) == bool(pool)
