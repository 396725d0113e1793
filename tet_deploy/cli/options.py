"""Options that several commands share, and the frames that they name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from tet_deploy.errors import DataError
from tet_deploy.ir.graph import Graph

NetworkFile = Annotated[Path, typer.Argument(help="A network that `convert` or `quantize` wrote.", metavar="NETWORK")]
Frames = Annotated[
    str | None,
    typer.Option(help="An .npz with 'frames' [T, B, C, H, W] (and 'labels'), or digits, or event-digits: the test samples."),
]
Samples = Annotated[int | None, typer.Option(min=1, help="Use the first N samples only.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Out = Annotated[Path, typer.Option(help="Where to write.")]


def frames_and_labels(
    graph: Graph, source: str | None, samples: int | None, *, split: str = "test"
) -> tuple[np.ndarray, np.ndarray | None]:
    """Frames and, where they are known, labels: a whole file, or one part of a data set, by default that of the training."""
    from tet_deploy import data

    about = graph.metadata
    if source is None and "data" not in about:
        raise DataError("frames: the network does not say what it was trained on. Give a FILE.npz, or digits.")
    if source is not None and source not in data.DATA:
        loaded = data.load_frames(source)
        frames, labels = loaded.frames[:, :samples], None if loaded.labels is None else loaded.labels[:samples]
    else:
        try:
            options = json.loads(about.get("data_arguments", "{}")) if source is None else {}
            steps, seed = int(about.get("steps", 4)), int(about.get("seed", 0))
        except ValueError as error:
            raise DataError(f"the network's metadata on its data is broken ({error}). Give frames by --frames.") from None
        part = getattr(data.load(source or about["data"], steps=steps, seed=seed, **options), split)
        frames, labels = part.batch(range(len(part) if samples is None else min(samples, len(part))))
    if labels is not None:
        labels = data.check_labels(labels, samples=frames.shape[1], classes=graph.shapes[graph.readout.name][0])
    return frames, labels


def probes_of(text: str) -> str | list[str]:
    """What `--probes` asks for, as the runtimes take it."""
    return text if text in ("all", "spikes", "none") else text.split(",")
