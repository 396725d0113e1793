"""The neuron in a Loihi core's integers, for training: all steps at once, exact forward, surrogate gradients backward.

Forward is `dynamics.fixed_point_lif_step`, or `dynamics.synaptic_current` and what follows it, integer for integer, in
floats that hold them: truncation, wrap and limits included. Backward is that of `lif`, the triangle of Deng et al., ICLR
2022, eq. 5, and through the reset, with potentials in units of the float network; what rounds, wraps or holds passes
gradients on as if it did not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tet_deploy import dynamics
from tet_deploy.nn.surrogate import surrogate_gradient

UNIT: int = 2**dynamics.FRACTION_BITS  # steps of the membrane potential in one weight mantissa


@dataclass(frozen=True)
class FixedPointNeuron:
    """What does not train. Per channel where a tensor broadcasts against [C, ...].

    Attributes
    ----------
    decay_v
        12-bit decay, see `dynamics.decay_v`.
    threshold
        Mantissa.
    scale
        Weight mantissas per unit of the float network's membrane potential.
    decay_u
        The same of the synaptic current, see `dynamics.decay_u`; 4096 where there is none.
    gamma
        Half width of the surrogate gradient's triangle, in units of the float network.
    """

    decay_v: int | Tensor
    threshold: Tensor
    scale: Tensor
    decay_u: int = dynamics.DECAY_ONE
    gamma: float = 1.0

    @property
    def kept(self) -> Tensor:
        """What a step keeps of the membrane potential, in 4096ths."""
        return torch.as_tensor(dynamics.DECAY_ONE - self.decay_v)

    @property
    def kept_current(self) -> int:
        """What a step keeps of the synaptic current, in 4096ths; 0 where there is none."""
        return dynamics.DECAY_ONE - self.decay_u

    @property
    def dtype(self) -> torch.dtype:
        """In which all is exact: a power of two times 24 bit fits float32, any other factor needs 36 bit.

        A current, wrapped once, may have more than 24.
        """
        kept = self.kept.long()
        return torch.float64 if (kept & (kept - 1)).any() or self.kept_current else torch.float32


def fixed_point_lif(sums: Tensor, bias: Tensor | None, neuron: FixedPointNeuron) -> tuple[Tensor, Tensor]:
    """Spikes of a population over all steps, and its membrane potentials before the reset.

    Parameters
    ----------
    sums
        Presynaptic sums in weight mantissas, whole numbers [T, B, C, ...]; each synapse node has wrapped its own.
    bias
        As the population adds it, in 64ths of a mantissa, whole numbers that broadcast against [C, ...].

    Returns
    -------
    spikes, potentials
        float32 of the same shape; the potentials, in 64ths of a mantissa, take no gradient.
    """
    bias = sums.new_zeros(()) if bias is None else bias
    spikes, potentials = _FixedPointLIF.apply(sums, bias, neuron)  # type: ignore[no-untyped-call]  # torch's own
    return spikes, potentials


def wrap24(sums: Tensor) -> Tensor:
    """`dynamics.wrap24`, with gradients as if nothing had wrapped."""
    with torch.no_grad():
        shift = (sums + dynamics.STATE_LIMIT).remainder(2 * dynamics.STATE_LIMIT) - dynamics.STATE_LIMIT - sums
    return sums + shift


class _FixedPointLIF(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, sums: Tensor, bias: Tensor, neuron: FixedPointNeuron) -> tuple[Tensor, Tensor]:
        dtype, limit = neuron.dtype, dynamics.STATE_LIMIT - 1
        threshold, added = (neuron.threshold * UNIT).to(dtype), bias.to(dtype)
        v, kept = torch.zeros_like(sums[0], dtype=dtype), (neuron.kept / dynamics.DECAY_ONE).to(dtype)
        current, kept_current = torch.zeros_like(v), neuron.kept_current / dynamics.DECAY_ONE
        spikes, potentials = torch.empty_like(sums, dtype=torch.float32), torch.empty_like(sums, dtype=torch.float32)
        for step, a in enumerate(sums):
            arriving = a.to(dtype) * UNIT
            current = _wrap_once(current.mul_(kept_current).trunc_().add_(arriving) if kept_current else arriving)
            v.mul_(kept).trunc_()
            v.add_(current).add_(added).clamp_(-limit, limit)
            potentials[step] = v
            torch.gt(v, threshold, out=spikes[step])
            v.mul_(1 - spikes[step])
        ctx.save_for_backward(potentials, spikes)
        ctx.neuron, ctx.bias_shape = neuron, bias.shape
        ctx.dtypes = sums.dtype, bias.dtype
        ctx.mark_non_differentiable(potentials)
        return spikes, potentials

    @staticmethod
    def backward(ctx: Any, grad_spikes: Tensor, _: Tensor) -> tuple[Tensor, Tensor | None, None]:
        potentials, spikes = ctx.saved_tensors
        neuron: FixedPointNeuron = ctx.neuron
        scale, kept = (each.to(potentials.dtype) for each in (neuron.scale, neuron.kept / dynamics.DECAY_ONE))
        threshold, unit = neuron.threshold.to(potentials.dtype) / scale, 1 / (UNIT * scale)
        grad_sums = torch.empty_like(potentials)
        grad_v = torch.zeros_like(potentials[0])  # of the potential after the reset, in units of the float network
        for step in reversed(range(len(potentials))):
            u = potentials[step] * unit
            slope = surrogate_gradient(u, threshold, neuron.gamma)
            through_reset = u.mul_(slope).add_(spikes[step]).neg_().add_(1)  # d v / d u, with v = u * (1 - spike)
            grad_u = grad_v.mul_(kept).mul_(through_reset).addcmul_(grad_spikes[step], slope)
            torch.div(grad_u, scale, out=grad_sums[step])
        grad_bias = None
        if ctx.needs_input_grad[1]:
            grad_bias = (grad_sums.sum(dim=(0, 1)) / UNIT).sum_to_size(ctx.bias_shape).to(ctx.dtypes[1])
        if neuron.kept_current:  # what arrives stays in the current
            for step in reversed(range(len(grad_sums) - 1)):
                grad_sums[step].add_(grad_sums[step + 1], alpha=neuron.kept_current / dynamics.DECAY_ONE)
        return grad_sums.to(ctx.dtypes[0]), grad_bias, None


def _wrap_once(u: Tensor) -> Tensor:
    """`dynamics.wrap_once`."""
    limit, (least, greatest) = dynamics.STATE_LIMIT, torch.aminmax(u)
    if -limit < least and greatest <= limit:  # seldom otherwise
        return u
    u = torch.where(u > limit, u - 2 * limit, u)
    return torch.where(u <= -limit, u + 2 * limit, u)
