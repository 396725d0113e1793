"""What `inference.py` found: as tables, in a page, and as figures."""

from __future__ import annotations

import dataclasses
import re
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from networks import NETWORKS
from rounds import ratio
from sides import REFERENCE

from tet_deploy.experiments.figures import COLORS, GREY


@dataclasses.dataclass(frozen=True)
class Point:
    """What is run and how: one network, one batch."""

    name: str
    width: float
    steps: int
    samples: int
    threads: int
    micro_batch: int | None

    def __str__(self) -> str:
        shape = "x".join(map(str, NETWORKS[self.name]["shape"]))
        of = f"T={self.steps}, batch {self.samples}, {shape}, width {self.width:g}"
        return f"{of}, {self.threads} thread{'s' * (self.threads > 1)}"


@dataclasses.dataclass(frozen=True)
class Found:
    """Of one point: seconds of each side by round, how many values of each are equal, peak and added megabytes, files."""

    seconds: Mapping[str, list[float]]
    equal: int
    memory: Mapping[str, tuple[float, float]]
    files: Mapping[str, float]


def ratio_text(found: Found, side: str) -> str:
    low, median, high = ratio(found.seconds, side, REFERENCE)
    return f"{median:.2f} ({low:.2f} to {high:.2f})"


def milliseconds(found: Found, side: str, point: Point) -> float:
    """Median, of a sample."""
    return 1e3 * statistics.median(found.seconds[side]) / point.samples


def table_of_sides(point: Point, found: Found) -> str:
    """All that was measured of one point."""
    lines = [
        f"**{point.name}**: {point}; {found.equal:,} values of each side equal to the reference's",
        "",
        f"| side | ms a sample | / {REFERENCE} (quartiles) | peak MB | of it added | file, MB |",
        "|---|---|---|---|---|---|",
    ]
    for side in found.seconds:
        peak, added = (f"{value:.0f}" for value in found.memory[side]) if found.memory else ("-", "-")
        time_ = f"{milliseconds(found, side, point):.3g}"
        lines.append(f"| {side} | {time_} | {ratio_text(found, side)} | {peak} | {added} | {found.files[side]:.2f} |")
    return "\n".join(lines)


def table_of_sweep(sweep: str, by_value: Mapping[Any, Point], found: Mapping[Any, Found]) -> str:
    """Milliseconds a sample of each side at each value."""
    first = next(iter(by_value.values()))
    heads = [f"{sweep} {value:g}" for value in by_value]
    lines = [
        f"**{first.name}** ({first}, but for what is swept): ms a sample, and / {REFERENCE} (quartiles)",
        "",
        f"| side | {' | '.join(heads)} |",
        "|---" * (len(heads) + 1) + "|",
    ]
    for side in next(iter(found.values())).seconds:
        cells = [
            f"{milliseconds(found[value], side, point):.3g}, {ratio_text(found[value], side)}"
            for value, point in by_value.items()
        ]
        lines.append(f"| {side} | {' | '.join(cells)} |")
    return "\n".join(lines)


def put_into(path: Path, name: str, text: str) -> None:
    """Replace what lies between the marks of that name in a page."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    page, count = re.subn(
        f"(?<={re.escape(begin)}\n).*?(?={re.escape(end)})", lambda _: f"\n{text}\n\n", path.read_text(), flags=re.DOTALL
    )
    if count != 1:
        raise SystemExit(f"{path}: must have one line {begin!r} and after it one {end!r}; found {count}. Write them there.")
    path.write_text(page)


def color(side: str) -> str:
    """One for each maker."""
    colors = {"ONNX float": COLORS["tet"], "ONNX integer": COLORS["switch"], "tet_deploy": "#111827", "torch": GREY}
    colors |= {"SpikingJelly": COLORS["sdt"], "snnTorch": "#a855a8"}
    return next(found for beginning, found in colors.items() if side.startswith(beginning))


def draw_sides(figure: Any, panels: Mapping[str, Found]) -> None:
    """The ratios with their quartiles, a panel for each network."""
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for ax, (name, found) in zip(axes, panels.items(), strict=True):
        for row, side in enumerate(found.seconds):
            low, median, high = ratio(found.seconds, side, REFERENCE)
            ax.errorbar(median, row, xerr=[[median - low], [high - median]], fmt="o", markersize=4, color=color(side))
        ax.axvline(1, color=GREY, linewidth=0.8)
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter("{x:g}")
        ax.set_title(name, fontsize=9.5)
        ax.set_xlabel(f"time / {REFERENCE}'s")
    axes[0].set_yticks(range(len(found.seconds)), list(found.seconds))
    axes[0].invert_yaxis()


def draw_sweep(figure: Any, sweep: str, panels: Mapping[str, tuple[Mapping[Any, Point], Mapping[Any, Found]]]) -> None:
    """Milliseconds a sample over the value that is swept, a panel for each network."""
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, (name, (by_value, found)) in zip(axes, panels.items(), strict=True):
        for side in next(iter(found.values())).seconds:
            times = [milliseconds(found[value], side, point) for value, point in by_value.items()]
            ax.plot(list(by_value), times, "o-", markersize=3.5, linewidth=1.2, color=color(side), label=side)
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.xaxis.set_major_formatter("{x:g}")
        ax.set_xticks(list(by_value))
        ax.set_title(name, fontsize=9.5)
        ax.set(xlabel=sweep, ylabel="ms a sample")
    axes[-1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
