"""SpikingJelly's networks become graphs with the same spikes."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from spikingjelly_networks import CSNN, NETWORKS, SHAPE, STEPS, check_spikes, neurons
from torch import nn
from torch.nn.utils import parametrizations, prune, weight_norm

from tet_deploy.errors import DataError, GraphError
from tet_deploy.ir.nodes import Add, Linear
from tet_deploy.passes import lower
from tet_deploy.runtimes.reference import ReferenceRuntime
from tet_deploy.runtimes.torch_model import TorchRuntime
from tet_deploy.tracing import trace
from tet_deploy.tracing.capture import capture
from tet_deploy.tracing.eval_mode import in_eval_mode


@pytest.mark.parametrize("name", NETWORKS)
def test_every_spike_is_the_frameworks_own(name):
    """In float32, of every population at every step; all fire."""
    make, shape = NETWORKS[name]
    model = make()
    functional.set_step_mode(model, "m")
    check_spikes(model, shape)


@pytest.mark.parametrize("name", ["CIFAR10DVSNet", "spiking_vgg", "sew_resnet18"])
def test_a_model_that_is_called_step_by_step_is_traced_as_it_is(name):
    """step_mode "s": forward() takes [B, ...], and the loop over time is the user's."""
    make, shape = NETWORKS[name]
    stepwise = check_spikes(make(), shape, mode="s")
    model = make()
    functional.set_step_mode(model, "m")
    assert [node.name for node in trace(model, shape)] == [node.name for node in stepwise]


class Branches(nn.Module):
    """What neurons give is used twice, and a sum of it goes on."""

    def __init__(self):
        super().__init__()
        self.flatten, self.first, self.fc = layer.Flatten(), layer.Linear(128, 9), layer.Linear(9, 9)
        self.one, self.two, self.readout = neuron.LIFNode(), neuron.IFNode(), layer.Linear(9, 3)
        functional.set_step_mode(self, "m")

    def forward(self, x):
        spikes = self.one(self.first(self.flatten(x)))
        return self.readout(self.two(self.fc(spikes)) + spikes)


WRAPPERS = {
    "weight norm": lambda model: parametrizations.weight_norm(model[0]),
    "old weight norm": lambda model: weight_norm(model[0]),
    "spectral norm": lambda model: parametrizations.spectral_norm(model[0]),
    "pruning": lambda model: prune.l1_unstructured(model[0], "weight", 0.5),
    "compile": torch.compile,
    "data parallel": nn.DataParallel,
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated")
@pytest.mark.parametrize("name", WRAPPERS)
def test_weights_are_those_that_the_layer_computes_with(name):
    """Whatever torch wraps around a layer's weights, or around the model."""
    model = nn.Sequential(layer.Conv2d(2, 4, 3), neuron.IFNode(), layer.Flatten(), layer.Linear(144, 3)).eval()
    functional.set_step_mode(model, "m")
    changed = WRAPPERS[name](model)
    graph = trace(changed if isinstance(changed, nn.Module) and name in ("compile", "data parallel") else model, SHAPE)
    np.testing.assert_allclose(graph["0"].weight, model[0].weight.detach().numpy(), rtol=1e-6)  # a norm is a sum in float32


def test_sums_of_spikes_go_on_as_in_ours():
    """What neurons give may be used twice; the lowered graph has the same spikes."""
    graph = check_spikes(Branches(), SHAPE)
    assert len(graph.of_kind(Add)) == 1
    frames = np.random.default_rng(0).standard_normal((STEPS, 3, *SHAPE)).astype(np.float32)
    for name, spikes in ReferenceRuntime(lower(graph, frames)).run(frames).spikes.items():
        assert spikes.any(), name


def test_a_model_that_shows_an_image_runs_on_that_alone():
    """As a runtime it takes frames that are one image at each of its steps; others are refused."""
    runtime = TorchRuntime(CSNN(), (1, 16, 16))
    frames = np.random.default_rng(0).random((STEPS, 2, 1, 16, 16), np.float32)
    for wrong, message in (
        (frames, r"at 4 steps .*got frames that differ"),
        (frames[:1].repeat(3, 0), "of 3 steps"),
    ):
        with pytest.raises(DataError, match=message):
            runtime.run(wrong)
    assert runtime.run(frames[:1].repeat(STEPS, 0)).readout.shape == (STEPS, 2, 10)


@pytest.mark.parametrize("steps", [1, 2, 3, 6])
def test_an_image_may_be_shown_at_any_number_of_steps(steps):
    """And is so at another number of samples, by which time and batch are told apart."""
    model = CSNN(lambda x: x.unsqueeze(0).repeat(steps, 1, 1, 1, 1))
    with in_eval_mode(model):
        captured = capture(model, (1, 16, 16), "analog")
    assert captured.steps == steps != captured.samples
    assert len(trace(model, (1, 16, 16))) == 17


def test_voting_is_a_mean_over_groups():
    """Neighbours vote; what is left over does not."""
    model = nn.Sequential(layer.Linear(6, 11), neuron.IFNode(), layer.VotingLayer(5))
    vote = trace(model, (6,)).nodes[-2]
    assert isinstance(vote, Linear) and vote.dense_macs == 0
    np.testing.assert_array_equal(vote.weight * 5, [[1] * 5 + [0] * 6, [0] * 5 + [1] * 5 + [0]])


def test_time_is_what_a_mean_is_taken_over():
    """Where forward() takes one step, its first axis holds samples, and a mean over them is none over time."""

    class Mean(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = neurons(neuron.LIFNode)

        def forward(self, x):
            return self.layers(x).mean(0)

    with pytest.raises(GraphError, match="method 'mean' cannot"):
        trace(Mean(), SHAPE)
    model = Mean()
    functional.set_step_mode(model, "m")
    assert len(trace(model, SHAPE)) == 6


@pytest.mark.parametrize("mode", ["m", "s"])
def test_the_model_is_left_as_it_was(mode):
    """State of a former run, training mode, precision, hooks: all as found; and the state does not show in the graph."""
    model = neurons(neuron.ParametricLIFNode, step_mode=mode, detach_reset=True, store_v_seq=True).double()
    functional.set_step_mode(model, mode)
    fresh = trace(model, SHAPE)
    x = torch.randn(2, 3, *SHAPE, dtype=torch.float64)
    model(x) if mode == "m" else model(x[0])
    v, v_seq = model[2].v, model[2].v_seq
    kept = v.detach().clone()
    assert trace(model, SHAPE).digest() == fresh.digest()
    assert model[2].v is v and model[2].v_seq is v_seq and torch.equal(v, kept) and model.training
    assert model[2].step_mode == mode and model[2].w.dtype == torch.float64
    functional.reset_net(model)
    assert model[2].v == 0.0


def test_nothing_is_imported_that_the_user_has_not():
    """Tracing a model of plain torch leaves SpikingJelly alone."""
    code = (
        "import sys, torch, tet_deploy as td; from tet_deploy.nn import LIF, TimeMajor\n"
        "td.trace(TimeMajor(torch.nn.Linear(4, 3), LIF(), torch.nn.Linear(3, 2)), (4,))\n"
        "assert not [name for name in sys.modules if name.startswith('spikingjelly')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
