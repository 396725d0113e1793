"""Histograms of membrane potentials, a row for each population, with the threshold as a line through all of them."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import numpy as np

from tet_deploy.reporting.figures import short
from tet_deploy.reporting.membranes import EDGES, Membrane
from tet_deploy.reporting.units import significant

_WIDTH, _ROW, _HEIGHT, _TOP = 396, 62, 36, 18


def membrane_plot(found: Mapping[str, Membrane]) -> str:
    """Inline SVG; heights are square roots of shares, so that rare potentials are seen."""
    parts = []
    for row, (name, membrane) in enumerate(found.items()):
        base, counts = _TOP + _ROW * row + _HEIGHT + 14, membrane.counts
        heights = _HEIGHT * np.sqrt(counts / max(int(counts.max()), 1))
        for low, high, count, height in zip(EDGES, EDGES[1:], counts, heights, strict=False):
            if count:
                told = f"{name}: {_span(low, high)}: {count:,} of {counts.sum():,}"
                parts.append(
                    f'<g><title>{escape(told)}</title><rect x="{_x(low):.1f}" y="{base - height:.2f}" '
                    f'width="{_x(high) - _x(low) - 0.6:.1f}" height="{height:.2f}" fill="var(--c1)"/></g>'
                )
        parts.append(f'<path d="M0 {base + 0.5}H{_WIDTH}" stroke="var(--line)"/>')
        parts.append(_text(2, base - _HEIGHT - 4, short(name, 34), "start", "--ink"))
        parts.append(_text(_x(1) - 6, base - _HEIGHT - 4, _reach(membrane), "end"))
    bottom = _TOP + _ROW * len(found) + 4
    parts.append(f'<path d="M{_x(1)} {_TOP - 4}V{bottom - 10}" stroke="var(--c2)" stroke-dasharray="4 3"/>')
    parts.append(_text(_x(1), _TOP - 8, "threshold", "end", "--c2"))
    parts += [_text(_x(tick), bottom + 6, f"{tick}", "start" if tick == EDGES[0] else "middle") for tick in range(-4, 2)]
    alt = "Membrane potentials in thresholds: " + ", ".join(f"{name} {_reach(each)}" for name, each in found.items())
    return (
        f'<svg role="img" aria-label="{escape(alt)}" viewBox="0 0 {_WIDTH + 8} {bottom + 12}" fill="none">'
        f"{''.join(parts)}</svg>"
    )


def _reach(membrane: Membrane) -> str:
    if not membrane.counts.any():
        return "all fired"
    return f"{significant(membrane.least)} to {significant(membrane.greatest)}"


def _x(value: float) -> float:
    return float(round((value - EDGES[0]) / (EDGES[-1] - EDGES[0]) * _WIDTH, 1))


def _span(low: float, high: float) -> str:
    if low == EDGES[0]:
        return f"up to {high:g}"
    return f"{low:g} to {high:g}" if high < EDGES[-1] else f"from {low:g}"


def _text(x: float, y: float, text: str, anchor: str, color: str = "--quiet") -> str:
    return f'<text x="{x}" y="{y}" font-size="11" text-anchor="{anchor}" fill="var({color})">{escape(text)}</text>'
