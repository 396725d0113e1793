"""What a Lava bundle has to build: a quantized graph as a JSON plan and arrays in Lava's layout.

The plan is a list of nodes, each after its sources: synapses ("conv", "dense"), populations ("lif") and sums of messages
("sum"; of one source: a relay that makes it a step late). Each says at which latency it answers, see `lava_latency`.

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
from tet_deploy.exporters.lava_latency import Schedule, schedule
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import (
    LIF,
    Add,
    Conv,
    CubaLIF,
    Flatten,
    Input,
    LeakyReadout,
    Linear,
    Node,
    Population,
    Quantization,
    Readout,
)
from tet_deploy.ir.spec import DEPLOYABLE, behind_flatten, check
from tet_deploy.ir.values import Value, values, weighted_bounds

_LARGEST_WEIGHT = 127
_LARGEST_GEOMETRY = 127  # Lava keeps kernel sizes, strides, padding, dilation and groups in int8
_LARGEST_MESSAGE_BITS = 24
_INT32 = 2**31


@dataclass
class LavaPlan:
    """A plan that grows node by node.

    Attributes
    ----------
    input, nodes, readout
        JSON values: what the frames are, what to connect, and what the host makes of the readout.
    arrays
        Weights and biases under the names that the plan uses.
    """

    graph: Graph
    timing: Schedule
    sent: dict[str, Value]
    input: dict[str, Any] = field(default_factory=dict)
    nodes: list[dict[str, Any]] = field(default_factory=list)
    readout: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    def store(self, key: str, array: np.ndarray | None) -> str | None:
        """Keep an array and return its name."""
        if array is None:
            return None
        self.arrays[key] = np.ascontiguousarray(array)
        return key

    def add(self, node: Node, kind: str, **entries: Any) -> None:
        """Append a node, and the relays behind it that others need."""
        self.nodes.append({"kind": kind, "name": node.name, "latency": self.timing.latency[node.name], **entries})
        self.relay(node)

    def relay(self, node: Node) -> None:
        """Append as many relays behind a sender as its latest consumer waits."""
        for late in range(1, self.timing.waits[node.name] + 1):
            self.nodes.append(
                {
                    "kind": "sum",
                    "name": relayed(node.name, late),
                    "latency": self.timing.latency[node.name] + late,
                    "sources": [relayed(node.name, late - 1)],
                    "message_bits": [self.message_bits(node.name)],
                    "shape": list(self.graph.shapes[node.name]),
                }
            )

    def source(self, name: str, consumer: Node) -> str:
        """Who sends, at the right time, what a synapse or a sum takes from the node of that name."""
        sender = behind_flatten(self.graph, name).name
        return relayed(sender, self.timing.wait(sender, consumer.name))

    def message_bits(self, name: str) -> int:
        """Width of the signed messages that a node sends; 0 for spikes."""
        sent = self.sent[name]
        return 0 if sent.is_binary else int(sent.magnitude).bit_length() + 1


def relayed(name: str, late: int) -> str:
    """Name of what a node sent some steps ago; no node's name holds a slash."""
    return f"{name}/late{late}" if late else name


def lava_plan(graph: Graph) -> LavaPlan:
    """Describe a quantized, deployable network.

    Raises
    ------
    GraphError
        A float network, a node that has no Lava process, or a number that does not fit a Loihi core.
    """
    if not graph.is_quantized:
        raise GraphError(
            "a Lava bundle needs a quantized network; this one holds floats. Quantize it: td.quantize, or tet-deploy "
            "quantize."
        )
    plan = LavaPlan(check(graph, DEPLOYABLE), schedule(graph), dict(values(graph)))
    for node in graph:
        _describe(node, plan)
    return plan


@singledispatch
def _describe(node: Node, plan: LavaPlan) -> None:
    raise GraphError(f"node {node.name!r}: a {node.kind} has no Lava process. Use ONNX or the reference runtime for it.")


@_describe.register
def _(node: Input, plan: LavaPlan) -> None:
    units = _units(node, node.quantization)
    _need(node, "message bits", units.bits, 2, _LARGEST_MESSAGE_BITS)
    plan.input = {
        "name": node.name,
        "shape": list(node.shape),
        "encoding": node.encoding,
        "scale": units.one_scale,
        "bits": units.bits,
    }
    if node.mean is not None and node.deviation is not None:
        plan.input |= {"mean": node.mean.tolist(), "deviation": node.deviation.tolist()}
    plan.relay(node)


@_describe.register
def _(node: Flatten, plan: LavaPlan) -> None:
    """Lava flattens in another order; the weights of the Linear behind it are sorted accordingly."""


@_describe.register
def _(node: Add, plan: LavaPlan) -> None:
    """Messages of all sources, summed and sent on as they are."""
    plan.add(
        node,
        "sum",
        sources=[plan.source(name, node) for name in node.inputs],
        message_bits=[plan.message_bits(name) for name in node.inputs],
        shape=list(plan.graph.shapes[node.name]),
    )


@_describe.register
def _(node: Conv, plan: LavaPlan) -> None:
    _checked_sum(node, plan)
    geometry = (*node.weight.shape[2:], *node.stride, *node.padding, *node.dilation)
    _need(node, "kernel size, stride, padding and dilation", max(geometry), 0, _LARGEST_GEOMETRY)
    dense = node.groups > _LARGEST_GEOMETRY
    weight = _ungrouped(node) if dense else node.weight
    _add_synapses(
        node,
        plan,
        "conv",
        weight[:, :, ::-1, ::-1].transpose(0, 3, 2, 1),  # [O, I, kh, kw] -> [O, kw, kh, I]
        input_shape=list(reversed(plan.graph.shapes[node.inputs[0]])),
        stride=list(reversed(node.stride)),
        padding=list(reversed(node.padding)),
        dilation=list(reversed(node.dilation)),
        groups=1 if dense else node.groups,
        flat_output=False,
    )


