"""What recorded numbers stand for: potentials and readouts of integer networks in units of the float network."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from tet_deploy.contracts import Recording
from tet_deploy.dynamics import FRACTION_BITS
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import Population, Spiking

MANTISSA = 2.0**FRACTION_BITS  # units of a recorded potential in one mantissa
READOUT = "readout"


def units(graph: Graph) -> dict[str, float]:
    """Recorded units per unit of the float network, of each population; those of the readout stand under "readout".

    1 in float networks, 64 * scale in integers.
    """
    return {
        node.name if isinstance(node, Spiking) else READOUT: (
            1.0 if node.quantization is None else MANTISSA * node.quantization.scale
        )
        for node in graph.of_kind(Population)
    }


def float_thresholds(graph: Graph) -> dict[str, float]:
    """Firing threshold of each population in units of the float network."""
    return {
        node.name: node.threshold / (1.0 if node.quantization is None else node.quantization.scale)
        for node in graph.of_kind(Spiking)
        if hasattr(node, "threshold")
    }


def in_float_units(recording: Recording, units: Mapping[str, float]) -> Recording:
    """A recording with potentials and readout in units of the float network, float64."""
    return dataclasses.replace(
        recording,
        potentials={name: array / units[name] for name, array in recording.potentials.items()},
        readout=recording.readout / units[READOUT],
    )
