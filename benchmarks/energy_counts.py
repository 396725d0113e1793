"""The counts of docs/energy.md: ours beside SpikingJelly's op_counter and the mean-rate formula, of one stored network.

    python benchmarks/energy_counts.py

The network is `tests/versions/v0_1/digits.float.safetensors` with its own frames, so that no training stands between the
page and its numbers; SpikingJelly runs the same weights with its own neurons, and fires the same spikes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from spikingjelly.activation_based import functional, neuron
from spikingjelly.activation_based.op_counter import ACCounter, DispatchCounterMode, MACCounter, SynOpCounter
from torch import nn

import tet_deploy as td
from tet_deploy.counting import EnergyReport
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import LIF, Conv, Flatten, Linear

FOLDER = Path(__file__).parents[1] / "tests" / "versions" / "v0_1"


def main() -> None:
    graph, frames = network()
    print("\n".join(table(ours(graph, frames), theirs(graph, frames))))


def network() -> tuple[Graph, np.ndarray]:
    """A small network that was trained on digits, and frames [T, B, 1, 8, 8]."""
    with np.load(FOLDER / "digits.frames.npz") as arrays:
        return td.load(FOLDER / "digits.float.safetensors"), arrays["frames"]


def ours(graph: Graph, frames: np.ndarray) -> EnergyReport:
    """Of all samples together."""
    return td.energy(graph, frames)


def theirs(graph: Graph, frames: np.ndarray) -> dict[str, int]:
    """What SpikingJelly's counters say of all samples and steps together, by the name of the counter."""
    layers, populations = torch_layers(graph)
    model = nn.Sequential(*layers)
    counters = {"SynOpCounter": SynOpCounter(), "ACCounter": ACCounter(), "MACCounter": MACCounter()}
    with torch.no_grad(), DispatchCounterMode(list(counters.values())):
        for frame in torch.tensor(frames):
            model(frame)
    functional.reset_net(model)
    inferred = SynOpCounter()
    with torch.inference_mode(), DispatchCounterMode([inferred]):
        for frame in torch.tensor(frames):
            model(frame)
    functional.reset_net(model)
    check_spikes(graph, frames, model, populations)
    found = {name: int(counter.get_total()) for name, counter in counters.items()}
    return found | {"SynOpCounter in inference mode": int(inferred.get_total())}


def torch_layers(graph: Graph) -> tuple[list[nn.Module], dict[str, nn.Module]]:
    """The network's layers in torch, and SpikingJelly's neurons by the names of our populations."""
    layers: list[nn.Module] = []
    populations: dict[str, nn.Module] = {}
    for node in graph:
        if isinstance(node, Conv):
            outputs, inputs, *kernel = node.weight.shape
            layer = nn.Conv2d(inputs * node.groups, outputs, tuple(kernel), node.stride, node.padding, groups=node.groups)
            layers.append(filled(layer, node))
        elif isinstance(node, Linear):
            layers.append(filled(nn.Linear(node.weight.shape[1], node.weight.shape[0]), node))
        elif isinstance(node, LIF):  # v <- (1 - 1/tau) v + x
            decay, threshold = float(node.decay), float(node.threshold)
            lif = neuron.LIFNode(tau=1 / (1 - decay), decay_input=False, v_threshold=threshold, v_reset=0.0)
            populations[node.name] = lif
            layers.append(lif)
        elif isinstance(node, Flatten):
            layers.append(nn.Flatten())
    return layers, populations


def filled(layer: nn.Conv2d | nn.Linear, node: Conv | Linear) -> nn.Module:
    """With the weights of a node."""
    assert node.bias is not None and layer.bias is not None
    layer.weight.data, layer.bias.data = torch.tensor(node.weight), torch.tensor(node.bias)
    return layer


def check_spikes(graph: Graph, frames: np.ndarray, model: nn.Module, populations: dict[str, nn.Module]) -> None:
    """See that both count the same spikes."""
    seen: dict[str, list[np.ndarray]] = {name: [] for name in populations}
    for name, lif in populations.items():
        lif.register_forward_hook(lambda _, __, out, name=name: seen[name].append(out.numpy()))
    with torch.no_grad():
        for frame in torch.tensor(frames):
            model(frame)
    expected = td.run(graph, frames, probes="spikes").spikes
    for name, spikes in seen.items():
        np.testing.assert_array_equal(np.stack(spikes), expected[name])


def table(report: EnergyReport, found: dict[str, int]) -> list[str]:
    """The page's table: counts over all samples and steps."""
    macs, additions = (int(counts.sum()) for counts in (report.multiplications("dense"), report.additions()))
    padded = int((report.traffic.of_kind("analog") * report.traffic["mac_padded"]).sum())
    rate = sum(float(value.sum()) for value in [report.parts("rate")["additions"]]) / 0.9 * report.samples
    full = sum(int(report.traffic[name].sum()) for name in ("bias_additions", "neuron_updates"))
    rows = [
        ("tet_deploy, synapses", f"{macs:,}", f"{additions:,}"),
        ("tet_deploy, biases and comparisons", "", f"{full:,}"),
        ("mean-rate formula, padded", f"{padded:,}", f"{rate:,.0f}"),
        ("SpikingJelly `SynOpCounter`", "", f"{found['SynOpCounter']:,}"),
        ("SpikingJelly `SynOpCounter` under `torch.inference_mode()`", "", f"{found['SynOpCounter in inference mode']:,}"),
        ("SpikingJelly `MACCounter`, `ACCounter`", f"{found['MACCounter']:,}", f"{found['ACCounter']:,}"),
    ]
    head = ["| count | multiply-accumulates | additions |", "|---|---|---|"]
    return head + [f"| {' | '.join(row)} |" for row in rows]


if __name__ == "__main__":
    main()
