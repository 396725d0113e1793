"""Cut a plan into regions of about equal work, each of which one process computes.

Whatever costs a step of latency does so wherever it is computed, and what one region needs of another is sent before either
works: so a cut changes no integer, and regions work at the same time.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .convolution import folded_pool
from .pipeline import Node, takes

# One product of a convolution is the unit of work, about 0.02 ns; the rest is measured in it (2 cores of an EPYC, AVX-512).
_WORK_OF_A_CALL = 900_000  # of what numpy takes for a convolution, whatever its size
_WORK_OF_A_POPULATION = 250_000
_WORK_OF_A_SUM = 75_000  # for each of its sources
_WORK_OF_A_NEURON = 140
_WORK_OF_A_MESSAGE = 20  # and of a value that is copied, sorted into patches or added
_WORK_OF_A_WEIGHT = 12  # to bring it from memory
_PAIRS = ("stride", "padding", "dilation")
_LEAST_WORK = 4_000_000  # of a region: as long as Lava takes to keep one more process in step, about 0.1 ms


@dataclass(frozen=True)
class Region:
    """Some nodes of a plan.

    Attributes
    ----------
    name
        Of its first and last node.
    nodes
        In the plan's order.
    incoming, outgoing
        Names of the nodes of other regions whose messages it takes, and of its own that others take.
    on_host
        Whether no chip has a part in it.
    """

    name: str
    nodes: tuple[Node, ...]
    incoming: tuple[str, ...]
    outgoing: tuple[str, ...]
    on_host: bool = False


def cut(
    nodes: Sequence[Node], arrays: Mapping[str, np.ndarray], count: int | None, on_host: Collection[str] = ()
) -> list[Region]:
    """The nodes in so many regions, in their order, the largest region's work as small as can be.

    Parameters
    ----------
    nodes
        All of a plan, input and readout included.
    arrays
        Content of arrays.npz.
    count
        Regions, if the network has so many parts; None for one on each processor, or fewer where that would not pay.
    on_host
        Names of nodes that the host computes: together with the input they are one more region, the first.
    """
    host = [node for node in nodes if on_host and (node["kind"] == "input" or node["name"] in on_host)]
    groups = _groups([node for node in nodes if all(node is not other for other in host)])
    works = [sum(_work(node, arrays) for node in group) for group in groups]
    parts = balanced(works, count or max(1, min(processors(), int(sum(works) / _LEAST_WORK))))
    linked = _linked([*([host] if host else []), *([node for group in groups[a:b] for node in group] for a, b in parts)])
    return [replace(linked[0], on_host=True), *linked[1:]] if host else linked


def processors() -> int:
    """How many processors this program may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _groups(nodes: Sequence[Node]) -> list[list[Node]]:
    """What must stay together: each population with its synapses."""
    owner = {source: node["name"] for node in nodes if node["kind"] in ("lif", "readout") for source in takes(node)}
    groups: dict[str, list[Node]] = {}
    for node in nodes:
        groups.setdefault(owner.get(node["name"], node["name"]), []).append(node)
    return list(groups.values())


def _work(node: Node, arrays: Mapping[str, np.ndarray]) -> float:
    if "weight" in node:
        return _work_of_synapses(node, arrays[node["weight"]])
    values = math.prod(node["shape"])
    if node["kind"] == "lif":
        return _WORK_OF_A_POPULATION + _WORK_OF_A_NEURON * values
    return len(takes(node)) * _WORK_OF_A_SUM + _WORK_OF_A_MESSAGE * values


def _work_of_synapses(node: Node, weight: np.ndarray) -> float:
    if node["kind"] == "dense":
        return _WORK_OF_A_CALL + (1 + _WORK_OF_A_WEIGHT) * weight.size
    sizes, kernel, (stride, padding, dilation) = node["input_shape"], weight.shape[1:3], (node[key] for key in _PAIRS)
    spans = [sizes[i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1 for i in (0, 1)]
    places = math.prod(spans[i] // stride[i] + 1 for i in (0, 1))
    repeats = math.prod(folded_pool(weight, sizes[:2], stride, padding, dilation))
    patch = math.prod(kernel) * sizes[2] // repeats
    multiplied = (places + _WORK_OF_A_WEIGHT) * weight.size // repeats
    return _WORK_OF_A_CALL + multiplied + _WORK_OF_A_MESSAGE * (places * patch + math.prod(sizes))


def balanced(works: Sequence[float], count: int) -> list[tuple[int, int]]:
    """Cut a list into at most so many runs of neighbours, [start, stop) each, their largest sum as small as can be.

    By bisection on that sum, to a thousandth of it.
    """
    low, high = max(works), sum(works)
    while high - low > 0.001 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if len(_filled(works, middle)) <= count else (middle, high)
    return _filled(works, high)


def _filled(works: Sequence[float], most: float) -> list[tuple[int, int]]:
    """Runs of neighbours, each as long as its sum allows."""
    runs, start, total = [], 0, 0.0
    for index, work in enumerate(works):
        if index > start and total + work > most:
            runs.append((start, index))
            start, total = index, 0.0
        total += work
    return [*runs, (start, len(works))]


def _linked(parts: list[list[Node]]) -> list[Region]:
    home = {node["name"]: index for index, part in enumerate(parts) for node in part}
    taken = [{name for node in part for name in takes(node)} for part in parts]
    regions = []
    for index, part in enumerate(parts):
        others = set().union(*(names for other, names in enumerate(taken) if other != index))
        regions.append(
            Region(
                f"{part[0]['name']} to {part[-1]['name']}",
                tuple(part),
                tuple(sorted(name for name in taken[index] if home[name] != index)),
                tuple(node["name"] for node in part if node["name"] in others),
            )
        )
    return regions
