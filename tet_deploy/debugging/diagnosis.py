"""Which neuron was the first to go wrong, and why: for each population the causes, and how much each of them explains.

Two questions, population by population, each asked of single steps (see `observed`):

1. Did it do what its network says? Where not, something else ran: `hypotheses` are tried out.
2. Where its network is not the one that is right, what sets the two apart? The `pieces` are taken away one by one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tet_deploy.contracts import Frames, Progress, Recording, check_shown, network_frames
from tet_deploy.debugging import causes
from tet_deploy.debugging.first import First, first_difference
from tet_deploy.debugging.hypotheses import guesses, steps_of
from tet_deploy.debugging.observed import Flow, Steps
from tet_deploy.debugging.pieces import Pieces, pieces
from tet_deploy.errors import DataError
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import LEAKY, ON_CHIP, WEIGHTED, Population, Spiking
from tet_deploy.ir.spec import DEPLOYABLE
from tet_deploy.layout import Table
from tet_deploy.passes import fold
from tet_deploy.units import along, threshold, unit
from tet_deploy.wording import number_of

_NEGLIGIBLE = 1e-6  # of a threshold
FLOAT_ROUNDING = 1e-4  # of a threshold: what float32 sums off the grid may be off by
_ROWS = 12  # of the table of causes


@dataclass(frozen=True, kw_only=True)
class Cause:
    """One reason why one population differs.

    Attributes
    ----------
    node
        Name of the population, or "readout".
    cause
        One of `causes.MEND`.
    share
        Of the population's own difference that the cause explains: of the flipped spikes' potentials where any flipped, of
        all potentials else. The shares of a population's causes add up to 1 where all is known.
    flips
        Spikes that the population's own difference flips and that would be right without the cause.
    error
        Root mean square of what the cause adds to the potential, in thresholds; of a readout, in parts of what it sends.
    ran
        Whether the population did not even do what its own network says.
    detail, mend
        More closely, and what to do.
    """

    node: str
    cause: str
    share: float
    flips: int
    error: float
    ran: bool
    detail: str
    mend: str

    def __str__(self) -> str:
        explained = f"{self.share:.0%}, {number_of('spike', self.flips)}"
        return f"{self.node}: {self.named} explains {explained}. To mend it: {self.mend}."

    @property
    def named(self) -> str:
        """The cause, and more closely in brackets."""
        return f"{self.cause} ({self.detail})" if self.detail else self.cause


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What went wrong, the most telling cause first.

    Attributes
    ----------
    causes
        Where another network or runtime ran than was said: those first, from the input on; then by flipped spikes.
    flips
        By population, the spikes that differ from what the right one makes of the same potentials and spikes.
    values
        Spikes looked at.
    first
        The first neuron that does something else, where both runs were given.
    """

    causes: tuple[Cause, ...]
    flips: dict[str, int]
    values: int
    first: First | None = None

    def __str__(self) -> str:
        if not self.causes:
            return "nothing differs: each population makes of its spikes what it should"
        return "\n".join(str(line) for line in (self.first, *self.causes[:3]) if line is not None)


def diagnosis_of(
    expected: Graph,
    found: Recording,
    frames: Frames,
    *,
    described: Graph | None = None,
    right: Recording | None = None,
    first_sample: int = 0,
    progress: Progress | None = None,
) -> Diagnosis:
    """Find the populations that differ by themselves, and the cause in each.

    Parameters
    ----------
    expected
        The network that is right, float or quantized.
    found
        What the other one did, recorded with `probes="all"`.
    frames
        What both were shown, [T, B, *shape].
    described
        The network that the other one says it is; by default the one that is right.
    right
        What the right one did, for the first neuron that differs.
    first_sample
        The number that the first of the samples has in their source.
    progress
        Called as progress(done, total), in populations.

    Raises
    ------
    DataError
        The recording lacks the spikes or potentials of a population, or is of other frames.

    Examples
    --------
    >>> wrong = td.run(int8, frames, runtime="onnx")
    >>> print(diagnosis_of(graph, wrong, frames, described=int8))
    nothing differs: each population makes of its spikes what it should
    """
    other = expected if described is None else described
    x = network_frames(other, frames)
    _check(other, found, x)
    before = expected
    if other is not expected and _is_deployable(other) and not _is_deployable(expected):
        expected = fold(expected)  # its layers then are those of the other one
    should, ran = Flow(expected, found, x), Flow(other, found, x)
    turned = expected.is_quantized and not other.is_quantized
    populations = [node for node in other if isinstance(node, Population)]
    named = {node.name: node for node in expected if isinstance(node, Population)}
    causes_found: list[Cause] = []
    flips: dict[str, int] = {}
    for done, node in enumerate(populations):
        seen = Steps.of(node, found)
        strange = _strange(node, ran, seen)
        if strange is not None:
            causes_found.append(strange)
        if node.name in named and other is not expected:
            apart = _taken_apart(named[node.name], should, node, ran, seen)
            flips[node.name] = int(_flipped(node, apart, seen).sum())
            ablated = _ablated(node, apart, seen, ran)
            causes_found += [dataclasses.replace(each, mend=causes.TURNED) for each in ablated] if turned else ablated
        else:
            flips[node.name] = 0 if strange is None else strange.flips
        if progress:
            progress(done + 1, len(populations))
    order = {node.name: index for index, node in enumerate(populations)}
    causes_found.sort(
        key=lambda cause: (not cause.ran, *((0, 0.0) if cause.ran else (-cause.flips, -cause.error)), order[cause.node])
    )
    return Diagnosis(
        causes=tuple(causes_found),
        flips=flips,
        values=sum(a.size for a in found.spikes.values()),
        first=None if right is None else first_difference(before, right, other, found, x, first_sample),
    )


