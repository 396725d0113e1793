"""Commands that run a network: run, validate."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

import tet_deploy as td
from tet_deploy import pipeline, terminal
from tet_deploy.cli.options import Frames, Json, NetworkFile, Runtimes, Samples, any_of, probes_of, runtimes_of, samples_for
from tet_deploy.cli.results import print_json, print_result
from tet_deploy.contracts import Recording
from tet_deploy.files import Kind, check_writable, head, written_whole
from tet_deploy.ir.artifact import load
from tet_deploy.runtimes import RUNTIMES
from tet_deploy.validation import Agreement, agreement_table

RECORDING = Kind("a recording of tet_deploy", lambda path: head(path)[30:].startswith(b"readout.npy"))  # first in the .zip


def run(
    network: NetworkFile,
    frames: Frames = None,
    runtime: Annotated[str, typer.Option(help=", ".join(RUNTIMES) + ".", autocompletion=any_of(RUNTIMES))] = "onnx",
    samples: Samples = None,
    probes: Annotated[str, typer.Option(help="all, spikes, none, or names of LIF nodes with commas.")] = "none",
    out: Annotated[Path | None, typer.Option(help="Write readout, decisions and probes to this .npz.")] = None,
    as_json: Json = False,
) -> None:
    """Run a network over frames; print its accuracy where labels are known."""
    if out is not None:
        check_writable(out, RECORDING)
    graph = load(network)
    shown = samples_for(graph, frames, samples)
    with terminal.progress_bar(f"running on {runtime}") as progress:
        recording = pipeline.run(graph, shown.frames, runtime=runtime, probes=probes_of(probes), progress=progress)
    if out is not None:
        _write_recording(recording, out)
    result: dict[str, Any] = {"runtime": runtime, "samples": recording.samples, "steps": recording.steps}
    result["of"] = shown.which
    text = f"{runtime}: ran {shown.which}, {recording.steps} steps each"
    if shown.labels is not None:
        result["accuracy"] = float(np.mean(recording.decisions == shown.labels))
        text += f"; accuracy {result['accuracy']:.2%}"
    result["decisions"] = recording.decisions.tolist()
    print_result(as_json, result, text + (f"\nwrote {out}" if out else ""))


def validate(
    network: NetworkFile,
    frames: Frames = None,
    runtimes: Runtimes = None,
    samples: Samples = 64,
    snap_frames: Annotated[
        bool,
        typer.Option("--snap-frames", help="First round the frames to a float network's grid; normalised images need it."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Prove that runtimes agree: every spike, every membrane potential, every step. Exit code 1 if a value differs.

    Without --runtimes, all that can run the network are compared with the reference.
    """
    graph = load(network)
    shown = samples_for(graph, frames, samples)
    x = td.snap_frames(graph, shown.frames) if snap_frames else shown.frames
    names = runtimes_of(runtimes, [name for name in RUNTIMES if name != "lava" or graph.is_quantized])
    with terminal.progress_bar("running " + ", ".join(names)) as progress:
        agreements = pipeline.validate(graph, x, runtimes=names, progress=lambda _: progress)
    on_grid = pipeline.equality_expected(graph, x)
    if as_json:
        result = {name: _agreement(agreement) for name, agreement in agreements.items()}
        print_json({"of": shown.which, "equality_expected": on_grid} | result)
    else:
        terminal.say(agreement_table(agreements, shown.which))
        for agreement in agreements.values():
            if agreement.first is not None:
                terminal.say(f"{agreement.runtime}: {agreement.first}")
        if not on_grid:
            terminal.say(f"{pipeline.OFF_GRID} Here: --snap-frames.")
    raise typer.Exit(0 if all(agreement.equal for agreement in agreements.values()) else 1)


def _write_recording(recording: Recording, out: Path) -> None:
    arrays = {"readout": recording.readout, "decisions": recording.decisions}
    arrays |= {f"{name}.spikes": array for name, array in recording.spikes.items()}
    arrays |= {f"{name}.potentials": array for name, array in recording.potentials.items()}
    with written_whole(out, RECORDING) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # its keywords are arrays, save one


def _agreement(agreement: Agreement) -> dict[str, Any]:
    first = None if agreement.first is None else dataclasses.asdict(agreement.first)
    return agreement.counts() | {"samples": agreement.samples, "decisions": agreement.decisions, "first_divergence": first}
