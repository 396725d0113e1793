"""What a graph says about its synaptic layers before any spike has flowed: their kind, fan-out and sizes.

The kind follows from what feeds a layer, never from the values that happen to flow: a population that stays silent still
feeds a 'spike' layer, and an image of zeros and ones still feeds an 'analog' one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import WEIGHTED, BatchNorm, Conv, Linear, Node, Population, Spiking
from tet_deploy.ir.shapes import Shape, conv_size, fan_out, padded_macs
from tet_deploy.ir.values import ANALOG, EVENTS, GRADED, POOLED, SPIKE, Value, values

SYNAPTIC_KINDS = {
    "analog": "fed by the network's input or another value that is no spike: multiplications",
    "spike": "fed by a LIF: additions only",
    "pooled": "fed by an average over spikes: additions where the pooling is folded, else multiplications",
    "graded": "fed by a sum of spikes: multiplications",
    "skip": "the identity of a skip connection, or of a readout that counts spikes: residual additions",
}
FED_BY = {
    "analog": "numbers",
    "spike": "spikes",
    "pooled": "averages of spikes",
    "graded": "sums of spikes",
    "skip": "a skip connection",
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
    sent = values(graph)
    return tuple(
        _synapses(
            node,
            sent[node.inputs[0]],
            graph.shapes[node.inputs[0]],
            graph.shapes[node.name],
            stands_alone=all(isinstance(u, Spiking) and len(u.inputs) == 1 for u in graph.consumers(node.name)),
        )
        for node in graph
        if isinstance(node, WEIGHTED)
    )


def _synapses(node: Conv | Linear, source: Value, x: Shape, y: Shape, stands_alone: bool) -> Synapses:
    outputs, reached = int(np.prod(y, dtype=np.int64)), fan_out(node, x)
    return Synapses(
        node=node,
        kind=_kind(node, source, reached, stands_alone),
        input_fed=source.kind in (ANALOG, EVENTS),
        fan_out=reached,
        fan_out_effective=effective_fan_out(node, x),
        inputs=int(np.prod(x, dtype=np.int64)),
        outputs=outputs,
        padded=padded_macs(node, y),
    )


def _kind(node: Conv | Linear, source: Value, reached: np.ndarray, stands_alone: bool) -> str:
    """Lowering makes identities, of one synapse an element, that stand for no layer; see `passes.lower_residual`.

    The sums of a max pool stand for none either, but theirs are all the synapses that a population of neurons has.
    """
    one_each = reached.max() <= 1 or (isinstance(node, Linear) and np.count_nonzero(node.weight, axis=0).max() <= 1)
    if node.dense_macs == 0 and one_each and not stands_alone and source.kind in (SPIKE, GRADED):
        return "skip"
    return source.kind if source.kind in (SPIKE, POOLED, GRADED) else "analog"


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

    A BatchNorm behind it becomes a bias when it is folded; a quantized network keeps the bias on the population, which adds
    it once, however many synapse nodes it has.
    """
    behind = graph.consumers(node.name)
    return (
        getattr(node, "bias", None) is not None
        or any(isinstance(user, BatchNorm) for user in behind)
        or any(isinstance(user, Population) and user.bias is not None and user.inputs[0] == node.name for user in behind)
    )
