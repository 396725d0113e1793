"""Accuracy against energy against steps, from one run (the TET paper's Fig. 4B), and with a stream's early stop beside it.

A run of T steps holds every shorter one. After each step t it is known what each sample would be decided as, by how much
its best class leads, and how many operations it has cost. From that follow two curves: all samples stop after step t; or
each stops where its lead is wide enough (`stopping`), for margins that part the samples evenly and of which none is chosen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from tet_deploy import plain
from tet_deploy.batches import FrameBatches, Source
from tet_deploy.contracts import Frames, Progress, Recording, tell_ranges
from tet_deploy.counting import WORDS, EnergyReport
from tet_deploy.counting.energies import ADDITIONS, MACS, price_of
from tet_deploy.counting.estimation import counted_each
from tet_deploy.counting.state import from_state as report_of
from tet_deploy.counting.state import to_state as state_of
from tet_deploy.counting.tables import Chosen, choose
from tet_deploy.deployment import Run, check_options, side_by_side
from tet_deploy.errors import DataError
from tet_deploy.intervals import wilson
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.spec import need_graph
from tet_deploy.layout import Table
from tet_deploy.pipeline import known_labels
from tet_deploy.range_totals import RangeTotals
from tet_deploy.reprs import short_repr
from tet_deploy.stopping import EarlyStop, margins
from tet_deploy.totals import plus
from tet_deploy.wording import number_of

MARGINS = 12  # points of the curve of early stops


class Point(NamedTuple):
    """One way to stop: the step for all samples, or the margin for each; what it decides rightly, takes and costs.

    Energies are picojoules of an inference, mean over samples, by the name of the table.
    """

    step: int | None
    margin: float | None
    correct: int
    accuracy: float
    interval: tuple[float, float]
    mean_steps: float
    picojoules: Mapping[str, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class Course:
    """What became of each sample after step 1..T; courses of successive samples add up.

    Attributes
    ----------
    report
        The energy of all samples after all steps.
    right
        bool [T, B]: whether the sample would be decided rightly.
    lead
        float64 [T, B]: margin of the best class in the mean readout.
    operations
        int64 [2, T, B]: multiply-accumulates and additions of that step, behind the report's default energy.
    """

    report: EnergyReport
    right: np.ndarray
    lead: np.ndarray
    operations: np.ndarray
    __repr__ = short_repr

    @classmethod
    def of(cls, recording: Recording, labels: np.ndarray, report: EnergyReport, operations: np.ndarray) -> Course:
        """That of a recording."""
        t = np.arange(1, recording.steps + 1)[:, None]
        right = recording.decisions_by_step == labels
        return cls(report=report, right=right, lead=margins(recording.sums, t), operations=operations)

    @property
    def samples(self) -> int:
        """Number of samples B."""
        return self.report.samples

    @property
    def ranges(self) -> RangeTotals:
        """What left the chip's range."""
        return self.report.ranges

    def by_step(self) -> list[Point]:
        """All samples stop after step 1..T."""
        return [self._point(np.full(self.samples, t), step=t) for t in range(1, len(self.right) + 1)]

    def early(self) -> list[Point]:
        """Each sample stops where its lead is at least a margin: never early, at even shares of the leads, at once."""
        chosen = np.quantile(self.lead[:-1], np.linspace(1, 0, MARGINS)[1:-1]) if len(self.lead) > 1 else ()
        return [self.stopped(margin) for margin in dict.fromkeys((np.inf, *map(float, chosen), 0.0))]

    def stopped(self, margin: float) -> Point:
        """Each sample stops where its lead is at least so much."""
        steps = len(self.right)
        rule = EarlyStop(threshold=margin, steps=steps)
        at = rule.reached(self.lead, np.arange(1, steps + 1)[:, None]).argmax(axis=0)
        return self._point(at + 1, margin=margin)

    def _point(self, stops: np.ndarray, *, step: int | None = None, margin: float | None = None) -> Point:
        """What comes of samples that stop after these steps, int64 [B]."""
        samples = np.arange(self.samples)
        correct = int(self.right[stops - 1, samples].sum())
        spent = self.operations.cumsum(axis=1)[:, stops - 1, samples].sum(axis=1)
        costs = {priced.table.name: float(self._cost(priced, spent, stops)) for priced in self.report.by_table}
        interval = wilson(correct, self.samples)
        return Point(step, margin, correct, correct / self.samples, interval, float(stops.mean()), costs)

    def _cost(self, priced: EnergyReport, spent: np.ndarray, stops: np.ndarray) -> Fraction:
        """Prices of operations, and what a step adds that is the same for every sample (a cached layer's result)."""
        terms, _ = priced.terms(priced.default)
        operations = sum(price_of(terms, part) * int(n) for part, n in zip((MACS, ADDITIONS), spent, strict=True))
        return (operations + priced.alike_each_step() * int(stops.sum())) / self.samples

    def __add__(self, other: Course) -> Course:
        """That of this one's samples followed by the other's."""
        joined = {
            name: np.concatenate([getattr(self, name), getattr(other, name)], axis=-1)
            for name in ("right", "lead", "operations")
        }
        return Course(report=self.report + other.report, **joined)

    def to_state(self) -> dict[str, Any]:
        """In plain JSON values, without loss."""
        return {
            "report": state_of(self.report),
            "right": self.right.astype(int).tolist(),
            "lead": self.lead.tolist(),
            "operations": self.operations.tolist(),
        }

    @classmethod
    def from_state(cls, state: Any) -> Course:
        """What `to_state` gave.

        Raises
        ------
        ArtifactError
            Something else.
        """
        state = plain.mapping(state, "curve")
        report = report_of(plain.get(state, "report"))
        right = plain.grid(state, "right", report.steps, report.samples)
        leads = [plain.reals({"lead": row}, "lead") for row in plain.entries(state, "lead", length=report.steps)]
        operations = plain.entries(state, "operations", length=2)
        parts = [plain.grid({"operations": part}, "operations", report.steps, report.samples) for part in operations]
        fits = all(len(row) == report.samples and row.min() >= 0 for row in leads)
        if right.max() > 1 or not fits:
            raise plain.damaged("right, lead: do not fit the samples")
        found = [sum(part.ravel().tolist()) for part in parts]
        if found != [report.multiplications(report.policies.input).sum(), report.additions().sum()]:
            raise plain.damaged("operations: do not add up to the counts")
        return cls(report=report, right=right.astype(bool), lead=np.stack(leads), operations=np.stack(parts))


