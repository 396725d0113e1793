"""The meaning of our graphs: slow, obvious, one step and one node at a time.

Every other runtime is judged against this one. Sums are formed in float64, where they are exact for integers and for
weights on a dyadic grid; the neuron itself is `dynamics.py`.
"""

from __future__ import annotations

from functools import singledispatch
from typing import Any

import numpy as np

from tet_deploy import dynamics
from tet_deploy.contracts import Probes, Progress, Recording, check_frames, concatenate, populations, probe_names
from tet_deploy.errors import GraphError
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import LIF, Add, AvgPool, BatchNorm, Conv, Delay, Flatten, Input, Linear, Node, Readout

State = dict[str, Any]  # per LIF its membrane potential, per Delay the values still under way
_MICRO_BATCH = 64  # samples at a time, so that memory stays small


class ReferenceRuntime:
    """Executes any graph, float or quantized, traced or deployable.

    Parameters
    ----------
    graph
        The network.
    dtype
        Float type in which float networks keep their values between nodes; ignored for quantized networks.
    """

    name = "reference"

    def __init__(self, graph: Graph, dtype: type[np.floating[Any]] = np.float32) -> None:
        self.graph = graph
        self.dtype = np.dtype(np.int64 if graph.is_quantized else dtype)

    def run(self, frames: np.ndarray, *, probes: Probes = "all", progress: Progress | None = None) -> Recording:
        """Run the network over frames [T, B, C, H, W]; see `contracts.Runtime`."""
        frames = check_frames(frames, self.graph.input.shape, self.graph.input.encoding)
        samples, parts = frames.shape[1], []
        for start in range(0, samples, _MICRO_BATCH):
            parts.append(self._run_batch(frames[:, start : start + _MICRO_BATCH], probes))
            if progress:
                progress(min(start + _MICRO_BATCH, samples), samples)
        return concatenate(parts)

    def _run_batch(self, frames: np.ndarray, probes: Probes) -> Recording:
        names = probe_names(populations(self.graph), probes)
        potential_type = np.int32 if self.graph.is_quantized else self.dtype
        spikes: dict[str, list[np.ndarray]] = {name: [] for name in names.spikes}
        potentials: dict[str, list[np.ndarray]] = {name: [] for name in names.potentials}
        readout: list[np.ndarray] = []
        state: State = {}
        for frame in frames:
            values = self._step(frame, state)
            readout.append(values[self.graph.readout.name])
            for name in spikes:
                spikes[name].append(values[name].astype(np.uint8))
            for name in potentials:
                potentials[name].append(state[name].astype(potential_type))
        return Recording(
            spikes={name: np.stack(steps) for name, steps in spikes.items()},
            potentials={name: np.stack(steps) for name, steps in potentials.items()},
            readout=np.stack(readout),
            runtime=self.name,
        )

    def _step(self, frame: np.ndarray, state: State) -> dict[str, np.ndarray]:
        """Outputs of all nodes for one frame [B, C, H, W]; updates the state."""
        values: dict[str, np.ndarray] = {}
        for node in self.graph:
            inputs = [values[source] for source in node.inputs] or [frame]
            values[node.name] = np.asarray(evaluate(node, inputs, state)).astype(self.dtype, copy=False)
        return values


@singledispatch
def evaluate(node: Node, inputs: list[np.ndarray], state: State) -> np.ndarray:
    """Output [B, *shape] of one node in one step."""
    raise GraphError(f"node {node.name!r}: the reference runtime has no rule for a {node.kind}.")


@evaluate.register
def _(node: Input, inputs: list[np.ndarray], state: State) -> np.ndarray:
    return inputs[0] if node.quantization is None else dynamics.to_messages(inputs[0], node.quantization)


@evaluate.register(Conv)
@evaluate.register(Linear)
def _(node: Conv | Linear, inputs: list[np.ndarray], state: State) -> np.ndarray:
    sums = dynamics.synaptic_sum(node, inputs[0])
    if node.quantization is not None:
        return dynamics.wrap24(sums.astype(np.int64))
    return sums if node.bias is None else sums + dynamics.per_channel(node.bias.astype(np.float64), sums.ndim)


@evaluate.register
def _(node: BatchNorm, inputs: list[np.ndarray], state: State) -> np.ndarray:
    x = inputs[0].astype(np.float64)
    mean, variance, gamma, beta = (
        dynamics.per_channel(array.astype(np.float64), x.ndim) for array in (node.mean, node.variance, node.gamma, node.beta)
    )
    return np.asarray(gamma * (x - mean) / np.sqrt(variance + node.epsilon) + beta)


@evaluate.register
def _(node: AvgPool, inputs: list[np.ndarray], state: State) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(inputs[0].astype(np.float64), node.kernel, axis=(2, 3))
    return np.asarray(windows[:, :, :: node.stride[0], :: node.stride[1]].mean(axis=(-2, -1)))


@evaluate.register
def _(node: Flatten, inputs: list[np.ndarray], state: State) -> np.ndarray:
    return inputs[0].reshape(len(inputs[0]), -1)


@evaluate.register
def _(node: Add, inputs: list[np.ndarray], state: State) -> np.ndarray:
    return np.asarray(sum(inputs[1:], start=inputs[0]))


@evaluate.register
def _(node: Delay, inputs: list[np.ndarray], state: State) -> np.ndarray:
    queue = state.setdefault(node.name, [np.zeros_like(inputs[0])] * node.steps)
    queue.append(inputs[0])
    return np.asarray(queue.pop(0))


@evaluate.register
def _(node: LIF, inputs: list[np.ndarray], state: State) -> np.ndarray:
    current = inputs[0]
    v = state.get(node.name, np.zeros_like(current))
    if node.quantization is None:
        spikes, v = dynamics.lif_step(v, current, node.decay, node.threshold)
    else:
        bias = dynamics.shifted_bias(node.bias, node.quantization.bias_exponent)
        if isinstance(bias, np.ndarray):
            bias = dynamics.per_channel(bias, current.ndim)
        spikes, v = dynamics.fixed_point_lif_step(v, current, bias, dynamics.decay_v(node), int(node.threshold))
    state[node.name] = v
    return spikes


@evaluate.register
def _(node: Readout, inputs: list[np.ndarray], state: State) -> np.ndarray:
    if node.quantization is None:
        return inputs[0]
    shifted = np.left_shift(inputs[0], dynamics.FRACTION_BITS)
    return np.asarray(shifted if node.bias is None else shifted + node.bias.astype(np.int64))
