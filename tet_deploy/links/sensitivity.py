"""Which nodes cost the most when they alone are quantized: one population in the chip's integers, all others in floats."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tet_deploy import dynamics
from tet_deploy.batches import FrameBatches
from tet_deploy.contracts import Frames, Probes, Progress, Recording, Runtime, concatenate
from tet_deploy.deployment import side_by_side
from tet_deploy.errors import GraphError
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import ON_CHIP, WEIGHTED, Conv, CubaLIF, Linear, Node, Population
from tet_deploy.ir.normalization import normalized
from tet_deploy.ir.parts import whole_name
from tet_deploy.links.accuracy import Accuracy
from tet_deploy.links.comparing import compared
from tet_deploy.links.deviation import Deviation
from tet_deploy.links.link import Link, fast_runtime, of_graph, of_recording
from tet_deploy.links.pair import Pair
from tet_deploy.links.recording_file import StoredRecording, fingerprints
from tet_deploy.passes.fit import total_bias
from tet_deploy.passes.widths import WIDEST
from tet_deploy.units import real_bias, real_weight, threshold


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """What a network loses when one population, or the input, is rounded to the chip's integers and nothing else.

    Attributes
    ----------
    node
        The population, or the input.
    layers, bits
        The layers that end in it, and the width of their weights; none of an input.
    deviation
        Of the network with that population rounded, from the float network: readout, decisions, accuracy.
    """

    node: str
    layers: tuple[str, ...]
    bits: int
    deviation: Deviation

    @property
    def accuracy(self) -> Accuracy | None:
        """Where labels are known."""
        return self.deviation.accuracy


def sensitivities(
    graph: Graph,
    quantized: Graph,
    frames: FrameBatches,
    labels: np.ndarray | None = None,
    *,
    progress: Progress | None = None,
) -> list[Sensitivity]:
    """The nodes by the error of the readout when only they are quantized, the largest first.

    Parameters
    ----------
    graph, quantized
        A float network, and what `quantize` made of it.
    frames
        Some that neither has seen.
    labels
        Classes of the samples, [B]; by default those that the source knows.
    progress
        Called as progress(done, total), in nodes.

    Raises
    ------
    GraphError
        The quantized network is not made from the float one.
    """
    whole = of_graph(graph, fast_runtime(), name="float")
    base = _recorded(whole, frames)
    rounded = [graph.input, *graph.of_kind(Population)]
    found = []
    for done, node in enumerate(rounded):
        if isinstance(node, Population):
            mixed = of_graph(with_one_quantized(graph, quantized, node.name), fast_runtime(), name=node.name)
            layers, bits = _layers(graph, quantized, node)
        else:
            mixed, layers, bits = _with_messages(whole, quantized), (), 0
        found.append(
            Sensitivity(node=node.name, layers=layers, bits=bits, deviation=compared(Pair(base, mixed), frames, labels))
        )
        if progress:
            progress(done + 1, len(rounded))
    return sorted(found, key=lambda each: -each.deviation.readout.squares)


def with_one_quantized(graph: Graph, quantized: Graph, population: str) -> Graph:
    """The float network with one population's weights, bias, threshold and decays as the chip holds them.

    The bias of a synaptic current stays: a chip adds it behind the current, a float network before.
    """
    node, held = graph[population], quantized[population]
    if not isinstance(node, Population) or not isinstance(held, Population) or held.quantization is None:
        raise GraphError(f"node {population!r}: must be a population of both networks. Quantize this very network.")
    layers = {name: _layer(graph, quantized, name) for name in node.inputs}
    first = node.inputs[0]
    given = [layer for name in node.inputs if isinstance(layer := graph[name], WEIGHTED)]
    bias = total_bias(given) if isinstance(node, CubaLIF) else real_bias(held)
    if bias is not None:
        layers[first] = dataclasses.replace(layers[first], bias=bias.astype(np.float32))
    changes: dict[str, Node | None] = {**layers}
    if isinstance(node, ON_CHIP) and isinstance(held, ON_CHIP):
        level, decay = threshold(held), 1 - dynamics.decay_v(held) / dynamics.DECAY_ONE
        constants: dict[str, Any] = {"threshold": _plain(level), "decay": _plain(decay)}
        rounded = dataclasses.replace(node, **constants)
        if isinstance(rounded, CubaLIF):
            rounded = dataclasses.replace(rounded, current_decay=1 - dynamics.decay_u(held) / dynamics.DECAY_ONE)
        changes[population] = rounded
    return graph.replace(changes)


def _plain(values: np.ndarray) -> float | np.ndarray:
    return values if values.ndim else float(values)


def _layer(graph: Graph, quantized: Graph, name: str) -> Conv | Linear:
    """A layer with its integers' weights in units of the float network and without bias, which its population holds."""
    layer = graph[name]
    parts = [part for part in quantized if whole_name(quantized, part.name) == name]
    if not isinstance(layer, WEIGHTED) or not parts:
        raise GraphError(f"node {name!r}: must be a layer of both networks. Quantize this very network.")
    weight = np.zeros(layer.weight.shape)
    for part in parts:
        assert isinstance(part, WEIGHTED)
        weight += real_weight(part)
    return dataclasses.replace(layer, weight=weight.astype(np.float32), bias=None)


