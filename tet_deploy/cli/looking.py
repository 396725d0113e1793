"""Commands that look at a network and at the installation: inspect, doctor."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import Annotated

import typer

from tet_deploy import terminal
from tet_deploy.calibration_table import calibration_table
from tet_deploy.chips.limits import CHIPS
from tet_deploy.chips.resources import map_resources
from tet_deploy.chips.tables import resource_text
from tet_deploy.cli.options import Json, NetworkFile, any_of
from tet_deploy.cli.results import print_json, print_result
from tet_deploy.errors import ArgumentError
from tet_deploy.exporters import EXPORTERS
from tet_deploy.exporters.lava_host import ENCODERS
from tet_deploy.exporters.lava_latency import schedule
from tet_deploy.ir.artifact import load
from tet_deploy.ir.certificates import certificate_rows, certificate_table
from tet_deploy.ir.table import graph_rows, graph_table
from tet_deploy.sensitivity_table import kept_table
from tet_deploy.support import ABSENT, MEANING, faults, sources, support_table, supported


def inspect_file(
    network: NetworkFile,
    target: Annotated[
        str | None,
        typer.Option(help=f"Say what of it {', '.join(EXPORTERS)} would refuse; exit code 1 if anything.",
                     autocompletion=any_of(EXPORTERS)),
    ] = None,
    chip: Annotated[
        str | None,
        typer.Option(help=f"Say what of a chip it takes, {' or '.join(CHIPS)}, and which rules strike; exit code 1 if it "
                          "does not fit.", autocompletion=any_of(CHIPS)),
    ] = None,
    chips: Annotated[int | None, typer.Option(min=1, help="Chips that there are; with --chip, 1 by default.")] = None,
    encoder: Annotated[
        str | None,
        typer.Option(help="With --chip: host, where the host computes the first layer.", autocompletion=any_of(ENCODERS)),
    ] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Print a network as a table; of a quantized one also what no frames can make it do, and latencies."""
    if chip is None and (chips is not None or encoder is not None):
        raise ArgumentError("--chips and --encoder say how a network lies on chips. Say which: --chip.")
    if chip is not None and target is not None:
        raise ArgumentError("--chip and --target are two questions. Ask one at a time.")
    graph = load(network)
    if chip is not None:
        mapped = map_resources(graph, chip, chips=chips or 1, encoder=encoder)
        if as_json:
            print_json(mapped.to_dict())
        else:
            for part in resource_text(mapped, str(network)):
                terminal.say(part)
        raise typer.Exit(0 if mapped.fits else 1)
    if target is not None:
        found = faults(graph, target)
        if as_json:
            print_json({"target": target, "faults": [dataclasses.asdict(fault) for fault in found]})
        else:
            terminal.say("\n".join(fault.message for fault in found) or f"{network}: {target} takes all of it")
        raise typer.Exit(1 if found else 0)
    if as_json:
        certified = {}
        if graph.is_quantized:
            latency = schedule(graph).latency
            certified = {"certificates": [{**row, "latency": latency[row["population"]]} for row in certificate_rows(graph)]}
        print_json({"digest": graph.digest(), "metadata": dict(graph.metadata), "nodes": graph_rows(graph), **certified})
    else:
        terminal.say(graph_table(graph, str(network)))
        if graph.is_quantized:
            terminal.say(certificate_table(graph, schedule(graph).latency))
            for table in filter(None, (calibration_table(graph.metadata), kept_table(graph))):
                terminal.say(table)
        known = {key: value for key, value in graph.metadata.items() if not value.startswith("{")}
        terminal.say(", ".join(f"{key} {value}" for key, value in known.items()))


def doctor(
    setup_lava: Annotated[bool, typer.Option("--setup-lava", help="Build the Lava Python if there is none.")] = False,
    into: Annotated[Path | None, typer.Option(help="Build it in this folder, not in the user's cache folder.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say only what is wrong.")] = False,
    what_is_supported: Annotated[
        bool, typer.Option("--supported", help="Say which kinds of node which stage takes, and no more.")
    ] = False,
    build_kernels: Annotated[
        Path | None,
        typer.Option(help="Compile the neurons' kernels into this folder, for TET_DEPLOY_KERNELS to name, and no more."),
    ] = None,
    native: Annotated[
        bool, typer.Option("--native", help="With --build-kernels: for processors like this one only, and faster there.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Say what is installed, which Lava Python was found, and test that it computes what the tool proves."""
    from tet_deploy import doctor as examination

    if into is not None and not setup_lava:
        raise ArgumentError("--into: says where --setup-lava builds. Give that too.")
    if native and build_kernels is None:
        raise ArgumentError("--native: says how --build-kernels compiles. Give that too.")
    alone = {"--supported": what_is_supported, "--build-kernels": build_kernels is not None}
    first = next(filter(alone.get, alone), None)
    for option, given in {"--setup-lava": setup_lava, "--quiet": quiet, **alone}.items():
        if first and given and option != first:
            raise ArgumentError(f"{option}: {first} does nothing else. Leave out one of them.")
    if build_kernels is not None:
        _build_kernels(build_kernels, native, as_json)
        return
    if what_is_supported:
        if as_json:
            print_json({"kinds": supported(), "sources": sources()})
            return
        terminal.say(support_table())
        terminal.say("\n".join(f"{cell}: {meaning}" for cell, meaning in MEANING.items()))
        terminal.say("\n".join(f"{what}: {', '.join(names) or ABSENT}" for what, names in sources().items()))
        return
    found = examination.examine(setup_lava=setup_lava, into=into, self_test=not quiet, quiet=quiet)
    if as_json:
        print_json(found.as_dict())
    else:
        found.show(quiet=quiet)
    raise typer.Exit(0 if found.lava_works else 1)


def _build_kernels(folder: Path, native: bool, as_json: bool) -> None:
    from tet_deploy.nn import kernels

    with terminal.progress_bar("compiling"):
        built = kernels.build(folder, native=native)
    print_result(
        as_json,
        {"kernels": [str(path) for path in built], "variable": kernels.VARIABLE},
        f"wrote {' and '.join(path.name for path in built)}; name their folder where neurons run: "
        f"{kernels.VARIABLE}={shlex.quote(str(folder.resolve()))}",
    )
