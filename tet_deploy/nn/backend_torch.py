"""The time loop in plain torch: runs on every device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tet_deploy.nn.backends import Backend, Population, Term
from tet_deploy.nn.surrogate import surrogate_gradient


def load() -> Backend:
    """The backend."""
    return _Torch()


class _Torch:
    """One plain term. Membrane potentials of half-precision input are float32, in every backend."""

    fuses_norm = fuses_pool = False

    def runs_on(self, x: Tensor) -> bool:
        return True

    def forward(self, terms: Sequence[Term], population: Population) -> Tensor:
        (term,) = terms
        spikes = torch.empty_like(term.x)
        v = _resting(term.x)
        for t in range(population.steps):
            fired = v.mul_(population.decay).add_(term.x[t]) > population.threshold  # multiply, then add: as in dynamics.py
            spikes[t] = fired
            v.masked_fill_(fired, 0)
        return spikes

    def backward(self, terms: Sequence[Term], population: Population, grad: Tensor) -> tuple[Tensor, None]:
        (term,) = terms
        p = population
        grad_current = torch.empty_like(term.x)
        potentials = _potentials_before_reset(term.x, p)
        grad_v = _resting(term.x)
        for t in reversed(range(p.steps)):
            u = potentials[t]
            # v = u * (1 - s):  dv/du = (1 - s) - u * ds/du
            grad_s = grad[t] - grad_v * u
            grad_u = grad_s * surrogate_gradient(u, p.threshold, p.gamma) + grad_v.masked_fill(u > p.threshold, 0)
            grad_current[t] = grad_u
            grad_v = grad_u * p.decay
        return grad_current, None

    def arrange(self, x: Tensor) -> Tensor:
        raise NotImplementedError  # only backends that fuse batch norm are asked; this one says that it does not

    def statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError  # as above

    def norm_backward(self, grad: Tensor, term: Term, offset: Tensor, slope: Tensor, *, in_place: bool) -> Tensor:
        raise NotImplementedError  # as above


def _resting(current: Tensor) -> Tensor:
    return torch.zeros_like(current[0], dtype=torch.promote_types(current.dtype, torch.float32))


def _potentials_before_reset(current: Tensor, population: Population) -> Tensor:
    """u(1..T), [T, ...]."""
    v = _resting(current)
    potentials = torch.empty_like(current, dtype=v.dtype)
    for t in range(len(current)):
        potentials[t] = v.mul_(population.decay).add_(current[t])
        v.masked_fill_(v > population.threshold, 0)
    return potentials
