"""From a traced network to a deployable one: the passes, in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tet_deploy.ir.graph import Graph
from tet_deploy.ir.spec import DEPLOYABLE, TRACED, check
from tet_deploy.passes.fold_batch_norm import fold_batch_norm
from tet_deploy.passes.fold_pooling import fold_pooling
from tet_deploy.passes.quantize import quantize
from tet_deploy.passes.snap_to_grid import snap_to_grid

LOWERING: tuple[Callable[[Graph], Graph], ...] = (
    fold_batch_norm,  # first: it needs the convolution and the batch norm side by side
    fold_pooling,  # then: it widens convolutions, and a batch norm between pool and convolution has gone
)


def fold(graph: Graph) -> Graph:
    """Fold a traced network until it may be deployed; see each pass in `LOWERING`. What it computes stays as it was.

    Raises
    ------
    GraphError
        Something that cannot be mapped exactly, with the node and the way out.
    """
    check(graph, TRACED)
    for run in LOWERING:
        graph = run(graph)
    return check(graph, DEPLOYABLE)


def lower(graph: Graph, frames: np.ndarray | None = None) -> Graph:
    """Fold a traced network and snap its weights to a grid on which all runtimes agree exactly.

    Parameters
    ----------
    graph
        From `trace`.
    frames
        Some that the network will see, [T, B, *shape], training frames for example: the grid is then as fine as they allow.
        Without them it must allow for large frames, and the coarser weights move some spikes.

    Raises
    ------
    GraphError
        Something that cannot be mapped exactly, with the node and the way out.
    """
    return snap_to_grid(fold(graph), frames)  # last: folding makes new weights


__all__ = ["LOWERING", "fold", "fold_batch_norm", "fold_pooling", "lower", "quantize", "snap_to_grid"]
