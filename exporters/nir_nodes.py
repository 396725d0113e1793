"""What each kind of node is in NIR, in numbers of which every framework that reads such files makes the same steps.

NIR says of a neuron tau dv/dt = v_leak - v + r I ; z = v > v_threshold ; v = v_reset where z. Euler's step of dt,

    v <- v + dt / tau * (v_leak - v + r I)

is our u = decay * v + I with potentials in units of 1 / (1 - decay), where

    tau = dt / (1 - decay) ; r = 1 ; v_threshold = threshold * (1 - decay) ; v_leak = v_reset = 0

and for decay 1 an IF, v <- v + dt r I with r = 1 / dt.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import singledispatch
from typing import Any

import numpy as np

from tet_deploy.errors import GraphError
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import LIF, Add, AvgPool, Conv, Flatten, Input, LeakyReadout, Linear, Node, Readout
from tet_deploy.ir.shapes import Shape
from tet_deploy.ir.values import Value, total

DT = 1e-4  # seconds of a step; the default of most frameworks, and fixed in snnTorch
_LEAST, _GREATEST = 1e-30, 1e30  # thresholds, far from where float32 ends once they are scaled
_ROUNDED = 2.0**-21  # of a number: what 1 / tau, dt / tau, its product with the input and v_threshold in float32 are off by

Grids = Mapping[str, Value]  # what each node sends


@singledispatch
def fields(node: Node, graph: Graph, grids: Grids) -> dict[str, Any]:
    """What a node is in NIR, as its fields; of a sum nothing, as edges that meet are added there.

    Raises
    ------
    GraphError
        It has no exact form in NIR; the message names the node.
    """
    raise GraphError(
        f"node {node.name!r}: a {node.kind} has no NIR form; Conv, Linear, AvgPool, Flatten, Add and LIF have. "
        "td.lower(graph, frames) folds batch norms; of neurons, train LIF."
    )


@fields.register
def _(node: Input, graph: Graph, grids: Grids) -> dict[str, Any]:
    if node.mean is not None:
        raise GraphError(
            f"node {node.name!r}: normalizes its frames, which no node of NIR does. Give td.trace the model without its "
            "normalization, and normalize frames before."
        )
    return {"type": "Input", "shape": np.array(node.shape)}


@fields.register
def _(node: Readout, graph: Graph, grids: Grids) -> dict[str, Any]:
    return output(graph.shapes[node.name])


def output(shape: Shape) -> dict[str, Any]:
    """A node that gives what the network gives."""
    return {"type": "Output", "shape": np.array(shape)}


@fields.register
def _(node: LeakyReadout, graph: Graph, grids: Grids) -> dict[str, Any]:
    shape = graph.shapes[node.name]
    about = {"dt": DT, "decay": node.decay}
    constants = {name: _per_neuron(value, shape) for name, value in _leak(node.decay).items()}
    return {"type": "LI" if node.decay < 1 else "I", **constants, "metadata": about}


def _leak(decay: float | np.ndarray) -> dict[str, Any]:
    """Constants of a potential in units of 1 / (1 - decay); of an integrator without a leak in its own."""
    if np.all(np.equal(decay, 1)):
        return {"r": 1 / DT}
    # SpikingJelly refuses tau = dt; that little more is no decay that float32 could tell from 0
    return {"tau": np.maximum(DT / (1 - decay), np.nextafter(DT, 1)), "r": 1, "v_leak": 0}


@fields.register
def _(node: Linear, graph: Graph, grids: Grids) -> dict[str, Any]:
    weight = {"weight": _numbers(node, "weight")}
    if node.bias is None:
        return {"type": "Linear", **weight}
    return {"type": "Affine", **weight, "bias": _numbers(node, "bias")}


@fields.register
def _(node: Conv, graph: Graph, grids: Grids) -> dict[str, Any]:
    bias = None if node.bias is None else _numbers(node, "bias")
    weight, padding = _square(_dense(_numbers(node, "weight"), node.groups), node)
    return _convolution(graph.shapes[node.inputs[0]], weight, bias, node.stride, padding, node.dilation)


def _convolution(
    x: Shape, weight: np.ndarray, bias: np.ndarray | None, stride: Shape, padding: Shape, dilation: Shape
) -> dict[str, Any]:
    return {
        "type": "Conv2d",
        "input_shape": np.array(x[1:]),
        "weight": weight,
        "bias": np.zeros(len(weight), weight.dtype) if bias is None else bias,  # readers want one
        "stride": np.array(stride),
        "padding": np.array(padding),
        "dilation": np.array(dilation),
        "groups": 1,
    }


def _dense(weight: np.ndarray, groups: int) -> np.ndarray:
    """Groups as blocks of one kernel: NIR's shape inference knows no groups, and SpikingJelly refuses them."""
    if groups == 1:
        return weight
    outputs, inputs = len(weight) // groups, weight.shape[1]
    dense = np.zeros((len(weight), inputs * groups, *weight.shape[2:]), weight.dtype)
    for group in range(groups):
        rows = slice(group * outputs, (group + 1) * outputs)
        dense[rows, group * inputs : (group + 1) * inputs] = weight[rows]
    return dense


