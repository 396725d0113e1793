"""The spiking neuron as the equations say it, one step at a time, differentiated by autograd: what `lif` must equal."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tet_deploy.nn.surrogate import surrogate_gradient


def lif_by_steps(current: Tensor, decay: float = 0.5, threshold: float = 1.0, gamma: float = 1.0) -> Tensor:
    """Spikes [T, ...] of presynaptic input [T, ...]; slow and memory-hungry, for comparison only.

    Deng et al., ICLR 2022, eqs. 1-3 and 5.
    """
    v = torch.zeros_like(current[0], dtype=torch.promote_types(current.dtype, torch.float32))
    spikes = []
    for presynaptic_input in current:
        u = decay * v + presynaptic_input
        s: Tensor = _Spike.apply(u, threshold, gamma)  # type: ignore[no-untyped-call]  # torch's own
        v = u * (1 - s)
        spikes.append(s)
    return torch.stack(spikes).to(current.dtype)


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, threshold: float, gamma: float) -> Tensor:
        ctx.save_for_backward(u)
        ctx.parameters = threshold, gamma
        return (u > threshold).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, grad_spikes: Tensor) -> tuple[Tensor, None, None]:
        (u,) = ctx.saved_tensors
        return grad_spikes * surrogate_gradient(u, *ctx.parameters), None, None
