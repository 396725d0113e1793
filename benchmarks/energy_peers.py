"""What other counters of operations say of a network of ours, as their documentation has them called.

Each runs the same weights with neurons of the framework it is made for, and the same spikes. Those that are not installed
are left out; benchmarks/requirements.txt says how to get them.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import tet_deploy as td
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import LIF, Conv, Flatten, Linear

Counts = dict[str, tuple[int | None, int]]  # of all samples and steps: multiply-accumulates and additions
Neuron = Callable[[float, float], nn.Module]  # of a decay and a threshold


def theirs(graph: Graph, frames: np.ndarray) -> Counts:
    """What each counter that is installed says."""
    found: Counts = {}
    for counter, needed in PEERS.items():
        if all(map(installed, needed)):
            found |= counter(graph, frames)
    return found


def installed(module: str) -> bool:
    """Whether a module, also one in a package, is there to be imported."""
    package, _, inner = module.partition(".")
    return find_spec(package) is not None and (not inner or find_spec(module) is not None)


def spikingjelly(graph: Graph, frames: np.ndarray) -> Counts:
    """SpikingJelly 2.0.0, `op_counter`."""
    from spikingjelly.activation_based import functional, neuron
    from spikingjelly.activation_based.op_counter import ACCounter, DispatchCounterMode, MACCounter, SynOpCounter

    model = OverTime(layers(graph, lambda decay, threshold: lif_node(neuron, decay, threshold)))
    synapses, additions, macs, inferred = SynOpCounter(), ACCounter(), MACCounter(), SynOpCounter()
    with torch.no_grad(), DispatchCounterMode([synapses, additions, macs]):
        model(samples(frames))
    functional.reset_net(model)
    with torch.inference_mode(), DispatchCounterMode([inferred]):
        model(samples(frames))
    functional.reset_net(model)
    check_spikes(graph, frames, model.layers, model)
    return {
        "SpikingJelly `SynOpCounter`": (None, synapses.get_total()),
        "SpikingJelly `SynOpCounter` under `torch.inference_mode()`": (None, inferred.get_total()),
        "SpikingJelly `MACCounter`, `ACCounter`": (macs.get_total(), additions.get_total()),
    }


def syops(graph: Graph, frames: np.ndarray) -> Counts:
    """syops 0.0.5, which takes SpikingJelly up to 0.0.0.0.12."""
    from spikingjelly.clock_driven import functional, neuron
    from syops import get_model_complexity_info

    model = OverTime(layers(graph, lambda decay, threshold: lif_node(neuron, decay, threshold)))
    (_, additions, macs, _), _ = get_model_complexity_info(
        model, tuple(frames.shape[2:]), batch(frames), as_strings=False, print_per_layer_stat=False
    )
    functional.reset_net(model)
    check_spikes(graph, frames, model.layers, model)
    return {"syops": (round(macs * frames.shape[1]), round(additions * frames.shape[1]))}  # it says them per sample


def neurobench(graph: Graph, frames: np.ndarray) -> Counts:
    """NeuroBench 2.3.0, of a network in snnTorch."""
    import snntorch
    from neurobench.benchmarks import Benchmark
    from neurobench.metrics.workload import SynapticOperations
    from neurobench.models import SNNTorchModel

    def leaky(decay: float, threshold: float) -> nn.Module:
        options = {"reset_mechanism": "zero", "reset_delay": False, "init_hidden": True}
        return snntorch.Leaky(beta=decay, threshold=threshold, **options)

    readout = snntorch.Leaky(beta=1.0, reset_mechanism="none", init_hidden=True, output=True)
    model = SNNTorchModel(nn.Sequential(*layers(graph, leaky), readout))
    said = Benchmark(model, batch(frames), [], [], [[], [SynapticOperations]]).run(quiet=True)["SynapticOperations"]
    check_spikes(graph, frames, model.net, model)
    macs, additions = (round(said[name] * frames.shape[1]) for name in ("Effective_MACs", "Effective_ACs"))
    return {"NeuroBench `SynapticOperations`": (macs, additions)}


PEERS = {
    spikingjelly: ("spikingjelly.activation_based",),
    syops: ("syops", "spikingjelly.clock_driven"),
    neurobench: ("neurobench", "snntorch"),
}


class OverTime(nn.Module):
    """A network that takes samples [B, T, *shape] step by step, and adds nothing of its own."""

    def __init__(self, found: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.Sequential(*found)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """[B, T, *shape] to [T, B, classes]."""
        return torch.stack([self.layers(frame) for frame in frames.transpose(0, 1)])


def layers(graph: Graph, neuron: Neuron) -> list[nn.Module]:
    """The network's layers in torch, its neurons in a framework's."""
    found: list[nn.Module] = []
    for node in graph:
        if isinstance(node, Conv):
            outputs, inputs, *kernel = node.weight.shape
            layer = nn.Conv2d(inputs * node.groups, outputs, tuple(kernel), node.stride, node.padding, groups=node.groups)
            found.append(filled(layer, node))
        elif isinstance(node, Linear):
            found.append(filled(nn.Linear(node.weight.shape[1], node.weight.shape[0]), node))
        elif isinstance(node, LIF):
            found.append(neuron(float(node.decay), float(node.threshold)))
        elif isinstance(node, Flatten):
            found.append(nn.Flatten())
    return found


def filled(layer: nn.Conv2d | nn.Linear, node: Conv | Linear) -> nn.Module:
    """With the weights of a node."""
    assert node.bias is not None and layer.bias is not None
    layer.weight.data, layer.bias.data = torch.tensor(node.weight), torch.tensor(node.bias)
    return layer


def lif_node(neuron, decay: float, threshold: float) -> nn.Module:
    """SpikingJelly's, of whichever version: v <- (1 - 1/tau) v + x."""
    return neuron.LIFNode(tau=1 / (1 - decay), decay_input=False, v_threshold=threshold, v_reset=0.0)


def samples(frames: np.ndarray) -> torch.Tensor:
    """[B, T, *shape] of frames [T, B, *shape]."""
    return torch.tensor(frames).transpose(0, 1)


def batch(frames: np.ndarray) -> DataLoader:
    """All samples in one batch, with labels that nobody reads."""
    return DataLoader(TensorDataset(samples(frames), torch.zeros(frames.shape[1])), batch_size=frames.shape[1])


def check_spikes(graph: Graph, frames: np.ndarray, layers: nn.Sequential, model: Callable[[torch.Tensor], object]) -> None:
    """See that both count the same spikes."""
    expected = td.run(graph, frames, probes="spikes").spikes
    neurons = [layer for layer in layers if not isinstance(layer, (nn.Conv2d, nn.Linear, nn.Flatten))]
    seen: dict[str, list[np.ndarray]] = {name: [] for name in expected}
    for name, layer in zip(expected, neurons, strict=False):  # a readout of theirs stands last
        layer.register_forward_hook(lambda _, __, out, name=name: seen[name].append(out.numpy()))
    with torch.no_grad():
        model(samples(frames))
    for name, spikes in seen.items():
        np.testing.assert_array_equal(np.stack(spikes), expected[name])
