"""What a person sees: progress on standard error, so that results can be piped, and tables on standard output."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence

from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.table import Table
from rich.text import Text

from tet_deploy.contracts import Progress
from tet_deploy.counting import ENERGIES, EnergyReport
from tet_deploy.validation import Agreement

console = Console(stderr=True)
output = Console()


@contextlib.contextmanager
def progress_bar(description: str) -> Iterator[Progress]:
    """A bar with count, rate, time passed and left; give what this yields to anything that takes a progress callback."""
    columns = (
        TextColumn("{task.description:<24}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=console) as bars:
        task = bars.add_task(description, total=None)

        def update(done: int, total: int) -> None:
            bars.update(task, completed=done, total=total)

        yield update
        total = bars.tasks[0].total or 1
        bars.update(task, completed=total, total=total)


class _Rate(ProgressColumn):
    """How many of what is counted are done in a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if not speed else f"{speed:.3g}/s")


class Stages:
    """Runs the parts of a long command one after another, each with a bar, and remembers how long they took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, name: str, description: str) -> Iterator[Progress]:
        """One stage: its key in `seconds`, and what the person reads."""
        start = time.perf_counter()
        with progress_bar(description) as progress:
            yield progress
        self.seconds[name] = round(time.perf_counter() - start, 2)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], text: Sequence[str] = ()) -> Table:
    """A table whose first column and those named in `text` are text, which may wrap; the others are numbers."""
    result = Table(title=title, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        words = column in text
        result.add_column(column, justify="left" if words or not index else "right", no_wrap=not words, overflow="fold")
    for row in rows:
        result.add_row(*("" if cell is None else str(cell) for cell in row))
    return result


def agreement_table(agreements: Mapping[str, Agreement | None], *, must_be_equal: bool = True) -> Table:
    """How runtimes agree with the reference: values that differ, of how many."""
    rows: list[tuple[object, ...]] = []
    for name, a in agreements.items():
        if a is None:
            rows.append((name, *("-" * 5), "did not run"))
            continue
        verdict = "equal" if a.equal else "DIFFERENT" if must_be_equal else "differs"
        rows.append((name, a.spikes, a.potentials, a.readout, f"{a.compared:,}", a.samples, verdict))
    columns = ("runtime", "spikes", "potentials", "readout", "compared", "samples", "verdict")
    return table("Values that differ from the reference", columns, rows)


def energy_table(report: EnergyReport) -> Table:
    """The named energies of one inference."""
    rows = [
        (name, f"{report.mean(name) / 1000:,.3f}", f"{report.std(name) / 1000:,.3f}", ENERGIES[name])
        for name in ENERGIES
        if name in report.names
    ]
    title = f"Energy per inference, nJ; table {report.table.name}, mean and standard deviation of {report.samples} samples"
    return table(title, ("energy", "mean", "std", "what it is"), rows, text=("what it is",))


def layer_table(report: EnergyReport) -> Table:
    """Operations and the default energy of each synaptic layer, means per inference."""
    counts = {
        "events": report.traffic["events"],
        "multiplications": report.multiplications(report.policies.input),
        "additions": report.additions(),
        f"{report.default}, nJ": report.picojoules(report.default) / 1000,
    }
    rows = []
    for index, (layer, kind) in enumerate(zip(report.traffic.layers, report.traffic.kinds, strict=True)):
        if kind != "lif":
            rows.append((layer, kind, *(f"{values[index].sum() / report.samples:,.1f}" for values in counts.values())))
    return table("Per layer and inference", ("layer", "kind", *counts), rows)
