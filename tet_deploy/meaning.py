"""The meaning of our graphs: what each node computes in one step.

Sums are formed in float64, where they are exact for integers and for weights on a dyadic grid; the neuron itself is
`dynamics.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch

import numpy as np

from tet_deploy import dynamics
from tet_deploy.errors import GraphError
from tet_deploy.ir.nodes import Add, AvgPool, BatchNorm, Conv, CubaLIF, Flatten, Input, Linear, Node, Population
from tet_deploy.ir.normalization import normalized

State = dict[str, np.ndarray]  # the membrane potential of each population, and the synaptic current of those that have one


def current_of(population: str) -> str:
    """Under which name a state holds a population's synaptic current; no node has such a name."""
    return f"{population}/current"


def over_time(node: Node, inputs: Sequence[np.ndarray]) -> np.ndarray:
    """Output [T, B, *shape] of a node that keeps nothing from one step to the next, all steps at once."""
    found = evaluate(node, [array.reshape(-1, *array.shape[2:]) for array in inputs], {})
    return found.reshape(*inputs[0].shape[:2], *found.shape[1:])


def through_current(population: Population, presynaptic: np.ndarray) -> np.ndarray:
    """What reaches the membrane of presynaptic input [T, B, *shape]: itself, or the current that it flows into."""
    if not isinstance(population, CubaLIF):
        return presynaptic
    found, current = np.empty_like(presynaptic), np.zeros_like(presynaptic[0])
    for step, arriving in enumerate(presynaptic):
        found[step] = current = dynamics.synaptic_current(population, current, arriving)
    return found


@singledispatch
def evaluate(node: Node, inputs: list[np.ndarray], state: State) -> np.ndarray:
    """Output [B, *shape] of one node in one step."""
    raise GraphError(f"node {node.name!r}: there is no rule for what a {node.kind} computes.")


@evaluate.register
def _(node: Input, inputs: list[np.ndarray], state: State) -> np.ndarray:
    y = normalized(node, inputs[0])
    return y if node.quantization is None else dynamics.to_messages(y, node.quantization)


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
def _(node: Population, inputs: list[np.ndarray], state: State) -> np.ndarray:
    presynaptic = np.asarray(sum(inputs[1:], start=inputs[0]))
    if isinstance(node, CubaLIF):
        held = current_of(node.name)
        presynaptic = dynamics.synaptic_current(node, state.get(held, np.zeros_like(presynaptic)), presynaptic)
        state[held] = presynaptic
    v = state.get(node.name, np.zeros_like(presynaptic))
    sent, state[node.name] = dynamics.step(node, v, presynaptic)
    return sent
