"""The networks of `models/`, firing as trained ones do, compute the same on every runtime: every node, every step."""

from functools import cache

import numpy as np
import pytest
import torch

import tet_deploy as td
from tet_deploy.models import build

NETWORKS = {  # name -> encoding and shape of the frames that it is for
    "resnet19": ("analog", (3, 32, 32)),
    "spiking_resnet34": ("analog", (3, 32, 32)),
    "sew_resnet34": ("analog", (3, 32, 32)),
    "vgg_snn": ("events", (2, 32, 32)),
    "snn5": ("events", (2, 32, 32)),
}


def smooth_frames(rng, encoding, steps, samples, shape):
    """Images, multiples of 1/64 that stay the same at every step, or counts of events; both smooth over 8 pixels."""
    coarse = (samples, shape[0], shape[1] // 8, shape[2] // 8)
    if encoding == "analog":
        images = np.rint(np.clip(np.kron(rng.normal(size=coarse), np.ones((8, 8))), -2, 2) * 64) / 64
        return np.repeat(images[None], steps, axis=0).astype(np.float32)
    rates = np.kron(rng.gamma(0.5, 0.6, coarse), np.ones((8, 8)))
    return np.minimum(rng.poisson(rates, (steps, samples, *shape)), 7).astype(np.float32)


@cache
def deployed(name, *, width=0.125, steps=4, samples=2):
    """(float network, integer network, frames); its batch norms have seen such frames, so that it fires as if trained."""
    encoding, shape = NETWORKS[name]
    frames = smooth_frames(np.random.default_rng(0), encoding, steps, samples + 4, shape)
    model = build(name, seed=0, shape=shape, classes=10, width=width)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # averages over all that it sees
    with torch.no_grad():
        if name == "resnet19":
            model.fc1.weight *= 8  # its last population has no batch norm, and fresh weights never make it fire
        model.train()(torch.from_numpy(frames))
    graph = td.lower(td.trace(model.eval(), input_shape=shape, encoding=encoding), frames)
    return graph, td.quantize(graph, frames), frames[:, :samples]


def agree(graph, frames, runtime):
    """0 of all spikes, potentials and readouts differ from the reference, while every population fires as in training."""
    fired = td.run(graph, frames, probes="spikes").spikes
    rates = {name: spikes.mean() for name, spikes in fired.items() if not name.startswith("pool")}
    assert min(rates.values()) > 0.08 and max(rates.values()) < 0.4, rates  # max pools fire wherever one of a window does
    agreement = td.validate(graph, frames, runtimes=["reference", runtime])[runtime]
    values = sum(spikes.size for spikes in fired.values())
    assert agreement.compared == 2 * values + frames.shape[0] * frames.shape[1] * 10
    assert agreement.equal, str(agreement)


@pytest.mark.parametrize("stage", ["float", "integers"])
@pytest.mark.parametrize("name", NETWORKS)
def test_narrow_networks_are_equal_on_onnx(name, stage):
    """An eighth of the width: 0 values differ."""
    snapped, int8, frames = deployed(name)
    agree(snapped if stage == "float" else int8, frames, "onnx")


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_full_width_are_equal_on_onnx(name):
    """As the papers have them, float and integer: 0 values differ."""
    snapped, int8, frames = deployed.__wrapped__(name, width=1.0, steps=2)  # too large to keep
    agree(snapped, frames, "onnx")
    agree(int8, frames, "onnx")


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_deeper_than_they_run_are_equal_on_lava(name, lava_python):
    """An eighth of the width; three samples back to back, with several of them in the network at once."""
    _, int8, frames = deployed(name, steps=2, samples=3)
    agree(int8, frames, "lava")


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("name", NETWORKS)
def test_more_steps_and_samples_are_equal_on_lava(name, steps, lava_python):
    """Five samples back to back, reset after every step or after five."""
    _, int8, frames = deployed(name, steps=steps, samples=5)
    agree(int8, frames, "lava")


def test_a_network_that_runs_longer_than_it_is_deep_is_equal_on_lava(lava_python):
    """SNN-5 over 12 steps, three samples back to back."""
    _, int8, frames = deployed("snn5", steps=12, samples=3)
    agree(int8, frames, "lava")
