"""What quantization did, as a table, from the metadata that it left in the file; none of it is trusted to be there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tet_deploy.errors import cut
from tet_deploy.layout import Table

_COLUMNS = {  # of the metadata -> column, and how it is written
    "differing": ("differs", "{:.2%}"),
    "ties": ("at threshold", "{:.2%}"),
    "clipped_weights": ("clipped weights", "{:.2%}"),
    "clipped_biases": ("clipped biases", "{:.2%}"),
}
_MEANT = (
    "; differs: of its spikes, or decisions, from the float population's on the same input; at threshold: of its float "
    "potentials, where the chip's > and >= differ"
)


def calibration_table(metadata: Mapping[str, str]) -> Table | None:
    """Of each population its scale, what differs, what is clipped and what is rounded; None if nothing is known."""
    populations, seen = (_read(metadata.get(key, "")) for key in ("quantization", "calibration"))
    rows = []
    for name, entry in populations.items():
        rounding = entry.get("rounding", {})
        parts = (
            [rounding.get(f"{what}_error") for what in ("decay", "threshold", "bias")] if isinstance(rounding, dict) else []
        )
        numbers = [part for part in parts if isinstance(part, (int, float))]
        error = number_text(sum(numbers) if numbers else None, "{:.2%}")
        shares = (number_text(entry.get(key), form) for key, (_, form) in _COLUMNS.items())
        rows.append((cut(name), scale_text(entry.get("scale")), *shares, error))
    if not rows:
        return None
    frames = "; ".join(
        f"{cut(name)}: {number_text(entry.get('least'), '{:.4g}')} to {number_text(entry.get('greatest'), '{:.4g}')} in "
        f"{number_text(entry.get('samples'), '{:,}')} samples, {number_text(entry.get('clipped'), '{:.2%}')} clipped"
        for name, entry in seen.items()
    )
    title = (f"Calibrated on {frames}" if frames else "Calibrated") + _MEANT
    return Table(
        title, ("population", "scale", *(column for column, _ in _COLUMNS.values()), "rounding, of the threshold"), rows
    )


def scale_text(scale: object) -> str:
    """A population's scale, or those of its classes of channels."""
    if not isinstance(scale, list) or not scale or not all(isinstance(each, float) for each in scale):
        return number_text(scale, "{:.4g}")
    return f"{number_text(min(scale), '{:.4g}')} to {number_text(max(scale), '{:.4g}')}, {len(set(scale))} classes"


def _read(text: str) -> dict[str, dict[str, Any]]:
    """Entries by name; of any other text none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return {name: entry for name, entry in found.items() if isinstance(entry, dict)} if isinstance(found, dict) else {}


def number(value: object) -> int | float | None:
    """A number that can be one of ours, or None for whatever else stands there."""
    return value if isinstance(value, (int, float)) and abs(value) < 1e15 else None


def number_text(value: object, form: str) -> str:
    """A number in its form, or a dash for whatever else stands there."""
    found = number(value)
    return "-" if found is None else form.format(found)
