"""Batch norm and the neurons after it in one pass over memory, for training: keeps only the norm's input.

    I = (x - mean) / sqrt(var + eps) * gamma + beta  [ + the same of another x, or another value ] ;  spikes = lif(I)

Mean and biased variance are those of nn.BatchNorm2d in training, over batch, time and space, but summed in double precision
on a CPU: torch's own sums in channels-last memory are off by up to 3e-4 of a deviation.

What is promised: statistics within float rounding of the exact ones, and then, bit for bit, the spikes of
lif((x - mean) * scale + shift). torch rounds its statistics and its affine map elsewhere, so a spike can differ from that of
the layers one after another where a membrane potential lies within float rounding of its threshold.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tet_deploy.nn.backends import Backend, Population, Term, backend_for, like
from tet_deploy.nn.lif import LIF, refuse_second_derivative

# Exact types, and the dimensions of x. Sync batch norm has sums of its own.
NORMS: dict[type[nn.Module], int] = {nn.BatchNorm2d: 4, nn.BatchNorm1d: 2}


def fusible(layer: Any, neurons: Any, x: Any) -> bool:
    """Whether `norm_lif` may take the place of both layers: training, a backend that can, and nobody listening to them."""
    return (
        type(layer) in NORMS
        and type(neurons) is LIF
        and layer.training
        and isinstance(x, Tensor)
        and x.dim() == NORMS[type(layer)]
        and x.shape[1] == layer.num_features
        and x.numel() > x.shape[1]
        and not (has_hooks(layer) or has_hooks(neurons))
        and backend_for(x).fuses_norm
    )


def norm_lif(
    x: Tensor,
    norm: Any,
    neurons: Any,
    steps: int,
    other: Tensor | None = None,
    other_norm: Any = None,
    *,
    bias: Tensor | None = None,
    repeated: bool = False,
    pool: int = 1,
) -> Tensor:
    """neurons(norm(x)), or neurons(norm(x) + other), or neurons(norm(x) + other_norm(other)), in training.

    Running statistics of the norms are updated as torch does.

    Parameters
    ----------
    x
        [T*B, C, ...]; or [B, C, ...] if it is `repeated` at every step.
    other
        As x.
    bias
        [C], left out of x by the layer before, as the norm would take it away. It moves the running mean; its gradient is 0.
    pool
        Give means over windows of this many pixels squared: an average pool of the spikes, which then never exist.

    Returns
    -------
    Tensor
        Spikes [T*B, C, ...].
    """
    backend = backend_for(x)
    population = Population(steps, neurons.decay, neurons.threshold, neurons.gamma, x.shape[1], pool)
    x = backend.arrange(x)
    first = _normalize(backend, norm, x, steps if repeated else 1, bias)
    second: tuple[Any, ...] = (None, None, None)
    if other is not None:
        other = like(other.to(x.dtype), x)
        if other_norm is not None:
            second = _normalize(backend, other_norm, other, 1)
    spikes: Tensor = _NormLIF.apply(backend, population, repeated, bias, x, *first, other, *second)  # type: ignore[no-untyped-call]
    return spikes


Statistics = tuple[Tensor, Tensor]  # mean and 1/deviation of each channel


def _normalize(
    backend: Backend, norm: Any, x: Tensor, copies: int, bias: Tensor | None = None
) -> tuple[Statistics, Tensor | None, Tensor | None]:
    """A batch's statistics, also noted in the running ones, and the norm's parameters."""
    mean, variance = backend.statistics(x.detach())
    count = copies * x.numel() // x.shape[1]
    if norm.running_mean is not None:
        norm.num_batches_tracked.add_(1)
        share = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
        biased = mean if bias is None else mean + bias.detach()
        for running, new in ((norm.running_mean, biased), (norm.running_var, variance * (count / (count - 1)))):
            running.copy_(share * new + (1 - share) * running.to(new.dtype))
    return (mean, (variance + norm.eps).rsqrt()), norm.weight, norm.bias


class _NormLIF(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, backend: Backend, population: Population, repeated: bool, left_out: Tensor | None, *inputs: Any
    ) -> Tensor:
        """inputs: x, its statistics, weight and bias; then the same of the other term, None where there is none."""
        x, statistics, weight, bias, other, other_statistics, other_weight, other_bias = inputs
        ctx.backend, ctx.population, ctx.repeated = backend, population, repeated
        ctx.left_out = left_out if ctx.needs_input_grad[3] else None
        ctx.statistics = statistics, other_statistics
        ctx.save_for_backward(x, weight, bias, other, other_weight, other_bias)
        return backend.forward(_terms(ctx, (x, weight, bias, other, other_weight, other_bias)), population)

    @staticmethod
    def backward(ctx: Any, grad_spikes: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative()
        terms = _terms(ctx, ctx.saved_tensors)
        grad_spikes = like(grad_spikes, terms[0].all_steps(ctx.population))
        grad, sums = ctx.backend.backward(terms, ctx.population, grad_spikes)
        del grad_spikes
        of_other: tuple[Tensor | None, ...] = (None, None, None)
        if len(terms) == 2:
            plain = ctx.statistics[1] is None
            of_other = (grad, None, None) if plain else _norm_gradients(ctx, 1, terms[1], grad, sums, in_place=False)
        of_x = _norm_gradients(ctx, 0, terms[0], grad, sums, in_place=of_other[0] is not grad)
        of_left_out = None if ctx.left_out is None else torch.zeros_like(ctx.left_out)
        return None, None, None, of_left_out, of_x[0], None, *of_x[1:], of_other[0], None, *of_other[1:]


def _terms(ctx: Any, tensors: tuple[Tensor | None, ...]) -> list[Term]:
    x, weight, bias, other, other_weight, other_bias = tensors
    assert x is not None
    terms = [_term(x, ctx.statistics[0], weight, bias, ctx.repeated)]
    return terms if other is None else [*terms, _term(other, ctx.statistics[1], other_weight, other_bias, False)]


def _term(x: Tensor, statistics: Statistics | None, weight: Tensor | None, bias: Tensor | None, repeated: bool) -> Term:
    if statistics is None:
        return Term(x)
    mean, inverse = statistics
    scale = inverse if weight is None else weight * inverse
    shift = torch.zeros_like(mean) if bias is None else bias
    return Term(x, mean.float(), scale.float(), shift.float(), repeated)


def _norm_gradients(
    ctx: Any, index: int, term: Term, grad: Tensor, sums: Tensor, *, in_place: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of a norm's input, weight and bias, from that of its output and the sums over it.

    d/dx = scale * (g - mean(g) - (x - mean) * mean(g * (x - mean)) / variance)   (Ioffe and Szegedy, 2015, section 3)
    """
    inverse = ctx.statistics[index][1]
    count = term.x.numel() // len(inverse)
    offset, slope = sums[0] / count, sums[1 + index] * inverse**2 / count
    of_x = ctx.backend.norm_backward(grad, term, offset.float(), slope.float(), in_place=in_place)
    return of_x, (sums[1 + index] * inverse).float(), sums[0].float()


def window(layer: nn.Module | None, x: Tensor) -> int:
    """Side of the windows of an average pool that `norm_lif` may take over, when fusible; else 1."""
    if type(layer) is not nn.AvgPool2d or has_hooks(layer) or x.dim() != 4 or not backend_for(x).fuses_pool:
        return 1
    side = layer.kernel_size if isinstance(layer.kernel_size, int) else layer.kernel_size[0]
    plain = nn.AvgPool2d(side)
    same = all(_pair(getattr(layer, name)) == _pair(getattr(plain, name)) for name in ("kernel_size", "stride", "padding"))
    fits = x.shape[-2] % side == 0 and x.shape[-1] % side == 0
    return side if same and fits and not layer.ceil_mode and layer.divisor_override is None else 1


def _pair(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value, value)


def has_hooks(layer: nn.Module) -> bool:
    """Whether somebody listens to a layer's calls, so that it must be called."""
    return any((layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks))
