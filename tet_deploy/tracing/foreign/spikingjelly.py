"""SpikingJelly's layers, as of 2.0.0 and 0.0.0.0.14.

A layer of step_mode "m" takes all steps, [T, B, ...]; one of step_mode "s" takes one, [B, ...]. Neurons keep their state
from call to call until they are reset. With 1/tau = 0 for IF and sigmoid(w) for ParametricLIF, and with g = 1/tau where the
input decays, else 1, they compute

    v <- v - (v - v_reset)/tau + g x ;  spike = v >= v_threshold ;  v = v_reset where it spikes ;  v(0) = v_reset

In terms of u = (v - v_reset)/g that is our LIF:

    u <- (1 - 1/tau) u + x ;  spike = u >= (v_threshold - v_reset)/g ;  u = 0 where it spikes ;  u(0) = 0

With v_reset=None they take v_threshold from v where it spikes, and v(0) = 0: our SoftResetLIF, of u = v/g.
CUBALIFNode is our CubaLIF.
"""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tet_deploy.errors import GraphError
from tet_deploy.ir.nodes import LIF, CubaLIF, Linear, Node, SoftResetLIF
from tet_deploy.ir.shapes import Shape

_SAME: dict[str, type[nn.Module]] = {  # SpikingJelly's layer, and torch's that computes the same of each step
    **{kind.__name__: kind for kind in (nn.Conv2d, nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d)},
    **{kind.__name__: kind for kind in (nn.Conv1d, nn.AvgPool1d, nn.AdaptiveAvgPool1d, nn.MaxPool1d)},
    **{kind.__name__: kind for kind in (nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.MaxPool2d, nn.Dropout, nn.Dropout2d)},
    "ThresholdDependentBatchNorm1d": nn.BatchNorm1d,  # its factor alpha * v_th is in the initial weights alone
    "ThresholdDependentBatchNorm2d": nn.BatchNorm2d,
}
_ALIKE_IN_BOTH_MODES = ("Linear", "Dropout", "Dropout2d")
_NEURONS = ("IFNode", "LIFNode", "ParametricLIFNode", "CUBALIFNode")
REMEDY = f"Of SpikingJelly's, these can: {', '.join((*_NEURONS, *_SAME, 'Flatten', 'VotingLayer'))}."


def is_layer(module: nn.Module) -> bool:
    """Whether it comes from one of SpikingJelly's, or keeps state as they do, and is no container."""
    base = _part("base")
    if base is None or walks(module) is not None:
        return False
    own = [kind for kind in type(module).__mro__ if kind.__module__.startswith("spikingjelly.")]
    steps = [kind for kind in own if issubclass(kind, base.StepModule) and kind.__module__ != base.__name__]
    return bool(steps) or isinstance(module, base.MemoryModule)


def same_as(layer: nn.Module) -> type[nn.Module] | None:
    """The torch layer that computes the same of each step, if there is one."""
    name = _name(layer, "layer", _SAME)
    return None if name is None else _SAME[name]


def converter_of(layer: nn.Module) -> Callable[[Any, str, Node, Shape], tuple[Node, ...]] | None:
    """The function that makes nodes of a layer that torch has not; see `layers.convert`."""
    if is_neurons(layer):
        return _neurons
    return _voting if _name(layer, "layer", ("VotingLayer",)) else None


def is_neurons(layer: nn.Module) -> bool:
    """Whether it is a population that can be traced."""
    return _name(layer, "neuron", _NEURONS) is not None


def layout_needed(layer: nn.Module) -> str | None:
    """As `layers.layout_needed`, of a layer that this module knows; "step" if it must be called for each step."""
    by_step = getattr(layer, "step_mode", None) == "s"
    if is_neurons(layer):
        return "step" if by_step else "separate"
    if _name(layer, "layer", _ALIKE_IN_BOTH_MODES):
        return None
    return "merged" if by_step else "separate"


def walks(module: nn.Module) -> str | None:
    """How a container walks through its layers: "merged" over all steps at once, by "step", or as Sequential; else None."""
    name = _name(module, "layer", ("SeqToANNContainer", "MultiStepContainer", "StepModeContainer"))
    if name == "StepModeContainer":
        if module.step_mode == "s":
            return "sequential"
        return "step" if module.stateful else "merged"
    return {"SeqToANNContainer": "merged", "MultiStepContainer": "step"}.get(name or "")


def goes_by_step(model: nn.Module) -> bool:
    """Whether its forward() takes one step, [B, ...]: its neurons do, and no container calls them."""
    modes = {neurons.step_mode for neurons in _called_by_forward(model)}
    return modes == {"s"}


def spikes(layer: nn.Module, currents: Tensor) -> Tensor:
    """What neurons give for presynaptic input [T, B, ...], from their first step on; their state is reset afterwards."""
    reset(layer)
    given: Tensor = layer(currents) if layer.step_mode == "m" else torch.stack([layer(current) for current in currents])
    reset(layer)
    return given


