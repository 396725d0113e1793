"""A model as it is called in eval mode: for as long as it is looked at, and then as it was.

To be proved it is put in float64 on the CPU: there what a layer gives differs from what its node means by next to nothing,
whatever the model's own precision and device, so that a small fault shows. To be run it keeps both.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.parameter import is_lazy
from torch.optim.swa_utils import AveragedModel

from tet_deploy.errors import GraphError
from tet_deploy.tracing.foreign import snntorch, spikingjelly

_HOOKS = {"_forward_pre_hooks": "forward pre-hook", "_forward_hooks": "forward hook"}  # attribute of a module -> name
_HOOKS_OF_ALL = {"_global_forward_pre_hooks": "forward pre-hook", "_global_forward_hooks": "forward hook"}
_WRAPPERS = (DataParallel, DistributedDataParallel, AveragedModel)


@contextlib.contextmanager
def in_eval_mode(model: nn.Module, *, as_float64: bool = True) -> Iterator[None]:
    """Put a model in eval mode, with copies of its parameters and buffers, wrapped layers in their wrappers' place.

    While it lasts, a forward hook that gives a value back, or writes into one, raises GraphError. Neurons that keep their
    state from call to call begin in their first. Afterwards every module has the attributes, parameters, buffers, hooks and
    state that it had, with the values that they had.

    Parameters
    ----------
    as_float64
        Whether the copies are float64 on the CPU; else they are of the type and on the device of the originals.
    """
    kept = [(content, dict(content)) for content in _contents(model)]
    try:
        with torch.inference_mode(False), torch.no_grad():
            for path, module in list(model.named_modules()):
                for name, child in module._modules.items():
                    module._modules[name] = None if child is None else unwrapped(child, f"{path}.{name}".lstrip("."))
            model.eval()
            copies: dict[Tensor, Tensor] = {}
            for path, module in model.named_modules():
                _prepare(module, owner(module, path), copies, as_float64)
            for attribute, kind in _HOOKS_OF_ALL.items():
                _watch(getattr(torch_module, attribute), kind, "every layer")
            yield
    finally:
        for content, before in kept:
            content.clear()
            content.update(before)


def _prepare(module: nn.Module, name: str, copies: dict[Tensor, Tensor], as_float64: bool) -> None:
    module.__dict__.pop("_compiled_call_impl", None)  # of module.compile()
    spikingjelly.reset(module)
    snntorch.reset(module)
    stores: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
    for store in stores:
        for key, tensor in store.items():
            if tensor is not None:
                if tensor not in copies:
                    copies[tensor] = _copy(tensor, f"{name}: its {key}", as_float64)
                store[key] = copies[tensor]
    for attribute, kind in _HOOKS.items():
        _watch(getattr(module, attribute), kind, name)


def unwrapped(model: nn.Module, path: str = "") -> nn.Module:
    """The model inside torch.compile, DataParallel, DistributedDataParallel, AveragedModel, and any nesting of them.

    Raises
    ------
    GraphError
        The wrapper has forward hooks or a forward() of its own, which unwrapping would lose.
    """
    while type(model) in _WRAPPERS or hasattr(model, "_orig_mod"):
        compiled = hasattr(model, "_orig_mod")  # its class is private to torch, and slow to import
        hooks = [_name(hook) for attribute in _HOOKS for hook in getattr(model, attribute).values()]
        if not compiled and "forward" in vars(model):
            hooks.append("its forward()")
        if hooks:
            raise GraphError(
                f"{owner(model, path)}: is unwrapped to be traced, and what was put on the {type(model).__name__} would be "
                f"lost: {', '.join(hooks)}. Remove that, or put it on the model inside."
            )
        inner: Any = model._orig_mod if compiled else model.module
        model = inner
    return model


def _contents(model: nn.Module) -> Iterator[dict[Any, Any]]:
    """All dicts in which modules keep what they are: attributes, parameters, buffers, children, hooks."""
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise GraphError(
                f"{owner(module, path)}: TorchScript hides what it computes. Trace the Python module that it was made from."
            )
        yield vars(module)
        yield from (vars(module)[attribute] for attribute in ("_parameters", "_buffers", "_modules", *_HOOKS))
        yield spikingjelly.memories(module) or {}
    for attribute in _HOOKS_OF_ALL:
        yield getattr(torch_module, attribute)


def owner(module: nn.Module, path: str) -> str:
    """How an error names a module; the model itself, whose path is empty, by its class."""
    return f"layer {path!r}" if path else type(module).__name__


def _copy(tensor: Tensor, what: str, as_float64: bool) -> Tensor:
    if is_lazy(tensor) or tensor.is_meta:
        raise GraphError(f"{what} holds no values yet. Load the model's weights, or call it once.")
    dtype = torch.float64 if as_float64 and tensor.is_floating_point() else tensor.dtype
    copy = tensor.detach().to("cpu" if as_float64 else tensor.device, dtype, copy=True)
    return nn.Parameter(copy, requires_grad=False) if isinstance(tensor, nn.Parameter) else copy


def _watch(hooks: dict[int, Any], kind: str, whose: str) -> None:
    for key, hook in hooks.items():
        hooks[key] = _watched(hook, f"{whose}: its {kind} {_name(hook)!r}")


def _watched(hook: Callable[..., Any], what: str) -> Callable[..., Any]:
    def watched(*given: Any) -> None:
        tensors = list(_tensors(given[1:]))  # the first is the module
        versions = [tensor._version for tensor in tensors]
        if hook(*given) is not None or versions != [tensor._version for tensor in tensors]:
            raise GraphError(
                f"{what} changes what the layer takes or gives, which no node can express. Remove the hook, or do in a "
                "layer what it does; hooks that only look on may stay."
            )

    return watched


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, (tuple, list, dict)):
        for value in values.values() if isinstance(values, dict) else values:
            yield from _tensors(value)


def _name(hook: Any) -> str:
    return str(getattr(hook, "__qualname__", type(hook).__name__))
