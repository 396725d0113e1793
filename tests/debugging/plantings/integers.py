"""Integers that leave the chip's range, beside the float network that they stand for."""

from __future__ import annotations

import dataclasses

import numpy as np
from plantings.planted import Planted

import tet_deploy as td
from tet_deploy.debugging import causes
from tet_deploy.dynamics import LARGEST_SYNAPTIC_SUM
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import LIF, Conv, Input, Linear, Population, Spiking
from tet_deploy.meaning import evaluate
from tet_deploy.passes.fit import by_output
from tet_deploy.testing import random_frames, random_quantized_network
from tet_deploy.units import by_channel, threshold


def in_real_numbers(graph: Graph) -> Graph:
    """The float network that a quantized one stands for."""

    def real(node):
        if isinstance(node, Input):
            return dataclasses.replace(node, quantization=None)
        if isinstance(node, (Conv, Linear)):
            population = graph.consumers(node.name)[0]
            source = node
            while source.inputs and not isinstance(source, Spiking):
                source = graph[source.inputs[0]]
            unit = graph.input.quantization.scale if isinstance(source, Input) else 1.0
            bias = None
            if population.bias is not None and population.inputs[0] == node.name:
                shift = population.quantization.bias_exponent if isinstance(population, Spiking) else 0
                bias = population.bias.astype(np.float64) * 2**shift / 64 / np.asarray(population.quantization.scale)
                bias = bias.astype(np.float32)
            weight = node.weight / by_output(np.asarray(population.quantization.scale) / unit, node.weight.ndim)
            return dataclasses.replace(node, weight=weight.astype(np.float32), bias=bias, quantization=None)
        if isinstance(node, Spiking):
            return dataclasses.replace(node, bias=None, threshold=threshold(node), quantization=None)
        return dataclasses.replace(node, bias=None, quantization=None) if isinstance(node, Population) else node

    return Graph(tuple(real(node) for node in graph))


def consistent(graph: Graph) -> Graph:
    """The same integers, with scales of layers that follow from those of the populations and of the input."""

    def scaled(node):
        if not isinstance(node, (Conv, Linear)):
            return node
        source = node
        while source.inputs and not isinstance(source, Spiking):
            source = graph[source.inputs[0]]
        unit = graph.input.quantization.scale if isinstance(source, Input) else 1.0
        scale = by_channel(np.asarray(graph.consumers(node.name)[0].quantization.scale) / unit)
        return dataclasses.replace(node, quantization=dataclasses.replace(node.quantization, scale=scale))

    return Graph(tuple(scaled(node) for node in graph))


def plant_wrap(rng) -> Planted | None:
    """A first population whose sums wrap on these frames, in a network whose real numbers do not."""
    graph = consistent(random_quantized_network(rng, encoding="analog", layers=int(rng.integers(1, 4))))
    first = next(node for node in graph if isinstance(node, Conv))
    population = graph.consumers(first.name)[0]
    if first.weight[0].size < 9:
        return None
    heavy = dataclasses.replace(first, weight=np.where(first.weight < 0, 90, 127).astype(np.int8))
    high = dataclasses.replace(population, threshold=60_000)
    graph = graph.replace({first.name: heavy, population.name: high})
    frames = (rng.integers(90, 128, (5, 4, *graph.input.shape)) / graph.input.quantization.scale).astype(np.float32)
    inside = dataclasses.replace(heavy, quantization=None)
    sums = evaluate(inside, [frames.reshape(-1, *graph.input.shape) * graph.input.quantization.scale], {})
    if np.abs(sums).max() <= LARGEST_SYNAPTIC_SUM:
        return None
    return _against_real(graph, frames, population.name, causes.WRAP)


def plant_saturation(rng) -> Planted | None:
    """A population that sinks to the lowest potential and is held there."""
    graph = consistent(random_quantized_network(rng, encoding="events", layers=int(rng.integers(1, 4))))
    node = graph.of_kind(LIF)[int(rng.integers(len(graph.of_kind(LIF))))]
    sinking = dataclasses.replace(
        node,
        decay=1.0,
        bias=np.full(len(node.bias), -4000, np.int16),
        quantization=dataclasses.replace(node.quantization, bias_exponent=7),
    )
    graph = graph.replace({node.name: sinking})
    frames = random_frames(graph, rng, steps=24, samples=2)
    return _against_real(graph, frames, node.name, causes.SATURATION)


def _against_real(graph, frames, node, cause) -> Planted | None:
    real = in_real_numbers(graph)
    return Planted(expected=real, found=td.run(graph, frames), frames=frames, described=graph, node=node, cause=cause)
