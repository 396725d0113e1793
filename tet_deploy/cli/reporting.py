"""Commands that count and report: energy, report."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tet_deploy import network_report, terminal
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
    words_of,
)
from tet_deploy.cli.results import print_result, show_curve, show_curves, show_energy
from tet_deploy.cli.splitting import Cluster, PartFile, Range, Resume, Split, Workers, carry_out
from tet_deploy.errors import ArgumentError, TetDeployError, note, shown
from tet_deploy.files import check_distinct, check_writable
from tet_deploy.ir.artifact import load
from tet_deploy.reporting import check_report_path, find_log
from tet_deploy.work import Work


def energy(
    network: NetworkFile,
    frames: Frames = None,
    samples: Samples = None,
    table: EnergyTables = None,
    policy: EnergyPolicies = None,
    csv: Annotated[Path | None, typer.Option(help="Write the per-layer table here.")] = None,
    latex: Annotated[Path | None, typer.Option(help="Write tables for a paper here, in LaTeX.")] = None,
    curve: Annotated[
        bool, typer.Option("--curve", help="Accuracy and energy after each step and with early stops, from the one run.")
    ] = False,
    beside: Annotated[list[Path] | None, typer.Option(help="With --curve: another network to draw beside it.")] = None,
    figure: Annotated[Path | None, typer.Option(help="With --curve: draw it here, as SVG.")] = None,
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

    if curve:
        if csv is not None or latex is not None:
            raise ArgumentError("--curve: is no table of layers. Leave out --csv and --latex, or run `energy` without it.")
        split = Split(range_, part, workers, cluster, resume)
        _curves([network, *(beside or ())], frames, samples, table, policy, figure, split, as_json)
        return
    if beside or figure is not None:
        raise ArgumentError("--beside, --figure: are for curves. Add --curve.")
    check_distinct(csv, latex, part)
    for path, kind in ((csv, LAYERS), (latex, LATEX)):
        if path is not None:
            check_writable(path, kind)
    work = Work(kind="energy", network=str(network), frames=frames, settings=_settings(table, policy))
    done = carry_out(work, samples, Split(range_, part, workers, cluster, resume))
    if csv is not None:
        write_csv(done.result, csv)
    if latex is not None:
        write_latex(done.result, latex, done.which)
    show_energy(done, as_json)


def _settings(table: str | None, policy: str | None) -> dict[str, Any]:
    """What the work of counting depends on; policies only where some are asked for."""
    return {"table": table and words_of(table), **({"policies": policies_of(policy)} if policy else {})}


def _curves(
    networks: list[Path],
    frames: str | None,
    samples: int | None,
    table: str | None,
    policy: str | None,
    figure: Path | None,
    split: Split,
    as_json: bool,
) -> None:
    """Curves of one or more networks on the same samples, one run of each."""
    from tet_deploy.experiments.curves import check_figure, save_curves

    if len(networks) > 1 and split.range is not None:
        raise ArgumentError("--range: is of one network. Do the other's by itself, and leave out --beside.")
    if len({path.name for path in networks}) < len(networks):
        raise ArgumentError("--beside: networks are told apart by the names of their files. Rename one.")
    check_distinct(figure, split.part)
    if figure is not None:
        if figure.suffix != ".svg":
            raise ArgumentError(f"--figure {shown(str(figure))}: its name must end in .svg, as that is what is drawn.")
        check_figure(figure)
    settings = _settings(table, policy)
    works = [Work(kind="curve", network=str(path), frames=frames, settings=settings) for path in networks]
    done = {}
    for path, work in zip(networks, works, strict=True):
        try:
            done[path.name] = carry_out(work, samples, split)
        except TetDeployError as error:
            if len(networks) > 1:
                note(error, f"It is {path} of which this is said.")
            raise
    if len(done) == 1:
        show_curve(done[networks[0].name], as_json)
    else:
        show_curves(done, as_json)
    if figure is not None:
        save_curves({name: each.result for name, each in done.items()}, figure)


def report(
    network: NetworkFile,
    frames: Frames = None,
    samples: Samples = None,
    runtimes: Runtimes = None,
    table: EnergyTables = None,
    chip: Annotated[
        str | None,
        typer.Option(help=f"Say what of a chip it takes: {' or '.join(CHIPS)} (default).", autocompletion=any_of(CHIPS)),
    ] = None,
    against: Annotated[
        list[Path] | None,
        typer.Option(help="Another link of the chain, as `compare` takes it: what changed from there."),
    ] = None,
    show: Annotated[str, typer.Option(help="Samples to draw step by step, counted from 0: 0,17.")] = "0",
    log: Annotated[
        Path | None,
        typer.Option(help="The log of the training, for its curves; by default its own, if that lies beside the network."),
    ] = None,
    out: Out = Path("report.html"),
    as_json: Json = False,
) -> None:
    """Run a network on the reference and on ONNX Runtime, or --runtimes, count its energy, and write a page of it all."""
    check_report_path(out)
    graph = load(network)
    found = samples_for(graph, frames, samples)
    with terminal.progress_bar("running and drawing") as progress:
        path = network_report.report(
            graph,
            found.frames,
            samples=found.which,
            path=out,
            runtimes=runtimes_of(runtimes) or ("reference", "onnx"),
            table=table and words_of(table),
            chip=chip,
            against=[str(path) for path in against or ()],
            show=_numbers(show),
            log=log or find_log(network.parent, graph.metadata),
            command=shlex.join(["tet-deploy", *sys.argv[1:]]),
            progress=lambda _: progress,
        )
    print_result(as_json, {"report": str(path), "of": found.which}, f"wrote {path}, of {found.which}")


def _numbers(text: str) -> list[int]:
    try:
        return list(dict.fromkeys(int(word) for word in text.split(",")))
    except ValueError:
        raise ArgumentError(
            f"--show {shown(text)}: must be numbers of samples, from 0, with commas between: 0,17."
        ) from None
