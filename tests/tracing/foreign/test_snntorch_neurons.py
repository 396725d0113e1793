"""A Leaky of any setting becomes a node with the same spikes; snnTorch's other neurons are refused by name."""

import copy
import itertools

import numpy as np
import pytest
import snntorch as snn
import torch
from snntorch import surrogate
from snntorch_networks import SHAPE, ZERO, check_spikes, lively
from torch import nn

import tet_deploy as td
from tet_deploy.errors import GraphError
from tet_deploy.ir.nodes import LIF, Spiking
from tet_deploy.tracing import trace

SETTINGS = [
    {"beta": beta, "threshold": threshold, "reset_delay": reset_delay, "reset_mechanism": reset}
    for beta, threshold, reset_delay, reset in itertools.product(
        (0.0, 0.3, 0.9, 1.0, 1.3, -0.2), (0.25, 1), (True, False), ("zero", "subtract")
    )
]


def single(shape=(30,), **arguments):
    layers = [nn.Linear(128, 30)] if len(shape) == 1 else [nn.Conv2d(2, 30, 3, padding=1)]
    before = [nn.Flatten()] if len(shape) == 1 else []
    after = [] if len(shape) == 1 else [nn.AvgPool2d(8), nn.Flatten()]
    given = {**ZERO, "init_hidden": True, **arguments}
    return nn.Sequential(*before, *layers, snn.Leaky(**given), *after, nn.Linear(30, 10))


@pytest.mark.parametrize("arguments", SETTINGS, ids=str)
def test_every_setting_of_a_leaky_keeps_its_spikes(arguments):
    """Any beta, clipped to [0, 1] as the layer does; any threshold; any reset, at once or a step later."""
    torch.manual_seed(1)
    graph, _ = check_spikes(lively(single(**arguments)), by_step=True)
    (node,) = graph.of_kind(Spiking)
    soft = "subtract-delayed" if arguments["reset_delay"] else "subtract-twice"
    assert node.reset == ("zero" if arguments["reset_mechanism"] == "zero" else soft)
    assert node.comparison == ">" and node.decay == float(np.float32(min(max(arguments["beta"], 0.0), 1.0)))


SURROGATES = [
    *("atan", "fast_sigmoid", "heaviside", "sigmoid", "SFS", "spike_rate_escape", "SSO", "triangular"),
    "straight_through_estimator",
]


@pytest.mark.parametrize("name", SURROGATES)
def test_surrogate_gradients_do_not_matter(name):
    """Of any kind; what goes forward is a step."""
    torch.manual_seed(1)
    check_spikes(lively(single(spike_grad=getattr(surrogate, name)())), by_step=True)


def test_no_surrogate_gradient_does_not_matter_either():
    """surrogate_disable."""
    torch.manual_seed(1)
    check_spikes(lively(single(surrogate_disable=True)), by_step=True)


@pytest.mark.parametrize("shape", [(30,), (30, 1, 1)])
@pytest.mark.parametrize("learn", [True, False])
def test_thresholds_of_channels_are_kept(shape, learn):
    """One for each, learned or not."""
    torch.manual_seed(1)
    threshold = torch.linspace(0.4, 1.2, 30).reshape(shape)
    graph, _ = check_spikes(lively(single(shape, threshold=threshold, learn_threshold=learn)), by_step=True)
    np.testing.assert_array_equal(graph.of_kind(LIF)[0].threshold, threshold.ravel())


@pytest.mark.parametrize("shape", [(30,), (30, 1, 1)])
@pytest.mark.parametrize("learn", [True, False])
def test_betas_of_channels_are_kept(shape, learn):
    """One for each, learned or not, clipped as the layer does."""
    torch.manual_seed(1)
    beta = torch.linspace(-0.1, 1.1, 30).reshape(shape)
    graph, _ = check_spikes(lively(single(shape, beta=beta, learn_beta=learn)), by_step=True)
    np.testing.assert_array_equal(graph.of_kind(LIF)[0].decay, beta.ravel().clamp(0, 1))


class Line(nn.Module):
    """Lines [C, L] in a loop over time."""

    def __init__(self, **leaky):
        super().__init__()
        self.conv, self.lif = nn.Conv1d(2, 4, 3, padding=1), snn.Leaky(**{**ZERO, **leaky})
        self.fc = nn.Linear(48, 3)

    def forward(self, x):
        mem, record = self.lif.init_leaky(), []
        for step in range(x.size(0)):
            spikes, mem = self.lif(self.conv(x[step]), mem)
            record.append(self.fc(spikes.flatten(1)))
        return torch.stack(record)