def energy_curve(
    graph: Graph,
    frames: Frames | Source,
    labels: np.ndarray | None = None,
    *,
    table: Chosen | list[Chosen] | None = None,
    runtime: str = "reference",
    progress: Progress | None = None,
    **policies: Any,
) -> Course:
    """Accuracy and energy of a network after each of its steps, and with early stops, from one run.

    Parameters
    ----------
    graph, frames, labels
        The network and labelled samples, [T, B, *shape] and int64 [B], or a source of both.
    table, runtime, policies
        As in `td.energy`.

    Raises
    ------
    DataError
        No labels are known, or the network decides nothing, as its readout is one value.

    Examples
    --------
    >>> course = energy_curve(int8, frames, labels)
    >>> fewest = course.early()[-1]
    >>> bool(1 <= fewest.mean_steps <= 4), sorted(fewest.picojoules)
    (True, ['45nm-fp32', '45nm-int8'])
    """
    check_options("energy_curve", counted_each, policies)
    tables = choose(table, quantized=need_graph(graph).is_quantized)
    batches = FrameBatches.of(graph, frames)
    known = known_labels(graph, batches, labels)
    if known is None:
        raise DataError("curve of accuracy and energy: needs labels. Give those of the frames.")
    if graph.shapes[graph.readout.name][0] < 2:
        raise DataError("curve of accuracy and energy: a readout of one value decides nothing. Count it without a curve.")
    found: Course | None = None
    parts = side_by_side([Run(graph=graph, runtime=runtime)], batches, probes="spikes", progress=lambda _: progress)
    for part, (recording,) in parts:
        assert recording is not None
        report, operations = counted_each(graph, recording, part.frames(), table=tables, **policies)
        report = dataclasses.replace(report, ranges=RangeTotals.of(graph, recording.ranges, part.start))
        of = known[part.start - batches.start : part.stop - batches.start]
        found = plus(found, Course.of(recording, of, report, operations))
    assert found is not None
    tell_ranges(found.ranges)
    return found


def curve_values(course: Course) -> dict[str, Any]:
    """The curves in plain JSON values."""
    report = course.report
    return {
        "unit": "pJ per inference, mean over samples; intervals are 95 %",
        "network": report.digest,
        "runtime": report.runtime,
        "samples": course.samples,
        "steps": report.steps,
        "energy": report.default,
        "words": WORDS[report.default],
        "policies": dataclasses.asdict(report.policies),
        "tables": [priced.table.name for priced in report.by_table],
        "not_spiking": {each.table.name: each.mean("ann") for each in report.by_table if "ann" in each.names},
        "stopped_after": [_plain(point) for point in course.by_step()],
        "early_stops": [_plain(point) for point in course.early()],
    }


def curve_table(course: Course, which: str = "") -> Table:
    """Both curves, a row for each point: after which step all samples stop, or at which lead each of them does."""
    names = [priced.table.name for priced in course.report.by_table]
    labels = [f"nJ by {priced.table.label}" for priced in course.report.by_table]
    rows = []
    for point in (*course.by_step(), *course.early()):
        stop = f"step {point.step}" if point.step else f"lead>={point.margin:.3g}"
        low, high = point.interval
        energies = (f"{point.picojoules[name] / 1000:,.3f}" for name in names)
        rows.append((stop, f"{point.accuracy:.2%}", f"{low:.1%} to {high:.1%}", f"{point.mean_steps:.2f}", *energies))
    words, of = WORDS[course.report.default], which or number_of("sample", course.samples)
    title = f"Accuracy and energy ({words}), stopped after a step or at a lead, {of}"
    title += f"; with {course.report.policies.unusual}" if course.report.policies.unusual else ""
    return Table(title, ("stop", "accuracy", "95 %", "mean steps", *labels), rows)


def _plain(point: Point) -> dict[str, Any]:
    margin = None if point.margin is None else point.margin if np.isfinite(point.margin) else "never before the last step"
    return point._asdict() | {"margin": margin, "interval": list(point.interval), "picojoules": dict(point.picojoules)}