def _ungrouped(node: Conv) -> np.ndarray:
    """The weight without groups, which Lava counts up to 127 only: zeros between the groups."""
    outputs, inputs = node.weight.shape[:2]
    wide = np.zeros((outputs, inputs * node.groups, *node.weight.shape[2:]), node.weight.dtype)
    for out in range(outputs):
        group = out // (outputs // node.groups)
        wide[out, group * inputs : (group + 1) * inputs] = node.weight[out]
    return wide


@_describe.register
def _(node: Linear, plan: LavaPlan) -> None:
    """Dense, which lacks Conv's wrap into 24 bit, where the weights rule a wrap out; elsewhere a 1 x 1 Conv."""
    largest_sum = _checked_sum(node, plan)
    outputs, inputs = node.weight.shape
    shape = plan.graph.shapes[behind_flatten(plan.graph, node.inputs[0]).name]
    weight = node.weight.reshape(outputs, *shape).transpose(0, *range(len(shape), 0, -1)).reshape(outputs, inputs)
    if largest_sum < dynamics.STATE_LIMIT:
        _add_synapses(node, plan, "dense", weight)
        return
    ones = {"stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "groups": 1}
    _add_synapses(node, plan, "conv", weight[:, None, None, :], input_shape=[1, 1, inputs], **ones, flat_output=True)


@_describe.register(LIF)
@_describe.register(CubaLIF)
def _(node: LIF | CubaLIF, plan: LavaPlan) -> None:
    units, bias = _units(node, node.quantization), node.bias
    for extreme in (np.min(node.threshold), np.max(node.threshold)):
        _need(node, "threshold mantissa", extreme, 1, dynamics.LARGEST_THRESHOLD)
    decay = dynamics.decay_v(node)
    for extreme in (decay.min(), decay.max()):
        _need(node, "decay (12 bit, of 4096)", extreme, 0, dynamics.DECAY_ONE - 1)
    _need(node, "bias exponent", units.bias_exponent, 0, dynamics.LARGEST_BIAS_EXPONENT)
    if bias is not None:
        _need_integers(node, "bias", bias)
        for extreme in (bias.min(), bias.max()):
            _need(node, "bias mantissa", extreme, -dynamics.LARGEST_BIAS_MANTISSA - 1, dynamics.LARGEST_BIAS_MANTISSA)
    _check_total(node, plan)
    plan.add(
        node,
        "lif",
        sources=list(node.inputs),
        shape=list(plan.graph.shapes[node.name]),
        threshold=plan.store(f"{node.name}.threshold", node.threshold.astype(np.int32))
        if isinstance(node.threshold, np.ndarray)
        else int(node.threshold),
        decay=plan.store(f"{node.name}.decay", decay.astype(np.int32)) if decay.ndim else int(decay),
        bias=plan.store(f"{node.name}.bias", bias),
        bias_exponent=units.bias_exponent,
        **({"current_decay": dynamics.decay_u(node)} if isinstance(node, CubaLIF) else {}),
    )


@_describe.register(Readout)
@_describe.register(LeakyReadout)
def _(node: Readout | LeakyReadout, plan: LavaPlan) -> None:
    """The chip sends sums; the host adds the bias, and integrates them where the readout is leaky."""
    _need(node, "bias exponent of a readout", _units(node, node.quantization).bias_exponent, 0, 0)
    if node.bias is not None:
        _need_integers(node, "bias", node.bias)
    _check_total(node, plan)
    plan.readout = {
        "name": node.name,
        "sources": list(node.inputs),
        "latency": plan.timing.latency[node.name],
        "shape": list(plan.graph.shapes[node.name]),
        "bias": plan.store(f"{node.name}.bias", node.bias),
        **({"decay": int(dynamics.decay_v(node))} if isinstance(node, LeakyReadout) else {}),
    }


def _add_synapses(node: Conv | Linear, plan: LavaPlan, kind: str, weight: np.ndarray, **geometry: Any) -> None:
    plan.add(
        node,
        kind,
        source=plan.source(node.inputs[0], node),
        weight=plan.store(f"{node.name}.weight", weight.astype(np.int8)),
        message_bits=plan.message_bits(node.inputs[0]),
        **geometry,
    )


def _checked_sum(node: Conv | Linear, plan: LavaPlan) -> int:
    """The largest magnitude that a synaptic sum of this node can have before it wraps, after checking its weights."""
    _units(node, node.quantization)
    _need_integers(node, "weight", node.weight)
    if node.bias is not None:
        raise GraphError(f"node {node.name!r}: synapses must have no bias; td.quantize moves it to the neurons.")
    for extreme in (node.weight.min(), node.weight.max()):
        _need(node, "weight", extreme, -_LARGEST_WEIGHT, _LARGEST_WEIGHT)
    least, greatest = weighted_bounds(node.weight, plan.sent[node.inputs[0]])
    largest = int(max(-least.min(), greatest.max()))
    _need(node, "largest possible synaptic sum", largest, 0, _INT32 - 1)
    return largest


def _check_total(node: Population, plan: LavaPlan) -> None:
    """A population's int32 must hold what all its synapses send together, shifted, beside potential and bias."""
    total = sum(plan.sent[name].magnitude for name in node.inputs)
    _need(node, "largest possible sum over its synapses", total, 0, dynamics.largest_total(node))


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
