"""What a model's forward() calls, and what each call gives for a known number of steps and samples.

The calls are written down by torch.fx. What the layers give is what they give in the model itself, called as it is, so that
whatever the calls do not show can be seen in the values; only neurons give seeded spikes in place of their own, so that
there is something to see at every depth.
"""

from __future__ import annotations

import contextlib
import operator
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from tet_deploy.errors import ArgumentError, GraphError, first_line
from tet_deploy.ir.names import check_name
from tet_deploy.ir.shapes import Shape
from tet_deploy.nn import LIF
from tet_deploy.tracing import stimuli
from tet_deploy.tracing.eval_mode import owner
from tet_deploy.tracing.layers import LAYERS, kind_of, needs_eval_mode

Heard = dict[str, deque[tuple[Any, Any]]]  # per layer and call, what it gave, and before that, of neurons, what they took
STEPS, SAMPLES = 2, 3  # [2, 3, ...] and [6, ...] tell apart how time and batch lie: see `time_layout`


def capture(model: nn.Module, shape: Shape, encoding: str) -> tuple[fx.GraphModule, dict[fx.Node, Any]]:
    """Write down the calls of model.forward, and run the model once on seeded frames [2, 3, *shape].

    Parameters
    ----------
    model
        In eval mode, float64 and no_grad; see `in_eval_mode`.

    Returns
    -------
    program, results
        The calls in order, and what each gave.

    Raises
    ------
    GraphError
        forward() cannot be written down, cannot run on such frames, or does something that the calls do not show.
    """
    program = _written_down(model)
    layers = {program.get_submodule(path): path for path in _layers_called(program)}
    for layer, path in {**layers, model: ""}.items():
        _check_standard(layer, path)
    frames = torch.from_numpy(stimuli.frames((STEPS, SAMPLES, *shape), encoding))
    try:
        with _listening(layers) as heard:
            expected = model(frames)
        replay = _Replay(program, heard)
        found = replay.run(frames)
    except (GraphError, ArgumentError):
        raise
    except Exception as error:  # it is anybody's code
        raise GraphError(
            f"{type(model).__name__}: cannot run on frames [T, B, *{shape}] ({first_line(error)}). "
            "Check input_shape, and that plain layers stand inside a TimeMajor."
        ) from error
    if isinstance(expected, Tensor) and not _same(expected, found):
        raise _unseen(type(model).__name__, "gives other values than")
    program.graph.eliminate_dead_code()
    return program, replay.results


def time_layout(value: Tensor) -> tuple[str, Shape] | None:
    """How time and batch lie in a captured value, "separate" or "merged", and one sample's shape; None if neither."""
    if tuple(value.shape[:2]) == (STEPS, SAMPLES):
        return "separate", tuple(value.shape[2:])
    if tuple(value.shape[:1]) == (STEPS * SAMPLES,):
        return "merged", tuple(value.shape[1:])
    return None


def separate(value: Tensor) -> np.ndarray:
    """A captured value as [T, B, ...]."""
    _, shape = time_layout(value) or ("", ())
    return value.reshape(STEPS, SAMPLES, *shape).numpy()


def _written_down(model: nn.Module) -> fx.GraphModule:
    try:
        return fx.GraphModule(model, _Tracer().trace(model))
    except GraphError:
        raise
    except Exception as error:  # forward() is anybody's code, and is given what it does not expect
        raise _untraceable(type(model).__name__, error) from error


def _layers_called(program: fx.GraphModule) -> list[str]:
    return [str(call.target) for call in program.graph.nodes if call.op == "call_module"]


def _check_standard(layer: nn.Module, path: str) -> None:
    """See that a layer computes in eval mode what its class says."""
    what = owner(layer, path)
    if "forward" in vars(layer):
        raise GraphError(
            f"{what}: its forward() was replaced on the object, where tracing does not look. Write it into the class of a "
            "layer of your own."
        )
    if layer.training and needs_eval_mode(layer):
        raise GraphError(
            f"{what}: a {type(layer).__name__} that stays in training mode after model.eval() cannot be traced. Does a "
            "train() or eval() of the model hold it there? Leave it in eval mode, and check the accuracy so."
        )


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return kind_of(m) is not None or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Go into the layer without its hooks, which would see what are no values yet."""
        path, kind = self.path_of_module(m), type(m).__name__
        plain = next((layer.__name__ for layer in LAYERS if isinstance(m, layer)), None)
        if plain and not self.is_leaf_module(m, path):
            raise GraphError(
                f"layer {path!r}: {kind} is a {plain} with a forward() of its own, which cannot be traced. Use {plain}."
            )
        try:
            return super().call_module(m, m.forward, args, kwargs)
        except GraphError:
            raise
        except Exception as error:  # as in _written_down
            raise _untraceable(f"layer {path!r}, a {kind}", error) from error

    def path_of_module(self, mod: nn.Module) -> str:
        path = super().path_of_module(mod)
        check_name(path)  # here, as torch.fx writes code that holds it
        return path

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Value(node, self)

    def iter(self, obj: Any) -> Iterator[Any]:
        return iter([obj[0], obj[1]]) if _is_pair(obj) else super().iter(obj)


def _untraceable(what: str, error: Exception) -> GraphError:
    return GraphError(
        f"{what}: forward() cannot be traced ({first_line(error)}). It must not loop or branch on values or shapes; "
        "let LIF and TimeMajor walk through time."
    )


class _Value(fx.Proxy):
    def __len__(self) -> int:
        return 2 if _is_pair(self) else int(super().__len__())


def _is_pair(value: fx.Proxy) -> bool:
    """Whether the value is `x.shape[:2]`: the one thing of known length that forward() may unpack with a star."""
    return value.node.target is operator.getitem and value.node.args[1] == slice(None, 2, None)


@contextlib.contextmanager
def _listening(layers: Mapping[nn.Module, str]) -> Iterator[Heard]:
    """Hear what layers give when the model runs, after all other hooks, and let neurons give seeded spikes instead."""
    heard: Heard = defaultdict(deque)

    def hook(path: str, seed: int) -> Callable[..., Any]:
        def hear(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
            taken = None
            if isinstance(layer, LIF):
                taken = _copy((*args, *kwargs.values())[0])
                output = torch.from_numpy(stimuli.spikes(tuple(output.shape), seed))
            heard[path].append((taken, _copy(output)))
            return output

        return hear

    handles = [
        layer.register_forward_hook(hook(path, number), with_kwargs=True)
        for number, (layer, path) in enumerate(layers.items())
    ]
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


class _Replay(fx.Interpreter):
    """Goes through the calls once more, with layers that give what they gave in the model."""

    def __init__(self, program: fx.GraphModule, heard: Heard) -> None:
        super().__init__(program)
        self.extra_traceback = False  # it would be added to our errors
        self.heard, self.results = heard, dict[fx.Node, Any]()

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not self.heard[target]:
            raise _unseen(f"layer {target!r}", "is not called, unlike in")
        taken, given = self.heard[target].popleft()
        if taken is not None and not _same(taken, (*args, *kwargs.values())[0]):
            raise _unseen(f"layer {target!r}", "takes other values than in")
        return given

    def run_node(self, n: fx.Node) -> Any:
        self.results[n] = super().run_node(n)
        return self.results[n]


def _copy(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value  # somebody may write into the original


def _same(one: Tensor, other: Any) -> bool:
    return isinstance(other, Tensor) and torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)


def _unseen(what: str, does: str) -> GraphError:
    return GraphError(f"{what}: {does} the calls that torch.fx saw. Does forward() change values in place?")
