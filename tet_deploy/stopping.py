"""Decide before the last step where a network is sure: by the lead of the best class, as wide as held-out samples ask for.

After step t of at most T, with the mean readout m of steps 1..t:

    margin = largest of m - second largest of m ; decide at the first t with margin >= threshold, at the latest at T

The threshold is found by fixed-sequence testing (Angelopoulos et al., "Learn then test", arXiv 2110.01052, 2021): a list of
thresholds that no sample had a part in is gone through from the cautious end as long as the samples reject, each time at the
same level, that the rule is right less often than wanted. Whatever the network, the last one that passes is wrong about that
with no more than this probability.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from tet_deploy.arguments import whole
from tet_deploy.batches import FrameBatches, Source
from tet_deploy.contracts import Frames, Recording
from tet_deploy.data.frames import check_labels
from tet_deploy.errors import ArgumentError, DataError, shown
from tet_deploy.intervals import least_count, wilson
from tet_deploy.ir.graph import Graph
from tet_deploy.reprs import short_repr
from tet_deploy.wording import number_of

_TRIED = (np.inf, *(2.0 ** (np.arange(480, -481, -1) / 8)), 0.0)  # 9 % apart; never before T first, always at step 1 last


@dataclass(frozen=True, kw_only=True, eq=False)
class Stopped:
    """What a rule decided on labelled samples.

    Attributes
    ----------
    decisions
        int64 [B]: class of each sample.
    steps
        int64 [B]: the step at which it was decided, 1..T.
    limit
        The number of steps T without the rule.
    correct
        How many were decided rightly.
    """

    decisions: np.ndarray
    steps: np.ndarray
    limit: int
    correct: int
    __repr__ = short_repr

    @property
    def accuracy(self) -> float:
        """Share of right decisions, in [0, 1]."""
        return self.correct / len(self.decisions)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy, see `intervals.wilson`."""
        return wilson(self.correct, len(self.decisions))

    @property
    def mean_steps(self) -> float:
        """Steps until a decision, on average."""
        return float(self.steps.mean())

    @property
    def saved(self) -> float:
        """Share of the T steps of each sample that was not needed, in [0, 1)."""
        return 1 - self.mean_steps / self.limit

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"accuracy {self.accuracy:.2%} ({low:.2%} to {high:.2%}) on {number_of('sample', len(self.decisions))} "
            f"after {self.mean_steps:.2f} of {number_of('step', self.limit)} on average, {self.saved:.0%} saved"
        )


