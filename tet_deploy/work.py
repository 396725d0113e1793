"""Work on a data set that can be done a range of samples at a time, here or elsewhere, and put together afterwards."""

from __future__ import annotations

import dataclasses
import functools
import operator
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tet_deploy import pipeline, plain, validation
from tet_deploy.batches import FrameBatches
from tet_deploy.contracts import Progress, ranges_untold
from tet_deploy.counting import EnergyReport
from tet_deploy.counting.state import from_state, to_state
from tet_deploy.data.opened import Opened, open_samples
from tet_deploy.decisions import Decisions
from tet_deploy.deployment import runnable
from tet_deploy.energy_curve import Course, energy_curve
from tet_deploy.errors import ArgumentError
from tet_deploy.ir.artifact import load
from tet_deploy.ir.graph import Graph
from tet_deploy.links.comparing import compared
from tet_deploy.links.deviation import Deviation
from tet_deploy.links.link import open_links
from tet_deploy.links.pair import Pair
from tet_deploy.passes.snap_to_grid import snapped
from tet_deploy.range_totals import RangeTotals
from tet_deploy.validation import Agreement

Result = Any  # Decisions, Validation, Deviation, EnergyReport or Course


class Kind(NamedTuple):
    """One kind of work: how it is done on some samples, how its results, which add up, are written and read.

    `opens` gives what the work is done with: a network, or a pair of links.
    """

    do: Callable[[Any, FrameBatches, Mapping[str, Any], Progress | None], Result]
    to_state: Callable[[Result], Any]
    from_state: Callable[[Any], Result]
    opens: Callable[[Work], Graph | Pair] = lambda work: load(work.network)


def _run(graph: Graph, frames: FrameBatches, settings: Mapping[str, Any], progress: Progress | None) -> Decisions:
    return pipeline.decide(graph, frames, runtime=settings["runtime"], progress=progress)


@dataclass(frozen=True, kw_only=True)
class Validation:
    """How runtimes agree with the first of them, and whether anything but equality is a fault."""

    agreements: Mapping[str, Agreement]
    equality_expected: bool

    @property
    def samples(self) -> int:
        """Number of samples that were compared."""
        return max(agreement.samples for agreement in self.agreements.values())

    @property
    def ranges(self) -> RangeTotals:
        """What left the chip's range on these samples."""
        return validation.ranges(self.agreements)

    def __add__(self, other: Validation) -> Validation:
        return Validation(
            agreements={name: agreement + other.agreements[name] for name, agreement in self.agreements.items()},
            equality_expected=self.equality_expected and other.equality_expected,
        )

    def to_state(self) -> dict[str, Any]:
        """In plain JSON values, without loss."""
        return dataclasses.asdict(self)

    @classmethod
    def from_state(cls, state: Any) -> Validation:
        """What `to_state` gave.

        Raises
        ------
        ArtifactError
            Something else.
        """
        state = plain.mapping(state, "validation")
        found = plain.mapping(plain.get(state, "agreements"), "agreements")
        expected = plain.get(state, "equality_expected")
        if not found or type(expected) is not bool:
            raise plain.damaged("validation: must say how runtimes agree")
        return cls(
            agreements={name: Agreement.from_state(agreement) for name, agreement in found.items()},
            equality_expected=expected,
        )


def _validate(graph: Graph, frames: FrameBatches, settings: Mapping[str, Any], progress: Progress | None) -> Validation:
    x = snapped(graph, frames) if settings["snap_frames"] else frames
    names = settings["runtimes"] or runnable(graph)
    agreements = pipeline.validate(graph, x, runtimes=names, progress=lambda _: progress)
    return Validation(agreements=agreements, equality_expected=pipeline.equality_expected(graph, x))


def _energy(graph: Graph, frames: FrameBatches, settings: Mapping[str, Any], progress: Progress | None) -> EnergyReport:
    return pipeline.energy(graph, frames, table=settings["table"], progress=progress, **settings.get("policies", {}))


def _curve(graph: Graph, frames: FrameBatches, settings: Mapping[str, Any], progress: Progress | None) -> Course:
    return energy_curve(graph, frames, table=settings["table"], progress=progress, **settings.get("policies", {}))


def _compare(pair: Pair, frames: FrameBatches, settings: Mapping[str, Any], progress: Progress | None) -> Deviation:
    x = pair.snapped(frames) if settings.get("snap_frames") else frames
    return compared(pair, x, progress=lambda _: progress)


def _pair(work: Work) -> Pair:
    return Pair(*open_links(work.network, work.settings["other"]))


