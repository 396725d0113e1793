"""The spiking neuron for training: the whole time loop as one differentiable function.

    u(t) = decay * v(t-1) + I(t) ;  s(t) = 1 if u(t) > threshold else 0 ;  v(t) = u(t) * (1 - s(t)) ;  v(0) = 0

Deng et al., ICLR 2022, eqs. 1-3. The derivative of s with respect to u is replaced by a triangle (eq. 5), and the gradient
also flows through the reset. Only I is kept for the backward pass; u is computed again from it there.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tet_deploy.errors import DataError, GraphError


def surrogate_gradient(u: Tensor, threshold: float = 1.0, gamma: float = 1.0) -> Tensor:
    """ds/du = max(0, gamma - |u - threshold|) / gamma^2  (eq. 5)."""
    return (gamma - (u - threshold).abs()).clamp(min=0) / gamma**2


def lif(current: Tensor, decay: float = 0.5, threshold: float = 1.0, gamma: float = 1.0) -> Tensor:
    """Spikes of a population over all steps.

    Parameters
    ----------
    current
        Presynaptic input I, [T, ...], T >= 1.
    decay
        Factor per step that the membrane potential keeps (tau in the paper); 1 is an integrate-and-fire neuron.
    threshold
        A neuron fires when its membrane potential is strictly above it.
    gamma
        Half width of the surrogate gradient's triangle.

    Returns
    -------
    Tensor
        0 or 1, of the same shape and dtype.

    Raises
    ------
    DataError
        No time axis, no step, or no floating-point values.
    """
    if current.dim() < 2 or len(current) < 1 or not current.is_floating_point():
        raise DataError(
            "LIF: its input must be floating point [T, B, ...] with at least one step; "
            f"got {current.dtype} {tuple(current.shape)}. Put time first, e.g. frames.unsqueeze(0)."
        )
    spikes: Tensor = _LIFOverTime.apply(current, decay, threshold, gamma)  # type: ignore[no-untyped-call]  # torch's own
    return spikes


class LIF(nn.Module):
    """A population of leaky integrate-and-fire neurons with hard reset to zero; [T, B, ...] to spikes [T, B, ...].

    Every call starts from membrane potential zero: the layer keeps no state between calls. See `lif` for the parameters.

    Examples
    --------
    >>> spikes = LIF()(torch.randn(4, 1, 8))  # 4 steps, 1 sample, 8 neurons

    Raises
    ------
    GraphError
        decay outside [0, 1], threshold or gamma not positive.
    """

    sees_time = True

    def __init__(self, decay: float = 0.5, threshold: float = 1.0, gamma: float = 1.0) -> None:
        super().__init__()
        if not 0 <= decay <= 1:
            raise GraphError(f"LIF: decay is the factor per step, in [0, 1]; got {decay}. A time constant tau is 1 - 1/tau.")
        if not (threshold > 0 and gamma > 0):
            raise GraphError(f"LIF: threshold and gamma must be positive; got {threshold} and {gamma}.")
        self.decay, self.threshold, self.gamma = float(decay), float(threshold), float(gamma)

    def forward(self, current: Tensor) -> Tensor:
        return lif(current, self.decay, self.threshold, self.gamma)

    def extra_repr(self) -> str:
        return f"decay={self.decay}, threshold={self.threshold}, gamma={self.gamma}"


class _LIFOverTime(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, current: Tensor, decay: float, threshold: float, gamma: float) -> Tensor:
        ctx.save_for_backward(current)
        ctx.parameters = decay, threshold, gamma
        spikes = torch.empty_like(current)
        v = torch.zeros_like(current[0])
        for t in range(len(current)):
            fired = v.mul_(decay).add_(current[t]) > threshold  # multiply, then add: as in dynamics.py, never fused
            spikes[t] = fired
            v.masked_fill_(fired, 0)
        return spikes

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_spikes: Tensor) -> tuple[Tensor, None, None, None]:
        (current,) = ctx.saved_tensors
        decay, threshold, gamma = ctx.parameters
        grad_current = torch.empty_like(current)
        potentials = _potentials_before_reset(current, decay, threshold)
        grad_v = torch.zeros_like(current[0])
        for t in reversed(range(len(current))):
            u = potentials[t]
            # v = u * (1 - s):  dv/du = (1 - s) - u * ds/du
            grad_s = grad_spikes[t] - grad_v * u
            grad_u = grad_s * surrogate_gradient(u, threshold, gamma) + grad_v.masked_fill(u > threshold, 0)
            grad_current[t] = grad_u
            grad_v = grad_u * decay
        return grad_current, None, None, None


def _potentials_before_reset(current: Tensor, decay: float, threshold: float) -> Tensor:
    """u(1..T), [T, ...]."""
    potentials = torch.empty_like(current)
    v = torch.zeros_like(current[0])
    for t in range(len(current)):
        potentials[t] = v.mul_(decay).add_(current[t])
        v.masked_fill_(v > threshold, 0)
    return potentials
