"""Commands that count and report: energy, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tet_deploy import pipeline, terminal
from tet_deploy.chips.limits import CHIPS
from tet_deploy.cli.options import (
    EnergyPolicies,
    EnergyTables,
    Frames,
    Json,
    NetworkFile,
    Out,
    Runtimes,
    Samples,
    any_of,
    policies_of,
    runtimes_of,
    samples_for,
)
from tet_deploy.cli.results import print_result, show_energy
from tet_deploy.cli.splitting import Cluster, PartFile, Range, Resume, Split, Workers, carry_out
from tet_deploy.files import check_writable
from tet_deploy.ir.artifact import load
from tet_deploy.reporting import check_report_path
from tet_deploy.work import Work


def energy(
    network: NetworkFile,
    frames: Frames = None,
    samples: Samples = None,
    table: EnergyTables = None,
    policy: EnergyPolicies = None,
    csv: Annotated[Path | None, typer.Option(help="Write the per-layer table here.")] = None,
    latex: Annotated[Path | None, typer.Option(help="Write tables for a paper here, in LaTeX.")] = None,
    range_: Range = None,
    part: PartFile = None,
    workers: Workers = 1,
    cluster: Cluster = None,
    resume: Resume = False,
    as_json: Json = False,
) -> None:
    """Count every addition and multiplication of the real spike traffic and estimate energy per inference."""
    from tet_deploy.counting.export import LAYERS, write_csv
    from tet_deploy.counting.latex import LATEX, write_latex

    for path, kind in ((csv, LAYERS), (latex, LATEX)):
        if path is not None:
            check_writable(path, kind)
    settings: dict[str, Any] = {"table": table and table.split(",")}
    if policy:
        settings["policies"] = policies_of(policy)
    work = Work(kind="energy", network=str(network), frames=frames, settings=settings)
    done = carry_out(work, samples, Split(range_, part, workers, cluster, resume))
    if csv is not None:
        write_csv(done.result, csv)
    if latex is not None:
        write_latex(done.result, latex, done.which)
    show_energy(done, as_json)


def report(
    network: NetworkFile,
    frames: Frames = None,
    samples: Samples = None,
    runtimes: Runtimes = None,
    table: EnergyTables = None,
    chip: Annotated[
        str | None, typer.Option(help=f"Say what of a chip it takes: {' or '.join(CHIPS)}.", autocompletion=any_of(CHIPS))
    ] = None,
    out: Out = Path("report.html"),
    as_json: Json = False,
) -> None:
    """Run a network on the reference and on ONNX Runtime, or --runtimes, count its energy, and write a page of it all."""
    check_report_path(out)
    graph = load(network)
    shown = samples_for(graph, frames, samples)
    with terminal.progress_bar("running and drawing") as progress:
        path = pipeline.report(
            graph,
            shown.frames,
            samples=shown.which,
            path=out,
            runtimes=runtimes_of(runtimes) or ("reference", "onnx"),
            table=table and table.split(","),
            chip=chip,
            progress=lambda _: progress,
        )
    print_result(as_json, {"report": str(path), "of": shown.which}, f"wrote {path}, of {shown.which}")
