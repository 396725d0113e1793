"""What a model's forward() calls, and what each call gives for a known number of steps and samples."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn

from tet_deploy.errors import DataError, GraphError
from tet_deploy.ir.names import check_name
from tet_deploy.ir.shapes import Shape
from tet_deploy.nn import LIF

STEPS, SAMPLES = 2, 3  # [2, 3, ...] and [6, ...] tell apart how time and batch lie: see `time_layout`


def capture(model: nn.Module, shape: Shape) -> tuple[fx.GraphModule, dict[fx.Node, Any]]:
    """Write down the calls of model.forward, and run them once on random frames [2, 3, *shape].

    Returns
    -------
    program, results
        The calls in order, and what each gave.

    Raises
    ------
    GraphError
        forward() cannot be written down, cannot run on such frames, or does something that the calls do not show.
    """
    try:
        program = fx.GraphModule(model, _Tracer().trace(model))
        program.graph.eliminate_dead_code()
    except (fx.proxy.TraceError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise GraphError(
            f"{type(model).__name__}: forward() cannot be traced ({error}). It must not loop or branch on values or shapes; "
            "let LIF and TimeMajor walk through time."
        ) from error
    like = next(model.parameters(), torch.zeros(()))
    frames = torch.randn(STEPS, SAMPLES, *shape, generator=torch.Generator().manual_seed(0)).to(like)
    recorder = _Recorder(program)
    try:
        with torch.no_grad():
            expected, found = model(frames), recorder.run(frames)
    except (RuntimeError, TypeError, ValueError, IndexError, DataError) as error:
        reason = str(error).splitlines()[0]
        raise GraphError(
            f"{type(model).__name__}: cannot run on frames [T, B, *{shape}] ({reason}). "
            "Check input_shape, and that plain layers stand inside a TimeMajor."
        ) from error
    if isinstance(expected, Tensor) and not torch.allclose(expected, found, rtol=0, atol=0, equal_nan=True):
        raise GraphError(
            f"{type(model).__name__}: forward() gives other values than the calls that torch.fx saw. "
            "Does it change values in place, or draw random numbers?"
        )
    return program, recorder.results


def time_layout(value: Tensor) -> tuple[str, Shape] | None:
    """How time and batch lie in a captured value, "separate" or "merged", and one sample's shape; None if neither."""
    if tuple(value.shape[:2]) == (STEPS, SAMPLES):
        return "separate", tuple(value.shape[2:])
    if tuple(value.shape[:1]) == (STEPS * SAMPLES,):
        return "merged", tuple(value.shape[1:])
    return None


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, LIF) or super().is_leaf_module(m, module_qualified_name)

    def path_of_module(self, mod: nn.Module) -> str:
        path = super().path_of_module(mod)
        check_name(path)  # here, as torch.fx writes code that holds it
        return path

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Value(node, self)

    def iter(self, obj: Any) -> Iterator[Any]:
        return iter([obj[0], obj[1]]) if _is_pair(obj) else super().iter(obj)


class _Value(fx.Proxy):
    def __len__(self) -> int:
        return 2 if _is_pair(self) else int(super().__len__())


def _is_pair(value: fx.Proxy) -> bool:
    """Whether the value is `x.shape[:2]`: the one thing of known length that forward() may unpack with a star."""
    return value.node.target is operator.getitem and value.node.args[1] == slice(None, 2, None)


class _Recorder(fx.Interpreter):
    def __init__(self, program: fx.GraphModule) -> None:
        super().__init__(program)
        self.results: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        self.results[n] = super().run_node(n)
        return self.results[n]