@pytest.mark.parametrize("shape", [(4, 1), (1, 4, 1)])
def test_lines_have_numbers_of_channels_of_their_own_shape(shape):
    """[C, 1], as their convolution gives [B, C, L]; those of images, [C, 1, 1], would be one for each sample."""
    torch.manual_seed(1)
    beta, threshold = torch.linspace(0.2, 0.9, 4), torch.linspace(0.1, 0.4, 4)
    model = Line(beta=beta.reshape(shape), learn_beta=True, threshold=threshold.reshape(shape)).eval()
    graph, frames = trace(model, (2, 12)), torch.rand(20, 3, 2, 12)
    (lif,) = graph.of_kind(LIF)
    np.testing.assert_array_equal(lif.decay, beta)
    np.testing.assert_array_equal(lif.threshold, threshold)
    found = td.compare(model, graph, frames)
    assert found.spikes and not found.differing
    with pytest.raises(GraphError, match=r"'lif': Leaky: beta must be .*of shape \(4, 1\); got shape \(4, 1, 1\)"):
        trace(Line(beta=beta.reshape(4, 1, 1)), (2, 12))


def test_numbers_that_training_left_are_read():
    """A learned beta and threshold, and arrays of one number."""
    model = single(learn_beta=True, learn_threshold=True, beta=torch.full((30,), 0.5))
    with torch.no_grad():
        model[2].beta.fill_(0.3)
        model[2].threshold.fill_(0.7)
    (node,) = trace(model, SHAPE).of_kind(LIF)
    assert (node.decay, node.threshold) == (float(np.float32(0.3)), float(np.float32(0.7)))


class Own(snn.Leaky):
    def fire(self, mem):
        return 2 * super().fire(mem)


def after(change):
    def make():
        model = single()
        change(model[2])
        return model

    return make


REFUSED = {
    "none": (lambda: single(reset_mechanism="none"), "'2': a Leaky of reset_mechanism 'none' spikes whenever.*output=True"),
    "changed": (after(lambda leaky: setattr(leaky, "reset_mechanism", "subtract")), "got 'zero', and 'subtract' in its"),
    "inhibition": (lambda: single(inhibition=True), "'2': Leaky: inhibition must be False"),
    "quantized state": (lambda: single(state_quant=lambda mem: mem), "'2': Leaky: state_quant must be False.*td.quantize"),
    "graded": (lambda: single(graded_spikes_factor=2.0), r"graded_spikes_factor must be 1; got 2.0.*next layer"),
    "graded, learned": (
        lambda: single(graded_spikes_factor=1.5, learn_graded_spikes_factor=True),
        "graded_spikes_factor must be 1; got 1.5",
    ),
    "soft spikes": (lambda: single(spike_grad=torch.sigmoid), "spike_grad must give 1 above 0 and else 0"),
    "betas": (
        lambda: single(beta=torch.linspace(0, 1, 30), reset_mechanism="subtract"),
        "beta must be one number for the layer",
    ),
    "thresholds elsewhere": (
        lambda: single((30, 1, 1), threshold=torch.ones(8)),
        r"threshold must be one number, or one for each channel, of shape \(30, 1, 1\); got shape \(8,\)",
    ),
    "threshold 0": (lambda: single(threshold=0.0), "threshold must be above 0"),
    "infinite": (lambda: single(beta=float("nan")), "beta must be finite"),
    "Synaptic": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(128, 9), snn.Synaptic(alpha=0.9, beta=0.8, init_hidden=True)),
        "'2': Synaptic: reset_mechanism must be 'zero'.*got 'subtract'.*reset_delay=False",
    ),
    "RLeaky": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(128, 9), snn.RLeaky(beta=0.9, linear_features=9, init_hidden=True)),
        "'2': a snntorch.*RLeaky cannot be traced",
    ),
    "a neuron that does it otherwise": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(128, 9), Own(**ZERO, init_hidden=True)),
        "'2': a .*Own cannot be traced",
    ),
}


@pytest.mark.filterwarnings("ignore:Inhibition is an unstable feature")
@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_node_is_refused_by_name(name):
    """The layer's path, what is wrong with it, and where there is one a way out."""
    make, message = REFUSED[name]
    with pytest.raises(GraphError, match=message) as caught:
        trace(make(), SHAPE)
    assert len(str(caught.value)) < 500


def test_subclasses_that_only_choose_settings_are_leaky():
    """As is a copy of a model."""

    class Slow(snn.Leaky):
        def __init__(self):
            super().__init__(beta=0.99, reset_mechanism="zero", init_hidden=True)

    model = nn.Sequential(nn.Flatten(), nn.Linear(128, 9), Slow(), nn.Linear(9, 3))
    graph = trace(model, SHAPE)
    assert graph.of_kind(LIF)[0].decay == float(np.float32(0.99))
    assert trace(copy.deepcopy(model), SHAPE).digest() == graph.digest()
