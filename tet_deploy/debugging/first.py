"""The first neuron that does something else in one run than in another, and what it was given in each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tet_deploy.contracts import Recording
from tet_deploy.debugging.observed import Flow, Steps
from tet_deploy.debugging.synapses import bias, ports
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import ON_CHIP, Population, Spiking
from tet_deploy.runtimes.loihi.bundle.loihi_checks.vectors import first_place
from tet_deploy.units import MANTISSA, along, of_channel, threshold, unit


@dataclass(frozen=True, kw_only=True)
class Side:
    """One neuron at one step of one run, in units of the float network.

    Attributes
    ----------
    fires
        Whether it fires; False for a readout.
    before, after
        Its membrane potential before the step, and after it and its reset; of a readout 0 and what it sends.
    presynaptic
        What reached it in this step, bias included.
    """

    fires: bool
    before: float
    after: float
    presynaptic: float

    def __str__(self) -> str:
        does = "fires" if self.fires else f"{self.after:.6g}"
        return f"{does} ({self.before:.6g} before, {self.presynaptic:+.6g} presynaptic)"


@dataclass(frozen=True, kw_only=True)
class First:
    """Where two runs differ first: the earliest step, and in it the population nearest to the input.

    Attributes
    ----------
    node, step, sample, neuron
        Name of the population, step and sample from 0 (in the source), index of the neuron, (c, h, w) or (n,).
    expected, found
        The neuron in both runs.
    distance
        Threshold minus the potential of the side that stayed silent; None for a readout.
    """

    node: str
    step: int
    sample: int
    neuron: tuple[int, ...]
    expected: Side
    found: Side
    distance: float | None

    def __str__(self) -> str:
        where = f"{self.node!r}, neuron {self.neuron}, step {self.step}, sample {self.sample}"
        near = "" if self.distance is None else f"; the silent one is {self.distance:.3g} below threshold"
        return f"first difference: {where}: expected {self.expected}; found {self.found}{near}"


def first_difference(
    expected: Graph, right: Recording, described: Graph, found: Recording, frames: np.ndarray, first_sample: int = 0
) -> First | None:
    """The first spike that differs; where none does, the first readout that differs by more than float rounding.

    Parameters
    ----------
    expected, right
        The network that is right, and what it did.
    described, found
        The network that the other one is, and what that did; populations are compared by name.
    frames
        What both were shown, [T, B, *shape].
    first_sample
        The number that the first of these samples has in their source.
    """
    place = first_place(_differing(expected, right, described, found))
    if place is None:
        return None
    name, (step, sample, *neuron) = place
    one = slice(sample, sample + 1)
    sides = [
        _side(graph, run.sample(sample, sample + 1), frames[:, one], name, step, tuple(neuron))
        for graph, run in ((expected, right), (described, found))
    ]
    graph, silent = (expected, sides[0]) if sides[1].fires else (described, sides[1])
    node, distance = graph[name], None
    if isinstance(node, ON_CHIP) and sides[0].fires != sides[1].fires:
        distance = of_channel(threshold(node), neuron[0]) - silent.after
    return First(
        node=name,
        step=step,
        sample=first_sample + sample,
        neuron=tuple(neuron),
        expected=sides[0],
        found=sides[1],
        distance=distance,
    )


def _differing(expected: Graph, right: Recording, described: Graph, found: Recording) -> Iterator[tuple[str, np.ndarray]]:
    """Where the spikes of each population that both recorded differ, and at last the readouts."""
    for node in described.of_kind(Spiking):
        if node.name in right.spikes and node.name in found.spikes:
            yield node.name, right.spikes[node.name] != found.spikes[node.name]
    a, b = (
        run.readout / along(unit(graph.readout), run.readout.ndim) for run, graph in ((right, expected), (found, described))
    )
    yield described.readout.name, np.abs(a - b) > 1e-6 * max(1.0, float(np.abs(a).max()))


def _side(graph: Graph, run: Recording, frames: np.ndarray, name: str, step: int, neuron: tuple[int, ...]) -> Side:
    node = next(node for node in graph.of_kind(Population) if node.name == name)
    flow, steps, place = Flow(graph, run, frames), Steps.of(node, run), (step, 0, *neuron)
    scale = of_channel(unit(node), neuron[0])
    current = float(flow.presynaptic(node)[place])
    if node.quantization is not None:
        current = current * MANTISSA / scale + of_channel(bias(node, ports(node, flow) or {}), neuron[0])
    return Side(
        fires=bool(steps.spikes[place]),
        before=float(steps.before[place]) / scale,
        after=float(steps.after[place]) / scale,
        presynaptic=current,
    )
