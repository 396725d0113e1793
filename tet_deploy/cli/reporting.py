"""Commands that count and report: energy, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tet_deploy import pipeline, terminal
from tet_deploy.cli.options import Frames, Json, NetworkFile, Out, Samples, frames_and_labels
from tet_deploy.cli.results import print_json, print_result
from tet_deploy.files import check_writable
from tet_deploy.ir.artifact import load
from tet_deploy.reporting import check_report_path


def energy(
    network: NetworkFile,
    frames: Frames = None,
    samples: Samples = None,
    table: Annotated[str, typer.Option(help="Name of the energy table.")] = "45nm-fp32",
    csv: Annotated[Path | None, typer.Option(help="Write the per-layer table here.")] = None,
    as_json: Json = False,
) -> None:
    """Count every addition and multiplication of the real spike traffic and estimate energy per inference."""
    from tet_deploy import counting
    from tet_deploy.counting.export import LAYERS

    if csv is not None:
        check_writable(csv, LAYERS)
    graph = load(network)
    x, _ = frames_and_labels(graph, frames, samples)
    with terminal.progress_bar("reference") as progress:
        report = pipeline.energy(graph, x, table=table, progress=progress)
    if csv is not None:
        counting.write_csv(report, csv)
    if as_json:
        print_json(counting.to_dict(report))
    else:
        terminal.say(terminal.energy_table(report))
        terminal.say(terminal.layer_table(report))


def report(
    network: NetworkFile,
    frames: Frames = None,
    samples: Samples = 256,
    out: Out = Path("report.html"),
    as_json: Json = False,
) -> None:
    """Run a network on the reference and on ONNX Runtime, count its energy, and write a page that shows it all."""
    check_report_path(out)
    graph = load(network)
    x, labels = frames_and_labels(graph, frames, samples)
    with terminal.progress_bar("running and drawing") as progress:
        path = pipeline.report(graph, x, labels, path=out, progress=lambda _: progress)
    print_result(as_json, {"report": str(path)}, f"wrote {path}")
