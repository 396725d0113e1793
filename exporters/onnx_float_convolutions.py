"""Convolutions of small quantized networks in float32, exact: ONNX Runtime's own, where im2col costs more than it saves.

Weights stay int8 in the file; ONNX Runtime makes floats of them when it loads it. Values are channels-first,
[T, B, C, H, W]. Whatever the order of its terms, no partial sum is beyond a sum's bounds, and those of 64 times a sum that
cannot wrap, with bias and LIFT (see `onnx_float32_lif`), are within 2^24.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

import numpy as np
from onnx import TensorProto

from tet_deploy import dynamics
from tet_deploy.exporters.onnx_builder import FRAMES_TB, OnnxBuilder, own
from tet_deploy.exporters.onnx_float32_lif import float32_holds
from tet_deploy.exporters.onnx_sum_pool import unfolded
from tet_deploy.exporters.onnx_synapses import LARGEST_OPERAND, need_within
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import LIF, Conv, Flatten, Input, Node
from tet_deploy.ir.values import Value, total

# Nanoseconds, fitted to benchmarks/results/onnx_runtime.md: what a product in integers saves (on two threads, where copies
# gain least), and what each byte of im2col, each pixel, and the operators of a layer cost, in a step of a sample.
_SAVED, _BYTE, _PIXEL, _LAYER = 0.008, 0.17, 22.0, 2500.0


def convolves_in_float(graph: Graph, sent: Mapping[str, Value]) -> bool:
    """Whether all convolutions and the neurons behind them are exact in float32, and faster so."""
    users = {node.name: [other for other in graph if node.name in other.inputs] for node in graph}
    maps = [node for node in graph if len(graph.shapes[node.name]) == 3]
    exact = all(_is_exact(node, users[node.name], graph, sent) for node in maps)
    return exact and sum(_saved(node, graph, sent) for node in maps if isinstance(node, Conv)) < 0


def _is_exact(node: Node, users: list[Node], graph: Graph, sent: Mapping[str, Value]) -> bool:
    if isinstance(node, Input):
        return all(isinstance(user, Conv) for user in users)
    if isinstance(node, Conv):
        return all(isinstance(user, LIF) for user in users)
    if not isinstance(node, LIF) or not float32_holds(node):
        return isinstance(node, Flatten)
    within = total([sent[name] for name in node.inputs]).magnitude <= dynamics.LARGEST_SYNAPTIC_SUM
    return within and all(isinstance(graph[name], Conv) and _fits(sent[name]) for name in node.inputs)


def _fits(sums: Value) -> bool:
    return sums.magnitude <= dynamics.LARGEST_SYNAPTIC_SUM


def _saved(node: Conv, graph: Graph, sent: Mapping[str, Value]) -> float:
    """Nanoseconds that integers save in a step of a sample; fewer than none where they cost."""
    channels, *size = graph.shapes[node.name]
    _, layer, _ = unfolded(node, sent[node.inputs[0]], graph.shapes[node.inputs[0]])
    columns = math.prod(layer.weight.shape[1:])
    return math.prod(size) * (_SAVED * columns * channels - _BYTE * columns * node.groups - _PIXEL) - _LAYER


def float_current(
    node: LIF, offset: np.ndarray, values: Mapping[str, str], sent: Mapping[str, Value], graph: Graph, build: OnnxBuilder
) -> str:
    """offset - 64 * the sum over the node's convolutions, [T, B, C, H, W]; `values` are what each node sends, in the bounds
    of `sent`. A pool that was folded into one is before it again, an average over so many that its fractions are exact.
    """
    shape, terms = graph.shapes[node.name], list[str]()
    for name, times in Counter(node.inputs).items():
        port = graph[name]
        assert isinstance(port, Conv)
        need_within(port, "largest |weight|", int(np.abs(port.weight.astype(np.int64)).max()), LARGEST_OPERAND)
        origin = port.inputs[0]
        windows, port, _ = unfolded(port, sent[origin], graph.shapes[origin])
        merged = build.integers([-1, *graph.shapes[origin]])
        source = build.op("Reshape", [values[origin], merged], own(port, "merged"))
        if windows != (1, 1):
            source = build.pooled(port, source, windows)
        weight = build.constant(own(port, "weight"), port.weight.astype(np.int8))
        real = build.op("Cast", [weight], own(port, "weight_float"), to=TensorProto.FLOAT)
        factor = -(times * math.prod(windows) << dynamics.FRACTION_BITS)
        scaled = build.op("Mul", [real, build.scalar(factor, np.float32)], own(port, "weight_scaled"))
        inputs = [source, scaled]
        if not terms:
            inputs.append(build.constant(own(node, "offset"), np.broadcast_to(offset, shape[:1]).astype(np.float32)))
        terms.append(build.convolution(port, inputs))
    target = build.op("Concat", [FRAMES_TB, build.integers(shape)], own(node, "shape"), axis=0)
    return build.op("Reshape", [build.added(terms, own(node, "summed")), target], own(node, "current"))
