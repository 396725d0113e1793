"""What the synapses that end in a part of a population take of its core: words of memory and input axons.

Loihi 1, by the rule of nengo-loihi 1.1 (`block.py`: bits_per_axon; `builder/connection.py`: one list of weights for each
pattern of a convolution's kernel, shared by all positions that see it): a list of n weights takes

    sum over blocks of up to 64 weights of  ceil((n * (weight bits + index bits) + 10) / 64)  words

with no index bits where all are connected with all. Loihi 2, by fits to the fill that Intel's compiler printed (ours, not
Intel's), with w the bits of a weight, n the neurons and C the channels of the part:

    all with all    input axons * ceil((n * (w + max(6, ceil(log2 n)) + 6) + 16) / 64)
    convolution     input channels * kernel size * ceil(C * (w + 1) / 64)
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import NamedTuple

from tet_deploy.chips.demands import Map, Projection
from tet_deploy.chips.limits import LOIHI1, WORD, Chip

_WEIGHT_BITS = (1, 2, 3, 4, 5, 6, 8)  # that Loihi 1 stores; 7 take 8
_INDEX_BITS = (0, 6, 7, 8, 9, 10, 11, 12)
_WEIGHTS_OF_A_BLOCK, _HEAD = 64, 10
_AXONS_OF_A_CONVOLUTION = 2  # on Loihi 2, from one core each; the published tables have 1 and 2


class Taken(NamedTuple):
    """Words of synaptic memory, and input axons."""

    words: int
    axons: int


def taken(chip: Chip, synapses: Projection, part: Map, whole: Map) -> Taken:
    """What synapses take that end in a part of a population: so many channels, rows and columns of the whole's."""
    if chip is LOIHI1:
        return _loihi1(synapses, part, whole)
    inputs = synapses.inputs[0] * synapses.inputs[1] * synapses.inputs[2]
    neurons = part[0] * part[1] * part[2]
    if synapses.window is None:
        index = max(6, _bits(neurons))
        return Taken(inputs * -(-(neurons * (synapses.bits + index + 6) + 16) // WORD), inputs)
    senders, of_one = _channels(synapses, part[0], whole[0])
    kernel = synapses.window[0]
    words = senders * kernel[0] * kernel[1] * -(-of_one * (synapses.bits + 1) // WORD)
    return Taken(words, _AXONS_OF_A_CONVOLUTION)


def _loihi1(synapses: Projection, part: Map, whole: Map) -> Taken:
    weight = next(bits for bits in _WEIGHT_BITS if bits >= synapses.bits)
    channels, rows, columns = synapses.inputs
    if synapses.window is None:
        inputs = channels * rows * columns
        return Taken(inputs * _list_words(part[0] * part[1] * part[2], weight), inputs)
    senders, of_one = _channels(synapses, part[0], whole[0])
    kernel, stride, padding, dilation = synapses.window
    down, across = (
        seen(kernel[axis], stride[axis], padding[axis], dilation[axis], synapses.inputs[1 + axis], part[1 + axis],
             whole[1 + axis])
        for axis in (0, 1)
    )  # fmt: skip
    farthest = ((down.span - 1) * part[2] + across.span) * part[0]
    index = next((bits for bits in _INDEX_BITS if bits >= _bits(farthest)), _INDEX_BITS[-1])
    words = sum(
        number * times * _list_words(senders * of_one * taps * more, weight + index)
        for taps, number in down.patterns.items()
        for more, times in across.patterns.items()
    )
    return Taken(words, down.positions * across.positions)


def _list_words(weights: int, bits: int) -> int:
    full, rest = divmod(weights, _WEIGHTS_OF_A_BLOCK)
    last = -(-(rest * bits + _HEAD) // WORD) if rest else 0
    return full * -(-(_WEIGHTS_OF_A_BLOCK * bits + _HEAD) // WORD) + last


def _channels(synapses: Projection, part: int, whole: int) -> tuple[int, int]:
    """Channels that send to so many of the whole's, and to how many of these each of them."""
    of_group = whole // synapses.groups
    groups = min(synapses.groups, -(-part // of_group))
    return groups * (synapses.inputs[0] // synapses.groups), min(part, of_group)


def _bits(values: int) -> int:
    return (values - 1).bit_length()


class Seen(NamedTuple):
    """What a part of a convolution's outputs sees of its inputs, along one axis.

    positions
        Inputs that any of its outputs sees.
    patterns
        By the number of outputs that see an input, how many patterns of kernel elements there are.
    span
        The most outputs, first to last, that see one input.
    """

    positions: int
    patterns: dict[int, int]
    span: int


@cache
def seen(kernel: int, stride: int, padding: int, dilation: int, inputs: int, part: int, whole: int) -> Seen:
    """See `Seen`; the part is one in the middle, where the most is seen."""
    first = (whole // part // 2) * part if part < whole else 0
    first = min(first, whole - part)
    found: list[dict[int, int]] = []
    for position in range(inputs):
        outputs = _outputs(kernel, stride, padding, dilation, position)
        inside = {tap: output for tap, output in outputs.items() if first <= output < first + part}
        if inside:
            found.append(inside)
    patterns = Counter(len(taps) for taps in {tuple(inside) for inside in found})
    span = max((max(inside.values()) - min(inside.values()) + 1 for inside in found), default=1)
    return Seen(len(found), dict(patterns), span)


def _outputs(kernel: int, stride: int, padding: int, dilation: int, position: int) -> dict[int, int]:
    """By kernel element, which output sees an input through it."""
    at = {tap: position + padding - tap * dilation for tap in range(kernel)}
    return {tap: place // stride for tap, place in at.items() if place % stride == 0}


@cache
def links(kernel: int, stride: int, padding: int, dilation: int, inputs: int, outputs: int, part: int) -> tuple[int, ...]:
    """For each input along an axis, how many parts of so many outputs see it."""
    found = []
    for position in range(inputs):
        seers = _outputs(kernel, stride, padding, dilation, position).values()
        found.append(len({output // part for output in seers if 0 <= output < outputs}))
    return tuple(found)