def _layers(graph: Graph, quantized: Graph, node: Population) -> tuple[tuple[str, ...], int]:
    units = [quantized[name] for name in node.inputs]
    return node.inputs, min(layer.quantization.bits for layer in units if isinstance(layer, WEIGHTED) and layer.quantization)


def _recorded(link: Link, frames: FrameBatches) -> Link:
    """The link with what it gives for these frames, readout only; its samples keep their numbers."""
    parts, seen = [], []
    for part, (recording,) in side_by_side([link], frames, probes="none"):
        assert recording is not None
        parts.append(recording)
        seen.append(fingerprints(part.frames()))
    stored = StoredRecording(recording=concatenate(parts), origin=link.origin(), frames=np.concatenate(seen))
    return of_recording(stored, link.name, first=frames.start)


class _Messages:
    """A runtime that is shown frames as the messages of a quantized input stand for them."""

    def __init__(self, runtime: Runtime, round_frames: Callable[[np.ndarray], np.ndarray]) -> None:
        self.name, self._runtime, self._round = runtime.name, runtime, round_frames

    def run(self, frames: Frames, *, probes: Probes = "all", progress: Progress | None = None) -> Recording:
        return self._runtime.run(self._round(frames), probes=probes, progress=progress)


def _with_messages(link: Link, quantized: Graph) -> Link:
    """The link, shown what the messages stand for, which may be fractions where events are counted."""
    units = quantized.input.quantization
    assert units is not None and link.graph is not None
    graph = link.graph.replace(
        {link.graph.input.name: dataclasses.replace(link.graph.input, encoding="analog", mean=None, deviation=None)}
    )

    @contextlib.contextmanager
    def opens(probes: Probes) -> Iterator[Runtime]:
        with of_graph(graph, fast_runtime()).deployed(probes) as runtime:
            yield _Messages(
                runtime,
                lambda frames: (
                    dynamics.to_messages(normalized(quantized.input, frames), units) / np.float32(units.one_scale)
                ),
            )

    return dataclasses.replace(link, name=quantized.input.name, opens=opens)


def advice(found: Sequence[Sensitivity], network: str) -> str:
    """The command that keeps the dearest node at more bits, or what else would help."""
    for each in found:
        if each.layers and each.deviation.readout.largest > 0:
            if each.bits >= WIDEST:
                return f"{each.node} costs the most, and has all {WIDEST} bits that the chip holds. Train with them."
            wider = ",".join(f"{name}={WIDEST}" for name in each.layers)
            return (
                f"{each.node} costs the most. Keep it at more bits: tet-deploy quantize {network} --bits {each.bits},{wider}"
            )
    return "No population costs anything on these samples."


def sensitivity_values(found: Sequence[Sensitivity]) -> list[dict[str, Any]]:
    """The same for machines."""
    return [
        {
            "node": each.node,
            "layers": list(each.layers),
            "bits": each.bits or None,
            "readout_rms": each.deviation.readout.rms,
            "decisions": each.deviation.decisions,
            "samples": each.deviation.samples,
            "accuracy_loss": None if each.accuracy is None else each.accuracy.loss,
        }
        for each in found
    ]