KINDS = {
    "run": Kind(_run, Decisions.to_state, Decisions.from_state),
    "validate": Kind(_validate, Validation.to_state, Validation.from_state),
    "compare": Kind(_compare, Deviation.to_state, Deviation.from_state, _pair),
    "energy": Kind(_energy, to_state, from_state),
    "curve": Kind(_curve, Course.to_state, Course.from_state),
}


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is to be done with each sample of a data set.

    Attributes
    ----------
    kind
        "run", "validate", "compare", "energy" or "curve".
    network
        File of the network; of "compare" the first link, see `links`.
    frames
        As `data.opened.open_samples` takes it; by default what the network was trained on.
    settings
        Plain JSON values. For "run" `runtime`; for "validate" `runtimes`, by default all that can run the network, and
        `snap_frames`; for "compare" `other`, the second link, and `snap_frames`; for "energy" and "curve"
        `table`, and `policies` where there are any.
    """

    kind: str
    network: str
    frames: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def opened(self) -> OpenedWork:
        """With the network and the samples at hand."""
        subject = KINDS[self.kind].opens(self)
        samples = open_samples(self.frames, subject.metadata)
        if isinstance(subject, Graph):
            return OpenedWork(self, subject, samples, FrameBatches.of(subject, samples.source))
        batches = subject.batches(samples.source)
        if len(batches) < len(samples.source):
            samples = samples._replace(of=f"{samples.of}, as recorded")
        return OpenedWork(self, subject, samples, batches)


class OpenedWork(NamedTuple):
    """Work with its network, or pair of links, and its samples at hand."""

    work: Work
    subject: Graph | Pair
    samples: Opened
    frames: FrameBatches

    def what(self) -> What:
        """What its results are of."""
        return What(
            kind=self.work.kind,
            network=self.subject.digest(),
            of=self.samples.of,
            total=len(self.frames),
            fingerprint=_fingerprint(self.work.frames, self.samples),
            settings=dict(self.work.settings),
        )

    def do(self, start: int, stop: int, progress: Progress | None = None) -> Done:
        """Samples start..stop-1."""
        with ranges_untold():
            result = KINDS[self.work.kind].do(self.subject, self.frames.part(start, stop), self.work.settings, progress)
        return Done(self.what(), (Span(start, stop, result),))


@dataclass(frozen=True, kw_only=True)
class What:
    """What results are of; only those of one and the same may be added.

    Attributes
    ----------
    network
        Digest of the network, or of both.
    of, total, fingerprint
        The samples in words, how many there are in all, and what tells them from others that are called the same.
    """

    kind: str
    network: str
    of: str
    total: int
    fingerprint: str
    settings: Mapping[str, Any]


class Span(NamedTuple):
    """The result of samples start..stop-1."""

    start: int
    stop: int
    result: Result


class Done(NamedTuple):
    """What is done of some work: results of spans that do not overlap, in order, neighbours added up."""

    what: What
    spans: tuple[Span, ...]

    @property
    def samples(self) -> int:
        """How many samples are done."""
        return sum(span.stop - span.start for span in self.spans)

    @property
    def result(self) -> Result:
        """That of all samples that are done."""
        return functools.reduce(operator.add, (span.result for span in self.spans))

    @property
    def which(self) -> str:
        """In words, which samples these are."""
        from tet_deploy.data.frames import which_samples

        if len(self.spans) == 1 and self.spans[0].start == 0:
            return which_samples(self.samples, self.what.total, self.what.of)
        return f"{', '.join(f'{a}:{b}' for a, b, _ in self.spans)} of {self.what.total:,} {self.what.of}"

    def missing(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Ranges of start..stop-1 that are not done."""
        edges = [start, *(edge for span in self.spans for edge in (span.start, span.stop)), stop]
        gaps = ((max(start, a), min(stop, b)) for a, b in zip(edges[::2], edges[1::2], strict=True))
        return [(a, b) for a, b in gaps if a < b]


def put_together(parts: Iterable[Done]) -> Done:
    """Add up what was done of one work in parts, in whatever order.

    Raises
    ------
    ArgumentError
        No part, parts of different work, or a sample that is in two of them.
    """
    parts = list(parts)
    if not parts:
        raise ArgumentError("parts: need at least one result to put together.")
    what = parts[0].what
    for part in parts:
        for name, value in vars(what).items():
            if vars(part.what)[name] != value:
                raise ArgumentError(
                    f"parts: are of different work: {name} {value!r} and {vars(part.what)[name]!r}. Merge results of one "
                    "network, one set of samples and the same options."
                )
    spans: list[Span] = []
    for span in sorted((span for part in parts for span in part.spans), key=lambda span: span[:2]):
        if spans and span.start < spans[-1].stop:
            raise ArgumentError(
                f"parts: samples {span.start}:{min(spans[-1].stop, span.stop)} are in two of them and would count twice. "
                "Leave one out."
            )
        if spans and span.start == spans[-1].stop:
            before = spans.pop()
            span = Span(before.start, span.stop, before.result + span.result)
        spans.append(span)
    return Done(what, tuple(spans))


def _fingerprint(name: str | None, samples: Opened) -> str:
    """What tells these samples from others of the same name: the split's, or the size and checksum of the file."""
    split = getattr(samples.source, "split_hash", None)
    if split is not None:
        return str(split)
    path = Path(str(name))
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return " ".join(f"{member.filename} {member.CRC:08x}" for member in archive.infolist())
    return f"{path.stat().st_size} bytes"
