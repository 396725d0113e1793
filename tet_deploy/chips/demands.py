"""What a network asks of a chip's cores: its populations, each with the synapses that end in it.

The list is that of the Lava plan, not of the graph: sums of spikes, and relays that make a short branch wait for a long one,
are neurons with identity synapses there, and so is the readout, which some core has to hold.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tet_deploy.exporters.lava_plan import LavaPlan
from tet_deploy.ir.nodes import Conv, Linear, Population

Map = tuple[int, int, int]  # channels, rows, columns
Pair = tuple[int, int]
_IDENTITY_BITS = 2  # a weight of 1, signed


@dataclass(frozen=True, kw_only=True)
class Projection:
    """The synapses of one node, from whoever feeds it to the population that they end in.

    Attributes
    ----------
    name, source
        Of the node, and of whoever sends to it at the right time: a population, a relay, or the input.
    inputs
        Shape of what is sent.
    bits
        Width of a signed weight.
    message_bits
        Width of the signed messages; 0 for spikes.
    window
        Of a convolution kernel, stride, padding and dilation by axis; None where all are connected with all.
    groups
        Of the convolution's channels.
    """

    name: str
    source: str
    inputs: Map
    bits: int
    message_bits: int
    window: tuple[Pair, Pair, Pair, Pair] | None = None
    groups: int = 1


@dataclass(frozen=True, kw_only=True)
class Demand:
    """A population that cores have to hold.

    Attributes
    ----------
    kind
        "LIF", "Readout", ..., or "sum" and "relay".
    shape
        Channels, rows, columns; vectors have one row and one column.
    thresholds
        Of each channel, in mantissas; a single one where all have the same, none of sums and readouts.
    projections
        The synapses that end here.
    """

    name: str
    kind: str
    shape: Map
    thresholds: tuple[int, ...]
    projections: tuple[Projection, ...]

    @property
    def neurons(self) -> int:
        """How many."""
        channels, rows, columns = self.shape
        return channels * rows * columns


def demands(plan: LavaPlan, on_host: Collection[str] = ()) -> tuple[Demand, ...]:
    """All populations of a plan, in its order, but those that the host computes."""
    entries = {node["name"]: node for node in plan.nodes}
    return tuple(demand for demand in _demands(plan, entries) if demand.name not in on_host)


def _demands(plan: LavaPlan, entries: Mapping[str, Mapping[str, Any]]) -> Iterator[Demand]:
    for name, entry in entries.items():
        if entry["kind"] == "sum":
            yield _sum(name, entry)
        elif entry["kind"] == "lif":
            yield _population(plan, entries, name)
    yield _population(plan, entries, plan.readout["name"])


def _sum(name: str, entry: Mapping[str, Any]) -> Demand:
    shape = as_map(entry["shape"])
    one, none = (1, 1), (0, 0)
    identities = tuple(
        Projection(
            name=f"{name} from {source}",
            source=source,
            inputs=shape,
            bits=_IDENTITY_BITS,
            message_bits=bits,
            window=(one, one, none, one),
            groups=shape[0],
        )
        for source, bits in zip(entry["sources"], entry["message_bits"], strict=True)
    )
    kind = "sum" if len(identities) > 1 else "relay"
    return Demand(name=name, kind=kind, shape=shape, thresholds=(), projections=identities)


def _population(plan: LavaPlan, entries: Mapping[str, Mapping[str, Any]], name: str) -> Demand:
    node = plan.graph[name]
    assert isinstance(node, Population)
    threshold = getattr(node, "threshold", None)
    return Demand(
        name=name,
        kind=node.kind,
        shape=as_map(plan.graph.shapes[name]),
        thresholds=() if threshold is None else tuple(np.atleast_1d(threshold).astype(int).tolist()),
        projections=tuple(_projection(plan, entries[source]) for source in node.inputs),
    )


def _projection(plan: LavaPlan, entry: Mapping[str, Any]) -> Projection:
    node = plan.graph[entry["name"]]
    assert isinstance(node, (Conv, Linear)) and node.quantization is not None
    window = None
    if isinstance(node, Conv):
        rows, columns = node.weight.shape[2:]
        window = ((rows, columns), node.stride, node.padding, node.dilation)
    return Projection(
        name=node.name,
        source=entry["source"],
        inputs=as_map(plan.graph.shapes[node.inputs[0]]),
        bits=node.quantization.bits,
        message_bits=entry["message_bits"],
        window=window,
        groups=node.groups if isinstance(node, Conv) else 1,
    )


def as_map(shape: Any) -> Map:
    """Channels, rows and columns of a shape [C, H, W] or [N]."""
    channels, rows, columns = (*shape, 1, 1)[:3]
    return int(channels), int(rows), int(columns)
