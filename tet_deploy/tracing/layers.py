"""Each torch layer that can be traced, and the nodes that it becomes; all others stop with an error.

A subclass counts as what it comes from, as long as it leaves forward() alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tet_deploy.errors import GraphError
from tet_deploy.ir.nodes import LIF, AvgPool, BatchNorm, Conv, Linear, Node, Pair, Spiking
from tet_deploy.ir.shapes import Shape
from tet_deploy.nn import LIF as LIFLayer
from tet_deploy.nn.backends import one_number
from tet_deploy.tracing import step_norms
from tet_deploy.tracing.foreign import snntorch, spikingjelly

Converter = Callable[[Any, str, Node, Shape], "tuple[Node, ...]"]  # see `convert`


def convert(layer: nn.Module, name: str, source: Node, shape: Shape, *, lines: bool = False) -> tuple[Node, ...]:
    """The nodes of a torch layer in eval mode, the last of them called `name`; none where it passes its input on.

    Parameters
    ----------
    layer
        One that `converter_of` knows.
    name, source
        Name of the new node, and the node that feeds it.
    shape
        What feeds it, for one sample: (C, H, W) or (N,).
    lines
        Whether the layer itself is given samples [C, L] for those of (C, 1, L).

    Raises
    ------
    GraphError
        A setting of the layer that cannot be expressed.
    """
    converter = converter_of(layer)
    assert converter is not None, type(layer)
    own = (shape[0], shape[-1]) if lines and snntorch.is_layer(layer) and len(shape) == 3 else shape
    return converter(layer, name, source, own)


def converter_of(layer: nn.Module) -> Converter | None:
    """That of the kind in LAYERS that computes what the layer does: its own class, or one whose forward() it inherits.

    Or of another framework's layer; None if nothing here computes the same.
    """
    same = spikingjelly.same_as(layer)
    if same is not None:
        return LAYERS[same]
    if spikingjelly.is_layer(layer):
        return spikingjelly.converter_of(layer)
    if snntorch.is_layer(layer):
        return snntorch.converter_of(layer)
    kind = next((kind for kind in type(layer).__mro__ if kind in LAYERS), None)
    own_norm = isinstance(layer, nn.modules.batchnorm._BatchNorm)  # its converter sees what it does: see `_norm_factor`
    return LAYERS[kind] if kind and (own_norm or type(layer).forward is kind.forward) else None


def is_neurons(layer: nn.Module) -> bool:
    """Whether the layer is a population of neurons."""
    spikes = snntorch.is_neurons(layer) and not snntorch.integrates(layer)
    return isinstance(layer, LIFLayer) or spikingjelly.is_neurons(layer) or spikes


def spikes(layer: nn.Module, currents: Tensor) -> Tensor:
    """What a population of neurons gives for presynaptic input [T, B, ...], from its first step on."""
    if snntorch.is_neurons(layer):
        return snntorch.spikes(layer, currents)
    given: Tensor = layer(currents) if isinstance(layer, LIFLayer) else spikingjelly.spikes(layer, currents)
    return given


def _conv(layer: nn.Conv2d | nn.Conv1d, name: str, source: Node, shape: Shape) -> tuple[Node, ...]:
    if layer.padding_mode != "zeros":
        raise GraphError(f"layer {name!r}: padding_mode must be 'zeros'; got {layer.padding_mode!r}. Retrain with it.")
    weight = _array(layer.weight)
    node = Conv(
        name=name,
        inputs=(source.name,),
        weight=weight[:, :, None] if weight.ndim == 3 else weight,  # lines are images of height 1
        bias=None if layer.bias is None else _array(layer.bias),
        stride=_setting(layer, "stride"),
        padding=_padding(layer, name),
        dilation=_setting(layer, "dilation"),
        groups=layer.groups,
    )
    return (node,)


def _padding(layer: nn.Conv2d | nn.Conv1d, name: str) -> Pair:
    if layer.padding == "valid":
        return (0, 0)
    if layer.padding != "same":
        return _setting(layer, "padding", 0)
    settings = zip(_setting(layer, "dilation"), _setting(layer, "kernel_size"), strict=True)
    total = [dilation * (kernel - 1) for dilation, kernel in settings]
    if total[0] % 2 or total[1] % 2:
        raise GraphError(
            f"layer {name!r}: padding='same' with kernel {layer.kernel_size} pads one side more than the other, which no "
            "node can express. Use an odd kernel."
        )
    return (total[0] // 2, total[1] // 2)


def _linear(layer: nn.Linear, name: str, source: Node, shape: Shape) -> tuple[Node, ...]:
    bias = None if layer.bias is None else _array(layer.bias)
    return (Linear(name=name, inputs=(source.name,), weight=_array(layer.weight), bias=bias),)


def _batch_norm(layer: nn.BatchNorm2d, name: str, source: Node, shape: Shape) -> tuple[Node, ...]:
    if layer.running_mean is None or layer.running_var is None:
        raise GraphError(
            f"layer {name!r}: batch norm must have running statistics to be folded. Retrain with track_running_stats=True."
        )
    factor = _norm_factor(layer)
    if factor is None:
        step_norms.refuse(layer, name)
        raise GraphError(
            f"layer {name!r}: {type(layer).__name__} is a batch norm with a forward() of its own, which does more than "
            "multiply each channel by a number. Use torch's."
        )
    node = BatchNorm(
        name=name,
        inputs=(source.name,),
        mean=_array(layer.running_mean),
        variance=_array(layer.running_var),
        gamma=_array(factor * layer.weight if layer.affine else factor),
        beta=_array(factor * layer.bias if layer.affine else torch.zeros_like(factor)),
        epsilon=layer.eps,
    )
    return (node,)


def _norm_factor(layer: nn.BatchNorm2d) -> Tensor | None:
    """By what a batch norm's own forward() multiplies torch's norm, per channel; None if it does something else.

    Threshold-dependent batch norm (Zheng et al., AAAI 2021) gives alpha * threshold times the norm.
    """
    one = torch.ones(layer.num_features, dtype=torch.float64)
    norm = nn.modules.batchnorm._BatchNorm.forward
    if type(layer).forward in (norm, nn.SyncBatchNorm.forward) or spikingjelly.same_as(layer) is not None:
        return one
    sides = () if isinstance(layer, nn.BatchNorm1d) else (2, 2)
    x = torch.linspace(-3, 3, 16 * layer.num_features * math.prod(sides), dtype=torch.float64)
    x = x.reshape(layer.num_features, 16, *sides).transpose(0, 1)
    try:
        found, plain = type(layer).forward(layer, x), norm(layer, x)
        others = [axis for axis in range(x.dim()) if axis != 1]
        size = (plain * plain).sum(others)
        factor = torch.where(size > 0, (found * plain).sum(others) / size, one)
        same = torch.allclose(found, factor.reshape(-1, *(1 for _ in sides)) * plain, rtol=1e-12, atol=0)
    except Exception:  # it is anybody's code; on what else it computes, nothing is known
        return None
    return factor if same else None


def _avg_pool(layer: nn.AvgPool2d | nn.AvgPool1d, name: str, source: Node, shape: Shape) -> tuple[Node, ...]:
    divisor = getattr(layer, "divisor_override", None)
    if _setting(layer, "padding", 0) != (0, 0) or layer.ceil_mode or divisor is not None:
        raise GraphError(
            f"layer {name!r}: {type(layer).__name__} must have padding 0, ceil_mode False and no divisor_override; got "
            f"padding {layer.padding}, ceil_mode {layer.ceil_mode}, divisor_override {divisor}."
        )
    return (
        AvgPool(name=name, inputs=(source.name,), kernel=_setting(layer, "kernel_size"), stride=_setting(layer, "stride")),
    )


def _adaptive_avg_pool(
    layer: nn.AdaptiveAvgPool2d | nn.AdaptiveAvgPool1d, name: str, source: Node, shape: Shape
) -> tuple[Node, ...]:
    wanted: Any = layer.output_size if isinstance(layer.output_size, tuple) else (layer.output_size,) * 2
    if isinstance(layer, LINES):
        wanted = (None, wanted[0])
    size = tuple(have if want is None else want for want, have in zip(wanted, shape[-2:], strict=True))
    if shape[-2] % size[0] or shape[-1] % size[1]:
        raise GraphError(
            f"layer {name!r}: {type(layer).__name__} to {size} needs windows of one size; its input is {shape[-2:]}. "
            "Choose an output size that divides it."
        )
    kernel = (shape[-2] // size[0], shape[-1] // size[1])
    return (AvgPool(name=name, inputs=(source.name,), kernel=kernel, stride=kernel),)


def _max_pool(layer: nn.MaxPool2d | nn.MaxPool1d, name: str, source: Node, shape: Shape) -> tuple[Node, ...]:
    """max(s_1, ..., s_k) = 1 if s_1 + ... + s_k > 1/2 else 0,  for spikes s_i: a sum, and neurons that fire at any spike.

    Their membrane potential is 0 after every step, whatever the decay: the sum is 0, or it makes them fire. Padding adds no
    spike to the sum, as torch's padding with -inf changes no maximum. A network without spikes would multiply nothing here.
    """
    kind = type(layer).__name__
    if not isinstance(source, Spiking):
        raise GraphError(
            f"layer {name!r}: {kind} must take spikes straight from a LIF; {source.name!r} is a {source.kind}, whose values "
            "have no node for their maximum. Put it behind the LIF and retrain, or use average pooling."
        )
    if layer.ceil_mode or layer.return_indices:
        raise GraphError(f"layer {name!r}: {kind} must have ceil_mode False and return_indices False; it has not.")
    total = Conv(
        name=f"{name}.sum",
        inputs=(source.name,),
        weight=np.ones((shape[0], 1, *_setting(layer, "kernel_size")), np.float32),
        stride=_setting(layer, "stride"),
        padding=_setting(layer, "padding", 0),
        dilation=_setting(layer, "dilation"),
        groups=shape[0],
        dense_macs=0,  # without spikes it compares, and multiplies nothing
    )
    return total, LIF(name=name, inputs=(total.name,), threshold=0.5)


def _lif(layer: LIFLayer, name: str, source: Node, shape: Shape) -> tuple[Node, ...]:
    decay, threshold = one_number("decay", layer.decay), one_number("threshold", layer.threshold)
    return (LIF(name=name, inputs=(source.name,), decay=decay, threshold=threshold),)


def _without_effect(layer: nn.Module, name: str, source: Node, shape: Shape) -> tuple[Node, ...]:
    return ()


LAYERS: dict[type[nn.Module], Converter] = {
    nn.Conv2d: _conv,
    nn.Conv1d: _conv,
    nn.Linear: _linear,
    nn.BatchNorm2d: _batch_norm,
    nn.BatchNorm1d: _batch_norm,
    nn.SyncBatchNorm: _batch_norm,
    nn.AvgPool2d: _avg_pool,
    nn.AvgPool1d: _avg_pool,
    nn.AdaptiveAvgPool2d: _adaptive_avg_pool,
    nn.AdaptiveAvgPool1d: _adaptive_avg_pool,
    nn.MaxPool2d: _max_pool,
    nn.MaxPool1d: _max_pool,
    LIFLayer: _lif,
    nn.Dropout: _without_effect,
    nn.Dropout1d: _without_effect,
    nn.Dropout2d: _without_effect,
    nn.Identity: _without_effect,
}
RESHAPING_LAYERS = (nn.Flatten, nn.Unflatten)
LINES = (nn.Conv1d, nn.AvgPool1d, nn.AdaptiveAvgPool1d, nn.MaxPool1d)  # take [C, L]
_FINDS_CHANNELS_SECOND = (
    *LINES,
    *(nn.Conv2d, nn.BatchNorm2d, nn.BatchNorm1d, nn.SyncBatchNorm),
    *(nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.MaxPool2d),
)


def takes_lines(model: nn.Module) -> bool:
    """Whether a model's samples are [C, L] wherever they have two axes."""
    modules = list(model.modules())
    return any(isinstance(module, LINES) for module in modules) and not any(isinstance(one, nn.Conv2d) for one in modules)


