"""Turn a float network into the integers of a Loihi core.

All synapses into one population (LIF or Readout) share a scale s, in integer units per unit of membrane potential:

    weight mantissa     round(W * s / s_in)     8 bit;  s_in is the scale of the messages, 1 for spikes
    threshold mantissa  round(Vth * s)          17 bit
    bias                round(b * s * 64)       13 bit << 0..7, held by the population

A neuron with hard reset does not care what s is, so s is free: for each population we take the one whose membrane
potentials, on calibration frames, stay nearest to those of the float neuron fed by the same spikes. Upstream layers are
already quantized when a population is calibrated, so errors do not add up unseen.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

import numpy as np

from tet_deploy import dynamics
from tet_deploy.contracts import Frames, Progress, network_frames
from tet_deploy.errors import ArgumentError, DataError, GraphError
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import LIF, WEIGHTED, Conv, Flatten, Input, Linear, Node, Quantization, Readout
from tet_deploy.ir.spec import DEPLOYABLE, check, need_graph

METADATA_KEY = "quantization"
WEIGHT_BITS = 8
THRESHOLD_BITS = 17
MESSAGE_LIMIT = 127
# Scales tried, relative to the one that maps the largest weight to 127. Above 1 the largest weights are clipped; far below
# 1 weights get coarse, but a large bias or threshold may leave no other choice.
RELATIVE_SCALES = (0.15, 0.25, 0.4, 0.55, 0.7, 0.8, 0.9, 0.95, 1.0, 1.1, 1.25, 1.45, 1.7)


def quantize(graph: Graph, calibration: Frames, *, bits: int = WEIGHT_BITS, progress: Progress | None = None) -> Graph:
    """Quantize weights, biases and thresholds, calibrated on frames.

    Parameters
    ----------
    graph
        A deployable float network, see `passes.lower`.
    calibration
        Frames [T, B, *shape] to calibrate on; a few dozen training samples are enough.
    bits
        Width of the signed weights, 2 to 8.

    Returns
    -------
    Graph
        The same nodes with integer arrays and their scales. `metadata["quantization"]` holds, as JSON, each population's
        scale, membrane error, share of clipped weights, and how far its synaptic sums stay from wrapping.

    Raises
    ------
    ArgumentError
        Another number of bits than 2..8.
    GraphError
        The graph is not deployable or is quantized already, or a population fits no scale.
    DataError
        The calibration frames do not fit the network, or are all zero.
    """
    if need_graph(graph).is_quantized:
        raise GraphError("the network is quantized already. Quantize the float network instead.")
    if not isinstance(bits, int) or not 2 <= bits <= WEIGHT_BITS:
        raise ArgumentError(f"bits: must lie in 2..{WEIGHT_BITS}, the widest signed weight on the chip; got {bits!r}.")
    frames = network_frames(check(graph, DEPLOYABLE), calibration)
    quantized = _Quantizer(graph, frames, bits)
    for index, node in enumerate(graph):
        quantized.add(node)
        if progress:
            progress(index + 1, len(graph))
    return Graph(tuple(quantized.nodes), {**graph.metadata, METADATA_KEY: json.dumps(quantized.summary)})


class _Quantizer:
    """Walks the graph in order; holds the integers that each node sends on the calibration frames."""

    def __init__(self, graph: Graph, frames: np.ndarray, bits: int) -> None:
        self.graph, self.frames, self.limit = graph, frames, 2 ** (bits - 1) - 1
        self.bits = bits
        self.nodes: list[Node] = []
        self.summary: dict[str, dict[str, object]] = {}
        self.messages: dict[str, np.ndarray] = {}  # int64 [T, B, ...] of Input, LIF and Flatten
        self.message_scale: dict[str, float] = {}
        self.largest_message: dict[str, int] = {}  # that can ever be sent, not only on these frames

    def add(self, node: Node) -> None:
        """Quantize one node; a weighted one waits for the population that it feeds."""
        if isinstance(node, Input):
            quantization = _input_quantization(node, self.frames)
            self.nodes.append(dataclasses.replace(node, quantization=quantization))
            self.messages[node.name] = dynamics.to_messages(self.frames, quantization)
            self.message_scale[node.name], self.largest_message[node.name] = quantization.scale, MESSAGE_LIMIT
        elif isinstance(node, Flatten):
            source = self.messages[node.inputs[0]]
            self.nodes.append(node)
            self.messages[node.name] = source.reshape(*source.shape[:2], -1)
            self.message_scale[node.name] = self.message_scale[node.inputs[0]]
            self.largest_message[node.name] = self.largest_message[node.inputs[0]]
        elif isinstance(node, (LIF, Readout)):
            self._add_population(node)
        elif not isinstance(node, WEIGHTED):
            raise GraphError(f"node {node.name!r}: a {node.kind} cannot be quantized yet.")

    def _add_population(self, node: LIF | Readout) -> None:
        layer = self.graph[node.inputs[0]]
        assert isinstance(layer, WEIGHTED)
        if len(self.graph.consumers(layer.name)) > 1:
            raise GraphError(
                f"node {layer.name!r}: feeds several populations, which would share one scale. Give each a layer of its own."
            )
        messages, message_scale = self.messages[layer.inputs[0]], self.message_scale[layer.inputs[0]]
        current = _over_time(layer, messages) / message_scale
        if layer.bias is not None:
            current = current + dynamics.per_channel(layer.bias.astype(np.float64), current.ndim - 1)
        target = _float_membranes(node, current)
        fits = [
            fit
            for ratio in RELATIVE_SCALES
            if (fit := _fit(node, layer, messages, message_scale, ratio, self.limit, target)) is not None
        ]
        if not fits:
            raise GraphError(
                f"node {node.name!r}: no scale fits its weights (largest {np.abs(layer.weight).max():.3g}), bias "
                f"(largest {0 if layer.bias is None else np.abs(layer.bias).max():.3g}) and threshold into the chip's "
                "integers without wrapping on the calibration frames. Retrain with weight decay, or scale the input."
            )
        best = min(fits, key=lambda fit: fit.error)
        self.nodes += [
            dataclasses.replace(
                layer,
                weight=best.weight,
                bias=None,
                quantization=Quantization(scale=best.scale / message_scale, bits=self.bits),
            ),
            best.population,
        ]
        self.summary[node.name] = best.summary(layer, self.largest_message[layer.inputs[0]])
        self.messages[node.name], self.message_scale[node.name] = best.spikes, 1.0
        self.largest_message[node.name] = 1


@dataclass(frozen=True)
class _Fit:
    """One candidate scale of one population, tried on the calibration frames."""

    scale: float
    weight: np.ndarray  # int8
    clipped: float
    population: LIF | Readout
    spikes: np.ndarray
    error: float
    largest_sum: int

    def summary(self, layer: Conv | Linear, largest_message: int) -> dict[str, object]:
        bound = largest_possible_sum(self.weight, largest_message)
        return {
            "layer": layer.name,
            "scale": self.scale,
            "membrane_error": self.error,
            "clipped_weights": self.clipped,
            "largest_sum_seen": self.largest_sum,
            "largest_sum_possible": bound,
            "wrap_impossible": bound <= dynamics.LARGEST_SYNAPTIC_SUM,
        }


def largest_possible_sum(weight: np.ndarray, largest_message: int) -> int:
    """Bound of |synaptic sum| over all inputs: the larger of the positive and the negative weights of one neuron."""
    rows = weight.astype(np.int64).reshape(len(weight), -1)
    one_sided = np.maximum(np.where(rows > 0, rows, 0).sum(axis=1), np.where(rows < 0, -rows, 0).sum(axis=1))
    either = np.abs(rows).sum(axis=1)  # signed messages can drive both signs the same way
    return int((one_sided if largest_message == 1 else either).max() * largest_message)


def _input_quantization(node: Input, frames: np.ndarray) -> Quantization:
    """Messages that stand for the frames exactly, where a power of two makes whole numbers of them; else the finest."""
    largest = float(np.abs(frames).max())
    if largest == 0:
        raise DataError("calibration frames: must not be all zero. Take some that the network will really see.")
    for power in range(8):
        scaled = frames * np.float32(2**power)
        if largest * 2**power <= MESSAGE_LIMIT and np.array_equal(scaled, np.rint(scaled)):
            return Quantization(scale=float(2**power))
    return Quantization(scale=MESSAGE_LIMIT / largest)


def _over_time(layer: Conv | Linear, messages: np.ndarray) -> np.ndarray:
    """Synaptic sums [T, B, ...] of all steps at once."""
    sums = dynamics.synaptic_sum(layer, messages.reshape(-1, *messages.shape[2:]))
    return sums.reshape(*messages.shape[:2], *sums.shape[1:])


def _float_membranes(node: LIF | Readout, current: np.ndarray) -> np.ndarray:
    """What the float population shows at each step: membrane potential after the reset, or the readout."""
    if isinstance(node, Readout):
        return current
    v, steps = np.zeros_like(current[0]), []
    for step in current:
        v = dynamics.lif_step(v, step, node.decay, node.threshold)[1]
        steps.append(v)
    return np.stack(steps)


def _fit(
    node: LIF | Readout,
    layer: Conv | Linear,
    messages: np.ndarray,
    message_scale: float,
    ratio: float,
    limit: int,
    target: np.ndarray,
) -> _Fit | None:
    """Try one scale; None where the chip's integers cannot hold it or a synaptic sum would wrap."""
    scale = ratio * limit / max(float(np.abs(layer.weight).max()), 1e-12) * message_scale
    exact = np.rint(layer.weight.astype(np.float64) * (scale / message_scale))
    weight = np.clip(exact, -limit, limit).astype(np.int8)
    population = _quantized_population(node, layer.bias, scale)
    sums = _over_time(dataclasses.replace(layer, weight=weight), messages).astype(np.int64)
    largest = int(np.abs(sums).max())
    if population is None or largest > dynamics.LARGEST_SYNAPTIC_SUM:
        return None
    spikes, membranes = _integer_membranes(population, sums)
    unit = 2.0**dynamics.FRACTION_BITS * scale
    return _Fit(
        scale=scale,
        weight=weight,
        clipped=float(np.mean(np.abs(exact) > limit)),
        population=population,
        spikes=spikes,
        error=float(np.mean((membranes / unit - target) ** 2)),
        largest_sum=largest,
    )


