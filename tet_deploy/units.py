"""What numbers of integer networks stand for, recorded ones and the network's own, in units of the float network."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from tet_deploy.contracts import Recording
from tet_deploy.dynamics import FRACTION_BITS, shifted_bias
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import LIF, ON_CHIP, Conv, CubaLIF, Linear, Population, SoftResetLIF, Spiking

MANTISSA = 2.0**FRACTION_BITS  # units of a recorded potential in one mantissa
READOUT = "readout"
ByChannel = float | tuple[float, ...]  # one for a population, or one for each of its channels


def by_channel(value: Any) -> ByChannel:
    """A number, or an array [C], as it can be compared and written."""
    array = np.asarray(value, np.float64)
    return float(array) if array.ndim == 0 else tuple(array.tolist())


def along(value: ByChannel | np.ndarray, ndim: int) -> np.ndarray:
    """Shaped to go with an array [T, B, C, ...] of that many axes, float64."""
    array = np.asarray(value, np.float64)
    return array if array.ndim == 0 else array.reshape(1, 1, -1, *(1,) * (ndim - 3))


def of_channel(value: ByChannel | np.ndarray, channel: int) -> float:
    """The number of one channel."""
    array = np.asarray(value, np.float64)
    return float(array if array.ndim == 0 else array[channel])


def unit(node: Population) -> np.ndarray:
    """Recorded units of a population per unit of the float network: a number, or [C].

    1 in float networks, 64 * scale in integers.
    """
    return np.asarray(1.0 if node.quantization is None else MANTISSA * np.asarray(node.quantization.scale))


def threshold(node: LIF | SoftResetLIF | CubaLIF) -> np.ndarray:
    """Firing threshold in units of the float network: a number, or [C]."""
    scale = 1.0 if node.quantization is None else node.quantization.scale
    return np.asarray(np.asarray(node.threshold, np.float64) / scale)


def weight_scale(node: Conv | Linear) -> np.ndarray:
    """Units of a weight per unit of the float network, shaped to go with the weights; 1 in float networks."""
    scale = np.asarray(1.0 if node.quantization is None else node.quantization.scale, np.float64)
    return scale.reshape(*scale.shape, *(1,) * (node.weight.ndim - scale.ndim))


def real_weight(node: Conv | Linear) -> np.ndarray:
    """Weights in units of the float network, float64."""
    return np.asarray(node.weight.astype(np.float64) / weight_scale(node))


def real_bias(node: Population) -> np.ndarray | None:
    """What a quantized population adds in each step, float64 [C] in units of the float network; None where that is none."""
    if node.quantization is None or node.bias is None:
        return None
    bias = shifted_bias(node.bias, node.quantization.bias_exponent) if isinstance(node, ON_CHIP) else node.bias
    return np.asarray(bias / unit(node))


def units(graph: Graph) -> dict[str, ByChannel]:
    """The `unit` of each population; that of the readout stands under "readout"."""
    return {
        node.name if isinstance(node, Spiking) else READOUT: by_channel(unit(node)) for node in graph.of_kind(Population)
    }


def float_thresholds(graph: Graph) -> dict[str, ByChannel]:
    """Firing threshold of each population in units of the float network."""
    return {node.name: by_channel(threshold(node)) for node in graph if isinstance(node, ON_CHIP)}


def in_float_units(recording: Recording, units: Mapping[str, ByChannel]) -> Recording:
    """A recording with potentials and readout in units of the float network, float64."""
    return dataclasses.replace(
        recording,
        potentials={name: array / along(units[name], array.ndim) for name, array in recording.potentials.items()},
        readout=recording.readout / along(units[READOUT], recording.readout.ndim),
    )
