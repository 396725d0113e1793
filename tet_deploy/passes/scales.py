"""The scales at which a chip can hold a population, from the one that leaves its largest weight 1 to the largest that fits.

    weights    largest weight * s / s_in >= 1/2, and no more than half of them clipped where the threshold allows it
    threshold  1/2 <= Vth * s <= 2^17 - 1
    identity   weight * s <= 8 * limit: it may be spread over eight synapse nodes

Biases are clipped where 13 bit << 7 do not hold them, and sums are seen on the calibration frames. Weights that never
receive a message say nothing of a scale.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tet_deploy import dynamics
from tet_deploy.errors import GraphError
from tet_deploy.ir.nodes import ON_CHIP, Conv, Output, Population
from tet_deploy.ir.values import fraction_bits
from tet_deploy.passes.fit import MOST_PARTS, Port, is_uniform
from tet_deploy.units import ByChannel, by_channel


@dataclass(frozen=True)
class Scales:
    """An interval of scales; the one that maps the largest weight in use to its limit; one that rounds none, if there is."""

    least: float
    greatest: float
    usual: float
    exact: float | None = None

    def coarse(self) -> list[float]:
        """The usual scale times powers of two, over the whole interval, its ends, and the exact one."""
        inner = self.usual if self.least <= self.usual <= self.greatest else self.greatest
        below = math.floor(math.log2(inner / self.least)) if inner > self.least else 0
        above = math.floor(math.log2(self.greatest / inner))
        ends = {self.least, self.greatest, *([] if self.exact is None else [self.exact])}
        return sorted(ends | {*(inner * 2.0**power for power in range(-below, above + 1))})


def snapped(node: Population, scale: ByChannel) -> ByChannel:
    """The nearest scale at which the threshold is a whole number, so that rounding leaves it as it is."""
    if not isinstance(node, ON_CHIP):
        return scale
    return by_channel(np.maximum(1, np.rint(node.threshold * np.asarray(scale))) / node.threshold)


def scales(node: Population, ports: Sequence[Port], seen: Sequence[np.ndarray]) -> Scales:
    """The interval for a population of one threshold, whose ports received these integers [T, B, ...].

    Raises
    ------
    GraphError
        It is empty; says which number does not fit, by how much, and what would help.
    """
    used = [_used(port, messages) for port, messages in zip(ports, seen, strict=True)]
    own = [index for index, port in enumerate(ports) if not port.adds_up] or list(range(len(ports)))
    least = min(0.5 * ports[i].scale / used[i].max() for i in own) * (1 + 1e-9)
    usual = min(ports[i].limit * ports[i].scale / used[i].max() for i in own)
    half_clipped = [ports[i].limit * ports[i].scale / float(np.median(used[i])) for i in own]
    most: dict[str, float] = {}
    for port, weights in zip(ports, used, strict=True):
        if port.adds_up:
            most[f"identity {port.node.name!r}"] = (MOST_PARTS * port.limit + 0.499) * port.scale / float(weights.max())
    if isinstance(node, ON_CHIP):
        most["threshold"] = (dynamics.LARGEST_THRESHOLD + 0.499) / float(node.threshold)
        least = max(least, 0.5 / float(node.threshold) * (1 + 1e-9))
    most["weights"] = max(usual, *half_clipped, least)
    tightest = min(most, key=lambda name: most[name])
    if most[tightest] < least:
        largest = max(float(used[i].max()) / ports[i].scale for i in own)
        raise GraphError(
            f"node {node.name!r}: its {tightest} does not fit the chip's integers: {least / most[tightest]:.3g} times too "
            f"large for its weights (largest {largest:.3g}), which would all round to 0. {_WAYS_OUT[tightest.split()[0]]}"
        )
    exact = max(*(_whole(port.node.weight) * port.scale for port in ports), _whole(getattr(node, "threshold", 1.0)))
    if isinstance(node, Output) and all(is_uniform(port.node) for port in ports) and exact <= usual:
        usual = exact  # it counts spikes: nothing is gained by counting in larger units
    return Scales(least, most[tightest], usual, exact if least <= exact <= usual else None)


def _whole(values: np.ndarray | float) -> float:
    """The least power of two that makes whole numbers of all values; infinity where none does."""
    bits = fraction_bits(np.asarray(values))
    return math.inf if bits is None else 2.0**bits


_WAYS_OUT = {
    "threshold": "Retrain with larger weights or a smaller threshold; weight decay makes it worse.",
    "identity": "Retrain with larger weights beside it.",
}


def _used(port: Port, messages: np.ndarray) -> np.ndarray:
    """Magnitudes of the weights that are not 0 and received a message; of all that are not 0 if none did."""
    magnitude, node = np.abs(port.node.weight.astype(np.float64)), port.node
    alive = (messages != 0).any(
        axis=tuple(axis for axis in range(messages.ndim) if axis != 2)
    )  # per channel that is received
    if isinstance(node, Conv):
        groups = alive.reshape(node.groups, 1, -1)
        reached = np.repeat(groups, len(magnitude) // node.groups, axis=1).reshape(len(magnitude), -1, 1, 1)
    else:
        reached = alive[None, :]
    received = magnitude[(magnitude > 0) & reached]
    return received if received.size else magnitude[magnitude > 0] if magnitude.any() else np.ones(1)
