"""The command that takes events as they come: stream."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Annotated

import typer

from tet_deploy import terminal
from tet_deploy.cli.options import any_of
from tet_deploy.errors import ArgumentError, TetDeployError
from tet_deploy.live.frames import LATE, LiveFrames
from tet_deploy.live.notes import Notes
from tet_deploy.live.plan import STEP_TIME, Network, recording, sensor_size
from tet_deploy.live.session import Live
from tet_deploy.live.sources import EventSource, Pipe, Replay
from tet_deploy.stopping import EarlyStop


def stream(
    file: Annotated[Path, typer.Argument(help="A network, or an ONNX file of `export --stream`.", metavar="FILE")],
    events: Annotated[
        str, typer.Option(help="A recording; or -, for lines 't x y p' in microseconds from standard input.")
    ] = "-",
    bin_: Annotated[
        int | None, typer.Option("--bin", min=1, help="Microseconds of a frame; by default what the network says.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Frames of a decision; by default the network's.")] = None,
    sensor: Annotated[
        str | None, typer.Option(help="WIDTHxHEIGHT of the camera; by default the recording's, or the network's.")
    ] = None,
    fast: Annotated[bool, typer.Option("--fast", help="As fast as possible, not in real time.")] = False,
    late: Annotated[
        str,
        typer.Option(
            help="Of frames that wait, drop all but the newest, or merge them into one; so with late events.",
            autocompletion=any_of(LATE),
        ),
    ] = "drop",
    accuracy: Annotated[
        float | None, typer.Option(help="Decide early, as far as held-out samples show that this share will be right.")
    ] = None,
    held_out: Annotated[
        str | None, typer.Option(help="Those samples: an .npz or a data set; by default the network's test samples.")
    ] = None,
    margin: Annotated[
        float | None, typer.Option(min=0, help="Decide early where the mean readout leads by so much.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object in each line, the summary last.")] = False,
) -> None:
    """Decide live, from events as they come: a line for each decision; at the end, or after Ctrl-C, what else happened."""
    if late not in LATE:
        raise ArgumentError(f"--late {late!r}: must be {' or '.join(LATE)}.")
    if accuracy is not None and margin is not None:
        raise ArgumentError("--margin: is what --accuracy finds. Leave out one of them.")
    if held_out is not None and accuracy is None:
        raise ArgumentError("--held-out: are the samples of --accuracy. Say how much: --accuracy 0.95.")
    network, notes = Network.of(file), Notes(terminal.tell)
    window = network.number("steps", "--steps", steps, "how many frames a decision takes")
    length = network.number(STEP_TIME, "--bin", bin_, "how long a frame lasts")
    if accuracy is not None:
        stop = network.held_out(held_out, window, accuracy)
        terminal.tell(str(stop))
    else:
        stop = EarlyStop(threshold=math.inf if margin is None else margin, steps=window)
    source, said = _source(events, notes)
    frames = LiveFrames(
        source,
        length=length,
        window=window,
        sensor_size=sensor_size(sensor, said, network.size),
        size=network.size,
        late=late,
        fast=fast,
        notes=notes,
    )
    with network.stream(stop) as running:
        live, ended, failure = Live(running, frames, window), "end of input", None
        try:
            for decision in live:
                terminal.say_now(json.dumps(vars(decision)) if as_json else str(decision))
                if terminal.reader_left():
                    ended = "the reader of the output left"
                    break
        except KeyboardInterrupt:
            ended = "interrupted"
        except TetDeployError as error:
            ended, failure = "stopped by an error", error
        summary = live.summary(ended, frames.events, notes)
    terminal.say_now(json.dumps({"summary": summary.as_dict()}) if as_json else str(summary))
    if terminal.reader_left():
        terminal.tell(str(summary))
    if failure is not None:
        raise failure


def _source(events: str, notes: Notes) -> tuple[EventSource, tuple[int, int] | None]:
    if events != "-":
        found, said = recording(Path(events), notes)
        return Replay(found), said
    if sys.stdin is None:
        raise ArgumentError("--events -: standard input is closed. Pipe events into it, or name a recording.")
    return Pipe(sys.stdin.fileno(), notes), None
