"""Options by which a command does part of its work, or spreads it; and `merge`, which puts parts together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from tet_deploy import part_files, terminal
from tet_deploy.cli.results import SHOW
from tet_deploy.errors import ArgumentError
from tet_deploy.files import check_writable
from tet_deploy.work import Done, Work, put_together

Range = Annotated[
    str | None,
    typer.Option("--range", metavar="A:B", help="Do samples A to B-1 only, and write a result that `merge` adds to others."),
]
PartFile = Annotated[Path | None, typer.Option("--part", help="Where --range writes; by default NETWORK.COMMAND.A-B.json.")]
Workers = Annotated[int, typer.Option(min=1, max=1000, help="Spread the samples over so many processes here.")]
Cluster = Annotated[
    str | None,
    typer.Option(
        help="Spread the samples over a dask cluster: its scheduler's address, or local:N to start one here. A scheduler "
        "without TLS belongs on a trusted network."
    ),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on where a run with --workers, --cluster or --resume was cut short.")
]


class Split(NamedTuple):
    """How a command's work is split, as its options say."""

    range: str | None = None
    part: Path | None = None
    workers: int = 1
    cluster: str | None = None
    resume: bool = False


def carry_out(work: Work, samples: int | None, split: Split, *, usual: int | None = None) -> Done:
    """Do the work on the first samples, so many as usual or as are asked for, or on a range of them; here or spread."""
    from tet_deploy.spread import carry_out as spread_out

    part = _part_file(work, split)
    if split.range is not None and samples is not None:
        raise ArgumentError("--samples: --range says which samples. Leave out one of them.")
    opened = work.opened()
    total = len(opened.frames)
    start, stop = _range(split.range, total) or (0, min(samples or usual or total, total))
    runs = work.settings.get("runtimes") or [work.settings.get(key) for key in ("other", "runtime") if key in work.settings]
    words = f"{work.kind}: " + ", ".join(map(str, runs or ["reference"]))
    with terminal.progress_bar(words) as progress:
        if split.workers == 1 and split.cluster is None and not split.resume:
            done = opened.do(start, stop, progress)
        else:
            folder = Path(f"{Path(work.network).name}.{work.kind}.parts")
            kept = part_files.PartsFolder(folder, opened.what(), resume=split.resume)
            done = spread_out(
                opened,
                start,
                stop,
                kept=kept,
                workers=split.workers,
                cluster=split.cluster,
                tell=terminal.tell,
                progress=progress,
            )
            kept.remove()
    if part is not None:
        part_files.write_part(done, part)
        terminal.tell(f"wrote {part}")
    return done


def merge(
    parts: Annotated[list[Path], typer.Argument(help="Results that --range wrote.", metavar="PART...")],
    out: Annotated[Path | None, typer.Option(help="Write the result here, to be merged with others.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Put together what was done in parts, and print it as the command itself would."""
    if out is not None:
        check_writable(out, part_files.PART)
    done = put_together(part_files.read_part(path) for path in parts)
    if out is not None:
        part_files.write_part(done, out)
    gaps = done.missing(0, done.what.total)
    if gaps:
        terminal.tell(f"not done yet: samples {', '.join(f'{a}:{b}' for a, b in gaps)} of {done.what.total:,}")
    SHOW[done.what.kind](done, as_json)


def _range(text: str | None, total: int) -> tuple[int, int] | None:
    if text is None:
        return None
    first, colon, last = text.partition(":")
    if not colon or not (first.isdigit() or not first) or not (last.isdigit() or not last):
        raise ArgumentError(f"--range {text!r}: must be A:B, from sample A to sample B-1, such as 0:500.")
    start, stop = int(first or 0), min(int(last or total), total)
    if start >= stop:
        raise ArgumentError(f"--range {text!r}: holds none of the {total:,} samples, which are 0 to {total - 1}.")
    return start, stop


def _part_file(work: Work, split: Split) -> Path | None:
    if split.range is None:
        if split.part is not None:
            raise ArgumentError("--part: says where --range writes. Give --range too.")
        return None
    name = f"{Path(work.network).name}.{work.kind}.{split.range.replace(':', '-')}.json"
    path = split.part or Path(name)
    check_writable(path, part_files.PART)
    return path
