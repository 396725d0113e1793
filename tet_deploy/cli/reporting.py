"""Commands that count and report: energy, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tet_deploy import pipeline, terminal
from tet_deploy.cli.options import EnergyTables, Frames, Json, NetworkFile, Out, Runtimes, Samples, runtimes_of, samples_for
from tet_deploy.cli.results import print_json, print_result
from tet_deploy.files import check_writable
from tet_deploy.ir.artifact import load
from tet_deploy.reporting import check_report_path


def energy(
    network: NetworkFile,
    frames: Frames = None,
    samples: Samples = None,
    table: EnergyTables = None,
    csv: Annotated[Path | None, typer.Option(help="Write the per-layer table here.")] = None,
    as_json: Json = False,
) -> None:
    """Count every addition and multiplication of the real spike traffic and estimate energy per inference."""
    from tet_deploy import counting
    from tet_deploy.counting.export import LAYERS

    if csv is not None:
        check_writable(csv, LAYERS)
    graph = load(network)
    shown = samples_for(graph, frames, samples)
    with terminal.progress_bar("reference") as progress:
        report = pipeline.energy(graph, shown.frames, table=table and table.split(","), progress=progress)
    if csv is not None:
        counting.write_csv(report, csv)
    if as_json:
        print_json({"of": shown.which, **counting.to_dict(report)})
    else:
        terminal.say(counting.energy_table(report, shown.which))
        terminal.say(counting.layer_table(report))


def report(
    network: NetworkFile,
    frames: Frames = None,
    samples: Samples = None,
    runtimes: Runtimes = None,
    table: EnergyTables = None,
    out: Out = Path("report.html"),
    as_json: Json = False,
) -> None:
    """Run a network on the reference and on ONNX Runtime, or --runtimes, count its energy, and write a page of it all."""
    check_report_path(out)
    graph = load(network)
    shown = samples_for(graph, frames, samples, bounded=True)
    with terminal.progress_bar("running and drawing") as progress:
        path = pipeline.report(
            graph,
            shown.frames,
            shown.labels,
            samples=shown.which,
            path=out,
            runtimes=runtimes_of(runtimes, ("reference", "onnx")),
            table=table and table.split(","),
            progress=lambda _: progress,
        )
    print_result(as_json, {"report": str(path), "of": shown.which}, f"wrote {path}, of {shown.which}")
