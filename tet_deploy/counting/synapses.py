"""What a graph says about its synaptic layers before any spike has flowed: their kind, fan-out and sizes.

The kind follows from what feeds a layer, never from the values that happen to flow: a population that stays silent still
feeds a 'spike' layer, and an image of zeros and ones still feeds an 'analog' one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch

import numpy as np

from tet_deploy.errors import GraphError
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import (
    LIF,
    WEIGHTED,
    Add,
    AvgPool,
    BatchNorm,
    Conv,
    Delay,
    Flatten,
    Input,
    Linear,
    Node,
    Readout,
)
from tet_deploy.ir.shapes import Shape, conv_size, fan_out, padded_macs

SYNAPTIC_KINDS = {
    "analog": "fed by the network's input or another value that is no spike: multiplications",
    "spike": "fed by a LIF: additions only",
    "pooled": "fed by an average over spikes: additions where the pooling is folded, else multiplications",
    "graded": "fed by a sum of spikes: multiplications",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Synapses:
    """One Conv or Linear as the counting sees it; all numbers are per step and sample.

    Attributes
    ----------
    kind
        One of `SYNAPTIC_KINDS`.
    input_fed
        Whether the network's input reaches the layer without a LIF between.
    fan_out
        int64, broadcasts against the layer's input: synapses that leave each element, borders excluded.
    fan_out_effective
        The same without synapses whose weight is exactly 0; int64, of the input's shape.
    inputs, outputs
        Elements.
    padded
        Multiply-accumulates as the literature counts them: outputs x weights per output, the border's zeros included.
    """

    node: Conv | Linear
    kind: str
    input_fed: bool
    fan_out: np.ndarray
    fan_out_effective: np.ndarray
    inputs: int
    outputs: int
    padded: int

    @property
    def dense(self) -> int:
        """Synapses inside the borders: what a dense pass multiplies."""
        return int(np.broadcast_to(self.fan_out, self.fan_out_effective.shape).sum())


def synapses(graph: Graph) -> tuple[Synapses, ...]:
    """Every Conv and Linear of the graph, in order."""
    kinds = value_kinds(graph)
    fed: dict[str, bool] = {}
    found = []
    for node in graph:
        fed[node.name] = isinstance(node, Input) or (isinstance(node, (Flatten, Delay, AvgPool)) and fed[node.inputs[0]])
        if isinstance(node, WEIGHTED):
            source = node.inputs[0]
            found.append(_synapses(node, kinds[source], fed[source], graph.shapes[source], graph.shapes[node.name]))
    return tuple(found)


def value_kinds(graph: Graph) -> dict[str, str]:
    """What each node sends: 'analog', 'spike', 'pooled' or 'graded'; a layer is of the kind that feeds it."""
    kinds: dict[str, str] = {}
    for node in graph:
        kinds[node.name] = _value_kind(node, *(kinds[source] for source in node.inputs))
    return kinds


def _synapses(node: Conv | Linear, kind: str, input_fed: bool, x: Shape, y: Shape) -> Synapses:
    outputs = int(np.prod(y, dtype=np.int64))
    return Synapses(
        node=node,
        kind=kind,
        input_fed=input_fed,
        fan_out=fan_out(node, x),
        fan_out_effective=effective_fan_out(node, x),
        inputs=int(np.prod(x, dtype=np.int64)),
        outputs=outputs,
        padded=padded_macs(node, y),
    )


def effective_fan_out(node: Conv | Linear, x: Shape) -> np.ndarray:
    """Number of synapses with a weight other than 0 that leave each input element, borders excluded; int64 of shape x.

    F[i, y, x] = sum_(ky, kx) n[i, ky, kx] * hit_y[ky, y] * hit_x[kx, x], where n counts the output channels whose weight
    at that tap is not 0 and hit says whether the tap, seen from that element, ends inside the output.
    """
    nonzero = node.weight != 0
    if isinstance(node, Linear):
        return np.asarray(np.count_nonzero(nonzero, axis=0), dtype=np.int64)
    taps = nonzero.reshape(node.groups, -1, *nonzero.shape[1:]).sum(axis=1, dtype=np.int64)
    taps = taps.reshape(x[0], *nonzero.shape[2:])  # [I, kh, kw]
    hit_y, hit_x = (_hits(x[i + 1], nonzero.shape[i + 2], node.stride[i], node.padding[i], node.dilation[i]) for i in (0, 1))
    return np.asarray(np.einsum("ckl,ky,lx->cyx", taps, hit_y, hit_x))


def _hits(size: int, kernel: int, stride: int, padding: int, dilation: int) -> np.ndarray:
    """Whether tap k connects input i to some output: int64 [kernel, size], 0 or 1."""
    hits = np.zeros((kernel, size), dtype=np.int64)
    outputs = np.arange(conv_size(size, kernel, stride, padding, dilation))
    for tap in range(kernel):
        reached = outputs * stride - padding + tap * dilation
        hits[tap, reached[(reached >= 0) & (reached < size)]] = 1
    return hits


def adds_bias(graph: Graph, node: Node) -> bool:
    """Whether each output of the node gets a bias added, here or in what its deployed form does.

    A BatchNorm behind it becomes a bias when it is folded; a quantized network keeps the bias on the population.
    """
    behind = graph.consumers(node.name)
    return (
        getattr(node, "bias", None) is not None
        or any(isinstance(user, BatchNorm) for user in behind)
        or any(isinstance(user, (LIF, Readout)) and user.bias is not None for user in behind)
    )


@singledispatch
def _value_kind(node: Node, *sources: str) -> str:
    raise GraphError(f"node {node.name!r}: energy is not counted for kind {node.kind}.")


@_value_kind.register(Input)
@_value_kind.register(Conv)
@_value_kind.register(Linear)
@_value_kind.register(BatchNorm)
@_value_kind.register(Readout)
def _(node: Node, *sources: str) -> str:
    return "analog"


@_value_kind.register
def _(node: LIF, *sources: str) -> str:
    return "spike"


@_value_kind.register(Flatten)
@_value_kind.register(Delay)
def _(node: Node, *sources: str) -> str:
    return sources[0]


@_value_kind.register
def _(node: AvgPool, *sources: str) -> str:
    return "pooled" if sources[0] == "spike" else sources[0]


@_value_kind.register
def _(node: Add, *sources: str) -> str:
    return "graded" if set(sources) <= {"spike", "graded"} else "analog"
