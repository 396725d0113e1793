"""Kernels of the Triton backend. A program walks one tile, [positions, channels], through all steps.

An array of one step holds `neurons` values; `inner` values lie between those of one channel and the next. NORMED says
whether the first term is; SECOND whether there is a second term: 0 none, 1 plain, 2 normed. Loops over few steps are
unrolled, so that membrane potentials stay in registers; over many, LONG, they are loops, and the potentials come from
memory.
"""

# mypy: disable-error-code="untyped-decorator, no-untyped-def, no-untyped-call, assignment"
# Triton compiles these functions itself, from their source: their arguments are pointers, scalars and tiles.

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def forward(
    out,
    POTENTIALS: tl.constexpr,
    x,
    mean_x,
    scale_x,
    shift_x,
    y,
    mean_y,
    scale_y,
    shift_y,
    decay,
    threshold,
    neurons,
    channels,
    inner,
    NORMED: tl.constexpr,
    SECOND: tl.constexpr,
    REPEATED: tl.constexpr,
    STEPS: tl.constexpr,
    LONG: tl.constexpr,
    P: tl.constexpr,
    C: tl.constexpr,
):
    """Spikes of all steps, or the membrane potentials before the reset."""
    offset, exists, channel = _tile(neurons, channels, inner, P, C)
    v = tl.zeros((P, C), tl.float32)
    if LONG:
        for t in range(STEPS):
            at = offset + t * neurons
            i = _first(x, offset if REPEATED else at, exists, mean_x, scale_x, shift_x, channel, channels, NORMED)
            u = v * decay + _second(i, y, at, exists, mean_y, scale_y, shift_y, channel, channels, SECOND)
            v = tl.where(u > threshold, 0.0, u)
            result = u if POTENTIALS else tl.where(u > threshold, 1.0, 0.0)
            tl.store(out + at, result.to(out.dtype.element_ty), mask=exists)
    else:
        for t in tl.static_range(STEPS):
            at = offset + t * neurons
            i = _first(x, offset if REPEATED else at, exists, mean_x, scale_x, shift_x, channel, channels, NORMED)
            u = v * decay + _second(i, y, at, exists, mean_y, scale_y, shift_y, channel, channels, SECOND)
            v = tl.where(u > threshold, 0.0, u)
            result = u if POTENTIALS else tl.where(u > threshold, 1.0, 0.0)
            tl.store(out + at, result.to(out.dtype.element_ty), mask=exists)


@triton.jit
def backward(
    grad_spikes,
    grad,
    parts,
    potentials,
    gamma,
    x,
    mean_x,
    scale_x,
    shift_x,
    y,
    mean_y,
    scale_y,
    shift_y,
    decay,
    threshold,
    neurons,
    channels,
    inner,
    NORMED: tl.constexpr,
    SECOND: tl.constexpr,
    REPEATED: tl.constexpr,
    STEPS: tl.constexpr,
    LONG: tl.constexpr,
    P: tl.constexpr,
    C: tl.constexpr,
):
    """Gradient of the presynaptic input, and the sums that the norms' gradients need, [blocks of positions, 3, channels]."""
    offset, exists, channel = _tile(neurons, channels, inner, P, C)
    grad_v = tl.zeros((P, C), tl.float32)
    total = tl.zeros((P, C), tl.float32)
    total_x = tl.zeros((P, C), tl.float32)
    total_y = tl.zeros((P, C), tl.float32)
    if LONG:
        for back in range(STEPS):
            at = offset + (STEPS - 1 - back) * neurons
            u = tl.load(potentials + at, mask=exists, other=0.0)
            grad_u = _grad_u(grad_spikes, at, exists, u, grad_v, threshold, gamma)
            grad_v = grad_u * decay
            if not (NORMED and REPEATED):
                tl.store(grad + at, grad_u.to(grad.dtype.element_ty), mask=exists)
            total += grad_u
            if NORMED:
                total_x += grad_u * _centred(x, offset if REPEATED else at, exists, mean_x, channel, channels)
            if SECOND == 2:
                total_y += grad_u * _centred(y, at, exists, mean_y, channel, channels)
    else:
        v = tl.zeros((P, C), tl.float32)
        us = ()
        for t in tl.static_range(STEPS):
            at = offset + t * neurons
            i = _first(x, offset if REPEATED else at, exists, mean_x, scale_x, shift_x, channel, channels, NORMED)
            u = v * decay + _second(i, y, at, exists, mean_y, scale_y, shift_y, channel, channels, SECOND)
            v = tl.where(u > threshold, 0.0, u)
            us = us + (u,)  # noqa: RUF005  # Triton has no unpacking
        for t in tl.static_range(STEPS - 1, -1, -1):
            at = offset + t * neurons
            grad_u = _grad_u(grad_spikes, at, exists, us[t], grad_v, threshold, gamma)
            grad_v = grad_u * decay
            if not (NORMED and REPEATED):
                tl.store(grad + at, grad_u.to(grad.dtype.element_ty), mask=exists)
            total += grad_u
            if NORMED:
                total_x += grad_u * _centred(x, offset if REPEATED else at, exists, mean_x, channel, channels)
            if SECOND == 2:
                total_y += grad_u * _centred(y, at, exists, mean_y, channel, channels)
    if NORMED and REPEATED:
        tl.store(grad + offset, total.to(grad.dtype.element_ty), mask=exists)
    if NORMED:
        row = tl.program_id(1) * C + tl.arange(0, C)
        to = parts + tl.program_id(0).to(tl.int64) * 3 * channels + row
        tl.store(to, tl.sum(total, 0), mask=row < channels)
        tl.store(to + channels, tl.sum(total_x, 0), mask=row < channels)
        tl.store(to + 2 * channels, tl.sum(total_y, 0), mask=row < channels)


