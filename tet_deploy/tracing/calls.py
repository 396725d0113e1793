"""The calls that a model's forward() makes, written down by torch.fx."""

from __future__ import annotations

import contextlib
import functools
import inspect
import operator
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import fx, nn

from tet_deploy.errors import GraphError, first_line
from tet_deploy.ir.names import check_name
from tet_deploy.tracing import normalization, step_norms
from tet_deploy.tracing.foreign import snntorch, spikingjelly
from tet_deploy.tracing.layers import LAYERS, converter_of

_SWALLOW = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
BY_STEP = "called for each step"  # marks a call in its meta


def written_down(model: nn.Module, steps: int) -> fx.GraphModule:
    """The calls of model.forward; one that stands for a call in each step has BY_STEP in its meta.

    Parameters
    ----------
    model
        May loop over the frames that it is given, if snnTorch's neurons are in it.
    steps
        As many frames there shall be then.

    Raises
    ------
    GraphError
        forward() loops or branches or takes more than frames, or a layer has a forward() of its own.
    """
    loops = any(map(snntorch.is_layer, model.modules()))
    tracer = _Tracer(steps if loops else None)
    try:
        with _zeros_of_unknown_sizes(tracer):
            return fx.GraphModule(model, tracer.trace(model))
    except GraphError:
        raise
    except Exception as error:  # forward() is anybody's code, and is given what it does not expect
        step_norms.refuse(model, "")
        raise _untraceable(type(model).__name__, model, error, loops) from error


