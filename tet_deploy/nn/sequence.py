"""How TimeMajor runs its layers: time and batch merged or separate, static images once, batch norm and LIF as one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from tet_deploy.errors import DataError
from tet_deploy.nn.backends import backend_for
from tet_deploy.nn.lif import LIF
from tet_deploy.nn.norm_lif import NORMS, fusible, has_hooks, norm_lif, window

# These compute the same in channels-last memory, as accurately. torch's batch norm on a CPU does not: see norm_lif.
_ANY_LAYOUT = (
    *(nn.Conv2d, nn.AvgPool2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d),
    *(nn.Identity, nn.Dropout, nn.Dropout2d, nn.Flatten, nn.Linear, LIF),
)
# These give for the same image the same values at every step; batch norm does so in eval mode, or fused.
_WITHOUT_STATE = (nn.Conv2d, nn.AvgPool2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.Identity, nn.Flatten, nn.Linear)
_any_layout: ContextVar[bool] = ContextVar("any_layout", default=False)  # does the caller take values in any?


def sees_time(layer: nn.Module) -> bool:
    """Whether a layer takes [T, B, ...]: it, or a layer inside it, is a LIF, a TimeMajor or says `sees_time = True`."""
    return any(getattr(module, "sees_time", False) is True for module in layer.modules())


def in_time(layers: Iterable[nn.Module]) -> list[nn.Module]:
    """The layers, and those of an nn.Sequential that sees time in its place: by itself it would merge no time and batch.

    Raises
    ------
    DataError
        That nn.Sequential has hooks, which would see nothing.
    """
    found: list[nn.Module] = []
    for layer in layers:
        inside = type(layer) is nn.Sequential and sees_time(layer)
        if inside and has_hooks(layer):
            raise DataError(
                "TimeMajor: goes through the layers of the nn.Sequential inside it, which has hooks that would see nothing. "
                "Make it a TimeMajor, or put the hooks on one of its layers."
            )
        found.extend(in_time(layer.children()) if inside else [layer])
    return found


def run(layers: Iterable[nn.Module], input: Tensor, *, encode_once: bool = True) -> Tensor:
    """Layers in sequence, from [T, B, ...] to [T, B, ...]."""
    value = _Value(input, encode_once)
    remaining = in_time(layers)
    while remaining:
        used = value.go_through_fused(remaining)
        if not used:
            value.go_through(remaining[0])
        del remaining[: used or 1]
    return finish(value.separate())


def finish(x: Tensor) -> Tensor:
    """x as the caller takes it: contiguous, or in any layout."""
    return x if _any_layout.get() else x.contiguous()


@contextlib.contextmanager
def in_any_layout(allowed: bool = True) -> Iterator[None]:
    """Say that what the block calls may give values in any memory layout, or not."""
    token = _any_layout.set(allowed)
    try:
        yield
    finally:
        _any_layout.reset(token)


class _Value:
    """What travels between layers: [T, B, ...], or merged [T*B, ...]; or one step of it, if it is the same at every step."""

    def __init__(self, x: Tensor, encode_once: bool) -> None:
        if x.dim() < 2:
            raise DataError(f"TimeMajor: its input must be [T, B, ...]; got {tuple(x.shape)}. Put time first, then samples.")
        self.x = x
        self.steps, self.samples = x.shape[:2]
        self.merged = False
        self.repeated = encode_once and self.steps > 1 and x.stride(0) == 0
        if self.repeated:
            self.x = x[:1]

    def separate(self) -> Tensor:
        """[T, B, ...]."""
        if self.merged:
            self.x, self.merged = torch.unflatten(self.x, 0, (-1, self.samples)), False
        if self.repeated:
            self.x, self.repeated = self.x.expand(self.steps, *self.x.shape[1:]), False
        return self.x

    def merge(self) -> Tensor:
        """[T*B, ...], or [B, ...] of the one step."""
        if not self.merged:
            self.x, self.merged = self.x.flatten(0, 1), True
        return self.x

    def go_through_fused(self, layers: Sequence[nn.Module]) -> int:
        """As many layers as can run as one: batch norm, LIF and perhaps an average pool; how many those are.

        A convolution before them leaves out its bias: see `norm_lif`.
        """
        bias = _needless_bias(layers)
        before = 0 if bias is None else 1
        if before:
            self.go_through(layers[0], with_bias=False)
        norm, neurons, pool = (*layers[before:], None, None)[:3]
        if type(norm) not in NORMS or not fusible(norm, neurons, self.merge()):
            if bias is not None:
                self.x = self.x + bias.to(self.x.dtype)[:, None, None]
            return before
        side = window(pool, self.x)
        self.x = norm_lif(self.x, norm, neurons, self.steps, bias=bias, repeated=self.repeated, pool=side)
        self.repeated = False
        return before + (2 if side == 1 else 3)

    def go_through(self, layer: nn.Module, *, with_bias: bool = True) -> None:
        if self.repeated and not _same_at_every_step(layer):
            self.separate()
        x = self.separate() if sees_time(layer) else self.merge()
        any_layout = type(layer) in _ANY_LAYOUT or getattr(layer, "any_layout", False) is True
        if not any_layout or _breaks_channels_last(layer):
            x = x.contiguous()
        elif type(layer) is nn.Conv2d and layer.training and x.device.type == "cpu" and backend_for(x).fuses_norm:
            x = x.contiguous(memory_format=torch.channels_last)
        with in_any_layout(any_layout):
            self.x = layer(x) if with_bias else functional_call(layer, {"bias": None}, x)  # type: ignore[dict-item]  # it may


def _needless_bias(layers: Sequence[nn.Module]) -> Tensor | None:
    """The bias of a convolution whose batch norm, about to run as one with neurons, takes it away again."""
    conv, norm, neurons = (*layers, None, None)[:3]
    if type(conv) is not nn.Conv2d or type(norm) is not nn.BatchNorm2d or type(neurons) is not LIF:
        return None
    alone = norm.training and not any(has_hooks(layer) for layer in (conv, norm, neurons))
    return conv.bias if alone and backend_for(conv.weight).fuses_norm else None


def _breaks_channels_last(layer: nn.Module) -> bool:
    """Whether torch 2.13 writes outside its memory in the layer's backward pass, on one CPU thread in channels-last memory.

    Seen of convolutions of 1x1 with a stride and 4 or 5 input channels ("corrupted double-linked list"); not of 8 and more.
    """
    return (
        isinstance(layer, nn.Conv2d)
        and layer.kernel_size == (1, 1)
        and layer.stride != (1, 1)
        and layer.in_channels // layer.groups < 8
    )


def _same_at_every_step(layer: nn.Module) -> bool:
    normed = type(layer) in NORMS and not layer.training
    return (type(layer) in _WITHOUT_STATE or normed) and not has_hooks(layer)
