"""Which code runs the neurons' time loop: chosen by device, or by the user. All of it must give what `lif_by_steps` gives.

| name     | runs on                        | keeps for the backward pass                     |
|----------|--------------------------------|-------------------------------------------------|
| "c"      | CPU, float32, bf16, a compiler | its input; the batch norm's where that is fused |
| "triton" | NVIDIA, float32, float16, bf16 | the same                                        |
| "torch"  | everything                     | its input                                       |
"""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from numbers import Real
from typing import Any, Protocol

import torch
from torch import Tensor

from tet_deploy.arguments import check_named
from tet_deploy.errors import ArgumentError, MissingDependencyError

BACKENDS = {  # name -> module with a `load()`; in order of preference
    "c": "tet_deploy.nn.backend_c",
    "triton": "tet_deploy.nn.backend_triton",
    "torch": "tet_deploy.nn.backend_torch",
}
VARIABLE = "TET_DEPLOY_LIF_BACKEND"
_chosen: ContextVar[str | None] = ContextVar("backend", default=None)
_loaded: dict[str, Backend | str] = {}  # a backend, or why there is none


@dataclass(frozen=True)
class Population:
    """What a kernel needs to know of the neurons; `channels` is 1 where nothing is normed.

    Spikes leave as means over windows of pool x pool pixels.
    """

    steps: int
    decay: float
    threshold: float
    gamma: float
    channels: int = 1
    pool: int = 1

    def __post_init__(self) -> None:
        for name in ("decay", "threshold", "gamma"):
            object.__setattr__(self, name, one_number(name, getattr(self, name)))


def one_number(name: str, value: Any) -> float:
    """A parameter that all neurons of a layer share: a number of Python or numpy, or a tensor that holds one.

    Raises
    ------
    ArgumentError
        Several values, no number, or a tensor that asks to be trained.
    """
    if isinstance(value, Real):
        return float(value)
    shape = getattr(value, "shape", None)
    if getattr(value, "requires_grad", False):
        raise ArgumentError(
            f"LIF: {name} is fixed and cannot be trained; got a {type(value).__name__} with a gradient. Give a number."
        )
    if shape is None or math.prod(shape) != 1 or isinstance(value.item(), (str, complex)):
        found = f"a {type(value).__name__}" + (f" of shape {tuple(shape)}" if shape is not None else f", {value!r:.60}")
        raise ArgumentError(
            f"LIF: {name} must be one number, which all neurons of the layer share; got {found}. Let neurons that differ be "
            "layers of their own."
        )
    return float(value.item())


@dataclass(frozen=True)
class Term:
    """(x - mean) * scale + shift per channel, or x itself.

    x is dense: [T, ...] if plain, [T*B, C, ...] if normed, or [B, C, ...] if that is `repeated` at every step.
    """

    x: Tensor
    mean: Tensor | None = None  # [C], as scale and shift
    scale: Tensor | None = None
    shift: Tensor | None = None
    repeated: bool = False

    def all_steps(self, population: Population) -> Tensor:
        """An empty tensor for what leaves the neurons in all steps, laid out as x."""
        pool = population.pool
        if pool > 1:
            samples, channels, height, width = self.x.shape
            samples *= population.steps if self.repeated else 1
            shape = (samples, channels, height // pool, width // pool)
            return torch.empty(shape, dtype=self.x.dtype, device=self.x.device, memory_format=torch.channels_last)
        if self.repeated:
            return self.x.new_empty_strided((population.steps * len(self.x), *self.x.shape[1:]), self.x.stride())
        return torch.empty_like(self.x)


class Backend(Protocol):
    """The presynaptic input is one plain term, or where `fuses_norm` a normed term and perhaps another of any kind.

    Average pools are taken over where `fuses_pool`.
    """

    fuses_norm: bool
    fuses_pool: bool

    def runs_on(self, x: Tensor) -> bool:
        """Whether device and dtype are its own."""

    def arrange(self, x: Tensor) -> Tensor:
        """x [N, C, ...], or a copy of it, in a layout that it can norm."""

    def forward(self, terms: Sequence[Term], population: Population) -> Tensor:
        """Spikes of all steps, laid out as the first term."""

    def backward(self, terms: Sequence[Term], population: Population, grad: Tensor) -> tuple[Tensor, Tensor | None]:
        """From the gradient of what left forward(), laid out as that: the gradient of the presynaptic input, as a term's x.

        Where the first term is normed, also sums [3, C] over all else: of that gradient, and of its products with x - mean
        of the first and, if that is normed, the second term.
        """

    def statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and biased variance of each channel, [C]."""

    def norm_backward(self, grad: Tensor, term: Term, offset: Tensor, slope: Tensor, *, in_place: bool) -> Tensor:
        """scale * (grad - offset - (x - mean) * slope)."""


@contextlib.contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Run neurons by one backend inside the block: "c", "triton", "torch", or "auto" as at first.

    The environment variable TET_DEPLOY_LIF_BACKEND does the same for a whole process.

    Raises
    ------
    MissingDependencyError
        No such backend, or one that cannot run here: why, and what to install.

    Examples
    --------
    >>> from tet_deploy.nn import lif
    >>> with use_backend("torch"):
    ...     spikes = lif(torch.ones(4, 1, 8))  # [T, B, N]
    """
    if name != "auto":
        _load(name)
    token = _chosen.set(name)
    try:
        yield
    finally:
        _chosen.reset(token)


def backend_for(x: Tensor) -> Backend:
    """The backend that runs on a tensor's device and dtype.

    Raises
    ------
    MissingDependencyError
        The backend that the user forces is missing, or does not run on such a tensor.
    """
    name = _chosen.get() or os.environ.get(VARIABLE) or "auto"
    if name != "auto":
        backend = _load(name)
        if not backend.runs_on(x):
            raise MissingDependencyError(
                f"neurons: backend {name!r} is forced and does not run on {x.dtype} on {x.device}. "
                f'Set {VARIABLE}=auto, or leave use_backend("{name}").'
            )
        return backend
    if x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16) and not torch.compiler.is_compiling():
        return _first("c", "torch")
    if x.is_cuda and x.dtype != torch.float64 and not torch.compiler.is_compiling():
        return _first("triton", "torch")
    return _load("torch")


def _first(name: str, otherwise: str) -> Backend:
    if name not in _loaded:
        try:
            return _load(name)
        except MissingDependencyError as error:
            warnings.warn(f"{error} Until then neurons run in plain torch, at about half the speed.", stacklevel=4)
    backend = _loaded[name]
    return _load(otherwise) if isinstance(backend, str) else backend


def _load(name: str) -> Backend:
    check_named("backend", name, ["auto", *BACKENDS])
    if name not in _loaded:
        try:
            _loaded[name] = importlib.import_module(BACKENDS[name]).load()
        except MissingDependencyError as error:
            _loaded[name] = str(error)
    backend = _loaded[name]
    if isinstance(backend, str):
        raise MissingDependencyError(backend)
    return backend


def dense(x: Tensor) -> Tensor:
    """x [T, ...], or a copy of it, without gaps and with steps outermost in memory."""
    without_gaps = torch.empty_like(x, device="meta").stride() == x.stride()  # empty_like keeps such strides, and only such
    outermost = len(x) == 1 or x.stride(0) * len(x) == x.numel()
    return x if without_gaps and outermost else x.contiguous()


def like(x: Tensor, layout: Tensor) -> Tensor:
    """x, or a copy of it, with the strides of a dense tensor of its shape."""
    return x if x.stride() == layout.stride() else torch.empty_like(layout, dtype=x.dtype).copy_(x)
