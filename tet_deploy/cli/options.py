"""Options that several commands share, and the frames that they name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import typer

from tet_deploy.counting import TABLES
from tet_deploy.errors import DataError
from tet_deploy.ir.graph import Graph
from tet_deploy.pipeline import affordable_samples
from tet_deploy.runtimes import RUNTIMES


def any_of(names: Iterable[str]) -> Callable[[], list[str]]:
    """What a shell offers to complete a word with."""
    return lambda: list(names)


NetworkFile = Annotated[Path, typer.Argument(help="A network that `convert` or `quantize` wrote.", metavar="NETWORK")]
Frames = Annotated[
    str | None,
    typer.Option(
        help="An .npz with 'frames' [T, B, C, H, W] (and 'labels'), or digits, or event-digits: the test samples.",
        autocompletion=any_of(("digits", "event-digits")),
    ),
]
Samples = Annotated[int | None, typer.Option(min=1, help="Use the first N samples only.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Out = Annotated[Path, typer.Option(help="Where to write.")]
Runtimes = Annotated[
    str | None,
    typer.Option(
        "--runtimes",
        "--runtime",
        help=f"Of {', '.join(RUNTIMES)}, with commas; the first is the reference. One alone is compared with the reference.",
        autocompletion=any_of(RUNTIMES),
    ),
]
EnergyTables = Annotated[
    str | None,
    typer.Option(
        "--table",
        help=f"Of {', '.join(TABLES)}, with commas. By default the TET paper's, 45nm-fp32, and that of the network's own "
        "numbers, side by side.",
        autocompletion=any_of(TABLES),
    ),
]


class Shown(NamedTuple):
    """Frames [T, B, *shape], where they are known their labels, and in words which samples they are."""

    frames: np.ndarray
    labels: np.ndarray | None
    which: str


def samples_for(
    graph: Graph, source: str | None, samples: int | None, *, split: str = "test", bounded: bool = False
) -> Shown:
    """The first samples of a file, or of one part of a data set, by default that of the training.

    `bounded` leaves out what cannot be recorded with all probes in the memory that is allowed for it.
    """
    from tet_deploy import data
    from tet_deploy.data.frames import which_samples

    about = graph.metadata
    if source is None and "data" not in about:
        raise DataError("frames: the network does not say what it was trained on. Give a FILE.npz, or digits.")

    def count(steps: int, total: int) -> int:
        return min(total, affordable_samples(graph, steps) if samples is None and bounded else samples or total)

    if source is not None and source not in data.DATA:
        loaded = data.load_frames(source)
        frames, labels = loaded.frames, loaded.labels
        wanted, total, of = count(*frames.shape[:2]), frames.shape[1], f"samples of {source}"
        frames, labels = frames[:, :wanted], None if labels is None else labels[:wanted]
    else:
        try:
            options = json.loads(about.get("data_arguments", "{}")) if source is None else {}
            steps, seed = int(about.get("steps", 4)), int(about.get("seed", 0))
        except ValueError as error:
            raise DataError(f"the network's metadata on its data is broken ({error}). Give frames by --frames.") from None
        name = source or about["data"]
        part = getattr(data.load(name, steps=steps, seed=seed, **options), split)
        wanted, total, of = count(steps, len(part)), len(part), f"{split} samples of {name}"
        frames, labels = part.batch(range(wanted))
    if labels is not None:
        labels = data.check_labels(labels, samples=frames.shape[1], classes=graph.shapes[graph.readout.name][0])
    return Shown(frames, labels, which_samples(wanted, total, of))


def runtimes_of(text: str | None, default: Sequence[str]) -> list[str]:
    """What `--runtimes` asks for, the reference first where one alone is named."""
    names = text.split(",") if text else list(default)
    return ["reference", *names] if len(names) == 1 and names != ["reference"] else names


def probes_of(text: str) -> str | list[str]:
    """What `--probes` asks for, as the runtimes take it."""
    return text if text in ("all", "spikes", "none") else text.split(",")
