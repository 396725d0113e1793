"""The part of a network that the host computes where a chip takes spikes alone: its first layer.

Frames are numbers; what the first populations send is spikes. So the synapses that frames flow into and the populations that
these end in run beside the chip, in the same integers, and everything behind them gets one-bit messages.
"""

from __future__ import annotations

from tet_deploy.errors import ArgumentError, GraphError, shown
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import Flatten, Population, Readout

ENCODERS = ("host",)


def host_part(graph: Graph, encoder: str | None) -> tuple[str, ...]:
    """Names of the nodes that the host computes, its frames' `Input` not among them; none without an encoder.

    Parameters
    ----------
    encoder
        "host", or None.

    Raises
    ------
    ArgumentError
        Another encoder.
    GraphError
        Frames that also flow into what is no first layer; the message names it.
    """
    if encoder is None:
        return ()
    if encoder not in ENCODERS:
        raise ArgumentError(f"encoder: must be {' or '.join(map(repr, ENCODERS))}, or None; got {shown(encoder)}.")
    names = _fed_by(graph, graph.input.name)
    populations = {user.name: user for name in names for user in graph.consumers(name)}
    for user in populations.values():
        others = [name for name in user.inputs if name not in names]
        if isinstance(user, Readout) or not isinstance(user, Population) or others:
            beside = f", beside {shown(others[0])}" if others else ""
            raise GraphError(
                f"node {user.name!r}: the frames flow into it{beside}, so that no first layer of neurons stands between "
                "them and the rest. Let no shortcut leave the input, or use a chip with graded messages."
            )
    return tuple(node.name for node in graph if node.name in {*names, *populations})


def _fed_by(graph: Graph, name: str) -> list[str]:
    """Names of what takes a node's messages, through Flattens."""
    users = graph.consumers(name)
    return [found for user in users for found in (_fed_by(graph, user.name) if isinstance(user, Flatten) else [user.name])]
