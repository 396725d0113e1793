"""The network as a drawing: a box for each node, one below the other, and lines at the side for edges that skip some."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape

from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import Input, Node, Output, Population
from tet_deploy.ir.table import graph_rows
from tet_deploy.reporting.figures import short
from tet_deploy.reporting.own_terms import is_identity, own_terms
from tet_deploy.reporting.units import percent

_WIDTH, _HEIGHT, _STEP, _LANE, _EDGE = 396, 42, 56, 12, 3


def network_drawing(graph: Graph, rates: Mapping[str, float], latency: Mapping[str, int]) -> str:
    """Inline SVG of a network: shapes, bits, and of populations the firing rate and the steps until they answer.

    Synapses that only hand spikes on, and flattening, are lines.
    """
    drawn = [node for node in graph if not is_identity(node)]
    place = {node.name: row for row, node in enumerate(drawn)}
    rows = {row["node"]: row for row in graph_rows(graph)}
    parts, lanes = [], _Lanes()
    for row, node in enumerate(drawn):
        for source in dict.fromkeys(_sources(graph, node)):
            above = place[source]
            parts.append(_straight(row) if above == row - 1 else _aside(above, row, lanes.take(above, row)))
        told = [f"{rows[node.name]['bits']} bit" if rows[node.name]["bits"] else ""]
        if node.name in rates:
            told.append(f"{percent(rates[node.name])} firing")
        if node.name in latency and isinstance(node, Population):
            told.append(f"latency {latency[node.name]}")
        hover = f"{node.name}: {rows[node.name]['settings'] or node.kind}, {rows[node.name]['parameters']:,} parameters"
        hover += f", {rates[node.name]} spikes per neuron and step" if node.name in rates else ""
        lines = node.name, rows[node.name]["shape"], own_terms(graph, node), " · ".join(filter(None, told))
        parts.append(_box(row, _color(node), lines, rates.get(node.name), hover))
    width, height = _WIDTH + _EDGE + _LANE * (lanes.most + 1), _STEP * len(drawn)
    label = f"The network: {len(drawn)} nodes from {drawn[0].name} to {drawn[-1].name}"
    return (
        f'<svg role="img" aria-label="{escape(label)}" viewBox="0 0 {width} {height}" font-size="12" fill="none">'
        f"{''.join(parts)}</svg>"
    )


class _Lanes:
    """Which lines at the side run where; those that overlap run beside each other."""

    def __init__(self) -> None:
        self.ends: list[int] = []

    def take(self, start: int, end: int) -> int:
        """A free lane for a line between two rows; they are asked for from top to bottom of their ends."""
        lane = next((lane for lane, last in enumerate(self.ends) if last <= start), len(self.ends))
        self.ends[lane : lane + 1] = [end]
        return lane

    @property
    def most(self) -> int:
        """How many run beside each other."""
        return len(self.ends)


def _sources(graph: Graph, node: Node) -> Iterator[str]:
    """The drawn nodes that feed one."""
    for name in node.inputs:
        if is_identity(graph[name]):
            yield from _sources(graph, graph[name])
        else:
            yield name


def _straight(row: int) -> str:
    x, end = _EDGE + 36, row * _STEP
    return f'<path d="M{x} {end - _STEP + _HEIGHT}V{end - 5}" stroke="var(--quiet)"/>{_head(x, end, "l-4 -6h8z")}'


def _aside(above: int, row: int, lane: int) -> str:
    x, start, end = _EDGE + _WIDTH, above * _STEP + _HEIGHT // 2 + 5, row * _STEP + _HEIGHT // 2 - 5
    out = 4 + _LANE * lane
    path = f"M{x} {start}h{out}q8 0 8 8V{end - 8}q0 8 -8 8h{5 - out}"
    return f'<path d="{path}" stroke="var(--c4)" stroke-width="1.6"/>{_head(x, end, "l6 -4v8z", "--c4")}'


def _head(x: int, y: int, shape: str, color: str = "--quiet") -> str:
    return f'<path d="M{x} {y}{shape}" fill="var({color})"/>'


def _box(row: int, color: str, lines: tuple[str, str, str, str], rate: float | None, hover: str) -> str:
    y, right = row * _STEP, _EDGE + _WIDTH - 8
    name, shape, terms, told = lines
    bar = (
        ""
        if rate is None
        else f'<rect x="{_EDGE}" y="{y + _HEIGHT - 3}" width="{_WIDTH * rate:.2f}" height="3" fill="{color}"/>'
    )
    return (
        f"<g><title>{escape(hover)}</title>"
        f'<rect x="{_EDGE}" y="{y + 0.5}" width="{_WIDTH}" height="{_HEIGHT - 1}" fill="var(--page)" stroke="var(--line)"/>'
        f'<rect x="{_EDGE}" y="{y}" width="4" height="{_HEIGHT}" fill="{color}"/>{bar}'
        f'<text x="{_EDGE + 12}" y="{y + 17}" fill="var(--ink)" font-weight="600">{_cut(name, 34)}</text>'
        f'<text x="{right}" y="{y + 17}" fill="var(--quiet)" text-anchor="end">{_cut(shape, 16)}</text>'
        f'<text x="{_EDGE + 12}" y="{y + 33}" fill="var(--quiet)" font-size="11">{_cut(terms, 62 - len(told))}</text>'
        f'<text x="{right}" y="{y + 33}" fill="var(--ink)" font-size="11" text-anchor="end">{_cut(told, 40)}</text></g>'
    )


def _color(node: Node) -> str:
    if isinstance(node, Output):
        return "var(--c3)"
    if isinstance(node, Population):
        return "var(--c1)"
    return "var(--quiet)" if isinstance(node, Input) or node.kind == "Add" else "var(--c2)"


def _cut(text: str, most: int) -> str:
    return escape(short(text, most))