@dataclass(frozen=True, kw_only=True)
class EarlyStop:
    """When a stream decides; see the top of this module.

    Attributes
    ----------
    threshold
        Margin of the mean readout that is enough, in the readout's units; infinity never stops before `steps`.
    steps
        The step T at which it decides whatever the margin.
    digest
        Of the network that it was calibrated for; empty where it was chosen by hand, and goes with any.
    wanted, confidence
        What is promised: on samples drawn as those of the calibration, at least `wanted` of the decisions are right; with at
        most probability 1 - `confidence`, calibration samples came up that make this wrong. None where chosen by hand.
    held_out
        What it decided on the samples of the calibration.

    Raises
    ------
    ArgumentError
        A threshold below 0, or no step.
    """

    threshold: float
    steps: int
    digest: str = ""
    wanted: float | None = None
    confidence: float | None = None
    held_out: Stopped | None = None
    __repr__ = short_repr

    def __post_init__(self) -> None:
        whole("steps", self.steps)
        if not isinstance(self.threshold, (int, float)) or not self.threshold >= 0:
            raise ArgumentError(f"threshold: must be a margin of at least 0; got {shown(self.threshold)}.")

    def reached(self, margin: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Whether to decide, bool, where so many steps led to that margin."""
        return np.asarray((margin >= self.threshold) | (steps >= self.steps))

    def on(self, recording: Recording, labels: Any) -> Stopped:
        """What the rule decides on recorded samples with these labels, int64 [B].

        Raises
        ------
        DataError
            Labels that do not fit, or a recording of fewer than T steps.
        """
        return self._on(*_course(recording, self.steps), _checked(labels, recording))

    def _on(self, classes: np.ndarray, lead: np.ndarray, labels: np.ndarray) -> Stopped:
        t = np.arange(1, self.steps + 1)[:, None]
        at = self.reached(lead, t).argmax(axis=0)
        decisions = classes[at, np.arange(len(labels))]
        correct = int(np.count_nonzero(decisions == labels))
        return Stopped(decisions=decisions, steps=at + 1, limit=self.steps, correct=correct)

    def __str__(self) -> str:
        rule = f"decides when the mean readout leads by {self.threshold:.4g}, at the latest at step {self.steps}"
        if self.held_out is None or self.wanted is None or self.confidence is None:
            return rule
        return (
            f"{rule}: held out, {self.held_out}; of samples like these at least {self.wanted:.2%} are decided rightly, at "
            f"{self.confidence:.0%} confidence"
        )


def early_stop(
    graph: Graph,
    frames: Frames | Source,
    labels: np.ndarray | None = None,
    *,
    accuracy: float,
    confidence: float = 0.95,
    runtime: str = "onnx",
) -> EarlyStop:
    """The rule that decides as early as held-out samples allow for a wanted accuracy.

    Parameters
    ----------
    graph
        The network.
    frames, labels
        Labelled samples that the network was not trained or quantized on, [T, B, *shape] and int64 [B], or a source of both.
    accuracy
        Share of decisions that must be right, in (0, 1), on samples drawn as these were.
    confidence
        That the promise holds; more samples let it decide earlier for the same.
    runtime
        What runs the samples.

    Returns
    -------
    EarlyStop
        For `td.Stream(graph, stop=...)`; `held_out` has accuracy, its interval and the steps saved on these samples.

    Raises
    ------
    DataError
        These samples do not show that accuracy, even after all steps.

    Examples
    --------
    >>> stop = td.early_stop(int8, frames, labels, accuracy=0.95)  # doctest: +SKIP
    >>> stream = td.Stream(int8, runtime="onnx", stop=stop)  # doctest: +SKIP
    """
    from tet_deploy import pipeline

    batches = FrameBatches.of(graph, frames)
    known = pipeline.known_labels(graph, batches, labels)
    recording = pipeline.run(graph, batches, runtime=runtime, probes="none")
    return calibrated(recording, known, accuracy=accuracy, confidence=confidence, digest=graph.digest())


def calibrated(
    recording: Recording, labels: np.ndarray | None, *, accuracy: float, confidence: float = 0.95, digest: str = ""
) -> EarlyStop:
    """As `early_stop`, from what a network of that digest did with the samples."""
    for name, value in (("accuracy", accuracy), ("confidence", confidence)):
        if not isinstance(value, (int, float)) or not 0 < value < 1:
            raise ArgumentError(f"{name}: must lie between 0 and 1; got {shown(value)}.")
    steps, samples = recording.steps, recording.samples
    course, known = _course(recording, steps), _checked(labels, recording)
    needed, found = least_count(samples, accuracy, 1 - confidence), None
    lead = course[1]
    for threshold in _TRIED:
        if lead.max() < threshold < np.inf or 0 < threshold <= lead.min():
            continue  # it decides these samples as the one before it, or as the last
        rule = EarlyStop(threshold=float(threshold), steps=steps, digest=digest, wanted=accuracy, confidence=confidence)
        decided = rule._on(*course, known)
        if decided.correct < needed:
            break
        found = dataclasses.replace(rule, held_out=decided)
    if found is None:
        enough = f"{needed}" if needed <= samples else "more samples"
        raise DataError(
            f"early stop: after all {steps} steps {decided.correct} of {samples} samples are right; to show {accuracy:.2%} "
            f"at {confidence:.0%} confidence takes {enough}. Ask for less, or give more samples."
        )
    return found


def margins(total: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Lead of the best class in the mean readout, from sums [..., K] over so many steps [...].

    Raises
    ------
    ArgumentError
        A readout of one value, which leads before none.
    """
    if total.shape[-1] < 2:
        raise ArgumentError("early stop: a readout of one value has no lead. Leave the rule out.")
    best = np.partition(total, -2, axis=-1)
    return np.asarray((best[..., -1] - best[..., -2]) / steps)


def _course(recording: Recording, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Class and margin of each sample if it were decided at step 1..T, both [T, B]."""
    if recording.steps < steps:
        raise DataError(f"early stop: the rule is of {steps} steps; the recording has {recording.steps}. Record as many.")
    t = np.arange(1, steps + 1)[:, None]
    return recording.decisions_by_step[:steps], margins(recording.sums[:steps], t)


def _checked(labels: Any, recording: Recording) -> np.ndarray:
    if labels is None:
        raise DataError("early stop: is judged on labelled samples. Give their labels.")
    return check_labels(labels, samples=recording.samples, classes=recording.readout.shape[-1])
