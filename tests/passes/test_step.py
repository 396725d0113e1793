"""A pass says what it requires and ensures; one that fails is named, with those before it."""

import dataclasses
import functools
import re

import numpy as np
import pytest

from tet_deploy import passes
from tet_deploy.errors import ArgumentError, GraphError, with_notes
from tet_deploy.ir.graph import chain
from tet_deploy.ir.nodes import LIF, AvgPool, BatchNorm, Conv, Flatten, Input, Linear, Readout
from tet_deploy.ir.spec import FLOAT
from tet_deploy.passes.step import step
from tet_deploy.testing import random_float_network, random_frames

ONE = np.ones(1)
LAYERS = {
    "norm": BatchNorm(name="norm", gamma=ONE, beta=ONE, mean=ONE, variance=ONE, epsilon=1e-5),
    "pool": AvgPool(name="pool", kernel=(2, 2), stride=(2, 2)),
}


def traced(*between):
    """A network with these layers between its convolution and its neurons."""
    layers = (Conv(name="conv", weight=np.ones((1, 1, 1, 1))), *between, LIF(name="lif"), Flatten(name="flat"))
    size = 4 if LAYERS["pool"] in between else 16
    last = Linear(name="fc", weight=np.ones((2, size))), Readout(name="r")
    return chain([Input(name="input", shape=(1, 4, 4)), *layers, *last])


@pytest.mark.parametrize("run", [passes.fold_linear, passes.lower_residual, passes.fold_pooling])
def test_a_pass_out_of_its_place_is_refused(run):
    """What needs batch norm folded says so where it is not; folded, it runs."""
    with pytest.raises(GraphError, match=r"'norm': a BatchNorm may not stand in a norm-free network.*td\.lower"):
        run(traced(LAYERS["norm"]))
    run(passes.fold_batch_norm(traced(LAYERS["norm"])))


@pytest.mark.parametrize("run", [*passes.LOWERING, passes.fold, passes.snap_to_grid, passes.lower])
def test_integers_are_folded_by_none(run):
    """A quantized network is refused by every pass, in words, before it is touched."""
    graph = random_float_network(np.random.default_rng(0))
    with pytest.raises(GraphError, match="quantized already"):
        run(passes.quantize(graph, random_frames(graph, np.random.default_rng(1))))


def test_what_a_pass_does_not_ensure_is_its_error():
    """A result that is not what the pass ensures does not leave it."""
    forgetful = step(requires=FLOAT, ensures=FLOAT)(lambda graph: traced(LAYERS["norm"]))
    with pytest.raises(GraphError, match=r"'norm'.*deployable"):
        forgetful(traced())


@pytest.mark.parametrize("place", [0, len(passes.LOWERING)])
def test_a_pass_of_ones_own_is_named_whatever_it_is(monkeypatch, place):
    """One without a name, and one that forgot to return its network, wherever it stands."""

    def fails(graph, why):
        raise ValueError(why)

    def forgets(graph):
        return None

    for run, error, said in (
        (functools.partial(fails, why="mine"), ValueError, r"mine\nIn the pass functools\.partial\(.*"),
        (forgets, ArgumentError, r"graph: must be a network.*got NoneType.*\nIn the pass forgets[,.].*"),
    ):
        monkeypatch.setattr(passes, "LOWERING", (*passes.LOWERING[:place], run, *passes.LOWERING[place:]))
        with pytest.raises(error) as raised:
            passes.fold(traced())
        assert re.fullmatch(said, with_notes(raised.value))
        monkeypatch.undo()


def test_an_error_names_the_pass_and_those_before_it():
    """The error stays what it was; a line more says where it comes from."""
    big = dataclasses.replace(traced()["fc"], weight=np.full((2, 16), 1e30))
    cases = {
        "In the pass fold_batch_norm.": (passes.fold, traced(LAYERS["pool"], LAYERS["norm"])),
        "In the pass snap_to_grid, after fold_batch_norm, fold_linear, lower_residual, fold_pooling.": (
            passes.lower,
            traced().replace({"fc": big}),
        ),
    }
    for line, (run, graph) in cases.items():
        with pytest.raises(GraphError) as raised:
            run(graph)
        assert str(raised.value).startswith("node ") and "\n" not in str(raised.value)
        assert with_notes(raised.value).splitlines()[1:] == [line]
