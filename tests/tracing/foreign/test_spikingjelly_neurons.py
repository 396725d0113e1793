"""SpikingJelly's neurons of any setting become nodes with the same spikes."""

import itertools

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from spikingjelly_networks import SHAPE, check_spikes, neurons, with_layer
from torch import nn

from tet_deploy.ir.nodes import LIF, CubaLIF, SoftResetLIF, Spiking
from tet_deploy.runtimes.reference import ReferenceRuntime
from tet_deploy.tracing import trace

KINDS = [
    *({"kind": neuron.IFNode, "v_reset": v_reset} for v_reset in (0.0, 0.25, -0.7, None)),
    *(
        {"kind": neuron.LIFNode, "tau": tau, "decay_input": decay_input, "v_reset": v_reset}
        for tau, decay_input, v_reset in itertools.product((1.25, 2.0, 7.3), (True, False), (0.0, -0.3, None))
    ),
    *(
        {"kind": neuron.ParametricLIFNode, "init_tau": tau, "decay_input": decay_input, "v_reset": 0.2}
        for tau, decay_input in itertools.product((1.7, 2.0), (True, False))
    ),
    *(
        {"kind": neuron.CUBALIFNode, "c_decay": current, "v_decay": potential}
        for current, potential in itertools.product((0.0, 0.3, 0.9), (0.0, 0.75, 1.0))
    ),
]


@pytest.mark.parametrize("mode", ["m", "s"])
@pytest.mark.parametrize("arguments", KINDS, ids=str)
def test_every_setting_of_a_neuron_keeps_its_spikes(arguments, mode):
    """Any tau, decaying input or not, any threshold, any number to reset to, and None, which subtracts the threshold."""
    model = neurons(**arguments, v_threshold=0.6)
    functional.set_step_mode(model, mode)
    (node,) = check_spikes(model, SHAPE, mode).of_kind(Spiking)
    assert node.comparison == ">="
    kind = LIF if arguments.get("v_reset") is not None else SoftResetLIF
    assert isinstance(node, CubaLIF if "c_decay" in arguments else kind)


def test_a_neuron_fires_at_its_threshold():
    """IF with whole weights: potentials meet the threshold exactly, in both."""
    model = nn.Sequential(layer.Linear(6, 6, bias=False), neuron.IFNode(v_threshold=3.0), layer.Linear(6, 2))
    functional.set_step_mode(model, "m")
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(6))
    frames = torch.ones(6, 1, 6)
    recording = ReferenceRuntime(trace(model, (6,))).run(frames.numpy())
    assert recording.spikes["1"][:, 0, 0].tolist() == [0, 0, 1, 0, 0, 1]


def test_time_constants_of_one_step_keep_nothing():
    """tau = 1, which SpikingJelly takes by assignment: decay 0."""
    model = neurons(neuron.LIFNode)
    model[2].tau = 1.0
    assert trace(model, SHAPE).of_kind(LIF)[0].decay == 0


class Named(neuron.LIFNode):
    def __init__(self):
        super().__init__(tau=3.0)


def test_subclasses_that_only_choose_settings_are_what_they_come_from():
    """And so is SpikingJelly's threshold-dependent batch norm, whose factor is in its weights."""
    model = with_layer(
        layer.Conv2d(2, 2, 1, step_mode="m"),
        layer.ThresholdDependentBatchNorm2d(alpha=1.0, v_th=0.5, num_features=2),
        Named(),
    )()
    functional.set_step_mode(model, "m")
    assert check_spikes(model, SHAPE).of_kind(LIF)[0].decay == pytest.approx(2 / 3)


def test_a_learned_time_constant_is_read():
    """ParametricLIFNode's w, as training left it, in float32 as the model computes it."""
    model = neurons(neuron.ParametricLIFNode)
    with torch.no_grad():
        model[2].w.fill_(0.3)
    assert trace(model, SHAPE).of_kind(LIF)[0].decay == 1 - float(torch.tensor(0.3).sigmoid())