def _square(weight: np.ndarray, node: Conv) -> tuple[np.ndarray, Shape]:
    """A kernel with rows or columns of zeros around it, and the padding that goes with it; NIR's shape inference takes a
    kernel's height for its width. A kernel of an odd by an even size stays as it is."""
    kernel = weight.shape[2:]
    margins = tuple(max(kernel) - size for size in kernel)
    if any(margin % 2 for margin in margins):
        return weight, node.padding
    around = tuple(margin // 2 for margin in margins)
    padding = tuple(pad + margin * step for pad, margin, step in zip(node.padding, around, node.dilation, strict=True))
    return np.pad(weight, ((0, 0), (0, 0), *((margin, margin) for margin in around))), padding


@fields.register
def _(node: AvgPool, graph: Graph, grids: Grids) -> dict[str, Any]:
    return {
        "type": "AvgPool2d",
        "kernel_size": np.array(node.kernel),
        "stride": np.array(node.stride),
        "padding": np.array((0, 0)),
    }


@fields.register
def _(node: Add, graph: Graph, grids: Grids) -> dict[str, Any]:
    return {}


@fields.register
def _(node: Flatten, graph: Graph, grids: Grids) -> dict[str, Any]:
    shape = graph.shapes[node.inputs[0]]
    return {"type": "Flatten", "input_type": np.array(shape), "start_dim": 0, "end_dim": -1}


@fields.register
def _(node: LIF, graph: Graph, grids: Grids) -> dict[str, Any]:
    decay = np.asarray(node.decay, np.float64)
    leaks = bool((decay < 1).all())
    if not leaks and decay.min() < 1:
        raise GraphError(
            f"node {node.name!r}: a decay of 1 beside others has no NIR form, which has a LIF or an IF for all neurons of a "
            "node. Use a decay just below 1."
        )
    gain = 1 - decay if leaks else np.ones(())
    neuron = {"v_threshold": _threshold(node, grids, gain) * gain, "v_reset": 0, **_leak(decay)}
    shape = graph.shapes[node.name]
    threshold = np.asarray(node.threshold, np.float64)
    about = {
        "dt": DT,
        "decay": _by_channel(decay, shape),
        "threshold": _by_channel(threshold, shape),
        "comparison": node.comparison,
    }
    return {
        "type": "LIF" if leaks else "IF",
        **{name: _per_neuron(value, shape) for name, value in neuron.items()},
        "metadata": about,
    }


def on_no_grid(node: LIF, grids: Grids) -> bool:
    """Whether the node's inputs are finer than float32 is at its threshold, so that no potential is meant to meet it."""
    wide, near = _neighbours(node)
    return bool(_step(node, grids) < np.max(abs(near - wide)))


def _step(node: LIF, grids: Grids) -> float:
    """Of the grid on which the node's presynaptic inputs lie; 0 where they lie on none."""
    bits = total([grids[name] for name in node.inputs]).fraction_bits
    return 0.0 if bits is None else 2.0**-bits


def _neighbours(node: LIF) -> tuple[np.ndarray, np.ndarray]:
    """The threshold, and the number of float32 beside it: the one behind where it must be exceeded, else the one before."""
    threshold = np.asarray(node.threshold, np.float32)
    near = np.nextafter(threshold, np.float32(np.inf if node.comparison == ">" else -np.inf))
    return threshold.astype(np.float64), near.astype(np.float64)


def _threshold(node: LIF, grids: Grids, gain: np.ndarray) -> np.ndarray:
    """What to write so that readers whose spike is v > threshold and those whose is v >= threshold spike alike.

    In float32, u >= threshold is u > the number before. u > threshold is u >= the number behind, and u > that too where no
    potential is that number, as on a grid of presynaptic inputs that is coarser than numbers are there. Where the gain is no
    power of two readers round what they multiply by it, and what is written lies further off than all that together.
    """
    least, greatest = np.min(node.threshold), np.max(node.threshold)
    if not _LEAST < least <= greatest < _GREATEST:
        raise GraphError(
            f"node {node.name!r}: threshold must lie between {_LEAST:g} and {_GREATEST:g} for NIR; it goes from {least:g} "
            f"to {greatest:g}. Multiply it and the weights before it by one factor."
        )
    (wide, near), step, is_strict = _neighbours(node), _step(node, grids), node.comparison == ">"
    is_exact = np.frexp(gain)[0] == 0.5
    far = np.where(is_exact, near, wide * (1 + _ROUNDED if is_strict else 1 - _ROUNDED))
    has_ties = (step >= abs(far - wide) * np.where(is_exact, 1, 2)) & (wide % (step or 1) == 0)
    return np.where(has_ties, far, wide if is_strict else near)


def _per_neuron(value: Any, shape: Shape) -> np.ndarray:
    """One number for each neuron, of a number for all or for each channel; float32 where that holds them exactly."""
    return np.broadcast_to(_narrow(_by_channel(np.asarray(value, np.float64), shape)), shape).copy()


def _by_channel(array: np.ndarray, shape: Shape) -> np.ndarray:
    """One number as it is, or an array [C] such that it broadcasts to the shape."""
    return array.reshape(-1, *(1,) * (len(shape) - 1)) if array.ndim else array


def _numbers(node: Node, name: str) -> np.ndarray:
    wide = np.asarray(getattr(node, name), np.float64)
    if np.abs(wide).max() > np.finfo(np.float32).max:
        raise GraphError(f"node {node.name!r}: {name} must fit float32; its largest is {np.abs(wide).max():.3g}.")
    return _narrow(wide)


def _narrow(wide: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        narrow = wide.astype(np.float32)
    return narrow if np.array_equal(narrow, wide) else wide


def multiple(factor: int, shape: Shape) -> dict[str, Any]:
    """A layer that sends `factor` times what it is sent."""
    weight = _narrow(np.eye(shape[0]) * factor)
    if len(shape) == 1:
        return {"type": "Linear", "weight": weight}
    return _convolution(shape, weight[:, :, None, None], None, (1, 1), (0, 0), (1, 1))
