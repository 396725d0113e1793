"""How many values left the chip's range over any number of samples, in numbers that add up and in words."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tet_deploy import dynamics, plain
from tet_deploy.errors import GraphError, shown
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.names import check_name
from tet_deploy.ir.nodes import WEIGHTED, Input
from tet_deploy.ranges import CLIPPED, KINDS, SATURATED, WRAPPED, Ranges

CALIBRATION = "calibration"  # metadata: by input node, the least and greatest frame that it was quantized for
_SEEN = {  # metadata: by node, what was seen on the calibration frames
    CLIPPED: (CALIBRATION, ("least", "greatest")),
    WRAPPED: ("quantization", ("largest_sum_seen",)),
    SATURATED: ("quantization", ("least_potential_seen",)),
}
_WORDS = {CLIPPED: "messages clipped at {}", WRAPPED: "sums wrapped at {}", SATURATED: "potentials held at -{}"}
_NODES_SHOWN = 3
_AS_CALIBRATED = {  # what to do where the frames of calibration did the same
    CLIPPED: "So were rare ones in calibration; if these frames hold more of them, quantize again with such: {}.",
    WRAPPED: "So did sums in calibration: prune or split the layer.",
    SATURATED: "So were potentials in calibration, as inhibition drives them down and what leaks too little stays there: no "
    "calibration helps; train with a smaller decay or less inhibition.",
}


@dataclass(frozen=True, kw_only=True)
class RangeCount:
    """How many values of one node left their range.

    Attributes
    ----------
    count, of
        So many of so many: one value for each neuron or message, step and sample.
    limit
        The largest magnitude in range: of an input in units of its frames, of sums in weight mantissas, of potentials in
        64ths of one.
    calibrated
        The largest magnitude on the frames that the network was quantized with, in the same units, where it is known.
    first
        Step and sample where it first happened, from 0; None where it did not.
    """

    count: int
    of: int
    limit: float
    calibrated: float | None = None
    first: tuple[int, int] | None = None

    def __add__(self, other: RangeCount) -> RangeCount:
        """That of both runs' samples together."""
        known = [each.calibrated for each in (self, other) if each.calibrated is not None]
        return RangeCount(
            count=self.count + other.count,
            of=self.of + other.of,
            limit=max(self.limit, other.limit),
            calibrated=max(known, default=None),
            first=min((each.first for each in (self, other) if each.first is not None), default=None),
        )

    @classmethod
    def from_state(cls, state: Any) -> RangeCount:
        """What stands in a `RangeTotals.to_state`.

        Raises
        ------
        ArtifactError
            Something else.
        """
        state = plain.mapping(state, "ranges")
        count, of = plain.count(state, "count", "ranges"), plain.count(state, "of", "ranges")
        first = plain.get(state, "first", "ranges")
        if count > of or (first is None) != (count == 0):
            raise plain.damaged(f"ranges: {count} of {of} values do not fit")
        step, sample = (0, 0) if first is None else map(int, plain.counts(state, "first", "ranges", length=2))
        return cls(
            count=count,
            of=of,
            limit=plain.real(state, "limit", "ranges"),
            calibrated=plain.real_or_none(state, "calibrated", "ranges"),
            first=None if first is None else (step, sample),
        )


