"""Frames that lie on no grid are put on the network's, where all runtimes agree in every bit."""

import numpy as np
import pytest

import tet_deploy as td
from tet_deploy.errors import DataError
from tet_deploy.ir.graph import chain
from tet_deploy.ir.nodes import Input, Linear, Readout
from tet_deploy.passes.snap_to_grid import frames_fit
from tet_deploy.testing import random_float_network, random_frames


def network(seed):
    """A traced network that takes images, and normalised images for it."""
    rng = np.random.default_rng(seed)
    traced = random_float_network(rng, encoding="analog", grid=20)
    shape = random_frames(traced, rng, 3, 4).shape
    return traced, rng.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("shown", [True, False])
def test_snapped_frames_make_runtimes_equal(seed, shown):
    """Normalised images are on no grid; rounded by less than 2^-9 they are, and ONNX Runtime equals the reference."""
    pytest.importorskip("onnx")  # the core's tests beside Lava do without
    traced, frames = network(seed)
    graph = td.lower(traced, frames if shown else None)
    assert not frames_fit(graph, frames)
    snapped = td.snap_frames(graph, frames)
    assert frames_fit(graph, snapped) and np.abs(snapped - frames).max() <= 2**-9
    assert td.validate(graph, snapped, runtimes=["reference", "onnx"])["onnx"].equal
    assert td.snap_frames(graph, snapped) is snapped


def test_frames_that_need_nothing_stay_as_they_are():
    """A quantized network rounds its input itself; whole numbers lie on every grid."""
    traced, frames = network(0)
    graph = td.lower(traced, frames)
    assert np.array_equal(td.snap_frames(td.quantize(graph, frames), frames), frames)
    assert np.array_equal(td.snap_frames(graph, np.sign(frames)), np.sign(frames))


def test_frames_that_no_grid_holds_are_refused():
    """Those beyond what was shown to `lower`, and any for a network that was not lowered; the error says what to do."""
    traced, frames = network(1)
    weight = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    single = chain([Input(name="input", shape=(8,)), Linear(name="fc", weight=weight), Readout(name="readout")])
    for graph, x in ((td.lower(traced, frames), 100 * frames), (single, np.full((2, 3, 8), 0.1))):
        with pytest.raises(DataError, match=r"no grid for values up to .*td\.lower\(traced, frames\)"):
            td.snap_frames(graph, x)
