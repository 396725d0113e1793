"""What SpikingJelly's networks hold that has no node is refused by name."""

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from spikingjelly_networks import CSNN, SHAPE, neurons, sew, with_layer, zoo
from torch import nn

from tet_deploy.errors import GraphError
from tet_deploy.nn import LIF as OurLIF
from tet_deploy.nn import TimeMajor
from tet_deploy.tracing import trace


def off(field, value):
    return lambda model: setattr(model[2], field, value)


class Own(neuron.LIFNode):
    def single_step_forward(self, x):
        return super().single_step_forward(2 * x)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.flatten, self.first, self.fc, self.lif = (
            layer.Flatten(),
            layer.Linear(128, 9),
            layer.Linear(9, 9),
            neuron.LIFNode(),
        )
        functional.set_step_mode(self, "m")

    def forward(self, x):
        return self.fc(self.lif(self.fc(self.lif(self.first(self.flatten(x))))))


class Loop(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = neurons(neuron.LIFNode)

    def forward(self, x):
        rates = self.layers(x)
        for _ in range(2):
            rates += self.layers(x)
        return rates / 3


class LoopOverFrames(Loop):
    def forward(self, x):
        return torch.stack([self.layers(x[step]) for step in range(3)])


def changed(change, **arguments):
    def make():
        model = neurons(neuron.LIFNode, **arguments)
        functional.set_step_mode(model, "m")
        change(model)
        return model

    return make


REFUSED = {
    "threshold below reset": (
        changed(off("v_threshold", -1.0)),
        "'2': LIFNode: v_threshold must be above v_reset; got -1.0",
    ),
    "threshold of many": (changed(off("v_threshold", torch.ones(64))), "v_threshold must be one finite number"),
    "start elsewhere": (changed(off("v_reset", 0.25)), r"must begin at v_reset, 0\.25; it begins at 0\.0"),
    "tau below a step": (changed(off("tau", 0.5)), "tau must be finite and at least 1 step"),
    "no spikes": (changed(lambda model: None, surrogate_function=surrogate.Sigmoid(spiking=False)), "must give spikes"),
    "another neuron": (with_layer(neuron.QIFNode(step_mode="m")), r"'0': a spikingjelly.*QIFNode cannot.*IFNode, LIFNode"),
    "a neuron that does it otherwise": (with_layer(Own(step_mode="m")), r"'0': a .*Own cannot be traced"),
    "a layer with state": (with_layer(layer.SynapseFilter(step_mode="m")), "'0': a spikingjelly.*SynapseFilter cannot"),
    "norm of the step": (
        with_layer(layer.TemporalEffectiveBatchNorm2d(2, 2)),
        "'0', a TemporalEffectiveBatchNorm2d: its batch norm depends on the time step.*Retrain",
    ),
    "norm through time": (
        with_layer(layer.BatchNormThroughTime2d(2, 2, step_mode="m")),
        "'0', a BatchNormThroughTime2d: its",
    ),
    "standardised weights": (with_layer(layer.WSConv2d(2, 2, 1, step_mode="m")), "'0': a .*WSConv2d cannot"),
    "modes mixed": (
        with_layer(layer.Conv2d(2, 2, 1, step_mode="m"), neuron.IFNode(), neuron.IFNode(step_mode="m")),
        r"'1': IFNode of step_mode 's' is given all steps, .*set_step_mode\(model, 'm'\)",
    ),
    "neurons called twice": (Twice, "'lif': this LIFNode is called again.*Give each call a layer of its own"),
    "a loop over time": (Loop, "'layers.2': this LIFNode is called again.*trace what it calls in the loop"),
    "a loop over frames": (
        LoopOverFrames,
        r"'layers.1', a Linear: cannot run .* one step \[B, .*have step_mode 's' .*trace what it calls in the loop",
    ),
    "own module in a container": (
        with_layer(layer.MultiStepContainer(TimeMajor(nn.Conv2d(2, 2, 1)))),
        "'0.0': a container that walks through time may hold layers only; this is a TimeMajor",
    ),
    "a container for all steps among neurons for one": (
        lambda: nn.Sequential(layer.Flatten(), layer.MultiStepContainer(nn.Linear(128, 4)), neuron.IFNode()),
        "'1.0': its container walks through time, and neurons outside of it take one step",
    ),
    "our LIF step by step": (
        lambda: nn.Sequential(layer.Flatten(), OurLIF(), layer.Linear(128, 3), neuron.IFNode()),
        "'1': LIF needs time and batch separate",
    ),
    "rates in the middle": (
        lambda: nn.Sequential(CSNN(), nn.Linear(10, 3)),
        r"'0.mean': a mean or sum over time must be the last.*fc\(x\)\.mean\(0\)",
    ),
    "SEW by a product": (lambda: sew(18, neuron.IFNode, "AND"), r"'layer1.0.mul': function 'mul' cannot"),
    "SEW by a product of what is silent": (lambda: sew(18, neuron.IFNode, "IAND"), r"'layer1.0.sub': function 'sub' cannot"),
    "control flow": (lambda: zoo("ms_resnet").ms_resnet18(T=2), "MSResNet: forward.. cannot be traced.*loop or branch"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_node_is_refused_by_name(name):
    """The layer's path, what is wrong with it, and where there is one a way out."""
    make, message = REFUSED[name]
    model = make()
    shape = {"SEW": (3, 32, 32), "control": (3, 32, 32), "rates": (1, 16, 16)}.get(name.split()[0], SHAPE)
    with pytest.raises(GraphError, match=message) as caught:
        trace(model, shape)
    assert len(str(caught.value)) < 500
