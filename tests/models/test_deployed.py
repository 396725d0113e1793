"""The networks of `models/`, firing as trained ones do, compute the same on every runtime: every node, every step."""

import numpy as np
import pytest
import torch

import tet_deploy as td
from tet_deploy.ir.nodes import LIF
from tet_deploy.models import build

NETWORKS = {  # name -> frames (C, H, W) that it is for here
    "resnet19": (3, 32, 32),
    "spiking_resnet34": (3, 32, 32),
    "sew_resnet34": (3, 32, 32),
    "vgg_snn": (2, 32, 32),
    "snn5": (2, 32, 32),
}


def deployed(name, *, width, steps=4, samples=2):
    """A float and an integer network, and frames; batch norms have seen such frames, so populations fire as in training."""
    shape, rng = NETWORKS[name], np.random.default_rng(0)
    model = build(name, seed=0, shape=shape, classes=10, width=width)
    frames = np.minimum(rng.poisson(0.6, (steps, samples + 6, *shape)), 3).astype(np.float32)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        model.train()(torch.from_numpy(frames))
    graph = td.lower(td.trace(model.eval(), input_shape=shape, encoding="events"), frames)
    return graph, td.quantize(graph, frames), frames[:, :samples]


def agree(graph, frames, runtime):
    """Compare with the reference; the populations must be alive for that to say something."""
    rates = [spikes.mean() for spikes in td.run(graph, frames, probes="spikes").spikes.values()]
    assert np.median(rates) > 0.03 and max(rates) < 0.95 and np.count_nonzero(rates) >= len(rates) - 1
    agreement = td.validate(graph, frames, runtimes=["reference", runtime])[runtime]
    assert agreement.equal, str(agreement)
    assert agreement.compared > 2 * frames.shape[0] * frames.shape[1] * len(graph.of_kind(LIF))


@pytest.mark.parametrize("name", NETWORKS)
def test_narrow_networks_are_equal_on_onnx(name):
    """An eighth of the width, float and integer: 0 values differ."""
    for graph in (nets := deployed(name, width=0.125))[:2]:
        agree(graph, nets[2], "onnx")


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_full_width_are_equal_on_onnx(name):
    """As the papers have them, float and integer: 0 values differ."""
    for graph in (nets := deployed(name, width=1.0))[:2]:
        agree(graph, nets[2], "onnx")


def test_a_network_is_equal_on_lava_though_it_runs_longer_than_it_is_deep(lava_python):
    """SNN-5 over 12 steps, two samples back to back."""
    _, int8, frames = deployed("snn5", width=0.125, steps=12)
    agree(int8, frames, "lava")


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_equal_on_lava(name, lava_python):
    """An eighth of the width, fewer steps than layers, two samples back to back."""
    _, int8, frames = deployed(name, width=0.125, steps=3)
    agree(int8, frames, "lava")
