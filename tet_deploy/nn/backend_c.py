"""The time loop in C (kernels.c), built ahead or compiled once for this machine at first use (kernels.py).

Why not torch.compile: its CPU code needs a compiler as well, and 4 to 20 seconds for each new shape, where this takes two or
three once and for all. On the time loop alone both are about equally fast (benchmarks/results/train_step_cpu.md). What makes
the difference is the fusion with batch norm, its sums and the pool, of which this has control.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tet_deploy.nn import kernels
from tet_deploy.nn.backends import Backend, Population, Term

_DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}


class _Term(ctypes.Structure):
    _fields_ = (
        ("x", ctypes.c_void_p),
        ("stride", ctypes.c_ssize_t),
        ("mean", ctypes.c_void_p),
        ("scale", ctypes.c_void_p),
        ("shift", ctypes.c_void_p),
    )


class _Population(ctypes.Structure):
    _fields_ = (
        ("steps", ctypes.c_ssize_t),
        ("neurons", ctypes.c_ssize_t),
        ("channels", ctypes.c_ssize_t),
        ("decay", ctypes.c_float),
        ("threshold", ctypes.c_float),
        ("gamma", ctypes.c_float),
        ("pool", ctypes.c_ssize_t),
        ("row", ctypes.c_ssize_t),
    )


def load() -> Backend:
    """The backend, of kernels that were built ahead, or compiled if this machine has not done so yet.

    Raises
    ------
    MissingDependencyError
        No compiler, or none that can compile it.
    ArtifactError
        See `kernels.built_ahead`.
    """
    folder = os.environ.get(kernels.VARIABLE)
    if folder:
        return _C(kernels.built_ahead(folder).__getitem__)
    return kernels.with_compiler(lambda command: _C(functools.partial(kernels.compiled, command)))


class _C:
    """Calls into the library for a dtype. Channels are fastest in memory: `inner` is 1."""

    fuses_norm = fuses_pool = True

    def __init__(self, load_library: Callable[[str], ctypes.CDLL]) -> None:
        self._load = load_library
        self._libraries = {torch.float32: _functions(load_library(_DTYPES[torch.float32]))}

    def _library(self, x: Tensor) -> ctypes.CDLL:
        if x.dtype not in self._libraries:
            self._libraries[x.dtype] = _functions(self._load(_DTYPES[x.dtype]))
        return self._libraries[x.dtype]

    def runs_on(self, x: Tensor) -> bool:
        return x.device.type == "cpu" and x.dtype in _DTYPES

    def arrange(self, x: Tensor) -> Tensor:
        return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x.contiguous()

    def forward(self, terms: Sequence[Term], population: Population) -> Tensor:
        spikes = terms[0].all_steps(population)
        structures = _structures(terms, population)
        _check(self._library(spikes).lif_forward(*structures, spikes.data_ptr(), torch.get_num_threads()))
        return spikes

    def backward(self, terms: Sequence[Term], population: Population, grad: Tensor) -> tuple[Tensor, Tensor | None]:
        term = terms[0]
        result = torch.empty_like(term.x)
        sums = None if term.mean is None else torch.empty(3, population.channels, dtype=torch.float64)
        structures = _structures(terms, population)
        _check(
            self._library(grad).lif_backward(
                *structures,
                grad.data_ptr(),
                result.data_ptr(),
                term.repeated,
                None if sums is None else sums.data_ptr(),
                torch.get_num_threads(),
            )
        )
        return result, sums

    def statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        channels = x.shape[1]
        mean, variance = torch.empty(2, channels, dtype=torch.float64)
        rows = x.numel() // channels
        _check(
            self._library(x).statistics(
                x.data_ptr(), rows, channels, mean.data_ptr(), variance.data_ptr(), torch.get_num_threads()
            )
        )
        return mean, variance

    def norm_backward(self, grad: Tensor, term: Term, offset: Tensor, slope: Tensor, *, in_place: bool) -> Tensor:
        result = grad if in_place else torch.empty_like(grad)
        channels = len(offset)
        pointers = [tensor.data_ptr() for tensor in (grad, term.x, *_norm(term), offset, slope, result)]
        _check(self._library(grad).norm_backward(*pointers, grad.numel() // channels, channels, torch.get_num_threads()))
        return result


def _norm(term: Term) -> tuple[Tensor, Tensor]:
    assert term.mean is not None and term.scale is not None
    return term.mean, term.scale


def _structures(terms: Sequence[Term], population: Population) -> tuple[_Term, _Term, _Population]:
    p, x = population, terms[0].x
    neurons = x.numel() // (1 if terms[0].repeated else p.steps)
    row = x.shape[-1] * p.channels if p.pool > 1 else 0
    first, second = (_structure(term, neurons) for term in (*terms, None)[:2])
    return first, second, _Population(p.steps, neurons, p.channels, p.decay, p.threshold, p.gamma, p.pool, row)


def _structure(term: Term | None, neurons: int) -> _Term:
    if term is None:
        return _Term()
    norm = [None if tensor is None else tensor.data_ptr() for tensor in (term.mean, term.scale, term.shift)]
    return _Term(term.x.data_ptr(), 0 if term.repeated else neurons, *norm)


def _check(code: int) -> None:
    if code:
        raise MemoryError("neurons: no memory for the scratch space of the time loop")


def _functions(library: ctypes.CDLL) -> ctypes.CDLL:
    term, population = ctypes.POINTER(_Term), ctypes.POINTER(_Population)
    pointer, size, integer = ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int
    library.lif_forward.argtypes = [term, term, population, pointer, integer]
    library.lif_backward.argtypes = [term, term, population, pointer, pointer, integer, pointer, integer]
    library.statistics.argtypes = [pointer, size, size, pointer, pointer, integer]
    library.norm_backward.argtypes = [pointer] * 7 + [size, size, integer]
    return library