def needs_eval_mode(layer: nn.Module) -> bool:
    """Whether a layer computes something else in training."""
    known = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
    return isinstance(layer, known) or spikingjelly.same_as(layer) in (nn.Dropout, nn.Dropout2d)


def layout_needed(layer: nn.Module) -> str | None:
    """On which axes a layer computes what its node says; None if on all.

    "separate" time and batch, "merged" ones, or "step": the batch alone, in one call for each step. A layer that needs
    "merged" computes the same on "step".
    """
    if spikingjelly.is_layer(layer):
        return spikingjelly.layout_needed(layer)
    if snntorch.is_layer(layer):
        return "step"
    if isinstance(layer, LIFLayer):
        return "separate"
    return "merged" if isinstance(layer, _FINDS_CHANNELS_SECOND) else None


def _array(tensor: Tensor) -> np.ndarray:
    return np.array(tensor.detach().cpu().float().numpy())


def _setting(layer: Any, name: str, of_height: int = 1) -> Pair:
    """A setting of both axes; where a layer takes lines, which have one, with what it is for their height of 1."""
    value: Any = getattr(layer, name)
    if isinstance(layer, LINES):
        return (of_height, int(value[0] if isinstance(value, (tuple, list)) else value))
    return (int(value[0]), int(value[1])) if isinstance(value, (tuple, list)) else (int(value), int(value))
