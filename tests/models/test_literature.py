"""The networks are those of the literature: their sizes, their graphs, their first weights."""

import collections
import math

import numpy as np
import pytest
import torch
from torch import nn

from tet_deploy.counting.synapses import synapses
from tet_deploy.ir.nodes import LIF as LIFNode
from tet_deploy.ir.nodes import Add
from tet_deploy.models import build
from tet_deploy.nn import LIF
from tet_deploy.runtimes.reference import ReferenceRuntime
from tet_deploy.tracing import trace

ROUNDING = 1e-9  # both in float64: sums of some thousand terms of size 1 round by far less

# Parameters: ResNet-34 has 21,797,672 (torchvision's documentation of its weights); Spiking-ResNet34 and SEW-ResNet34 are
# that network with other activations. ResNet-19 has 12.63 million (Zheng et al., AAAI 2021), VGGSNN 9.27 million.
PARAMETERS = {
    "resnet19": 12_630_858,
    "sew_resnet34": 21_797_672,
    "spiking_resnet34": 21_797_672,
    "vgg_snn": 9_271_498,
    "vgg_snn_strided": 9_271_498,
}
# Multiply-accumulates of a dense pass: with the border's zeros, as the literature counts, and without. ResNet-34 is the
# 3.6 billion of He et al., CVPR 2016, table 1; there, the neurons that compute the max pool are left out.
SYNAPSES = {
    ("vgg_snn", 10): (1_361_654_784, 1_238_275_584),
    ("resnet19", 100): (2_216_518_656, 2_038_974_208),
}
SHAPES = {
    "resnet19": (3, 32, 32),
    "sew_resnet34": (3, 64, 64),
    "spiking_resnet34": (3, 64, 64),
    "vgg_snn": (2, 48, 48),
    "vgg_snn_strided": (2, 48, 48),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_networks_have_the_number_of_parameters_of_the_literature(name):
    """At full width, with the classes of their data set."""
    with torch.device("meta"):
        model = build(name)
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize(("name", "classes"), SYNAPSES)
def test_dense_work_is_that_of_the_literature(name, classes):
    """Padded and within the borders, per step and sample, at full width."""
    layers = synapses(trace(build(name, classes=classes), SHAPES[name]))
    assert (sum(layer.padded for layer in layers), sum(layer.dense for layer in layers)) == SYNAPSES[name, classes]


@pytest.mark.parametrize("name", ["sew_resnet34", "spiking_resnet34"])
def test_resnet34_needs_3_66_billion_multiply_accumulates(name):
    """3,663,761,408 at 224x224, the same as ResNet-34 without spikes, but for the max pool's sums."""
    layers = synapses(trace(build(name), (3, 224, 224)))
    assert sum(layer.padded for layer in layers if layer.node.name != "pool1.sum") == 3_663_761_408


GRAPHS = {  # populations, additions; the stem's max pool is a population too
    "resnet19": (18, 8),
    "sew_resnet34": (1 + 1 + 2 * 16 + 3, 16),
    "spiking_resnet34": (1 + 1 + 2 * 16, 16),
    "vgg_snn": (8, 0),
    "vgg_snn_strided": (8, 0),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_a_traced_network_computes_what_torch_computes(name):
    """Every readout of the graph is the model's; residual networks have an Add for each block."""
    shape = SHAPES[name]
    model = build(name, seed=0, shape=shape, classes=5, width=0.1)
    frames = torch.randn(3, 2, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.train()(frames)  # gives the batch norms statistics of their own
        expected = model.eval().double()(frames.double())
    graph = trace(model, shape)
    kinds = collections.Counter(type(node) for node in graph)
    assert (kinds[LIFNode], kinds[Add]) == GRAPHS[name]
    found = ReferenceRuntime(graph, dtype=np.float64).run(frames.double().numpy(), probes=())
    np.testing.assert_allclose(found.readout, expected.numpy(), rtol=0, atol=ROUNDING)


def rates(model, frames):
    found = {}
    for name, layer in model.named_modules():
        if isinstance(layer, LIF):
            layer.register_forward_hook(lambda _, __, out, name=name: found.update({name: float(out.mean())}))
    with torch.no_grad():
        model.train()(frames)
    return found


@pytest.mark.parametrize("name", SHAPES)
def test_populations_fire_from_the_start(name):
    """Behind batch norm between 5 and 60 % at each step; only ResNet-19's 256 neurons, behind none, are silent."""
    shape = SHAPES[name]
    frames = torch.randn(4, 4, *shape, generator=torch.Generator().manual_seed(0))
    found = rates(build(name, seed=0, shape=shape, width=0.125), frames)
    silent = {"lif2"} if name == "resnet19" else set()
    assert {key for key, rate in found.items() if rate == 0} == silent
    assert all(0.05 < rate < 0.6 for key, rate in found.items() if key not in silent)


def test_silent_neurons_still_learn():
    """The surrogate gradient reaches every weight of ResNet-19 from its first batch."""
    model = build("resnet19", seed=0, width=0.125)
    model(torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))).square().sum().backward()
    assert all(parameter.grad.abs().max() > 0 for name, parameter in model.named_parameters() if name != "fc2.weight")


@pytest.mark.parametrize("name", ["vgg_snn", "vgg_snn_strided", "spiking_resnet34", "sew_resnet34"])
def test_first_weights_are_normal_by_fan_out(name):
    """Convolutions have mean 0 and variance 2 / fan-out."""
    for layer in build(name, seed=0, width=0.5).modules():
        if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 10_000:
            fan_out = layer.out_channels * layer.kernel_size[0] ** 2
            assert float(layer.weight.detach().std()) == pytest.approx(math.sqrt(2 / fan_out), rel=0.05)  # sampling: 0.7 %


def test_where_two_batch_norms_are_added_the_sum_starts_with_variance_one():
    """gamma = 1/sqrt(2) in the three blocks of Spiking-ResNet34 whose shortcut has a batch norm, 1 everywhere else."""
    model = build("spiking_resnet34", seed=0, width=0.05)
    gammas = [float(layer.weight[0].detach()) for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert collections.Counter(round(gamma, 6) for gamma in gammas) == {1.0: 30, round(1 / math.sqrt(2), 6): 6}


def test_sums_of_spikes_grow_along_a_stage():
    """In SEW-ResNet34 whole numbers up to n + 1 leave block n of a stage."""
    model = build("sew_resnet34", seed=0, shape=(3, 64, 64), width=0.125).train()
    largest = {}
    for stage in (model.layer1, model.layer3):
        for number, block in enumerate(stage, 1):
            block.register_forward_hook(
                lambda _, __, out, key=(stage, number): largest.update(
                    {key: (float(out.max()), bool((out == out.round()).all()))}
                )
            )
    with torch.no_grad():
        model(torch.randn(4, 2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert all(top <= number + 1 and whole for (_, number), (top, whole) in largest.items())
    assert max(top for top, _ in largest.values()) > 2