class _Tracer(fx.Tracer):
    by_step = False  # inside a container that calls its layers for each step

    def __init__(self, steps: int | None) -> None:
        super().__init__()
        self.steps = steps  # of the frames, where forward() may loop over them

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        """The frames alone; what else forward() takes has the value that it has by default."""
        _, first, *others = inspect.signature(root_fn).parameters.values()
        needed = [each.name for each in others if each.default is each.empty and each.kind not in _SWALLOW]
        if needed:
            raise GraphError(f"the model's forward() must take frames only; it also takes {needed[0]!r}. Give it a default.")
        if first.kind in _SWALLOW or not others:
            return super().create_args_for_root(root_fn, is_module, concrete_args)
        return super().create_args_for_root(lambda self, x: root_fn(self, x), is_module)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        known = converter_of(m) is not None or spikingjelly.is_layer(m) or snntorch.is_layer(m)
        return known or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Go into the layer without its hooks, which would see what are no values yet."""
        path, kind = self.path_of_module(m), type(m).__name__
        plain = next((layer.__name__ for layer in LAYERS if isinstance(m, layer)), None)
        if plain and not self.is_leaf_module(m, path):
            raise GraphError(
                f"layer {path!r}: {kind} is a {plain} with a forward() of its own, which cannot be traced. Use {plain}."
            )
        walk = self._walk(m, path)
        try:
            with self._walking(walk):
                result = super().call_module(m, _FORWARDS[walk](m), args, kwargs)
        except GraphError:
            raise
        except Exception as error:  # as in written_down
            step_norms.refuse(m, path)
            raise _untraceable(f"layer {path!r}, a {kind}", m, error, self.steps is not None) from error
        if self.by_step and self.is_leaf_module(m, path):
            result.node.meta[BY_STEP] = True
        return result

    def _walk(self, m: nn.Module, path: str) -> str | None:
        """How the module walks through its layers; None if as its forward() says."""
        walk = spikingjelly.walks(m)
        if self.by_step and walk is None and type(m) is not nn.Sequential and not self.is_leaf_module(m, path):
            raise GraphError(
                f"layer {path!r}: a container that walks through time may hold layers only; this is a {type(m).__name__}. "
                "Use functional.set_step_mode(model, 'm') and hold it in an nn.Sequential."
            )
        return walk

    @contextlib.contextmanager
    def _walking(self, walk: str | None) -> Iterator[None]:
        before, self.by_step = self.by_step, self.by_step or walk == "step"
        try:
            yield
        finally:
            self.by_step = before

    def path_of_module(self, mod: nn.Module) -> str:
        path = super().path_of_module(mod)
        check_name(path)  # here, as torch.fx writes code that holds it
        return path

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Value(node, self)

    def iter(self, obj: Any) -> Iterator[Any]:
        if self.steps is not None and _has_frames(obj.node):
            return iter([obj[step] for step in range(self.steps)])
        return iter([obj[0], obj[1]]) if _is_pair(obj) else super().iter(obj)


@contextlib.contextmanager
def _zeros_of_unknown_sizes(tracer: fx.Tracer) -> Iterator[None]:
    """Let torch.zeros(x.size(1), 20) be a call as torch.zeros((x.size(1), 20)) is one, which torch.fx sees by itself."""
    zeros = torch.zeros

    def seen(*sizes: Any, **options: Any) -> Any:
        if any(isinstance(size, fx.Proxy) for size in sizes):
            return tracer.create_proxy("call_function", zeros, sizes, options)
        return zeros(*sizes, **options)

    torch.zeros = seen
    try:
        yield
    finally:
        torch.zeros = zeros


def _in_sequence(layers: nn.Module, value: Any) -> Any:
    for layer in layers.children():
        value = layer(value)
    return value


def _merged(layers: nn.Module, value: Any) -> Any:
    steps_and_samples = value.shape[:2]
    return torch.unflatten(_in_sequence(layers, value.flatten(0, 1)), 0, steps_and_samples)


_FORWARDS: dict[str | None, Callable[[nn.Module], Callable[..., Any]]] = {
    None: lambda m: m.forward,
    "sequential": lambda m: functools.partial(_in_sequence, m),
    "step": lambda m: functools.partial(_in_sequence, m),  # each of its calls stands for as many as there are steps
    "merged": lambda m: functools.partial(_merged, m),
}


def _untraceable(what: str, module: nn.Module, error: Exception, loops: bool) -> GraphError:
    remedy = "let LIF and TimeMajor walk through time"
    if loops:
        remedy = "a loop over time may have a constant number of steps, or range(x.size(0)) of frames x, time first"
    if "cannot be iterated" in str(error):
        remedy += (
            ". Of shapes only x.shape[:2] may be unpacked: y = x.flatten(0, 1) and y.unflatten(0, x.shape[:2]) need no more"
        )
    return GraphError(
        f"{what}: forward() cannot be traced ({first_line(error)}). It must not loop or branch on values or shapes; "
        f"{step_norms.remedy(module, remedy)}."
    )


class _Value(fx.Proxy):
    tracer: _Tracer

    def __len__(self) -> int:
        if self.tracer.steps is not None and _has_frames(self.node):
            return self.tracer.steps
        return 2 if _is_pair(self) else int(super().__len__())

    def __index__(self) -> int:
        """What range() asks for: known of the number of frames alone."""
        if self.tracer.steps is None or not _is_first_size(self.node):
            raise TypeError("'Proxy' object cannot be interpreted as an integer")  # as without this method
        return self.tracer.steps


def _is_first_size(node: fx.Node) -> bool:
    """Whether it is x.size(0) or x.shape[0], of forward()'s argument x or of what has its first axis."""
    if node.op == "call_method" and node.target == "size":
        return _has_frames(node.args[0]) and node.args[1:] == (0,)
    if node.target is not operator.getitem or node.args[1] != 0:
        return False
    shape: Any = node.args[0]
    if shape.target is operator.getitem and isinstance(shape.args[1], slice) and not shape.args[1].start:
        shape = shape.args[0]  # x.shape[:2]
    return shape.args[1:] in (("shape",), ()) and shape.target in (getattr, "size") and _has_frames(shape.args[0])


def _has_frames(value: Any) -> bool:
    """Whether it is forward()'s argument, but for a reshape that leaves its first axis alone, or normalized."""
    if not isinstance(value, fx.Node):
        return False
    if value.op == "placeholder":
        return True
    if is_copy(value):
        return _has_frames(value.args[0])
    operands = normalization.operands(value)
    if operands is not None:
        return _has_frames(operands[1])
    axes: tuple[Any, ...] = value.args[1:]
    if not axes or not _has_frames(value.args[0]):
        return False
    first = axes[0]
    if value.target in ("flatten", torch.flatten):
        return isinstance(first, int) and first > 0
    return value.target in ("view", "reshape") and isinstance(first, fx.Node) and _is_first_size(first)


def is_copy(call: Any) -> bool:
    """Whether it is a call that changes no value of a network in floats, as x.detach() and x.float() are."""
    if not isinstance(call, fx.Node) or call.op != "call_method":
        return False
    if call.target in ("to", "type"):
        return [*call.args[1:], *call.kwargs.values()] == [torch.float32]
    return call.target in ("detach", "clone", "contiguous", "float")


def _is_pair(value: fx.Proxy) -> bool:
    """Whether the value is `x.shape[:2]`: the one thing of known length that forward() may unpack with a star."""
    return value.node.target is operator.getitem and value.node.args[1] == slice(None, 2, None)
