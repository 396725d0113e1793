"""Faults in the arrays and numbers of one node, of which the network itself tells."""

from __future__ import annotations

import dataclasses

import numpy as np


def coarse_weights(rng, node):
    step = np.abs(node.weight).max() / int(rng.integers(2, 6))
    return dataclasses.replace(node, weight=(np.rint(node.weight / step) * step).astype(np.float32)) if step else None


def clipped_weights(rng, node):
    limit = np.quantile(np.abs(node.weight), rng.uniform(0.3, 0.8))
    return dataclasses.replace(node, weight=np.clip(node.weight, -limit, limit)) if limit else None


def coarse_bias(rng, node):
    if node.bias is None:
        return None
    step = int(rng.integers(100, 1000))
    return dataclasses.replace(node, bias=(np.rint(node.bias / step) * step).astype(node.bias.dtype))


def other_decay(rng, node):
    others = [share for share in (0.25, 0.5, 0.75, 1.0) if np.any(node.decay != share)]
    return dataclasses.replace(node, decay=float(rng.choice(others)))
