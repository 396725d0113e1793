"""What a forward() does to frames before any layer: (x - mean) / deviation and the like, by numbers or its own tensors."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import torch
from torch import fx

from tet_deploy.ir.nodes import Input
from tet_deploy.ir.normalization import normalizing
from tet_deploy.ir.shapes import Shape

_OPERATIONS = {  # functions, and names of methods
    **dict.fromkeys((operator.sub, torch.sub, torch.subtract, "sub", "subtract"), "sub"),
    **dict.fromkeys((operator.truediv, torch.div, torch.divide, torch.true_divide, "div", "divide", "true_divide"), "div"),
    **dict.fromkeys((operator.add, torch.add, "add"), "add"),
    **dict.fromkeys((operator.mul, torch.mul, torch.multiply, "mul", "multiply"), "mul"),
}


def operands(call: fx.Node) -> tuple[str, Any, Any] | None:
    """The operation of a call, the value that it is done to, and with what; None if it is another call."""
    what = _OPERATIONS.get(call.target) if call.op in ("call_function", "call_method") else None
    given = [*call.args, *(call.kwargs[key] for key in ("input", "other") if key in call.kwargs)]
    if what is None or len(given) != 2 or call.kwargs.keys() - {"input", "other"}:
        return None
    first, second = given
    if what in ("add", "mul") and not isinstance(first, fx.Node):
        first, second = second, first
    return what, first, second


def of_channels(numbers: Any, shape: Shape) -> np.ndarray | None:
    """Numbers that broadcast against [..., *shape] as one for each channel, float64 [C]; None if they differ elsewhere."""
    array = np.asarray(numbers, np.float64)
    sizes = (*(1,) * (len(shape) - array.ndim), *array.shape)
    channels = sizes[len(sizes) - len(shape)]
    if channels not in (1, shape[0]) or np.prod(sizes) != channels:
        return None
    return np.array(np.broadcast_to(array.ravel(), shape[:1]))


def after(node: Input, what: str, numbers: np.ndarray) -> Input | None:
    """The Input after one operation with numbers [C]; None if that gives the same for all frames, or nothing finite."""
    if not np.isfinite(numbers).all() or (what in ("mul", "div") and not numbers.all()):
        return None
    if what in ("sub", "add"):
        return normalizing(node, numbers if what == "sub" else -numbers, np.ones(()))
    return normalizing(node, np.zeros(()), numbers if what == "div" else 1 / numbers)
