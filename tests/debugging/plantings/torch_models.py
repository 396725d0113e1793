"""A fault of a torch model."""

from __future__ import annotations

import itertools

import numpy as np
from plantings.planted import Planted

import tet_deploy as td
from tet_deploy.contracts import Recording
from tet_deploy.debugging import causes
from tet_deploy.ir.nodes import LIF


def plant_batch_norm(rng) -> Planted | None:
    """A model in which one batch norm was left in training mode."""
    import torch

    from tet_deploy.nn import LIF as Neurons
    from tet_deploy.nn import TimeMajor

    torch.manual_seed(int(rng.integers(2**31)))
    channels = [2, *(int(rng.integers(3, 7)) for _ in range(3))]
    layers: list[torch.nn.Module] = []
    for before, after in itertools.pairwise(channels):
        norm = torch.nn.BatchNorm2d(after)
        with torch.no_grad():
            norm.running_mean.normal_(0, 0.3)
            norm.running_var.uniform_(0.3, 2.0)
            norm.bias.fill_(0.4)
        layers += [torch.nn.Conv2d(before, after, 3, padding=1), norm, Neurons()]
    model = TimeMajor(*layers, torch.nn.Flatten(), torch.nn.Linear(channels[-1] * 36, 4)).eval()
    graph = td.trace(model, input_shape=(2, 6, 6), encoding="events")
    frames = rng.poisson(0.7, (5, 6, 2, 6, 6)).astype(np.float32)
    index = int(rng.integers(3))
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    norms[index].train()
    neurons = [(node.name, model.get_submodule(node.name)) for node in graph if isinstance(node, LIF)]
    return Planted(
        expected=graph,
        found=_as_torch_runs(model, neurons, frames),
        frames=frames,
        described=None,
        node=neurons[index][0],
        cause=causes.BATCH_NORM,
    )


def _as_torch_runs(model, neurons, frames) -> Recording:
    """What the neurons of a model give, in whatever mode it is; potentials follow from what they take."""
    import torch

    spikes, potentials = {}, {}

    def hook(name, layer):
        def hear(module, taken, given):
            current, v, found = taken[0].numpy(), np.zeros(given.shape[1:], np.float32), []
            for step, fired in enumerate(given.numpy()):
                v = np.where(fired > 0, np.float32(0), v * np.float32(layer.decay) + current[step])
                found.append(v)
            spikes[name], potentials[name] = given.numpy().astype(np.uint8), np.stack(found)

        return hear

    handles = [layer.register_forward_hook(hook(name, layer)) for name, layer in neurons]
    with torch.no_grad():
        readout = model(torch.from_numpy(frames)).numpy()
    for handle in handles:
        handle.remove()
    return Recording(spikes=spikes, potentials=potentials, readout=readout, runtime="torch")
