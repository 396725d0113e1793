"""The time loop in C (kernels.c), compiled once for this machine at first use and kept in the user's cache folder.

Why not torch.compile: its CPU code needs a compiler as well, and 4 to 20 seconds for each new shape, where this takes two or
three once and for all. On the time loop alone both are about equally fast (benchmarks/results/train_step_cpu.md). What makes
the difference is the fusion with batch norm, its sums and the pool, of which this has control.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from tet_deploy.errors import ArtifactError, MissingDependencyError
from tet_deploy.files import BY_NAME, written_whole
from tet_deploy.nn.backends import VARIABLE, Backend, Population, Term

_SOURCE = Path(__file__).with_name("kernels.c")
# Without contraction, multiply-then-add is what it is in torch; the other two let comparisons become vector instructions.
_FLAGS = (
    "-O3",
    "-std=gnu99",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fopenmp-simd",
    "-shared",
    "-fPIC",
)
_DTYPES: dict[torch.dtype, list[str]] = {torch.float32: [], torch.bfloat16: ["-DBFLOAT16"]}
_EXTRAS = (  # what a compiler may not know, best first
    ("-march=native", "-mprefer-vector-width=512", "-fopenmp"),
    ("-march=native", "-fopenmp"),
    ("-fopenmp",),
    (),
)


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
    """The backend, compiled if this machine has not done so yet.

    Raises
    ------
    MissingDependencyError
        No compiler, or none that can compile it.
    """
    compiler = _compiler()
    complaint = ""
    for extras in _EXTRAS:
        try:
            return _C([*compiler, *_FLAGS, *extras])
        except (OSError, subprocess.CalledProcessError) as error:
            complaint = complaint or str(getattr(error, "stderr", None) or error).strip().split("\n")[-1]
    raise MissingDependencyError(
        f"neurons: {shlex.join(compiler)} cannot compile the C backend ({complaint}). Install gcc or clang, or set CC."
    )


class _C:
    """Calls into the library for a dtype. Channels are fastest in memory: `inner` is 1."""

    fuses_norm = fuses_pool = True

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._libraries = {torch.float32: _functions(command)}

    def _library(self, x: Tensor) -> ctypes.CDLL:
        if x.dtype not in self._libraries:
            self._libraries[x.dtype] = _functions([*self._command, *_DTYPES[x.dtype]])
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


def _compiler() -> list[str]:
    found = os.environ.get("CC") or next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if not found:
        raise MissingDependencyError(
            "neurons: the C backend needs a C compiler, and none was found. Install gcc or clang, or set CC."
        )
    return shlex.split(found)


def _functions(command: list[str]) -> ctypes.CDLL:
    library = _library(command)
    term, population = ctypes.POINTER(_Term), ctypes.POINTER(_Population)
    pointer, size, integer = ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int
    library.lif_forward.argtypes = [term, term, population, pointer, integer]
    library.lif_backward.argtypes = [term, term, population, pointer, pointer, integer, pointer, integer]
    library.statistics.argtypes = [pointer, size, size, pointer, pointer, integer]
    library.norm_backward.argtypes = [pointer] * 7 + [size, size, integer]
    return library


def _library(command: list[str]) -> ctypes.CDLL:
    """Loaded from the cache, or compiled into it. Its name tells source, flags, compiler and what this CPU can do."""
    macros = subprocess.run(
        [*command, "-dM", "-E", "-x", "c", os.devnull], check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL
    ).stdout
    identity = "\n".join([_SOURCE.read_text(encoding="utf-8"), *command, macros])
    name = f"neurons-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.so"
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tet_deploy" / "compiled"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if _nobody_else_writes(folder.parent, 0o002) and _nobody_else_writes(folder, 0o022):
            return _load_or_compile(command, folder / name)
    except (OSError, ArtifactError):  # a cache that cannot be written, or from which nothing may be executed
        pass
    with tempfile.TemporaryDirectory(prefix="tet_deploy-") as private:
        return _load_or_compile(command, Path(private, name))


def _nobody_else_writes(path: Path, others: int) -> bool:
    """Whether what lies there is ours or the system's: it will be executed."""
    status = path.stat()
    return status.st_uid in (0, os.geteuid()) and not status.st_mode & others


def _load_or_compile(command: list[str], path: Path) -> ctypes.CDLL:
    if not path.exists() or not _nobody_else_writes(path, 0):
        with written_whole(path, BY_NAME) as temporary:
            print(
                f"tet_deploy: {command[0]} compiles the neurons' time loop, once for this machine and a few seconds; "
                f"{VARIABLE}=torch does without a compiler, at about half the speed.",
                file=sys.stderr,
            )
            arguments = [*command, str(_SOURCE), "-o", str(temporary), "-lm"]
            subprocess.run(arguments, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return ctypes.CDLL(str(path))
