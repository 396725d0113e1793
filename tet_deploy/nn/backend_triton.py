"""The time loop as Triton kernels, for NVIDIA GPUs: the membrane potentials of all steps stay in registers.

With TRITON_INTERPRET=1 in the environment they run on a CPU instead, slowly, through numpy: for tests.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tet_deploy.errors import MissingDependencyError
from tet_deploy.nn.backends import Backend, Population, Term

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_THREADS = 128
_VALUES_IN_REGISTERS = 32  # a thread's, over all steps, where that many steps allow
_UNROLLED = 16  # steps; unrolling more takes minutes to compile
_OPTIONS = {"num_warps": _THREADS // 32, "enable_fp_fusion": False}  # multiply, then add: as in dynamics.py, never fused


def load() -> Backend:
    """The backend.

    Raises
    ------
    MissingDependencyError
        Triton is not installed.
    """
    try:
        from tet_deploy.nn import triton_kernels
    except ModuleNotFoundError as error:
        raise MissingDependencyError("neurons: the Triton backend needs triton. Run: pip install triton") from error
    return _Triton(triton_kernels)


class _Triton:
    """Launches the kernels. x is [N, C, H, W], contiguous or channels-last, or plain [T, ...]."""

    fuses_norm, fuses_pool = True, False

    def __init__(self, kernels: Any) -> None:
        self._kernels = kernels
        self._interpreted = os.environ.get("TRITON_INTERPRET") == "1"

    def runs_on(self, x: Tensor) -> bool:
        return x.dtype in _DTYPES and (x.is_cuda or (self._interpreted and x.device.type == "cpu"))

    def arrange(self, x: Tensor) -> Tensor:
        return x if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last) else x.contiguous()

    def forward(self, terms: Sequence[Term], population: Population) -> Tensor:
        spikes = terms[0].all_steps(population)
        tiling = _Tiling(terms[0], population)
        self._kernels.forward[tiling.grid](spikes, False, *_arguments(terms, population, tiling), **_OPTIONS)
        return spikes

    def backward(self, terms: Sequence[Term], population: Population, grad: Tensor) -> tuple[Tensor, Tensor | None]:
        term, tiling = terms[0], _Tiling(terms[0], population)
        result = torch.empty_like(term.x)
        normed = term.mean is not None
        # sums of each block of positions, added up afterwards: no atomics, so that runs can be repeated bit for bit
        parts = torch.empty(tiling.grid[0], 3, tiling.channels, device=grad.device) if normed else grad
        arguments, potentials = _arguments(terms, population, tiling), grad
        if population.steps > _UNROLLED:
            potentials = torch.empty_like(grad, dtype=torch.float32)
            self._kernels.forward[tiling.grid](potentials, True, *arguments, **_OPTIONS)
        self._kernels.backward[tiling.grid](grad, result, parts, potentials, population.gamma, *arguments, **_OPTIONS)
        return result, parts.sum(0, dtype=torch.float64) if normed else None

    def statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if not x.is_cuda:
            variance, mean = torch.var_mean(x.double(), [0, *range(2, x.dim())], correction=0)
            return mean, variance
        mean, inverse = (value.double() for value in torch.batch_norm_stats(x, 0.0))
        return mean, torch.where(inverse > 0, inverse, torch.inf) ** -2  # it gives 0 for a deviation of 0

    def norm_backward(self, grad: Tensor, term: Term, offset: Tensor, slope: Tensor, *, in_place: bool) -> Tensor:
        result = grad if in_place else torch.empty_like(grad)
        size, block = grad.numel(), 8 * _THREADS
        self._kernels.norm_backward[(-(-size // block),)](
            *(grad, term.x, result, term.mean, term.scale, offset, slope, size, len(offset), _inner(grad)), block, **_OPTIONS
        )
        return result


class _Tiling:
    """How programs share the work: each takes some positions (sample, height, width) of some channels, over all steps."""

    def __init__(self, term: Term, population: Population) -> None:
        self.channels = population.channels
        self.inner = _inner(term.x) if term.mean is not None else 1  # values from one channel to the next
        self.neurons = term.x.numel() // (1 if term.repeated else population.steps)
        each = max(1, _VALUES_IN_REGISTERS // population.steps)
        values = _THREADS << each.bit_length() - 1  # a tile's size is a power of two
        channels = 1 if self.inner > 1 else min(64, 1 << (self.channels - 1).bit_length())
        self.tile = values // channels, channels
        positions = self.neurons // self.channels
        self.grid = -(-positions // self.tile[0]), -(-self.channels // channels)


def _arguments(terms: Sequence[Term], population: Population, tiling: _Tiling) -> tuple[Any, ...]:
    first, second = terms[0], terms[-1]
    kinds = tuple(1 if term.mean is None else 2 for term in terms)
    return (
        *(first.x, first.mean, first.scale, first.shift),
        *(second.x, second.mean, second.scale, second.shift),
        *(population.decay, population.threshold, tiling.neurons, tiling.channels, tiling.inner),
        *(kinds[0] == 2, kinds[1] if len(terms) == 2 else 0, first.repeated),
        *(population.steps, population.steps > _UNROLLED, *tiling.tile),
    )


def _inner(x: Tensor) -> int:
    if x.dim() != 4 or x.is_contiguous(memory_format=torch.channels_last):
        return 1
    return x.shape[2] * x.shape[3]