def memories(module: nn.Module) -> dict[str, Any] | None:
    """Where a module keeps its state, by name; None if it keeps none."""
    base: Any = _part("base")
    if base is None or not isinstance(module, base.MemoryModule):
        return None
    state: dict[str, Any] = vars(module)["_memories"]
    return state


def reset(module: nn.Module) -> None:
    """Put the module's state to its first, and let torch compute it; unlike its own reset(), write into no tensor."""
    state = memories(module)
    if state is not None:
        state.update(copy.deepcopy(vars(module)["_memories_rv"]))
        if "_backend" in vars(module):
            vars(module)["_backend"] = "torch"  # cupy's kernels want a GPU, and no float64


def _part(name: str) -> ModuleType | None:
    return sys.modules.get(f"spikingjelly.activation_based.{name}")


def _name(module: nn.Module, part: str, names: Any) -> str | None:
    """Which of SpikingJelly's classes of those names it is, or a subclass of that leaves its methods alone."""
    classes = {getattr(_part(part), name, None): name for name in names}
    known = next((kind for kind in type(module).__mro__ if kind in classes), None)
    return classes[known] if known and not _overrides(type(module), known) else None


def _overrides(kind: type, known: type) -> bool:
    own = {name for between in kind.__mro__[: kind.__mro__.index(known)] for name in vars(between)}
    return any(callable(getattr(known, name, None)) for name in own if name != "extra_repr" and not name.startswith("__"))


def _called_by_forward(module: nn.Module) -> Iterator[Any]:
    """Neurons of every kind, but those that a container calls for each step."""
    neuron = _part("neuron")
    if neuron is None:
        return
    if isinstance(module, neuron.BaseNode):
        yield module
    if walks(module) != "step":
        for child in module.children():
            yield from _called_by_forward(child)


def _neurons(layer: Any, name: str, source: Node, shape: Shape) -> tuple[Node, ...]:
    what = f"layer {name!r}: {type(layer).__name__}"
    threshold, start = layer.v_threshold, layer._memories_rv["v"]
    reset = 0.0 if layer.v_reset is None else layer.v_reset  # None subtracts the threshold from potentials that begin at 0
    for field, value in (("v_threshold", threshold), ("v_reset", reset)):
        if isinstance(value, Tensor) or not math.isfinite(value):
            raise GraphError(f"{what}: {field} must be one finite number; got {value!r:.80}.")
    if isinstance(start, Tensor) or start != reset:
        raise GraphError(
            f"{what}: its membrane potential must begin at v_reset, {reset}; it begins at {start!r:.80}. Make the layer "
            f"with v_reset={reset}, which sets both."
        )
    if not threshold > reset:
        raise GraphError(f"{what}: v_threshold must be above v_reset; got {threshold} and {reset}.")
    if not getattr(layer.surrogate_function, "spiking", True):
        raise GraphError(
            f"{what}: its surrogate function must give spikes; its spiking is False. Call set_spiking_mode(True) of it."
        )
    if _name(layer, "neuron", ("CUBALIFNode",)):
        return (_with_current(layer, name, source, what),)
    leak = _leak(layer, what)
    gain = leak if leak and layer.decay_input else 1.0
    threshold = (threshold - reset) / gain
    kind = SoftResetLIF if layer.v_reset is None else LIF
    return (kind(name=name, inputs=(source.name,), decay=1 - leak, threshold=threshold, comparison=">="),)


def _with_current(layer: Any, name: str, source: Node, what: str) -> CubaLIF:
    if layer.v_reset != 0 or layer._memories_rv["c"] != 0:
        raise GraphError(
            f"{what}: v_reset must be 0, and its current begin at 0; got {layer.v_reset} and {layer._memories_rv['c']}. "
            "Retrain with v_reset=0.0."
        )
    for field, decay in (("c_decay", layer.c_decay), ("v_decay", layer.v_decay)):
        if isinstance(decay, Tensor) or not 0 <= decay <= 1:
            raise GraphError(f"{what}: {field} must be one number within 0..1; got {decay!r:.80}.")
    return CubaLIF(
        name=name,
        inputs=(source.name,),
        current_decay=layer.c_decay,
        decay=layer.v_decay,
        threshold=layer.v_threshold,
        comparison=">=",
    )


def _leak(layer: Any, what: str) -> float:
    """1/tau; 0 for IF."""
    name = _name(layer, "neuron", _NEURONS)
    if name == "IFNode":
        return 0.0
    leak = float(torch.sigmoid(layer.w.detach().float())) if name == "ParametricLIFNode" else 1 / layer.tau
    if not 0 < leak <= 1:
        raise GraphError(f"{what}: its time constant tau must be finite and at least 1 step; 1/tau is {leak}.")
    return leak


def _voting(layer: Any, name: str, source: Node, shape: Shape) -> tuple[Node, ...]:
    """Means over groups of neighbours; what is left over is dropped. As for any pool, dense networks multiply nothing."""
    (features,), size = shape, layer.voting_size
    weight = np.zeros((features // size, features), np.float32)
    weight[:, : features // size * size] = np.kron(np.eye(features // size), np.full((1, size), 1 / size))
    return (Linear(name=name, inputs=(source.name,), weight=weight, dense_macs=0),)
