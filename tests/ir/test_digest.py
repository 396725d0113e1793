"""Equal digests mean equal results: what a network computes and costs counts, how its numbers were stored does not."""

import dataclasses

import numpy as np
import pytest

from tet_deploy.ir.graph import chain
from tet_deploy.ir.nodes import LIF, Conv, Flatten, Input, Linear, Quantization, Readout

UNITS = Quantization(scale=16.0)
FLOAT = np.array([[0.0, -1.5, 0.25], [3.0, 0.0, 1.0]], np.float32)
INT8 = np.array([[0, -3, 7], [127, 0, 1]], np.int8)


def float_network(weight=FLOAT, **lif):
    return chain(
        [
            Input(name="input", shape=(3,)),
            Linear(name="fc1", weight=weight),
            LIF(name="lif", **{"decay": 0.5, "threshold": 1.0, **lif}),
            Linear(name="fc2", weight=np.ones((2, 2), np.float32)),
            Readout(name="readout"),
        ]
    )


def int8_network(weight=INT8, threshold=20, bias=(5, -6), scale=16.0):
    return chain(
        [
            Input(name="input", shape=(3,), quantization=UNITS),
            Linear(name="fc1", weight=weight, quantization=Quantization(scale=scale)),
            LIF(name="lif", threshold=threshold, bias=np.asarray(bias), quantization=UNITS),
            Linear(name="fc2", weight=np.ones((2, 2), np.int8), quantization=UNITS),
            Readout(name="readout", quantization=UNITS),
        ]
    )


def pooled_network(dense_macs=None):
    weight = np.ones((2, 1, 2, 2), np.float32)
    conv = Conv(name="conv", weight=weight, stride=(2, 2), dense_macs=dense_macs)
    nodes = [Input(name="input", shape=(1, 4, 4)), conv, Flatten(name="flat"), LIF(name="lif")]
    return chain([*nodes, Linear(name="fc", weight=np.ones((2, 8), np.float32)), Readout(name="readout")])


SAME = {
    "integers in 32 bit": (int8_network(), int8_network(weight=INT8.astype(np.int32))),
    "integers in 64 bit": (int8_network(), int8_network(bias=np.array([5, -6], np.int16))),
    "integers of another byte order": (int8_network(), int8_network(weight=INT8.astype(">i4"))),
    "floats of another byte order": (float_network(), float_network(FLOAT.astype(">f4"))),
    "columns first": (float_network(), float_network(np.asfortranarray(FLOAT))),
    "every second of": (float_network(), float_network(np.repeat(FLOAT, 2, axis=1)[:, ::2])),
    "negative zero": (float_network(), float_network(np.where(FLOAT == 0, np.float32(-0.0), FLOAT))),
    "decay of negative zero": (float_network(decay=0.0), float_network(decay=-0.0)),
    "a whole threshold": (float_network(threshold=1.0), float_network(threshold=1)),
    "a threshold of 20.0": (int8_network(), int8_network(threshold=20.0)),
    "numpy's numbers": (float_network(decay=0.75), float_network(decay=np.float32(0.75), threshold=np.int64(1))),
}
DIFFERENT = {
    "a weight": (float_network(), float_network(FLOAT + np.eye(2, 3, dtype=np.float32))),
    "floats in 64 bit, to which folding rounds otherwise": (float_network(), float_network(FLOAT.astype(np.float64))),
    "another shape of the same numbers": (float_network(FLOAT[:, :2].repeat(2, 0)[:2, [0, 1, 1]]), float_network()),
    "decay": (float_network(), float_network(decay=0.25)),
    "threshold": (int8_network(), int8_network(threshold=21)),
    "scale": (int8_network(), int8_network(scale=17.0)),
    "bias": (int8_network(), int8_network(bias=(5, -7))),
    "cost of the layers that one stands for": (pooled_network(), pooled_network(dense_macs=32)),
    "that cost": (pooled_network(dense_macs=16), pooled_network(dense_macs=32)),
}


@pytest.mark.parametrize("case", SAME)
def test_storage_does_not_count(case):
    """Networks of equal numbers have one digest."""
    first, second = SAME[case]
    assert first.digest() == second.digest()


@pytest.mark.parametrize("case", DIFFERENT)
def test_what_changes_a_result_counts(case):
    """Networks that compute or cost something else have another digest."""
    first, second = DIFFERENT[case]
    assert first.digest() != second.digest()


def test_the_digest_is_the_same_everywhere():
    """It was written down once; Python, numpy and machine have no part in it."""
    assert float_network().digest() == "d149c64304fef4e3fb3866754a906b870e0a9773f15cade8c47b7315ff941f85"
    assert int8_network().digest() == "e9aebbf3690c9b9931848c394cb832ba95958a115b828e9e8bffe0670a0b94f8"


def test_a_node_keeps_its_numbers():
    """Whoever changes the array that a node was made of does not change the node, nor its digest."""
    weight = FLOAT.copy()
    graph = float_network(weight)
    before = graph.digest()
    weight[0, 0] = 9
    assert graph["fc1"].weight[0, 0] == 0
    again = graph.replace({"fc1": dataclasses.replace(graph["fc1"])})
    assert again.digest() == before