@triton.jit
def norm_backward(grad, x, out, mean, scale, offset, slope, size, channels, inner, BLOCK: tl.constexpr):
    """scale * (grad - offset - (x - mean) * slope), per channel."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    exists = at < size
    channel = at // inner % channels
    g = tl.load(grad + at, mask=exists, other=0.0).to(tl.float32)
    centred = tl.load(x + at, mask=exists, other=0.0).to(tl.float32) - tl.load(mean + channel)
    result = tl.load(scale + channel) * (g - tl.load(offset + channel) - centred * tl.load(slope + channel))
    tl.store(out + at, result.to(out.dtype.element_ty), mask=exists)


@triton.jit
def _tile(neurons, channels, inner, P: tl.constexpr, C: tl.constexpr):
    """Offsets of the program's tile within a step, which of them exist, and its channels."""
    position = tl.program_id(0).to(tl.int64) * P + tl.arange(0, P)[:, None]
    channel = tl.program_id(1) * C + tl.arange(0, C)[None, :]
    offset = position // inner * (inner * channels) + channel * inner + position % inner
    return offset, (position < neurons // channels) & (channel < channels), channel


@triton.jit
def _first(x, at, exists, mean, scale, shift, channel, channels, NORMED: tl.constexpr):
    value = tl.load(x + at, mask=exists, other=0.0).to(tl.float32)
    if NORMED:
        real = channel < channels
        value = (value - tl.load(mean + channel, mask=real, other=0.0)) * tl.load(scale + channel, mask=real, other=0.0)
        value += tl.load(shift + channel, mask=real, other=0.0)
    return value


@triton.jit
def _second(current, y, at, exists, mean, scale, shift, channel, channels, SECOND: tl.constexpr):
    if SECOND > 0:
        current += _first(y, at, exists, mean, scale, shift, channel, channels, SECOND == 2)
    return current


@triton.jit
def _grad_u(grad_spikes, at, exists, u, grad_v, threshold, gamma):
    """0 where nothing exists: sums may run over it."""
    surrogate = tl.maximum(gamma - tl.abs(u - threshold), 0.0) / (gamma * gamma)
    grad_s = tl.load(grad_spikes + at, mask=exists, other=0.0).to(tl.float32) - grad_v * u
    return tl.where(exists, grad_s * surrogate + tl.where(u > threshold, 0.0, grad_v), 0.0)


@triton.jit
def _centred(x, at, exists, mean, channel, channels):
    mean_here = tl.load(mean + channel, mask=channel < channels, other=0.0)
    return tl.load(x + at, mask=exists, other=0.0).to(tl.float32) - mean_here