def _is_deployable(graph: Graph) -> bool:
    return all(isinstance(node, DEPLOYABLE.kinds) for node in graph) and all(
        isinstance(graph[name], WEIGHTED) for node in graph.of_kind(Population) for name in node.inputs
    )


def _check(graph: Graph, found: Recording, frames: np.ndarray) -> None:
    check_shown(found, frames)
    for node in graph.of_kind(Spiking):
        if node.name not in found.spikes or node.name not in found.potentials:
            raise DataError(f"recording: lacks spikes or potentials of {node.name!r}. Run with probes='all'.")


def _strange(node: Population, ran: Flow, seen: Steps) -> Cause | None:
    """The cause of steps that are not those that the population's own network says."""
    said = steps_of(node, ran.presynaptic(node), seen.before)
    tolerance = 0.0 if ran.graph.is_quantized else FLOAT_ROUNDING * _largest_threshold(node)
    differs = _beyond(node, said, seen, tolerance)
    wrong = int(differs.sum())
    if not wrong:
        return None
    flips = int((differs & (said.spikes != seen.spikes)).sum())
    best, left = (causes.UNKNOWN, ""), wrong
    for guess in guesses(node, ran, seen):
        still = int(_beyond(node, guess.steps, seen, tolerance).sum())
        if still < left:
            best, left = (guess.cause, guess.detail), still
    if left > wrong / 2:
        best, left = (causes.UNKNOWN, ""), wrong
    return _cause(node, ran, best[0], share=1 - left / wrong, flips=flips, error=0.0, ran=True, detail=best[1])


def _beyond(node: Population, said: Steps, seen: Steps, tolerance: float) -> np.ndarray:
    """Where steps differ by more than rounding; a spike is within rounding where the silent side nearly fired."""
    differs = said.differ(seen, tolerance)
    if tolerance and isinstance(node, ON_CHIP):
        silent = np.where(seen.spikes, said.after, seen.after).astype(np.float64)
        limit = along(threshold(node), silent.ndim)
        near = (said.spikes != seen.spikes) & (np.abs(silent - limit) <= tolerance)
        exact = near & (silent == limit.astype(np.float32))  # a tie is no matter of rounding
        differs &= ~near | exact
    return differs


def _largest_threshold(node: Population) -> float:
    return float(np.max(threshold(node))) if isinstance(node, LEAKY) else 1.0


def _taken_apart(expected: Population, right: Flow, node: Population, ran: Flow, seen: Steps) -> Pieces:
    return pieces(expected, right, node, ran, seen.before / along(unit(node), seen.before.ndim))


def _flipped(node: Population, apart: Pieces, seen: Steps) -> np.ndarray:
    return (apart.expected > 0) != (apart.found > 0) if isinstance(node, Spiking) else np.zeros(seen.before.shape, bool)


def _ablated(node: Population, apart: Pieces, seen: Steps, ran: Flow) -> Iterator[Cause]:
    flipped = _flipped(node, apart, seen)
    shares = apart.shares(flipped if flipped.any() else np.ones(flipped.shape, bool))
    fires = apart.expected > 0
    whole = _yardstick(node, apart)
    for cause, part in apart.added.items():
        error = float(np.sqrt(np.mean(np.square(part)))) / whole
        mended = int((flipped & ((apart.found - part > 0) == fires)).sum())
        if error < _NEGLIGIBLE and not mended:
            continue
        yield _cause(node, ran, cause, share=shares[cause], flips=mended, error=error)


def _yardstick(node: Population, apart: Pieces) -> float:
    """A threshold in units of the float network; of a readout, the root mean square of what it sends."""
    if isinstance(node, LEAKY):
        return _largest_threshold(node)
    return float(np.sqrt(np.mean(np.square(apart.expected)))) or 1.0


def _cause(
    node: Population, flow: Flow, cause: str, *, share: float, flips: int, error: float, ran: bool = False, detail: str = ""
) -> Cause:
    layer = flow.graph[node.inputs[0]]
    units = layer.quantization if isinstance(layer, WEIGHTED) else None
    mend = causes.mend(cause, layer.name, None if units is None else units.bits)
    return Cause(node=node.name, cause=cause, share=share, flips=flips, error=error, ran=ran, detail=detail, mend=mend)


def cause_table(diagnosis: Diagnosis) -> Table:
    """The causes as a table, the most telling first."""
    rows = [
        (cause.node, cause.named, f"{cause.share:.0%}", f"{cause.flips:,}", f"{cause.error:.2g}")
        for cause in diagnosis.causes[:_ROWS]
    ]
    title = f"Why they differ: {sum(diagnosis.flips.values()):,} of {diagnosis.values:,} spikes differ by themselves"
    return Table(title, ("population", "cause", "explains", "spikes", "error / threshold"), rows, text=("cause",))
