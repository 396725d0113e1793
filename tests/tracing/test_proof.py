"""Tracing proves itself: whatever a graph computes otherwise than its model is found, whichever node it is in."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tet_deploy.errors import GraphError
from tet_deploy.ir.nodes import LIF as LIFNode
from tet_deploy.ir.nodes import Add, AvgPool, BatchNorm, Conv, Linear
from tet_deploy.models import build
from tet_deploy.nn import LIF, TimeMajor
from tet_deploy.tracing import trace
from tet_deploy.tracing.translation import Translation

SHAPE = (2, 10, 10)


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.body = TimeMajor(nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels))
        self.lif = LIF()

    def forward(self, x):
        return self.lif(self.body(x) + x)


def model(seed=0):
    """Every kind of node that tracing makes, all but LIFs with parameters that differ from each other."""
    torch.manual_seed(seed)
    net = TimeMajor(
        nn.Conv2d(2, 6, (3, 5), padding=(1, 2), dilation=(1, 1), groups=2),
        nn.BatchNorm2d(6, eps=0.01),
        LIF(decay=0.7, threshold=0.6),
        nn.AvgPool2d(2),
        Block(6),
        nn.Conv2d(6, 4, 3, stride=2, bias=False),
        LIF(),
        nn.MaxPool2d(2, stride=1, padding=1),
        nn.Flatten(),
        nn.Linear(36, 5),
    )
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for value in (module.running_mean, module.running_var, module.weight.data, module.bias.data):
                value.uniform_(0.5, 1.5)
    return net


def one(field, index, by):
    """Another value in one place of an array."""

    def changed(node):
        array = getattr(node, field).copy()
        array[index] += by
        return dataclasses.replace(node, **{field: array})

    return changed


def with_(**fields):
    return lambda node: dataclasses.replace(node, **fields)


MUTATIONS = {  # the first node of a kind, and what is made of it; another stride or padding would give another shape
    "conv weight": (Conv, one("weight", (5, 0, 2, 4), 1e-4)),
    "conv bias": (Conv, one("bias", 3, 1e-4)),
    "conv groups": (Conv, lambda node: dataclasses.replace(node, weight=node.weight[[3, 4, 5, 0, 1, 2]])),
    "conv weight flipped": (Conv, lambda node: dataclasses.replace(node, weight=node.weight[:, :, ::-1, ::-1])),
    "conv weight transposed": (
        lambda node: isinstance(node, Conv) and node.stride == (2, 2),
        lambda node: dataclasses.replace(node, weight=node.weight.swapaxes(2, 3)),
    ),
    "strided conv weight": (
        lambda node: isinstance(node, Conv) and node.stride == (2, 2),
        one("weight", (3, 5, 1, 1), 1e-4),
    ),
    "norm mean": (BatchNorm, one("mean", 4, 1e-4)),
    "norm variance": (BatchNorm, one("variance", 0, 1e-4)),
    "norm gamma": (BatchNorm, one("gamma", 5, 1e-4)),
    "norm beta": (BatchNorm, one("beta", 1, 1e-4)),
    "norm epsilon": (BatchNorm, with_(epsilon=0.0101)),
    "pool window": (AvgPool, with_(kernel=(1, 2))),
    "decay": (LIFNode, with_(decay=0.7001)),
    "threshold": (LIFNode, with_(threshold=0.6001)),
    "order of spikes in time": (LIFNode, with_(decay=0.0)),
    "max pool threshold": (lambda node: isinstance(node, LIFNode) and node.threshold == 0.5, with_(threshold=1.5)),
    "max pool window": (lambda node: node.name.endswith(".sum"), one("weight", (2, 0, 1, 1), -1)),
    "linear weight": (Linear, one("weight", (4, 35), 1e-4)),
    "linear bias": (Linear, one("bias", 2, 1e-4)),
    "sum of something else": (Add, lambda node: dataclasses.replace(node, inputs=(node.inputs[0], node.inputs[0]))),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTATIONS)
def test_one_parameter_changed_is_found(name, monkeypatch):
    """The node at fault is named with the size of the difference; without the proof nobody would know."""
    which, change = MUTATIONS[name]
    append, done = Translation._append, []

    def appended(self, call, nodes, source):
        for node in nodes:
            if not done and (isinstance(node, which) if isinstance(which, type) else which(node)):
                done.append(node.name)
        nodes = tuple(change(node) if node.name in done else node for node in nodes)
        append(self, call, nodes, source)

    monkeypatch.setattr(Translation, "_append", appended)
    with pytest.raises(GraphError, match="float rounding explains") as caught:
        trace(model(), SHAPE, "events")
    assert done and repr(done[0].removesuffix(".sum")) in str(caught.value)
    assert len(str(caught.value)) < 500
    done.clear()
    assert trace(model(), SHAPE, "events", verify=False)


def test_the_unchanged_model_passes():
    """The proof fails for what was changed, not for the model."""
    for seed in range(3):
        assert len(trace(model(seed), SHAPE, "events")) == 16


def magnify(module, args, output):
    output.data.mul_(1.01)  # .data: torch does not count this as a change in place


@pytest.mark.parametrize(
    ("name", "shape"), [("resnet19", (3, 16, 16)), ("sew_resnet34", (3, 32, 32)), ("vgg_snn", (2, 16, 16))]
)
def test_faults_are_found_however_deep_the_network(name, shape):
    """Far behind neurons that stay silent for random frames: the last layer but one of a fresh network is off by 1 %."""
    net = build(name, seed=0, shape=shape, width=0.125)
    assert trace(net, shape)
    *_, (path, layer) = ((path, layer) for path, layer in net.named_modules() if isinstance(layer, nn.Conv2d))
    layer.register_forward_hook(magnify)
    with pytest.raises(GraphError, match=path):
        trace(net, shape)


@settings(max_examples=25)
@given(
    scale=st.sampled_from([1e-12, 1e-3, 1.0, 1e3, 1e12]),
    decay=st.floats(0, 1),
    threshold=st.sampled_from([1e-9, 0.1, 1 / 3, 1.0, 1e9]),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    seed=st.integers(0, 2**16),
)
def test_no_model_is_refused_for_its_rounding(scale, decay, threshold, dtype, seed):
    """Weights, statistics and thresholds of any size, and of any precision."""
    net = model(seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in net.parameters():
            value *= scale * torch.randn(value.shape, generator=generator)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean *= scale * 100
                module.running_var *= torch.rand(module.running_var.shape, generator=generator) ** 8
    net[2].decay, net[2].threshold = decay, threshold
    trace(net.to(dtype), SHAPE)


def test_values_changed_in_place_are_followed():
    """`out += x` is an addition where nobody else holds `out`, and an error where somebody does."""

    class Adds(nn.Module):
        def __init__(self, aliased):
            super().__init__()
            self.body, self.lif = TimeMajor(nn.Conv2d(2, 2, 3, padding=1)), LIF()
            self.readout = TimeMajor(nn.Flatten(), nn.Linear(200, 5))
            self.aliased = aliased

        def forward(self, x):
            out = self.body(x)
            alias = out
            out += x
            return self.readout(self.lif(alias if self.aliased else out))

    assert len(trace(Adds(False), SHAPE).of_kind(Add)) == 1
    with pytest.raises(GraphError, match=r"layer 'lif': takes other values than in the calls.*in place") as caught:
        trace(Adds(True), SHAPE)
    assert "\n" not in str(caught.value)


def test_a_patched_class_is_found():
    """What torch itself was made to compute is what the node is compared with."""

    class Halving(nn.Conv2d):
        def _conv_forward(self, x, weight, bias):
            return super()._conv_forward(x, weight / 2, bias)

    class Plain(nn.Conv2d):
        pass

    def net(kind):
        return TimeMajor(kind(2, 3, 3), LIF(), nn.Flatten(), nn.Linear(192, 5))

    assert trace(net(Plain), SHAPE)
    with pytest.raises(GraphError, match="node '0': its layer gives"):
        trace(net(Halving), SHAPE)


def test_the_graph_is_the_same_with_and_without_the_proof():
    """The proof only looks on."""
    net = model()
    assert trace(net, SHAPE).digest() == trace(copy.deepcopy(net), SHAPE, verify=False).digest()
    assert np.isfinite(trace(net, SHAPE)["0"].weight).all()
