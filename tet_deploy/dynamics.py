"""The neuron, stated once: in real numbers and in the integers of a Loihi core.

Every runtime is judged against these functions. Real numbers: Deng et al., ICLR 2022, eqs. 1-3. Integers: what the
fixed-point models of lava-nc 0.10 compute: their LIF, whose synaptic current lives one step (du = 4095) where ours has none.
"""

from __future__ import annotations

from functools import singledispatch

import numpy as np

from tet_deploy.errors import GraphError
from tet_deploy.ir.nodes import (
    LIF,
    Conv,
    CubaLIF,
    LeakyReadout,
    Linear,
    Output,
    Population,
    Quantization,
    Readout,
    SoftResetLIF,
)
from tet_deploy.ir.shapes import conv_size

FRACTION_BITS = 6  # the chip stores u, v and the threshold shifted left by 6
STATE_LIMIT = 2**23  # u and v are 24 bit
LOWEST_POTENTIAL = -(STATE_LIMIT - 1)
DECAY_ONE = 4096  # decays are 12 bit: state * (4096 - decay) / 4096
LARGEST_THRESHOLD = 2**17 - 1
LARGEST_BIAS_MANTISSA = 2**12 - 1  # 13 bit signed
LARGEST_BIAS_EXPONENT = 7
LARGEST_SYNAPTIC_SUM = 2**17 - 1  # a larger one, shifted by 6, may wrap
COMPARISONS = {">": np.greater, ">=": np.greater_equal}  # of a potential with the threshold


