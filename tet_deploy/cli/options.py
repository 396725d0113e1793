"""Options that several commands share, and the frames that they name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from tet_deploy.arguments import nearest
from tet_deploy.batches import FrameBatches
from tet_deploy.counting import TABLES
from tet_deploy.counting.conventions import CHOICES
from tet_deploy.errors import ArgumentError, shown
from tet_deploy.ir.graph import Graph
from tet_deploy.runtimes import RUNTIMES


def any_of(names: Iterable[str]) -> Callable[[], list[str]]:
    """What a shell offers to complete a word with."""
    return lambda: list(names)


NetworkFile = Annotated[Path, typer.Argument(help="A network that `convert` or `quantize` wrote.", metavar="NETWORK")]
Frames = Annotated[
    str | None,
    typer.Option(
        "--frames",
        "--data",
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
        help=f"Of {', '.join(TABLES)}, or all, or TOML files of your own, with commas. By default the TET paper's, "
        "45nm-fp32, and that of the network's own numbers, side by side.",
        autocompletion=any_of(TABLES),
    ),
]
EnergyPolicies = Annotated[
    str | None,
    typer.Option(
        help="Conventions other than the usual, with commas: "
        + "; ".join(f"{name}={' or '.join(values)}" for name, values in CHOICES.items())
        + "."
    ),
]


_POLICIES = {"input": "input_policy", "pool": "pool_policy"}


class Shown(NamedTuple):
    """Samples to run, and in words which they are."""

    frames: FrameBatches
    which: str


def samples_for(
    graph: Graph, name: str | None, samples: int | None, *, split: str = "test", option: str = "--frames"
) -> Shown:
    """The first samples of a file, or of one part of a data set, by default that of the training."""
    from tet_deploy.data.frames import which_samples
    from tet_deploy.data.opened import open_samples

    source, of = open_samples(name, graph.metadata, split=split, option=option)
    batches = FrameBatches.of(graph, source).part(0, samples or len(source))
    return Shown(batches, which_samples(len(batches), len(source), of))


def words_of(text: str) -> list[str]:
    """What stands between commas, blanks beside them left out."""
    return [word.strip() for word in text.split(",")]


def runtimes_of(text: str | None) -> list[str] | None:
    """What `--runtimes` asks for, the reference first where one alone is named; None where it does not say."""
    names = words_of(text) if text else None
    return ["reference", *names] if names is not None and len(names) == 1 and names != ["reference"] else names


def policies_of(text: str) -> dict[str, Any]:
    """What `--policy` asks for, as `td.energy` takes it."""
    found: dict[str, Any] = {}
    for part in words_of(text):
        name, _, value = (word.strip() for word in part.partition("="))
        name, value = name.replace("-", "_"), value.replace("-", " ")
        if name not in CHOICES or value not in CHOICES[name]:
            known = f"{name}={' or '.join(CHOICES[name])}" if name in CHOICES else f"one of {', '.join(CHOICES)}"
            meant = "" if name in CHOICES else nearest(name, CHOICES)
            raise ArgumentError(f"--policy {shown(part)}: must be NAME=VALUE, {known}.{meant}")
        option = "effective" if name == "zero_weights" else _POLICIES.get(name, name)
        if option in found:
            raise ArgumentError(f"--policy {shown(part)}: {name} was said before. Say it once.")
        found[option] = value == "left out" if name == "zero_weights" else value
    return found


def probes_of(text: str) -> str | list[str]:
    """What `--probes` asks for, as the runtimes take it."""
    return text if text in ("all", "spikes", "none") else words_of(text)
