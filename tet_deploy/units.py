"""What recorded numbers stand for: potentials and readouts of integer networks in units of the float network."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from tet_deploy.contracts import Recording
from tet_deploy.dynamics import FRACTION_BITS
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import Population, Spiking

MANTISSA = 2.0**FRACTION_BITS  # units of a recorded potential in one mantissa
READOUT = "readout"
ByChannel = float | tuple[float, ...]  # one for a population, or one for each of its channels


def by_channel(value: Any) -> ByChannel:
    """A number, or an array [C], as it can be compared and written."""
    array = np.asarray(value, np.float64)
    return float(array) if array.ndim == 0 else tuple(array.tolist())


def along(value: ByChannel, ndim: int) -> np.ndarray:
    """Shaped to go with an array [T, B, C, ...] of that many axes."""
    array = np.asarray(value)
    return array if array.ndim == 0 else array.reshape(1, 1, -1, *(1,) * (ndim - 3))


def units(graph: Graph) -> dict[str, ByChannel]:
    """Recorded units per unit of the float network, of each population; those of the readout stand under "readout".

    1 in float networks, 64 * scale in integers.
    """
    return {
        node.name if isinstance(node, Spiking) else READOUT: by_channel(
            1.0 if node.quantization is None else MANTISSA * np.asarray(node.quantization.scale)
        )
        for node in graph.of_kind(Population)
    }


def float_thresholds(graph: Graph) -> dict[str, ByChannel]:
    """Firing threshold of each population in units of the float network."""
    return {
        node.name: by_channel(
            np.asarray(node.threshold) / np.asarray(1.0 if node.quantization is None else node.quantization.scale)
        )
        for node in graph.of_kind(Spiking)
        if hasattr(node, "threshold")
    }


def in_float_units(recording: Recording, units: Mapping[str, ByChannel]) -> Recording:
    """A recording with potentials and readout in units of the float network, float64."""
    return dataclasses.replace(
        recording,
        potentials={name: array / along(units[name], array.ndim) for name, array in recording.potentials.items()},
        readout=recording.readout / along(units[READOUT], recording.readout.ndim),
    )
