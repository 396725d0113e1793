"""From a traced network to a deployable one: the passes, in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable

from tet_deploy.batches import FrameBatches, Source
from tet_deploy.contracts import Frames
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.spec import FLOAT, check, need_graph
from tet_deploy.passes.fold_batch_norm import fold_batch_norm
from tet_deploy.passes.fold_linear import fold_linear
from tet_deploy.passes.fold_pooling import fold_pooling
from tet_deploy.passes.lower_residual import lower_residual
from tet_deploy.passes.quantize import quantize
from tet_deploy.passes.snap_to_grid import snap_to_grid
from tet_deploy.passes.step import naming

LOWERING: tuple[Callable[[Graph], Graph], ...] = (
    fold_batch_norm,  # first: it needs the convolution and the batch norm side by side
    fold_linear,  # then: a batch norm between two linear layers has gone
    lower_residual,  # then: a pooled shortcut becomes an identity, a convolution that pooling folds into
    fold_pooling,  # last: it widens convolutions, and a batch norm between pool and convolution has gone
)


def fold(graph: Graph) -> Graph:
    """Fold a traced network until it may be deployed; see each pass in `LOWERING`. What it computes stays as it was.

    Raises
    ------
    GraphError
        Something that cannot be mapped exactly, with the node and the way out; a note names the pass and those before it.
    """
    need_graph(graph)
    for index, run in enumerate(LOWERING):
        with naming(run, LOWERING[:index]):
            graph = need_graph(run(graph))
    return check(graph, FLOAT)


def lower(graph: Graph, frames: Frames | Source | None = None) -> Graph:
    """Fold a traced network and snap its weights to a grid on which all runtimes agree exactly.

    Parameters
    ----------
    graph
        From `trace`.
    frames
        Some that the network will see, [T, B, *shape], training frames for example, or a source of them: the grid is then as
        fine as they allow.
        Without them it must allow for large frames, and the coarser weights move some spikes.

    Raises
    ------
    GraphError
        Something that cannot be mapped exactly, with the node and the way out.
    DataError
        Frames that do not fit the network.

    Examples
    --------
    >>> [node.kind for node in traced]
    ['Input', 'Conv', 'BatchNorm', 'LIF', 'AvgPool', 'Flatten', 'Linear', 'Readout']
    >>> [node.kind for node in td.lower(traced, frames)]
    ['Input', 'Conv', 'LIF', 'Flatten', 'Linear', 'Readout']
    """
    batches = None if frames is None else FrameBatches.of(graph, frames)
    folded = fold(graph)
    with naming(snap_to_grid, LOWERING):  # last: folding makes new weights
        return snap_to_grid(folded, batches)


__all__ = [
    "LOWERING",
    "fold",
    "fold_batch_norm",
    "fold_linear",
    "fold_pooling",
    "lower",
    "lower_residual",
    "quantize",
    "snap_to_grid",
]
