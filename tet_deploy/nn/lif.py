"""The spiking neuron for training: the whole time loop as one differentiable function.

    u(t) = decay * v(t-1) + I(t) ;  s(t) = 1 if u(t) > threshold else 0 ;  v(t) = u(t) * (1 - s(t)) ;  v(0) = 0

Deng et al., ICLR 2022, eqs. 1-3. The derivative of s with respect to u is replaced by a triangle (eq. 5), and the gradient
also flows through the reset. Only I is kept for the backward pass; u is computed again from it there. `backends` says which
code does so.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from tet_deploy.errors import ArgumentError, DataError, ExecutionError
from tet_deploy.nn.backends import Population, Term, backend_for, dense, like, one_number


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
        0 or 1, of the same shape and dtype. The membrane potential of half-precision input is float32.

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
    ArgumentError
        decay outside [0, 1], threshold or gamma not positive or not finite; or not one number each, or one to be trained.
    """

    sees_time = True

    def __init__(self, decay: float = 0.5, threshold: float = 1.0, gamma: float = 1.0) -> None:
        super().__init__()
        self.decay, self.threshold, self.gamma = (
            one_number(name, value) for name, value in (("decay", decay), ("threshold", threshold), ("gamma", gamma))
        )
        if not 0 <= self.decay <= 1:
            raise ArgumentError(
                f"LIF: decay is the factor per step, in [0, 1]; got {decay}. A time constant tau is 1 - 1/tau."
            )
        if not (0 < self.threshold < math.inf and 0 < self.gamma < math.inf):
            raise ArgumentError(f"LIF: threshold and gamma must be positive and finite; got {threshold} and {gamma}.")

    def forward(self, current: Tensor) -> Tensor:
        return lif(current, self.decay, self.threshold, self.gamma)

    def extra_repr(self) -> str:
        return f"decay={self.decay}, threshold={self.threshold}, gamma={self.gamma}"


class _LIFOverTime(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, current: Tensor, decay: float, threshold: float, gamma: float) -> Tensor:
        ctx.backend, ctx.population = backend_for(current), Population(len(current), decay, threshold, gamma)
        current = dense(current)
        ctx.save_for_backward(current)
        spikes: Tensor = ctx.backend.forward([Term(current)], ctx.population)
        return spikes

    @staticmethod
    def backward(ctx: Any, grad_spikes: Tensor) -> tuple[Tensor, None, None, None]:
        refuse_second_derivative()
        (current,) = ctx.saved_tensors
        grad_current, _ = ctx.backend.backward([Term(current)], ctx.population, like(grad_spikes, current))
        return grad_current, None, None, None


def refuse_second_derivative() -> None:
    """An error in a backward pass that is itself to be differentiated; torch alone would take it for a constant.

    Raises
    ------
    ExecutionError
        The pass was started with create_graph=True.
    """
    if torch.is_grad_enabled():
        raise ExecutionError("LIF: its gradient, a surrogate, cannot be differentiated again. Leave out create_graph=True.")
