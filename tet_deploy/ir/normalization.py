"""Frames that the network itself normalizes, before anything else, as many models of images do:

    y[c] = (x[c] - mean[c]) / deviation[c]

A convolution pads zeros of y, so that no weight could do this at its borders: it is a field of the Input, the host's work.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tet_deploy.ir.nodes import Input


def normalized(node: Input, frames: np.ndarray) -> np.ndarray:
    """What a network makes of frames [..., *shape], in their own float type; in float32 where they become messages."""
    if node.mean is None or node.deviation is None:
        return frames
    if node.quantization is not None:
        frames = frames.astype(np.float32, copy=False)
    mean, deviation = (_by_channel(array, node, frames) for array in (node.mean, node.deviation))
    with np.errstate(over="ignore" if node.quantization else None):  # infinity lies beyond the limit of messages as well
        return np.asarray((frames - mean) / deviation)


def raw(node: Input, values: np.ndarray) -> np.ndarray:
    """Frames [..., *shape] of which a network makes about these values."""
    if node.mean is None or node.deviation is None:
        return values
    mean, deviation = (_by_channel(array, node, values) for array in (node.mean, node.deviation))
    return np.asarray(values * deviation + mean)


def _by_channel(array: np.ndarray, node: Input, frames: np.ndarray) -> np.ndarray:
    return array.astype(frames.dtype).reshape(-1, *(1,) * (len(node.shape) - 1))


def normalizing(node: Input, mean: np.ndarray, deviation: np.ndarray) -> Input:
    """The Input that gives (y - mean) / deviation for what this one gives; arrays [C] or numbers."""
    before = np.zeros(node.shape[:1]) if node.mean is None else node.mean.astype(np.float64)
    scale = np.ones(node.shape[:1]) if node.deviation is None else node.deviation.astype(np.float64)
    return dataclasses.replace(
        node,
        mean=np.asarray(before + scale * mean, np.float32),
        deviation=np.asarray(scale * deviation, np.float32),
    )