@dataclass(frozen=True, kw_only=True)
class RangeTotals:
    """What left its range in a run of any number of samples; a node that cannot has no entry. See `ranges` for the kinds.

    Attributes
    ----------
    clipped, wrapped, saturated
        By name of the node.
    unknown
        Nodes that may have left their range on samples where it was not counted.
    """

    clipped: Mapping[str, RangeCount] = field(default_factory=dict)
    wrapped: Mapping[str, RangeCount] = field(default_factory=dict)
    saturated: Mapping[str, RangeCount] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()

    @classmethod
    def of(cls, graph: Graph, found: Ranges, start: int = 0) -> RangeTotals:
        """Those of a recording of that network, whose first sample has the number `start`; none in a float network."""
        if not graph.is_quantized:
            return cls()
        counts: dict[str, dict[str, RangeCount]] = {}
        for kind in KINDS:
            counts[kind] = {}
            for name, array in getattr(found, kind).items():
                away = array.nonzero()
                counts[kind][name] = RangeCount(
                    count=int(array.sum()),
                    of=array.size * math.prod(graph.shapes[name]),
                    limit=_limit(graph, kind, name),
                    calibrated=_calibrated(graph, kind, name),
                    first=(int(away[0][0]), start + int(away[1][0])) if away[0].size else None,
                )
        return cls(**counts, unknown=found.unknown)

    def __add__(self, other: RangeTotals) -> RangeTotals:
        """Those of both runs' samples together."""
        counts: dict[str, dict[str, RangeCount]] = {}
        for kind in KINDS:
            ours, theirs = getattr(self, kind), getattr(other, kind)
            counts[kind] = {
                name: ours[name] + theirs[name] if name in ours and name in theirs else {**ours, **theirs}[name]
                for name in {**ours, **theirs}
            }
        return RangeTotals(**counts, unknown=tuple(dict.fromkeys((*self.unknown, *other.unknown))))

    def __or__(self, other: RangeTotals) -> RangeTotals:
        """What is known from two runs of the same samples: what the first did not count, from the second."""
        counts = {kind: {**getattr(other, kind), **getattr(self, kind)} for kind in KINDS}
        known = {name for found in counts.values() for name in found}
        unknown = [name for name in dict.fromkeys((*self.unknown, *other.unknown)) if name not in known]
        return RangeTotals(**counts, unknown=tuple(unknown))

    def to_state(self) -> dict[str, Any]:
        """In plain JSON values, without loss."""
        counts = {
            kind: {name: vars(found) | {"first": found.first and list(found.first)} for name, found in nodes.items()}
            for kind, nodes in ((kind, getattr(self, kind)) for kind in KINDS)
        }
        return {**counts, "unknown": list(self.unknown)}

    @classmethod
    def from_state(cls, state: Any) -> RangeTotals:
        """What `to_state` gave, or `dataclasses.asdict` as JSON keeps it.

        Raises
        ------
        ArtifactError
            Something else.
        """
        state = plain.mapping(state, "ranges")
        unknown = plain.texts(state, "unknown", "ranges")
        found = {kind: plain.mapping(plain.get(state, kind, "ranges"), f"ranges.{kind}") for kind in KINDS}
        for name in (*unknown, *(name for nodes in found.values() for name in nodes)):
            _need_name(name)
        counts = {kind: {name: RangeCount.from_state(each) for name, each in nodes.items()} for kind, nodes in found.items()}
        return cls(**counts, unknown=tuple(unknown))

    @property
    def said(self) -> bool:
        """Whether there is something to tell: a value out of range, or one that was not counted."""
        return bool(self.unknown) or any(True for _ in self._away())

    def advice(self, quantize: str = "td.quantize(graph, calibration=...)") -> str:
        """What to do about it, with the call that quantizes."""
        away = list(self._away())
        if not away:
            return "The reference runtime counts it."
        known = {kind for kind, _, found in away if found.calibrated is not None and found.calibrated >= found.limit}
        if len(known) < len({kind for kind, _, _ in away}):
            return f"Quantize again with frames like these: {quantize}."
        return " ".join(words.format(quantize) for kind, words in _AS_CALIBRATED.items() if kind in known)

    def __str__(self) -> str:
        parts = [_words(kind, name, found) for kind, name, found in self._away()]
        if self.unknown:
            parts.append(f"how many values of {_listed(self.unknown)} left the chip's range was not counted")
        return _listed(parts, "; ") or "nothing left its range"

    def _away(self) -> Iterator[tuple[str, str, RangeCount]]:
        for kind in KINDS:
            for name, found in getattr(self, kind).items():
                if found.count:
                    yield kind, name, found


def _limit(graph: Graph, kind: str, name: str) -> float:
    node = graph[name]
    if isinstance(node, Input):
        assert node.quantization is not None
        return dynamics.largest_message(node.quantization) / node.quantization.one_scale
    if kind == SATURATED:
        return float(-dynamics.LOWEST_POTENTIAL)
    return float(dynamics.STATE_LIMIT - 1 if isinstance(node, WEIGHTED) else dynamics.LARGEST_SYNAPTIC_SUM)


def _calibrated(graph: Graph, kind: str, name: str) -> float | None:
    """The largest magnitude on the calibration frames, as the metadata says; it is for people and may say anything."""
    key, ends = _SEEN[kind]
    try:
        seen = json.loads(graph.metadata[key])[name]
        bounds = [abs(float(seen[end])) for end in ends]
    except (LookupError, TypeError, ValueError, OverflowError, RecursionError):
        return None
    return max(bounds) if all(map(math.isfinite, bounds)) else None


def _words(kind: str, name: str, found: RangeCount) -> str:
    share = 100 * found.count / found.of
    many = f"{share:.3g} %" if 1 <= share < 99.95 or found.count == found.of else f"{found.count:,}"
    limit = f"{found.limit:,.0f}" if float(found.limit).is_integer() else f"{found.limit:.4g}"
    is_known = kind == CLIPPED and found.calibrated is not None
    seen = f"; calibrated up to {found.calibrated:.4g}" if is_known else ""
    return f"{name}: {many} of {found.of:,} {_WORDS[kind].format(limit)}{seen}"


def _listed(parts: Sequence[str], mark: str = ", ") -> str:
    more = len(parts) - _NODES_SHOWN
    return mark.join([*parts[:_NODES_SHOWN], *([f"{more} more"] if more > 0 else [])])


def _need_name(name: str) -> None:
    try:
        check_name(name)
    except GraphError as error:
        raise plain.damaged(f"ranges: {shown(name)} is no node") from error
