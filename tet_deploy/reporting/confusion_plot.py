"""Which classes were taken for which: a square for each pair that occurred."""

from __future__ import annotations

import numpy as np

from tet_deploy.reporting.units import percent

_SIDE, _LEFT, _TOP = 340, 34, 20
_LABELLED, _NUMBERED = 40, 14  # classes up to which rows have labels, and squares numbers
_TOLD = 5  # pairs that words name


def confusion_plot(confusion: np.ndarray) -> str:
    """Inline SVG of int64 [K, K]: rows the true class, columns the decision; the stronger, the more of the row."""
    classes = len(confusion)
    cell, of = _SIDE / classes, confusion.sum(axis=1)
    size = min(cell * 0.4, 11)
    parts = [f'<rect x="{_LEFT}" y="{_TOP}" width="{_SIDE}" height="{_SIDE}" fill="var(--page)" stroke="var(--line)"/>']
    for true, decided in np.argwhere(confusion):
        count, color = int(confusion[true, decided]), "var(--c1)" if true == decided else "var(--c2)"
        x, y, share = _LEFT + cell * decided, _TOP + cell * true, count / int(of[true])
        told = f"class {true} decided as {decided}: {count:,} of {of[true]:,}"
        parts.append(
            f'<g><title>{told}</title><rect x="{x:.2f}" y="{y:.2f}" width="{cell:.2f}" height="{cell:.2f}" '
            f'fill="{color}" fill-opacity="{0.12 + 0.78 * share:.3f}"/>'
        )
        if classes <= _NUMBERED:
            parts.append(_text(x + cell / 2, y + cell / 2, f"{count:,}", size, "middle", "--ink"))
        parts.append("</g>")
    every = -(-classes // _LABELLED)  # of many classes, some
    for label in range(0, classes, every):
        middle = cell * (label + 0.5)
        parts.append(_text(_LEFT - 5, _TOP + middle, str(label), max(size, 7), "end"))
        if classes <= _NUMBERED * 2:
            parts.append(_text(_LEFT + middle, _TOP - 8, str(label), max(size, 7), "middle"))
    wrong = int(of.sum() - np.trace(confusion))
    alt = f"Confusion matrix of {classes} classes: {wrong:,} of {of.sum():,} decided wrongly"
    return f'<svg role="img" aria-label="{alt}" viewBox="0 0 {_LEFT + _SIDE + 2} {_TOP + _SIDE + 2}">{"".join(parts)}</svg>'


def most_confused(confusion: np.ndarray) -> list[str]:
    """The pairs that were taken for each other most often, in words."""
    wrong = confusion * (1 - np.eye(len(confusion), dtype=np.int64))
    pairs = np.argsort(-wrong, axis=None, kind="stable")[:_TOLD]
    rows, columns = np.unravel_index(pairs, wrong.shape)
    return [
        f"{true} as {decided}: {wrong[true, decided]:,} of {confusion[true].sum():,}"
        f" ({percent(wrong[true, decided] / confusion[true].sum())})"
        for true, decided in zip(rows, columns, strict=True)
        if wrong[true, decided]
    ]


def _text(x: float, y: float, text: str, size: float, anchor: str, color: str = "--quiet") -> str:
    return (
        f'<text x="{x:.2f}" y="{y:.2f}" font-size="{size:.1f}" text-anchor="{anchor}" dominant-baseline="central" '
        f'fill="var({color})">{text}</text>'
    )