def _quantized_population(node: LIF | Readout, bias: np.ndarray | None, scale: float) -> LIF | Readout | None:
    shifted = np.zeros(1) if bias is None else bias.astype(np.float64) * scale * 2.0**dynamics.FRACTION_BITS
    if isinstance(node, Readout):
        if np.abs(shifted).max() > np.iinfo(np.int32).max:
            return None
        integers = None if bias is None else np.rint(shifted).astype(np.int32)
        return dataclasses.replace(node, bias=integers, quantization=Quantization(scale=scale, bits=32))
    exponent = _bias_exponent(shifted)
    threshold = np.rint(node.threshold * scale)
    if exponent is None or not 1 <= threshold <= dynamics.LARGEST_THRESHOLD:
        return None
    return dataclasses.replace(
        node,
        threshold=int(threshold),
        bias=None if bias is None else np.rint(shifted / 2**exponent).astype(np.int16),
        quantization=Quantization(scale=scale, bits=THRESHOLD_BITS, bias_exponent=exponent),
    )


def _bias_exponent(shifted: np.ndarray) -> int | None:
    """Smallest exponent whose mantissas fit 13 bit; None if even the largest does not."""
    for exponent in range(dynamics.LARGEST_BIAS_EXPONENT + 1):
        if np.abs(np.rint(shifted / 2**exponent)).max() <= dynamics.LARGEST_BIAS_MANTISSA:
            return exponent
    return None


def _integer_membranes(node: LIF | Readout, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Spikes and what the integer population shows at each step, [T, B, ...]."""
    if isinstance(node, Readout):
        shifted = np.left_shift(sums, dynamics.FRACTION_BITS)
        return np.zeros(0), shifted if node.bias is None else shifted + node.bias.astype(np.int64)
    assert node.quantization is not None
    bias = dynamics.shifted_bias(node.bias, node.quantization.bias_exponent)
    if isinstance(bias, np.ndarray):
        bias = dynamics.per_channel(bias, sums.ndim - 1)
    v, spikes, membranes = np.zeros_like(sums[0]), [], []
    for step in sums:
        fired, v = dynamics.fixed_point_lif_step(v, step, bias, dynamics.decay_v(node), int(node.threshold))
        spikes.append(fired.astype(np.int64))
        membranes.append(v)
    return np.stack(spikes), np.stack(membranes)
