"""Why the second of two links differs from the first."""

from __future__ import annotations

import math
from typing import Any

from tet_deploy.batches import FrameBatches, Source
from tet_deploy.contracts import Frames, Progress, concatenate
from tet_deploy.debugging import Diagnosis, diagnosis_of
from tet_deploy.errors import DataError
from tet_deploy.ir.graph import Graph
from tet_deploy.links.comparing import recordings_of
from tet_deploy.links.link import common_probes
from tet_deploy.links.pair import Pair

_SAMPLES = 16  # enough to meet every population many times
_VALUES = 2**24  # that all nodes send, over all steps and samples looked at


def diagnose(first: Any, second: Any, frames: Frames | Source, *, progress: Progress | None = None) -> Diagnosis:
    """Find the first neuron that goes wrong in the second of two links, and in each population the cause.

    Each step is looked at by itself: given the same potential and the same spikes, what does each link make of them? What
    sets the two apart is taken to pieces, which are taken away one by one; where a link did not even do what its own network
    says, other reasons are tried: a shifted step, a batch norm in train mode, `>=` for `>`, frames scaled or cut off.

    Parameters
    ----------
    first, second
        The one that is right, and the one that is not; each whatever `compare` takes.
    frames
        [T, B, *shape], or a source of them; the first 16 samples are looked at, fewer of large networks.
    progress
        Called as progress(done, total), in populations.

    Returns
    -------
    Diagnosis
        The first difference, and the causes, the most telling first, each with its share and the way out.

    Raises
    ------
    ArgumentError, ArtifactError
        What is given is no link.
    DataError
        One of the links does not record potentials, or neither has its network at hand.

    Examples
    --------
    >>> print(td.diagnose(graph, int8, frames))
    nothing differs: each population makes of its spikes what it should
    """
    pair = Pair.of(first, second, frames)
    return diagnosed(pair, pair.batches(frames), progress=progress)


def diagnosed(pair: Pair, batches: FrameBatches, *, start: int = 0, progress: Progress | None = None) -> Diagnosis:
    """As `diagnose`, of links at hand; `start` is the first sample that is looked at, counted in the source."""
    expected, described = _networks(pair)
    if common_probes(pair) != "all":
        raise DataError(
            "to find out why, membrane potentials are needed, and one of the two tells none. Export with --probes all, or "
            "compare the network itself."
        )
    sizes = sum(math.prod(shape) for graph in (expected, described) for shape in graph.shapes.values())
    count = min(_SAMPLES, max(1, _VALUES // (batches.steps * sizes)))
    begin = max(0, min(start - batches.start, len(batches) - count))
    chosen = batches.part(begin, begin + count)
    parts = [(one, other) for _, one, other in recordings_of(pair, chosen)]
    return diagnosis_of(
        expected,
        concatenate([other for _, other in parts]),
        chosen.frames(),
        described=described,
        right=concatenate([one for one, _ in parts]),
        first_sample=chosen.start,
        progress=progress,
    )


def can_be_diagnosed(pair: Pair) -> bool:
    """Whether both tell their potentials, and the networks of both are at hand."""
    return common_probes(pair) == "all" and None not in pair.graphs


def _networks(pair: Pair) -> tuple[Graph, Graph]:
    expected, described = pair.graphs
    if expected is None or described is None:
        missing = pair[0] if expected is None else pair[1]
        raise DataError(
            f"{missing.name}: holds no network that its values could be worked out from. Compare it with the network that "
            "it was exported or recorded from."
        )
    return expected, described
