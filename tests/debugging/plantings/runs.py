"""Faults of a run: frames that came otherwise, a window beside its place, a population that is late."""

from __future__ import annotations

import dataclasses

import numpy as np
from plantings.planted import Planted, changed

import tet_deploy as td
from tet_deploy.debugging import causes
from tet_deploy.ir.nodes import Conv, Population
from tet_deploy.testing import random_float_network, random_frames, random_quantized_network


def plant_clipped_messages(rng) -> Planted | None:
    """A runtime that cuts frames off at fewer events than the network allows."""
    graph = random_float_network(rng, encoding="events")
    frames = rng.poisson(2.0, (6, 4, *graph.input.shape)).astype(np.float32)
    found = td.run(graph, np.minimum(frames, 2.0 ** int(rng.integers(1, 3)) - 1))
    return _first_behind_input(graph, found, frames, causes.MESSAGE_CLIPPING)


def plant_input_scale(rng) -> Planted | None:
    """Frames that were scaled before they came."""
    graph = (random_float_network if rng.random() < 0.5 else random_quantized_network)(rng, encoding="analog")
    frames = random_frames(graph, rng, steps=6, samples=4)
    found = td.run(graph, frames * float(rng.choice([0.5, 2.0, 0.25, 1 / 255])))
    return _first_behind_input(graph, found, frames, causes.INPUT_SCALE)


def _first_behind_input(graph, found, frames, cause) -> Planted | None:
    if td.pipeline.validation.compare(td.run(graph, frames), found).equal:
        return None
    node = next(
        node.name
        for node in graph
        if isinstance(node, Population) and any(graph[name].inputs[0] == graph.input.name for name in node.inputs)
    )
    return Planted(expected=graph, found=found, frames=frames, described=None, node=node, cause=cause)


def plant_border(rng) -> Planted | None:
    """A convolution whose window lies one pixel beside where it should."""
    graph = (random_float_network if rng.random() < 0.5 else random_quantized_network)(rng)
    frames = random_frames(graph, rng, steps=6, samples=4)
    dy, dx = [(0, 1), (1, 0), (-1, 0), (0, -1), (1, 1)][int(rng.integers(5))]

    def moved(node):
        if node.dilation != (1, 1):
            return None
        weight = np.zeros((*node.weight.shape[:2], node.weight.shape[2] + 2, node.weight.shape[3] + 2), node.weight.dtype)
        weight[:, :, 1 - dy : 1 - dy + node.weight.shape[2], 1 - dx : 1 - dx + node.weight.shape[3]] = node.weight
        return dataclasses.replace(node, weight=weight, padding=(node.padding[0] + 1, node.padding[1] + 1))

    found = changed(rng, graph, Conv, moved, frames)
    if found is None:
        return None
    return Planted(
        expected=graph, found=td.run(found[0], frames), frames=frames, described=None, node=found[1], cause=causes.BORDER
    )


def plant_latency(rng) -> Planted | None:
    """A population that was recorded a step late."""
    graph = (random_float_network if rng.random() < 0.5 else random_quantized_network)(rng)
    frames = random_frames(graph, rng, steps=7, samples=4)
    right = td.run(graph, frames)
    names = [name for name, spikes in right.spikes.items() if 0.05 < spikes.mean() < 0.95]
    if not names:
        return None
    name = str(rng.choice(names))

    def late(array):
        return np.concatenate([np.zeros_like(array[:1]), array[:-1]])

    found = dataclasses.replace(
        right,
        spikes={key: late(value) if key == name else value for key, value in right.spikes.items()},
        potentials={key: late(value) if key == name else value for key, value in right.potentials.items()},
    )
    return Planted(expected=graph, found=found, frames=frames, described=None, node=name, cause=causes.LATENCY)
