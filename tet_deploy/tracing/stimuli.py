"""What layers are fed to see what they compute: seeded, and such that neurons fire and stay silent at every depth.

Random frames alone leave most populations of a deep, fresh network silent, and silent neurons prove nothing.
"""

from __future__ import annotations

import numpy as np

from tet_deploy import dynamics
from tet_deploy.ir.nodes import LIF, CubaLIF, SoftResetLIF
from tet_deploy.ir.shapes import Shape

_CURRENT_STEPS, _CURRENT_SAMPLES, _CURRENT_SIDE = 8, 2, 4


def frames(shape: Shape, encoding: str) -> np.ndarray:
    """Frames [T, B, ...] of an encoding: event counts, or real values of either sign."""
    generator = np.random.default_rng(0)
    if encoding == "events":
        return np.asarray(generator.poisson(1.0, shape), np.float64)
    return np.asarray(generator.standard_normal(shape))


def spikes(shape: Shape, seed: int) -> np.ndarray:
    """Spikes [T, B, C, ...], 0 or 1: channels that fire often and seldom, and every neuron at least once."""
    generator = np.random.default_rng(seed)
    steps, samples = shape[:2]
    rates = generator.random((*shape[:3], *(1,) * (len(shape) - 3))) ** 2
    once = generator.integers(steps * samples, size=shape[2:])
    frame = np.arange(steps * samples).reshape(steps, samples, *(1,) * (len(shape) - 2))
    return np.asarray((generator.random(shape) < rates) | (frame == once), np.float64)


def currents(node: LIF | SoftResetLIF | CubaLIF, shape: Shape) -> np.ndarray:
    """Presynaptic input [T, B, ...] that brings membrane potentials to both sides of the threshold, close by and far.

    They come to lie 2^-1 to 2^-20 of it away; of neurons with soft reset some far beyond twice the threshold, where one kind
    differs from another. `shape` is that of a sample; neurons do not know where they stand, so that a few pixels of an image
    will do.
    """
    generator = np.random.default_rng(0)
    size = (_CURRENT_SAMPLES, *shape[:1], *(min(side, _CURRENT_SIDE) for side in shape[1:]))
    v, held, given = np.zeros(size), np.zeros(size), []
    threshold = dynamics.per_channel(node.threshold, len(size))
    for _ in range(_CURRENT_STEPS):
        away = generator.choice((-1.0, 1.0), size) * 2.0 ** -generator.integers(1, 21, size)
        if isinstance(node, SoftResetLIF):
            away = np.where(generator.random(size) < 0.25, 2.0, away)
        needed = threshold * (1 + away) - dynamics.compared(node, v, np.zeros(size))
        _, v = dynamics.step(node, v, needed)
        if isinstance(node, CubaLIF):
            needed, held = needed - node.current_decay * held, needed
        given.append(needed)
    return np.stack(given)