@singledispatch
def step(node: Population, v: np.ndarray, presynaptic: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One step of any population: what it sends, and its membrane potential afterwards.

    Parameters
    ----------
    node
        A float or a quantized population; every field of it counts.
    v
        [B, *shape] membrane potential after the last step, 0 at first.
    presynaptic
        [B, *shape] sum of what its synapses send in this step, of v's dtype: a float type, or int64 where quantized. Each
        synapse node of a quantized network has wrapped its own sum (`wrap24`); the ports add without another wrap.

    Raises
    ------
    GraphError
        A kind of population that has no equation here.
    """
    raise GraphError(f"node {node.name!r}: there is no equation for a {node.kind}.")


@step.register
def _(node: LIF, v: np.ndarray, presynaptic: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if node.quantization is None:
        return _float_step(node, v, presynaptic)
    threshold = per_channel(np.asarray(node.threshold, np.int64), presynaptic.ndim)
    decay = per_channel(decay_v(node), presynaptic.ndim)
    return fixed_point_lif_step(v, presynaptic, _bias(node, presynaptic.ndim), decay, threshold)


@step.register
def _(node: SoftResetLIF, v: np.ndarray, presynaptic: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return _float_step(node, v, presynaptic)


@step.register
def _(node: CubaLIF, v: np.ndarray, presynaptic: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Here the presynaptic input is what `synaptic_current` makes of it."""
    if node.quantization is None:
        return _float_step(node, v, presynaptic)
    threshold = per_channel(np.asarray(node.threshold, np.int64), presynaptic.ndim)
    return _integrate(v, presynaptic, _bias(node, presynaptic.ndim), decay_v(node), threshold)


def synaptic_current(node: CubaLIF, current: np.ndarray, presynaptic: np.ndarray) -> np.ndarray:
    """c = current_decay * c + I, of neurons whose input flows into a current; c is 0 at first.

    In integers c = truncate(c * (4096 - decay_u) / 4096) + (I << 6), wrapped once into 24 bit. The bias is added to the
    potential: what does not wrap here can only be held at a limit there.
    """
    if node.quantization is None:
        return np.asarray(current * current.dtype.type(node.current_decay) + presynaptic)
    return wrap_once(unwrapped_current(node, current, presynaptic))


def unwrapped_current(node: Population, current: np.ndarray | int, presynaptic: np.ndarray) -> np.ndarray:
    """What a quantized population wraps once into 24 bit: its input, shifted by 6, and what is left of its current."""
    shifted = np.left_shift(presynaptic, FRACTION_BITS)
    return np.asarray(shifted if decay_u(node) == DECAY_ONE else _decayed(current, decay_u(node)) + shifted)


@step.register
def _(node: Readout, v: np.ndarray, presynaptic: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """It keeps nothing; quantized, it sends 64 times its input plus the bias."""
    if node.quantization is None:
        return presynaptic, v
    return np.left_shift(presynaptic, FRACTION_BITS) + _bias(node, presynaptic.ndim), v


@step.register
def _(node: LeakyReadout, v: np.ndarray, presynaptic: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """v = decay * v + I ; quantized  v = truncate(v * (4096 - decay_v) / 4096) + 64 * I + bias,  which no width limits."""
    if node.quantization is None:
        v = np.asarray(v * v.dtype.type(node.decay) + presynaptic)
    else:
        v = _decayed(v, decay_v(node)) + np.left_shift(presynaptic, FRACTION_BITS) + _bias(node, presynaptic.ndim)
    return v, v


def _bias(node: Population, ndim: int) -> np.ndarray | int:
    assert node.quantization is not None
    if isinstance(node, Output):  # added by the host, in full width
        return 0 if node.bias is None else per_channel(node.bias.astype(np.int64), ndim)
    bias = shifted_bias(node.bias, node.quantization.bias_exponent)
    return per_channel(bias, ndim) if isinstance(bias, np.ndarray) else bias


def lif_step(
    v: np.ndarray,
    current: np.ndarray,
    decay: float | np.ndarray,
    threshold: float | np.ndarray,
    comparison: str = ">",
) -> tuple[np.ndarray, np.ndarray]:
    """One step of the leaky integrate-and-fire neuron with hard reset.

    u = decay * v + current ; spike = u > threshold, or u >= threshold ; v = 0 where it spikes, u elsewhere

    Parameters
    ----------
    v, current
        Membrane potential after the last step and presynaptic input of this one; equal shapes, one float dtype, in which
        all arithmetic is done.
    decay, threshold
        One number each, or an array that broadcasts against v.
    comparison
        ">" or ">=".

    Returns
    -------
    spikes, v
        Booleans, and the membrane potential after the reset.
    """
    u = v * np.asarray(decay, v.dtype) + current
    spikes = COMPARISONS[comparison](u, np.asarray(threshold, v.dtype))
    return spikes, np.where(spikes, v.dtype.type(0), u)


def compared(node: LIF | SoftResetLIF | CubaLIF, v: np.ndarray, presynaptic: np.ndarray) -> np.ndarray:
    """u, which a neuron of a float network compares with its threshold, by its `reset`; parameters as in `step`.

    "zero", "subtract"                      decay * v + I
    "subtract-delayed", "subtract-twice"    decay * v + I - threshold * owed
    "zero-delayed"                          0 where owed, decay * v + I elsewhere

    owed = 1 where v > threshold (or >=), the potential that the last step left.
    """
    u = v * per_channel(np.asarray(node.decay, v.dtype), v.ndim) + presynaptic
    if node.reset in ("zero", "subtract"):
        return np.asarray(u)
    owed = _fires(node, v)
    return np.where(owed, v.dtype.type(0), u) if node.reset == "zero-delayed" else np.asarray(u - _limit(node, v) * owed)


def after_reset(node: LIF | SoftResetLIF | CubaLIF, v: np.ndarray, u: np.ndarray, spikes: np.ndarray) -> np.ndarray:
    """The potential that a step from v leaves, with u and these spikes.

    "zero"                              0 where it spikes, u elsewhere
    "subtract"                          u - threshold * spike
    "subtract-delayed", "zero-delayed"  u
    "subtract-twice"                    u - threshold * (spike - owed)
    """
    if node.reset == "zero":
        return np.where(spikes, v.dtype.type(0), u)
    if node.reset in ("subtract-delayed", "zero-delayed"):
        return u
    owed = 0 if node.reset == "subtract" else _fires(node, v)
    return np.asarray(u - _limit(node, v) * (spikes.astype(v.dtype) - owed))


def _float_step(node: LIF | SoftResetLIF | CubaLIF, v: np.ndarray, presynaptic: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    u = compared(node, v, presynaptic)
    spikes = COMPARISONS[node.comparison](u, _limit(node, v))
    return spikes, after_reset(node, v, u, spikes)


def _fires(node: LIF | SoftResetLIF | CubaLIF, v: np.ndarray) -> np.ndarray:
    return np.asarray(COMPARISONS[node.comparison](v, _limit(node, v)).astype(v.dtype))


def _limit(node: LIF | SoftResetLIF | CubaLIF, v: np.ndarray) -> np.ndarray:
    return per_channel(np.asarray(node.threshold, v.dtype), v.ndim)


def fixed_point_lif_step(
    v: np.ndarray, a: np.ndarray, bias: np.ndarray | int, decay_v: np.ndarray | int, threshold: np.ndarray | int
) -> tuple[np.ndarray, np.ndarray]:
    """One step of the same neuron in a Loihi core's integers.

    u = a << 6, wrapped once into 24 bit
    v = clip(truncate(v * (4096 - decay_v) / 4096) + u + bias, -(2^23 - 1), 2^23 - 1)
    spike = v > threshold << 6 (strict) ; v = 0 where it spikes

    Parameters
    ----------
    v
        int64 membrane potential after the last step.
    a
        int64 presynaptic input of this step: the sum over the ports, each within 24 bit (see `wrap24`).
    bias
        Bias as the population adds it: mantissa << exponent (see `shifted_bias`).
    decay_v
        0 (integrate-and-fire) to 4096 (no memory); 2048 halves. One number, or an array that broadcasts against v.
    threshold
        Threshold mantissa, 0 to 131071; one number, or an array that broadcasts against v.

    Returns
    -------
    spikes, v
        Booleans, and the int64 membrane potential after the reset.
    """
    return _integrate(v, wrap_once(np.left_shift(a, FRACTION_BITS)), bias, decay_v, threshold)


def _integrate(
    v: np.ndarray, u: np.ndarray, bias: np.ndarray | int, decay_v: np.ndarray | int, threshold: np.ndarray | int
) -> tuple[np.ndarray, np.ndarray]:
    v = np.clip(_decayed(v, decay_v) + u + bias, LOWEST_POTENTIAL, STATE_LIMIT - 1)
    spikes = v > np.left_shift(threshold, FRACTION_BITS)
    return spikes, np.where(spikes, 0, v)


def _decayed(state: np.ndarray | int, decay: np.ndarray | int) -> np.ndarray:
    return np.asarray(np.sign(state) * ((np.abs(state) * (DECAY_ONE - decay)) >> 12))  # truncates toward zero


@singledispatch
def is_held(node: Population, v: np.ndarray, presynaptic: np.ndarray) -> np.ndarray:
    """Which potentials of a quantized population `step` holds at their lower limit; parameters as there.

    Raises
    ------
    GraphError
        A kind of population that has no equation here.
    """
    raise GraphError(f"node {node.name!r}: there is no equation for a {node.kind}.")


@is_held.register
def _(node: LIF, v: np.ndarray, presynaptic: np.ndarray) -> np.ndarray:
    return _is_held(node, v, wrap_once(np.left_shift(presynaptic, FRACTION_BITS)))


@is_held.register
def _(node: CubaLIF, v: np.ndarray, presynaptic: np.ndarray) -> np.ndarray:
    """Here, too, the presynaptic input is what `synaptic_current` makes of it."""
    return _is_held(node, v, presynaptic)


def _is_held(node: LIF | CubaLIF, v: np.ndarray, u: np.ndarray) -> np.ndarray:
    return np.asarray(_decayed(v, per_channel(decay_v(node), u.ndim)) + u + _bias(node, u.ndim) < LOWEST_POTENTIAL)


def wrap24(a: np.ndarray) -> np.ndarray:
    """Reduce a synaptic sum to 24 bit two's complement, as a synapse process does before it sends."""
    return (a + STATE_LIMIT) % (2 * STATE_LIMIT) - STATE_LIMIT


def wraps24(a: np.ndarray) -> np.ndarray:
    """Which synaptic sums `wrap24` changes."""
    return np.asarray((a < -STATE_LIMIT) | (a >= STATE_LIMIT))


def wrap_once(u: np.ndarray) -> np.ndarray:
    """Add or subtract 2^24 once where u left (-2^23, 2^23]; larger excursions stay outside, as they do in Lava."""
    u = np.where(u > STATE_LIMIT, u - 2 * STATE_LIMIT, u)
    return np.where(u <= -STATE_LIMIT, u + 2 * STATE_LIMIT, u)


def wraps_once(u: np.ndarray) -> np.ndarray:
    """Which currents `wrap_once` changes."""
    return np.asarray((u > STATE_LIMIT) | (u <= -STATE_LIMIT))


def largest_total(node: Population) -> int:
    """The largest presynaptic sum m with which int32 holds all that a simulator of the chip computes.

    A current is wrapped once only. One of U stays so while kept * U + (m << 6) - 2^24 <= U; before the wrap it is U + 2^24,
    and after it potential and bias are added.
    """
    beyond = (2**31 - 4 * STATE_LIMIT) * decay_u(node) // DECAY_ONE
    return (2 * STATE_LIMIT + beyond) >> FRACTION_BITS


def shifted_bias(mantissa: np.ndarray | None, exponent: int) -> np.ndarray | int:
    """Bias in the units of the membrane potential; the mantissa is stored in 16 bit."""
    if mantissa is None:
        return 0
    return mantissa.astype(np.int16).astype(np.int64) << exponent


def decay_v(node: LIF | CubaLIF | LeakyReadout) -> np.ndarray:
    """The 12-bit decay that stands for the node's factor, or those [C] of its factors: 0.5 gives 2048, 1 gives 0.

    0 gives 4095, the most that 12 bit hold: a neuron without memory keeps 1/4096 of its potential in a chip.
    """
    exact = (1 - np.asarray(node.decay, np.float64)) * DECAY_ONE
    return np.minimum(np.rint(exact), DECAY_ONE - 1).astype(np.int64)


def decay_u(node: Population) -> int:
    """The same of a synaptic current: 0.5 gives 2048, and 0 gives 4096, as where there is no current: it lives one step.

    1 gives 1, the least that a chip holds, whose 12 bit hold one less (Lava's du): a current cannot last, it keeps at most
    4095/4096 in each step.
    """
    return max(round((1 - node.current_decay) * DECAY_ONE), 1) if isinstance(node, CubaLIF) else DECAY_ONE


def to_messages(frames: np.ndarray, quantization: Quantization) -> np.ndarray:
    """Signed integer messages that stand for frames of real numbers.

    message = clip(round_half_even(float32(x) * float32(scale)), -limit, limit),  limit = 2^(bits-1) - 1

    Returns
    -------
    np.ndarray
        int64, of the same shape.
    """
    limit = largest_message(quantization)
    return np.asarray(np.clip(_rounded(frames, quantization), -limit, limit).astype(np.int64))


def is_clipped(frames: np.ndarray, quantization: Quantization) -> np.ndarray:
    """Which messages of frames `to_messages` holds at the limit."""
    return np.asarray(np.abs(_rounded(frames, quantization)) > largest_message(quantization))


def _rounded(frames: np.ndarray, quantization: Quantization) -> np.ndarray:
    with np.errstate(over="ignore"):  # infinity lies beyond the limit as well
        return np.asarray(np.rint(frames.astype(np.float32) * np.float32(quantization.one_scale)))


def largest_message(quantization: Quantization) -> int:
    """Limit of the magnitude of an input's messages."""
    return int(2 ** (quantization.bits - 1) - 1)


def synaptic_sum(node: Conv | Linear, x: np.ndarray) -> np.ndarray:
    """Weighted sum of x [B, ...] over the node's synapses, without bias, in float64.

    Exact where all partial sums are integers, or multiples of one power of two, within 53 bit.
    """
    if isinstance(node, Linear):
        return np.asarray(x.astype(np.float64) @ node.weight.astype(np.float64).T)
    return _convolve(node, x)


def _convolve(node: Conv, x: np.ndarray) -> np.ndarray:
    """Cross-correlation of x [B, I, H, W] with the node's weight in float64, as products with patches; no bias."""
    out_channels, in_per_group, *kernel = node.weight.shape
    (pad_h, pad_w), (step_h, step_w), (gap_h, gap_w) = node.padding, node.stride, node.dilation
    out_size = tuple(conv_size(x.shape[2 + i], kernel[i], node.stride[i], node.padding[i], node.dilation[i]) for i in (0, 1))
    padded = np.pad(x, ((0, 0), (0, 0), (pad_h, pad_h), (pad_w, pad_w)))
    spans = ((kernel[0] - 1) * gap_h + 1, (kernel[1] - 1) * gap_w + 1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, spans, axis=(2, 3))
    windows = windows[:, :, ::step_h, ::step_w, ::gap_h, ::gap_w].transpose(0, 1, 4, 5, 2, 3)  # [B, I, KH, KW, H, W]
    y = np.zeros((len(x), out_channels, *out_size))
    if in_per_group == 1 and out_channels == node.groups:  # one product each, where patches would only be copied
        for i, j in np.ndindex(*kernel):
            y += node.weight[:, 0, i, j, None, None] * windows[:, :, i, j].astype(np.float64)
        return y
    weight = node.weight.reshape(node.groups, out_channels // node.groups, -1).astype(np.float64)
    patches = np.empty(windows.shape[1:])
    for sample, window in enumerate(windows):
        patches[...] = window
        product = weight @ patches.reshape(node.groups, weight.shape[2], -1)
        y[sample] = product.reshape(out_channels, *out_size)
    return y


def per_channel(vector: np.ndarray | float, ndim: int) -> np.ndarray:
    """Shape a vector [C] so that it broadcasts against an array [B, C, ...] of that many axes; a number stays one."""
    array = np.asarray(vector)
    return array if array.ndim == 0 else array.reshape(1, -1, *(1,) * (ndim - 2))
