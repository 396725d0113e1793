"""Commands that run a network: run, validate."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from tet_deploy import pipeline, terminal
from tet_deploy.cli.options import Frames, Json, NetworkFile, Samples, frames_and_labels, probes_of
from tet_deploy.cli.results import print_json, print_result
from tet_deploy.contracts import Recording
from tet_deploy.files import Kind, check_writable, head, written_whole
from tet_deploy.ir.artifact import load
from tet_deploy.runtimes import RUNTIMES
from tet_deploy.validation import Agreement

RECORDING = Kind("a recording of tet_deploy", lambda path: head(path)[30:].startswith(b"readout.npy"))  # first in the .zip


def run(
    network: NetworkFile,
    frames: Frames = None,
    runtime: Annotated[str, typer.Option(help=", ".join(RUNTIMES) + ".")] = "onnx",
    samples: Samples = None,
    probes: Annotated[str, typer.Option(help="all, spikes, none, or names of LIF nodes with commas.")] = "none",
    out: Annotated[Path | None, typer.Option(help="Write readout, decisions and probes to this .npz.")] = None,
    as_json: Json = False,
) -> None:
    """Run a network over frames; print its accuracy where labels are known."""
    if out is not None:
        check_writable(out, RECORDING)
    graph = load(network)
    x, labels = frames_and_labels(graph, frames, samples)
    with terminal.progress_bar(f"running on {runtime}") as progress:
        recording = pipeline.run(graph, x, runtime=runtime, probes=probes_of(probes), progress=progress)
    if out is not None:
        _write_recording(recording, out)
    result: dict[str, Any] = {"runtime": runtime, "samples": recording.samples, "steps": recording.steps}
    text = f"{recording.samples} samples of {recording.steps} steps on {runtime}"
    if labels is not None:
        result["accuracy"] = float(np.mean(recording.decisions == labels))
        text += f": accuracy {result['accuracy']:.2%}"
    result["decisions"] = recording.decisions.tolist()
    print_result(as_json, result, text + (f"\nwrote {out}" if out else ""))


def validate(
    network: NetworkFile,
    frames: Frames = None,
    runtimes: Annotated[
        str | None, typer.Option(help="Names with commas; the first is the reference. By default all that can run it.")
    ] = None,
    samples: Samples = 64,
    as_json: Json = False,
) -> None:
    """Prove that runtimes agree: every spike, every membrane potential, every step. Exit code 1 if they do not."""
    graph = load(network)
    x, _ = frames_and_labels(graph, frames, samples)
    names = runtimes.split(",") if runtimes else [name for name in RUNTIMES if name != "lava" or graph.is_quantized]
    with terminal.progress_bar("running " + ", ".join(names)) as progress:
        agreements = pipeline.validate(graph, x, runtimes=names, progress=lambda _: progress)
    must_be_equal = pipeline.equality_expected(graph, x)
    if as_json:
        print_json({"equality_expected": must_be_equal} | {name: _agreement(a) for name, a in agreements.items()})
    else:
        _show_agreements(agreements, must_be_equal)
    raise typer.Exit(1 if must_be_equal and not all(a.equal for a in agreements.values()) else 0)


def _write_recording(recording: Recording, out: Path) -> None:
    arrays = {"readout": recording.readout, "decisions": recording.decisions}
    arrays |= {f"{name}.spikes": array for name, array in recording.spikes.items()}
    arrays |= {f"{name}.potentials": array for name, array in recording.potentials.items()}
    with written_whole(out, RECORDING) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # its keywords are arrays, save one


def _agreement(agreement: Agreement) -> dict[str, Any]:
    first = None if agreement.first is None else dataclasses.asdict(agreement.first)
    return agreement.counts() | {"samples": agreement.samples, "decisions": agreement.decisions, "first_divergence": first}


def _show_agreements(agreements: dict[str, Agreement], must_be_equal: bool) -> None:
    terminal.say(terminal.agreement_table(agreements, must_be_equal=must_be_equal))
    for agreement in agreements.values():
        if agreement.first is not None:
            terminal.say(f"{agreement.runtime}: {agreement.first}")
    if not must_be_equal:
        terminal.say("The frames do not lie on the network's grid, so float runtimes may differ by rounding.")
