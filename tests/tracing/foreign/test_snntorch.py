"""snnTorch's networks become graphs with the same spikes."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from snntorch_networks import BY_STEP, NETWORKS, SHAPE, STEPS, Loop, check_spikes, lively

from tet_deploy.ir.nodes import Add
from tet_deploy.passes import lower
from tet_deploy.runtimes.reference import ReferenceRuntime
from tet_deploy.runtimes.torch_model import TorchRuntime
from tet_deploy.tracing import trace


@pytest.mark.parametrize("dyadic", [False, True], ids=["random", "dyadic"])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_spike_is_the_frameworks_own(name, dyadic):
    """In float32, of every population at every step; all fire."""
    torch.manual_seed(2)
    check_spikes(lively(NETWORKS[name](), dyadic), by_step=name in BY_STEP)


def test_fifty_thousand_spikes_are_the_same():
    """Of one network that loops over frames."""
    torch.manual_seed(2)
    assert check_spikes(lively(Loop()))[1] > 50_000


@pytest.mark.parametrize("name", ["loop", "hidden states", "loop around hidden states"])
def test_the_model_is_left_as_it_was(name):
    """State of a former run, of another number of samples, does not show in the graph, and is there afterwards."""
    model = NETWORKS[name]()
    fresh = trace(model, SHAPE)
    x = torch.randn(3, 2, *SHAPE)
    model(x[0] if name in BY_STEP else x)
    kept = {path: (tensor, tensor.detach().clone()) for path, tensor in model.named_buffers()}
    assert sum(tensor.numel() > 1 for tensor, _ in kept.values()) >= 2
    assert trace(model, SHAPE).digest() == fresh.digest()
    assert TorchRuntime(model, SHAPE).graph.digest() == fresh.digest()
    for path, tensor in model.named_buffers():
        assert tensor is kept[path][0] and torch.equal(tensor, kept[path][1])
    assert model.training and model(x[0] if name in BY_STEP else x) is not None


@pytest.mark.parametrize("name", ["loop", "loop, default reset", "loop over frames, sums"])
def test_the_lowered_network_has_the_same_spikes(name):
    """Whether it ends in neurons, whose spikes are counted, or in what the last layer gives."""
    torch.manual_seed(2)
    model = lively(NETWORKS[name]())
    frames = np.random.default_rng(0).integers(0, 2, (STEPS, 3, *SHAPE)).astype(np.float32)
    graph = trace(model, SHAPE)
    traced, lowered = (ReferenceRuntime(one).run(frames) for one in (graph, lower(graph, frames)))
    for path in traced.spikes:
        assert traced.spikes[path].any()
        np.testing.assert_array_equal(lowered.spikes[path], traced.spikes[path])
    np.testing.assert_allclose(lowered.readout, traced.readout, atol=1e-3)  # weights lie on a fine grid now
    assert len(graph.of_kind(Add)) == (name == "loop over frames, sums")


def test_nothing_is_imported_that_the_user_has_not():
    """Tracing a model of plain torch leaves snnTorch alone."""
    code = (
        "import sys, torch, tet_deploy as td; from tet_deploy.nn import LIF, TimeMajor\n"
        "td.trace(TimeMajor(torch.nn.Linear(4, 3), LIF(), torch.nn.Linear(3, 2)), (4,))\n"
        "assert not [name for name in sys.modules if name.split('.')[0] == 'snntorch']"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
