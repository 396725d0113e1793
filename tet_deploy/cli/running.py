"""Commands that run a network: run, validate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from tet_deploy import pipeline, terminal
from tet_deploy.cli.options import Frames, Json, NetworkFile, Runtimes, Samples, any_of, probes_of, runtimes_of
from tet_deploy.cli.results import show_run, show_validate
from tet_deploy.cli.splitting import Cluster, PartFile, Range, Resume, Split, Workers, carry_out
from tet_deploy.contracts import Recording, populations, probe_names
from tet_deploy.errors import ArgumentError
from tet_deploy.files import Kind, check_writable, head, written_whole
from tet_deploy.ir.artifact import load
from tet_deploy.runtimes import RUNTIMES
from tet_deploy.work import Done, Span, Work

RECORDING = Kind("a recording of tet_deploy", lambda path: head(path)[30:].startswith(b"readout.npy"))  # first in the .zip


def run(
    network: NetworkFile,
    frames: Frames = None,
    runtime: Annotated[str, typer.Option(help=", ".join(RUNTIMES) + ".", autocompletion=any_of(RUNTIMES))] = "onnx",
    samples: Samples = None,
    probes: Annotated[
        str, typer.Option(help="What --out holds: all, spikes, none, or names of LIF nodes with commas.")
    ] = "none",
    out: Annotated[Path | None, typer.Option(help="Write readout, decisions and probes to this .npz.")] = None,
    range_: Range = None,
    part: PartFile = None,
    workers: Workers = 1,
    cluster: Cluster = None,
    resume: Resume = False,
    as_json: Json = False,
) -> None:
    """Run a network over frames; print its accuracy where labels are known."""
    split = Split(range_, part, workers, cluster, resume)
    if probes != "none":
        probe_names(populations(load(network)), probes_of(probes))
    work = Work(kind="run", network=str(network), frames=frames, settings={"runtime": runtime})
    if out is None:
        show_run(carry_out(work, samples, split), as_json)
        return
    if split != Split():
        raise ArgumentError("--out: writes one recording of one run. Leave it out, or the options that split the run.")
    check_writable(out, RECORDING)
    opened, kept = work.opened(), probes_of(probes)
    chosen = opened.frames.part(0, samples or len(opened.frames))
    with terminal.progress_bar(f"running on {runtime}") as progress:
        recording = pipeline.run(opened.graph, chosen, runtime=runtime, probes=kept, progress=progress)
    _write_recording(recording, out)
    result = pipeline.decided(opened.graph, chosen, recording)
    show_run(Done(opened.what(), (Span(0, recording.samples, result),)), as_json)
    (terminal.tell if as_json else terminal.say)(f"wrote {out}")


def validate(
    network: NetworkFile,
    frames: Frames = None,
    runtimes: Runtimes = None,
    samples: Samples = 64,
    snap_frames: Annotated[
        bool,
        typer.Option("--snap-frames", help="First round the frames to a float network's grid; normalised images need it."),
    ] = False,
    range_: Range = None,
    part: PartFile = None,
    workers: Workers = 1,
    cluster: Cluster = None,
    resume: Resume = False,
    as_json: Json = False,
) -> None:
    """Prove that runtimes agree: every spike, every membrane potential, every step. Exit code 1 if a value differs.

    Without --runtimes, all that can run the network are compared with the reference.
    """
    work = Work(
        kind="validate",
        network=str(network),
        frames=frames,
        settings={"runtimes": runtimes_of(runtimes), "snap_frames": snap_frames},
    )
    show_validate(carry_out(work, samples, Split(range_, part, workers, cluster, resume)), as_json)


def _write_recording(recording: Recording, out: Path) -> None:
    arrays = {"readout": recording.readout, "decisions": recording.decisions}
    arrays |= {f"{name}.spikes": array for name, array in recording.spikes.items()}
    arrays |= {f"{name}.potentials": array for name, array in recording.potentials.items()}
    with written_whole(out, RECORDING) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # its keywords are arrays, save one
