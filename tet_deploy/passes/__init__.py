"""From a traced network to a deployable one: the passes, in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable

from tet_deploy.ir.graph import Graph
from tet_deploy.ir.spec import DEPLOYABLE, TRACED, check
from tet_deploy.passes.fold_batch_norm import fold_batch_norm
from tet_deploy.passes.fold_pooling import fold_pooling
from tet_deploy.passes.quantize import quantize
from tet_deploy.passes.snap_to_grid import snap_to_grid

LOWERING: tuple[Callable[[Graph], Graph], ...] = (
    fold_batch_norm,  # first: it needs the convolution and the batch norm side by side
    fold_pooling,  # then: it widens convolutions, and a batch norm between pool and convolution has gone
    snap_to_grid,  # last: the others make new weights
)


def lower(graph: Graph) -> Graph:
    """Fold and snap a traced network until it may be deployed; see each pass in `LOWERING`.

    Raises
    ------
    GraphError
        Something that cannot be mapped exactly, with the node and the way out.
    """
    check(graph, TRACED)
    for run in LOWERING:
        graph = run(graph)
    return check(graph, DEPLOYABLE)


__all__ = ["LOWERING", "fold_batch_norm", "fold_pooling", "lower", "quantize", "snap_to_grid"]
