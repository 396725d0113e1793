"""snnTorch's neurons, as of 1.0.0.

A layer takes one step, [B, ...], and gives its spikes, or them and its membrane potential. It goes on from the potential
that it is given, or else from the one that its last call left. With beta clipped to [0, 1], a Leaky with reset_mechanism
"zero" computes

    mem <- beta (0 where mem > threshold, else mem) + x ;  spike = mem > threshold ;  mem(0) = 0

which is our LIF: it puts the reset off to the next step, where nobody but a recording of its potential can see that. With
reset_delay False it sets mem to 0 at once. With "subtract", the default, it is our SoftResetLIF:

    mem <- beta mem + x - (threshold where mem > threshold) ;  spike = mem > threshold

With reset_delay False it then takes off the threshold of this spike, and puts back that of the last. With "none" it is no
neuron but an integrator, mem <- beta mem + x: our LeakyReadout, where mem is what the model gives.

A Synaptic of "zero" is our CubaLIF. It loses what flows in while it resets, so that the delay shows, "zero-delayed":

    syn <- alpha syn + x ;  mem <- 0 where mem > threshold, else beta mem + syn ;  spike = mem > threshold

With reset_delay False it sets mem to 0 at once, and the next step is as any other: "zero".
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tet_deploy.errors import GraphError
from tet_deploy.ir.nodes import LIF, CubaLIF, LeakyReadout, Node, SoftResetLIF
from tet_deploy.ir.shapes import Shape
from tet_deploy.tracing.normalization import of_channels

REMEDY = "Of snnTorch's neurons, Leaky can, and Synaptic with reset_mechanism='zero'."
SPIKES_ALONE = (
    "of reset_mechanism 'none' spikes whenever its potential is above the threshold, which no node does. Make the model's "
    "last layer give its potential, with output=True, or retrain with reset_mechanism='zero'."
)
_RESETS = {"_base_zero": "zero", "_base_sub": "subtract", "_base_int": "none"}  # what a layer computes, by its name
_STATES = {"Leaky": ("mem",), "Synaptic": ("syn", "mem")}  # in the order in which a layer takes and gives them
NAMES = {"mem": "membrane potential", "syn": "synaptic current"}


def is_layer(module: nn.Module) -> bool:
    """Whether it is one of snnTorch's, or comes from one."""
    return any(kind.__module__.startswith("snntorch.") for kind in type(module).__mro__)


def is_neurons(layer: nn.Module) -> bool:
    """Whether it is a population that can be traced: one of `_STATES`, or a subclass that leaves its methods alone."""
    return bool(states(layer))


def states(layer: Any) -> tuple[str, ...]:
    """The names of what such a population keeps from step to step; none of any other layer."""
    for name, kept in _STATES.items():
        kind = getattr(sys.modules.get("snntorch"), name, None)
        if kind is not None and isinstance(layer, kind):
            own = {name for between in type(layer).__mro__[: type(layer).__mro__.index(kind)] for name in vars(between)}
            changed = (name for name in own if name == "forward" or not name.startswith("__"))
            return () if any(callable(getattr(kind, name, None)) for name in changed) else kept
    return ()


def integrates(layer: Any) -> bool:
    """Whether it never resets, so that of what it gives the membrane potential counts."""
    return states(layer) == ("mem",) and _reset_of(layer) == "none"


def converter_of(layer: nn.Module) -> Callable[[Any, str, Node, Shape], tuple[Node, ...]] | None:
    """The function that makes nodes of a layer; see `layers.convert`."""
    return {("mem",): _leaky, ("syn", "mem"): _synaptic}.get(states(layer))


def gives_state(layer: Any) -> bool:
    """Whether a call gives (spikes, membrane potential), and not spikes alone."""
    return bool(layer.output or not layer.init_hidden)


def spikes_in(given: Any) -> Any:
    """The spikes in what a layer or a model gives: the first, where it gives its membrane potential beside them."""
    return given[0] if isinstance(given, (tuple, list)) and given and isinstance(given[0], Tensor) else given


def value_in(layer: nn.Module, given: Any) -> Any:
    """What counts of what a layer gives: its spikes, or the membrane potential of one that integrates."""
    return given[1] if integrates(layer) and isinstance(given, tuple) else spikes_in(given)


def spikes(layer: nn.Module, currents: Tensor) -> Tensor:
    """What neurons give for presynaptic input [T, B, ...], from their first step on; their state is reset afterwards."""
    reset(layer)
    given = torch.stack([spikes_in(layer(current)) for current in currents])
    reset(layer)
    return given


def state(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, tuple[Tensor, int]]:
    """What neurons that are called so go on from, and how often it was written into, but for what they are given."""
    given = dict(zip(("input_", *states(layer)), args, strict=False)) | kwargs
    kept: dict[str, Tensor] = {name: getattr(layer, name) for name in states(layer) if given.get(name) is None}
    return {name: (tensor, tensor._version) for name, tensor in kept.items()}


def reset(module: nn.Module) -> None:
    """Put the module's state to its first; unlike its own reset, write into no tensor."""
    for name in states(module):
        kept: Any = module._buffers[name]
        module._buffers[name] = kept.new_zeros(0)  # it becomes zeros of the shape of what it is given, on its own device


