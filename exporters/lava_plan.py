"""What a Lava bundle has to build: a quantized graph as a JSON plan and arrays in Lava's layout.

Lava lays maps out [W, H, C] and convolves in the mathematical sense, so kernels are flipped and transposed here. Lava does
not check what a Loihi core can hold; a number too large silently becomes another one. So it is checked here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import singledispatch
from typing import Any

import numpy as np

from tet_deploy import dynamics
from tet_deploy.errors import GraphError
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import LIF, Conv, Flatten, Input, Linear, Node, Quantization, Readout
from tet_deploy.ir.spec import DEPLOYABLE, check

_LARGEST_WEIGHT = 127
_LARGEST_GEOMETRY = 127  # Lava keeps kernel sizes, strides, padding, dilation and groups in int8
_LARGEST_MESSAGE_BITS = 24
_INT32 = 2**31


@dataclass
class LavaPlan:
    """A plan that grows node by node.

    Attributes
    ----------
    input, layers, readout
        JSON values: what the frames are, each layer's synapses and population, and what the host adds to the readout.
    arrays
        Weights and biases under the names that the plan uses.
    """

    graph: Graph
    input: dict[str, Any] = field(default_factory=dict)
    layers: list[dict[str, Any]] = field(default_factory=list)
    readout: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    def store(self, key: str, array: np.ndarray | None) -> str | None:
        """Keep an array and return its name."""
        if array is None:
            return None
        self.arrays[key] = np.ascontiguousarray(array)
        return key


def lava_plan(graph: Graph) -> LavaPlan:
    """Describe a quantized, deployable network.

    Raises
    ------
    GraphError
        A float network, a node that has no Lava process, or a number that does not fit a Loihi core.
    """
    if not graph.is_quantized:
        raise GraphError("a Lava bundle needs a quantized network; this one holds floats. Quantize it: td.quantize.")
    plan = LavaPlan(check(graph, DEPLOYABLE))
    for node in graph:
        _describe(node, plan)
    return plan


@singledispatch
def _describe(node: Node, plan: LavaPlan) -> None:
    raise GraphError(f"node {node.name!r}: a {node.kind} has no Lava process yet. Feed-forward networks can be exported.")


@_describe.register
def _(node: Input, plan: LavaPlan) -> None:
    units = _units(node, node.quantization)
    _need(node, "message bits", units.bits, 2, _LARGEST_MESSAGE_BITS)
    plan.input = {
        "name": node.name,
        "shape": list(node.shape),
        "encoding": node.encoding,
        "scale": units.scale,
        "bits": units.bits,
    }


@_describe.register
def _(node: Flatten, plan: LavaPlan) -> None:
    """Lava flattens in another order; the weights of the Linear behind it are sorted accordingly."""


@_describe.register
def _(node: Conv, plan: LavaPlan) -> None:
    largest_sum = _checked_sum(node, plan)
    geometry = (*node.weight.shape[2:], *node.stride, *node.padding, *node.dilation, node.groups)
    _need(node, "kernel size, stride, padding, dilation and groups", max(geometry), 0, _LARGEST_GEOMETRY)
    _need(node, "largest possible synaptic sum", largest_sum, 0, _INT32 - 1)
    weight = node.weight[:, :, ::-1, ::-1].transpose(0, 3, 2, 1)  # [O, I, kh, kw] -> [O, kw, kh, I]
    synapses = {
        "process": "Conv",
        "input_shape": list(reversed(plan.graph.shapes[node.inputs[0]])),
        "stride": list(reversed(node.stride)),
        "padding": list(reversed(node.padding)),
        "dilation": list(reversed(node.dilation)),
        "groups": node.groups,
        "flat_output": False,
    }
    _add_synapses(node, plan, weight, synapses)


@_describe.register
def _(node: Linear, plan: LavaPlan) -> None:
    """Dense, which lacks Conv's wrap into 24 bit, where the weights rule a wrap out; elsewhere a 1 x 1 Conv."""
    largest_sum = _checked_sum(node, plan)
    _need(node, "largest possible synaptic sum", largest_sum, 0, _INT32 - 1)
    outputs, inputs = node.weight.shape
    shape = _shape_before_flatten(node, plan.graph)
    weight = node.weight.reshape(outputs, *shape).transpose(0, *range(len(shape), 0, -1)).reshape(outputs, inputs)
    if largest_sum < dynamics.STATE_LIMIT:
        _add_synapses(node, plan, weight, {"process": "Dense"})
        return
    ones = {"stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "groups": 1}
    synapses = {"process": "Conv", "input_shape": [1, 1, inputs], **ones, "flat_output": True}
    _add_synapses(node, plan, weight[:, None, None, :], synapses)


@_describe.register
def _(node: LIF, plan: LavaPlan) -> None:
    units, bias = _units(node, node.quantization), node.bias
    _need(node, "threshold mantissa", node.threshold, 1, dynamics.LARGEST_THRESHOLD)
    _need(node, "decay (12 bit, of 4096)", dynamics.decay_v(node), 0, dynamics.DECAY_ONE - 1)
    _need(node, "bias exponent", units.bias_exponent, 0, dynamics.LARGEST_BIAS_EXPONENT)
    if bias is not None:
        _need_integers(node, "bias", bias)
        for extreme in (bias.min(), bias.max()):
            _need(node, "bias mantissa", extreme, -dynamics.LARGEST_BIAS_MANTISSA - 1, dynamics.LARGEST_BIAS_MANTISSA)
    plan.layers[-1]["population"] = {
        "name": node.name,
        "shape": list(plan.graph.shapes[node.name]),
        "threshold": int(node.threshold),
        "decay": dynamics.decay_v(node),
        "bias": plan.store(f"{node.name}.bias", bias),
        "bias_exponent": units.bias_exponent,
    }


@_describe.register
def _(node: Readout, plan: LavaPlan) -> None:
    _need(node, "bias exponent of a readout", _units(node, node.quantization).bias_exponent, 0, 0)
    if node.bias is not None:
        _need_integers(node, "bias", node.bias)
    plan.readout = {
        "name": node.name,
        "shape": list(plan.graph.shapes[node.name]),
        "bias": plan.store(f"{node.name}.bias", node.bias),
    }


def _add_synapses(node: Conv | Linear, plan: LavaPlan, weight: np.ndarray, synapses: dict[str, Any]) -> None:
    key = plan.store(f"{node.name}.weight", weight.astype(np.int8))
    bits = plan.input["bits"] if _is_graded(node, plan.graph) else 0
    synapses = {"name": node.name, **synapses, "weight": key, "message_bits": bits}
    plan.layers.append({"synapses": synapses, "population": None})


def _checked_sum(node: Conv | Linear, plan: LavaPlan) -> int:
    """The largest magnitude that a synaptic sum of this node can have, after checking its weights."""
    _units(node, node.quantization)
    _need_integers(node, "weight", node.weight)
    if node.bias is not None:
        raise GraphError(f"node {node.name!r}: synapses must have no bias; td.quantize moves it to the neurons.")
    for extreme in (node.weight.min(), node.weight.max()):
        _need(node, "weight", extreme, -_LARGEST_WEIGHT, _LARGEST_WEIGHT)
    magnitude = np.abs(node.weight.astype(np.int64))
    largest_message = 2 ** (plan.input["bits"] - 1) - 1 if _is_graded(node, plan.graph) else 1
    return int(magnitude.reshape(len(magnitude), -1).sum(axis=1).max()) * largest_message


def _is_graded(node: Node, graph: Graph) -> bool:
    return isinstance(_source(node, graph), Input)


def _shape_before_flatten(node: Linear, graph: Graph) -> tuple[int, ...]:
    return graph.shapes[_source(node, graph).name]


def _source(node: Node, graph: Graph) -> Node:
    """The node that feeds this one, through any Flatten."""
    source = graph[node.inputs[0]]
    return _source(source, graph) if isinstance(source, Flatten) else source


def _units(node: Node, quantization: Quantization | None) -> Quantization:
    if quantization is None:
        raise GraphError(f"node {node.name!r}: must be quantized like the rest. Quantize the whole network: td.quantize.")
    return quantization


def _need(node: Node, what: str, value: float, low: int, high: int) -> None:
    if not low <= value <= high or value != int(value):
        raise GraphError(
            f"node {node.name!r}: {what} must be a whole number within {low}..{high} to run on Lava; got {value}. "
            "Quantize again with other settings, or change the layer."
        )


def _need_integers(node: Node, what: str, array: np.ndarray) -> None:
    if array.dtype.kind != "i":
        raise GraphError(f"node {node.name!r}: {what} must hold integers; got {array.dtype}. Quantize it: td.quantize.")
