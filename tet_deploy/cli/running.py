"""Commands that run a network: run, validate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from tet_deploy import pipeline, terminal
from tet_deploy.cli.options import Frames, Json, NetworkFile, Runtimes, Samples, any_of, probes_of, runtimes_of
from tet_deploy.cli.results import show_compare, show_run, show_validate, show_vectors
from tet_deploy.cli.splitting import Cluster, PartFile, Range, Resume, Split, Workers, carry_out
from tet_deploy.contracts import populations, probe_names, ranges_untold
from tet_deploy.debugging import Diagnosis
from tet_deploy.errors import ArgumentError
from tet_deploy.files import check_writable
from tet_deploy.ir.artifact import load
from tet_deploy.ir.spec import need_graph
from tet_deploy.links.deviation import Deviation
from tet_deploy.links.diagnosing import can_be_diagnosed, diagnosed
from tet_deploy.links.link import of_graph
from tet_deploy.links.pair import Pair
from tet_deploy.links.recording_file import RECORDING, fingerprints, save_recording
from tet_deploy.links.vectors import opened_vectors
from tet_deploy.runtimes import RUNTIMES
from tet_deploy.work import Done, Span, Work

_COMPARED = 64  # samples, where nobody says how many
_AT_ONCE = 16  # samples whose frames are looked at together


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
        if probes != "none":
            raise ArgumentError("--probes: says what --out holds. Give --out too.")
        show_run(carry_out(work, samples, split), as_json)
        return
    if split != Split():
        raise ArgumentError("--out: writes one recording of one run. Leave it out, or the options that split the run.")
    check_writable(out, RECORDING)
    opened, kept = work.opened(), probes_of(probes)
    graph = need_graph(opened.subject)
    chosen = opened.frames.part(0, samples or len(opened.frames))
    with terminal.progress_bar(f"running on {runtime}") as progress, ranges_untold():  # show_run tells
        recording = pipeline.run(graph, chosen, runtime=runtime, probes=kept, progress=progress)
    frames_seen = np.concatenate([fingerprints(part.frames()) for part in chosen.batches(_AT_ONCE)])
    save_recording(recording, out, origin=of_graph(graph, runtime).origin(), frames=frames_seen)
    result = pipeline.decided(graph, chosen, recording)
    show_run(Done(opened.what(), (Span(0, recording.samples, result),)), as_json)
    (terminal.tell if as_json else terminal.say)(f"wrote {out}")


def validate(
    network: Annotated[Path, typer.Argument(help="A network; or, beside OTHER, any link of the chain.", metavar="NETWORK")],
    other: Annotated[
        str | None,
        typer.Argument(
            help="Compare with this: a checkpoint, a network, an ONNX file, a Lava bundle or a recording; "
            "CHECKPOINT:traced or :folded, NETWORK:onnx or :lava say in which form."
        ),
    ] = None,
    frames: Frames = None,
    runtimes: Runtimes = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Use the first N samples only, by default 64.")] = None,
    vectors: Annotated[
        bool,
        typer.Option("--vectors", help="NETWORK is a bundle, ONNX or NIR file: run its vectors, or those in OTHER."),
    ] = False,
    why: Annotated[bool, typer.Option("--why/--no-why", help="Beside OTHER: find out what makes them differ.")] = True,
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

    Without --runtimes, all that can run the network are compared with the reference. With OTHER, two links of the chain are
    compared: values that must be equal are proved so, and what is lossy is measured and traced back to its causes. With
    --vectors an exported file's own inputs are run, and compared with what was written beside them.
    """
    if vectors:
        ignored = {"--frames": frames, "--samples": samples, "--no-why": not why, "--snap-frames": snap_frames}
        ignored["--range, --workers and the like"] = Split(range_, part, workers, cluster, resume) != Split()
        if given := next((name for name, value in ignored.items() if value), None):
            raise ArgumentError(f"{given}: --vectors runs what the vectors hold. Leave it out.")
        check = opened_vectors(network, other, runtime=runtimes)
        with terminal.progress_bar("running the vectors") as progress:
            checked = check.run(progress)
        show_vectors(checked, as_json)
        return
    if other is not None:
        if runtimes is not None:
            raise ArgumentError("OTHER: is run as it is. Leave out --runtimes; see NETWORK:onnx.")
        compared = Work(
            kind="compare", network=str(network), frames=frames, settings={"other": other, "snap_frames": snap_frames}
        )
        done = carry_out(compared, samples, Split(range_, part, workers, cluster, resume), usual=_COMPARED)
        show_compare(done, as_json, _why(compared, done.result) if why else None)
        return
    if not why:
        raise ArgumentError("--no-why: is of a comparison with OTHER. Leave it out.")
    work = Work(
        kind="validate",
        network=str(network),
        frames=frames,
        settings={"runtimes": runtimes_of(runtimes), "snap_frames": snap_frames},
    )
    show_validate(carry_out(work, samples, Split(range_, part, workers, cluster, resume), usual=_COMPARED), as_json)


def _why(work: Work, found: Deviation) -> Diagnosis | None:
    """The causes of what differs, looked for from the first sample on that shows it."""
    opened = work.opened()
    pair = opened.subject
    if found.equal or not isinstance(pair, Pair) or not can_be_diagnosed(pair):
        return None
    start = 0 if found.first_spike is None else found.first_spike.sample
    frames = pair.snapped(opened.frames) if work.settings["snap_frames"] else opened.frames
    with terminal.progress_bar("looking for the cause") as progress:
        return diagnosed(pair, frames, start=start, progress=progress)