def _reset_of(layer: Any) -> str:
    return _RESETS.get(getattr(layer.state_function, "__name__", ""), "another")


def _leaky(layer: Any, name: str, source: Node, shape: Shape) -> tuple[Node, ...]:
    what = f"layer {name!r}: {type(layer).__name__}"
    computed = _checked_reset(layer, what, tuple(_RESETS.values()))
    if computed == "none":
        return (LeakyReadout(name=name, inputs=(source.name,), decay=_one_number(layer, "beta", shape, what)),)
    threshold = _checked_threshold(layer, shape, what)
    decay = _clipped(layer, "beta", shape, what)
    if computed == "zero":
        return (LIF(name=name, inputs=(source.name,), decay=decay, threshold=threshold),)
    decay = _one_number(layer, "beta", shape, what)
    reset = "subtract-delayed" if layer.reset_delay else "subtract-twice"
    return (SoftResetLIF(name=name, inputs=(source.name,), decay=decay, threshold=threshold, reset=reset),)


def _synaptic(layer: Any, name: str, source: Node, shape: Shape) -> tuple[Node, ...]:
    what = f"layer {name!r}: {type(layer).__name__}"
    _checked_reset(layer, what, ("zero",))
    neurons = CubaLIF(
        name=name,
        inputs=(source.name,),
        current_decay=_one_number(layer, "alpha", shape, what),
        decay=_one_number(layer, "beta", shape, what),
        threshold=_checked_threshold(layer, shape, what),
        reset="zero-delayed" if layer.reset_delay else "zero",
    )
    return (neurons,)


def _checked_reset(layer: Any, what: str, taken: tuple[str, ...]) -> str:
    """What the layer computes at a spike, which must be one of those that are taken."""
    computed = _reset_of(layer)
    loaded = list(layer.reset_dict)[int(layer.reset_mechanism_val)]
    if computed != loaded or computed not in taken:
        found = repr(computed) if computed == loaded else f"{computed!r}, and {loaded!r} in its state_dict"
        others = ", or 'subtract'" if "subtract" in taken else ""
        also = "" if others else ", and reset_delay=False if it is to run on a chip"
        raise GraphError(
            f"{what}: reset_mechanism must be 'zero', as a chip's neuron resets{others}; got {found}. Retrain with "
            f"reset_mechanism='zero'{also}."
        )
    if layer.state_quant:
        raise GraphError(
            f"{what}: state_quant must be False; it rounds the membrane potential as no node does. Train without it, and "
            "quantize the network with td.quantize."
        )
    return computed


def _checked_threshold(layer: Any, shape: Shape, what: str) -> float | np.ndarray:
    """The threshold of a layer that makes spikes of 0 and 1 with it."""
    if layer.inhibition:
        raise GraphError(f"{what}: inhibition must be False; no node lets one neuron of a layer spike and holds the others.")
    if not bool((layer.graded_spikes_factor == 1).all()):
        raise GraphError(
            f"{what}: graded_spikes_factor must be 1; got {layer.graded_spikes_factor.tolist()!s:.80}. Multiply the weights "
            "of the next layer by it instead."
        )
    probes = torch.tensor([-1.0, -1e-30, 0.0, 1e-30, 1.0])
    if not torch.equal(layer.spike_grad(probes), (probes > 0).to(probes.dtype)):
        raise GraphError(f"{what}: spike_grad must give 1 above 0 and else 0, whatever its gradient is; it does not.")
    threshold = _numbers(layer, "threshold", shape, what)
    if not np.all(np.asarray(threshold) > 0):
        raise GraphError(f"{what}: threshold must be above 0; got {float(np.min(threshold))}.")
    return threshold


def _clipped(layer: nn.Module, field: str, shape: Shape, what: str) -> float | np.ndarray:
    """Alpha or beta, clipped as the layer clips it."""
    clipped = np.clip(_numbers(layer, field, shape, what), 0.0, 1.0)
    return clipped if np.ndim(clipped) and (clipped != clipped[0]).any() else float(np.min(clipped))


def _one_number(layer: nn.Module, field: str, shape: Shape, what: str) -> float:
    found = _clipped(layer, field, shape, what)
    if isinstance(found, np.ndarray):
        raise GraphError(
            f"{what}: {field} must be one number for the layer; got {len(found)} that differ. Train with one; only a Leaky "
            "of reset_mechanism='zero' may have one for each channel."
        )
    return found


def _numbers(layer: nn.Module, field: str, shape: Shape, what: str) -> float | np.ndarray:
    """The number that a field holds in float32; or [C], one for each channel, where they differ."""
    tensor: Tensor = getattr(layer, field)
    numbers = tensor.detach().cpu().float().numpy()
    if numbers.size != 1 and of_channels(numbers, shape) is None:
        channels = (shape[0], *(1 for _ in shape[1:]))
        raise GraphError(
            f"{what}: {field} must be one number, or one for each channel, of shape {channels}; got shape {numbers.shape}."
        )
    if not np.isfinite(numbers).all():
        raise GraphError(f"{what}: {field} must be finite; got {numbers.ravel().tolist()!s:.80}.")
    numbers = np.unique(numbers) if (numbers == numbers.flat[0]).all() else numbers.ravel()
    return float(numbers[0]) if len(numbers) == 1 else numbers
