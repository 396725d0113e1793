"""Samples by the words that name them on a command line: a file of frames, a data set, or what a network was trained on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

from tet_deploy.batches import ArraySource, Source
from tet_deploy.data.catalogue import DATA, load
from tet_deploy.data.frames import load_frames, samples_of
from tet_deploy.errors import ArgumentError, DataError


class Opened(NamedTuple):
    """A source of samples, and in words what they are, as `frames.samples_of` says."""

    source: Source
    of: str


def open_samples(name: str | None, about: Mapping[str, str], *, split: str = "test", option: str = "--frames") -> Opened:
    """Samples that are read when they are asked for.

    Parameters
    ----------
    name
        An .npz or .npy file, or a data set of `DATA`; by default the one that the network was trained on.
    about
        The network's metadata.
    split
        "train" or "test": which part of a data set.
    option
        Of a command, which names the samples: for the error.

    Raises
    ------
    DataError, ArtifactError
        The network does not say what it was trained on, or what is named cannot be read.
    """
    if name is not None and name not in DATA:
        loaded = load_frames(name, mapped=True)
        return Opened(ArraySource(loaded.frames, loaded.labels), samples_of(name, split=""))
    if name is None and "data" not in about:
        raise DataError(
            f"{option}: the network does not say what it was trained on. Give {option} FILE.npz, written by np.savez(path, "
            f"frames=..., labels=...) with frames [T, B, C, H, W]; or a data set, {option} digits."
        )
    try:
        options = json.loads(about.get("data_arguments", "{}")) if name is None else {}
        steps, seed = int(about.get("steps", 4)), int(about.get("seed", 0))
    except ValueError as error:
        raise DataError(f"the network's metadata on its data is broken ({error}). Give samples by {option}.") from None
    which = name or about["data"]
    try:
        found = load(which, steps=steps, seed=seed, **options)
    except ArgumentError as error:
        way_out = f" The network was trained on that; say where samples are: {option} FILE.npz." if name is None else ""
        raise ArgumentError(f"{error}{way_out}") from None
    return Opened(getattr(found, split), samples_of(which, split))
