"""Golden vectors: inputs of a network, and every spike, membrane potential and readout that it must give for them.

An .npz that is not compressed: `about`, JSON in UTF-8, `frames` float32 [T, B, *shape] and, as run.py records them,
`readout` [T, B, K], `spikes/<name>` and `potentials/<name>` [T, B, *shape] of each population. numpy only; on both sides.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .reading import Refused, npz_arrays, opened, said

FORMAT = 1
LARGEST_FILE = 2**32  # bytes
EXPORT_WITH_VECTORS = "Export the network again with `tet-deploy export --vectors 4`."
_LARGEST_ABOUT = 2**16
_LONGEST_TEXT = 500
_RECORD = "Record what run.py records, of the vectors' own frames; see the bundle's README.md."
_KINDS = {"spikes": "spike", "potentials": "potential", "readout": "readout"}


class Network(NamedTuple):
    """What vectors must fit: SHA-256 of the network, shape of a frame and of each population in order, and classes."""

    digest: str
    shape: tuple[int, ...]
    populations: Mapping[str, tuple[int, ...]]
    classes: int

    @classmethod
    def of_plan(cls, plan: Mapping[str, Any]) -> Network:
        """That of a bundle's plan."""
        populations = {node["name"]: tuple(node["shape"]) for node in plan["nodes"] if node["kind"] == "lif"}
        return cls(plan["digest"], tuple(plan["input"]["shape"]), populations, plan["readout"]["shape"][0])

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of what is recorded in one step of one sample, by its name in a recording, the nearest to the input first."""
        kinds = ("spikes", "potentials")
        recorded = {f"{kind}/{name}": shape for name, shape in self.populations.items() for kind in kinds}
        return {**recorded, "readout": (self.classes,)}


class Vectors(NamedTuple):
    """Frames, in words where they come from, and what is expected, by its name in a recording."""

    inputs: str
    frames: np.ndarray
    expected: Mapping[str, np.ndarray]


class Comparison(NamedTuple):
    """How many values were compared and differ, the first that does, in words, and what was not recorded."""

    compared: int
    differ: int
    first: str
    absent: tuple[str, ...]

    def lines(self, vectors: Vectors, by: str) -> list[str]:
        """What is said of it: the first difference, what is missing, and the sum."""
        steps, samples = vectors.frames.shape[:2]
        return [
            *([f"first: {self.first}"] if self.first else []),
            *([f"not recorded, so not compared: {', '.join(self.absent)}"] if self.absent else []),
            f"{self.differ:,} of {self.compared:,} values differ: {samples:,} samples of {steps:,} steps, {by}; "
            f"inputs: {vectors.inputs}",
        ]


def read_vectors(path: Path, network: Network) -> Vectors:
    """Vectors of a network from a file.

    Raises
    ------
    Refused
        No such file, a damaged one, or one of another network.
    """
    with opened(path, LARGEST_FILE, EXPORT_WITH_VECTORS) as file:
        arrays = npz_arrays(path, file)
    try:
        about = _about(arrays)
        if about["digest"] != network.digest:
            raise Refused(
                f"{path}: is of the network {about['digest']:.12}, and this is {network.digest:.12}",
                "Give the vectors that were written with it, or export it again with --vectors.",
            )
        frames = arrays["frames"]
        _check(arrays, network)
    except ValueError as error:
        raise Refused(f"{path}: are no vectors, or damaged ones: {said(error)}", EXPORT_WITH_VECTORS) from error
    return Vectors(about["inputs"], frames, {name: arrays[name] for name in network.shapes()})


def read_recording(path: Path) -> dict[str, np.ndarray]:
    """Arrays of a recording, made by whatever ran the network.

    Raises
    ------
    Refused
        No such file, or none of arrays that are not compressed.
    """
    way_out = "Write it with numpy.savez, which does not compress."
    with opened(path, LARGEST_FILE, _RECORD) as file:
        return npz_arrays(path, file, way_out)


def compare(vectors: Vectors, found: Mapping[str, np.ndarray], where: str) -> Comparison:
    """Every value of a recording beside what is expected.

    Parameters
    ----------
    found
        By name in a recording; what is missing is not compared, and clocks and ranges are not looked at.
    where
        What the recording is, for messages.

    Raises
    ------
    Refused
        Nothing of what is expected, an array of another shape, or one of no population.
    """
    for name, array in found.items():
        if name.partition("/")[0] not in _KINDS:
            continue
        if name not in vectors.expected:
            raise Refused(f"{where}: {name!r:.200}: no population of the network has that name", _RECORD)
        wanted = vectors.expected[name].shape
        if array.shape != wanted or array.dtype.kind not in "fiub":
            raise Refused(
                f"{where}: {name!r:.200} must be numbers {wanted}; it is {array.dtype} {array.shape!s:.200}", _RECORD
            )
    pairs = {name: (array, found[name]) for name, array in vectors.expected.items() if name in found}
    if not pairs:
        raise Refused(f"{where}: holds no readout, spikes or potentials", _RECORD)
    masks = {name: np.not_equal(expected, other) for name, (expected, other) in pairs.items()}
    return Comparison(
        compared=sum(mask.size for mask in masks.values()),
        differ=sum(int(np.count_nonzero(mask)) for mask in masks.values()),
        first=_first(masks, pairs),
        absent=tuple(name for name in vectors.expected if name not in pairs),
    )


def first_place(differs: Iterable[tuple[str, np.ndarray]]) -> tuple[str, tuple[int, ...]] | None:
    """The earliest step at which any mask [T, ...] holds, in it the first of the masks: its name, and the index there."""
    places = [
        (name, tuple(int(i) for i in np.unravel_index(int(np.argmax(where)), where.shape)))  # steps are the slowest axis
        for name, where in differs
        if where.any()
    ]
    return min(places, key=lambda place: place[1][0], default=None)


def _first(masks: Mapping[str, np.ndarray], pairs: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> str:
    place = first_place(masks.items())
    if place is None:
        return ""
    recorded, index = place
    kind, _, name = recorded.partition("/")
    step, sample, *position = index
    expected, other = (_number(array[index]) for array in pairs[recorded])
    return (
        f"{_KINDS[kind]}{f' of {name!r}' if name else ''}, sample {sample}, step {step}, position {tuple(position)}: "
        f"expected {expected}, found {other}"
    )


def _number(value: np.generic) -> str:
    return f"{value.item():.9g}" if value.dtype.kind == "f" else str(int(value))


def _about(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    missing = {"about", "frames", "readout"} - arrays.keys()
    if missing:
        raise ValueError(f"it lacks {', '.join(sorted(missing))}")
    array = arrays["about"]
    if array.dtype != np.uint8 or array.ndim != 1 or array.size > _LARGEST_ABOUT:
        raise ValueError("about must be a text")
    try:
        about = json.loads(array.tobytes().decode())
    except RecursionError as error:
        raise ValueError("about is no JSON") from error
    if not isinstance(about, dict) or type(about.get("format")) is not int:
        raise ValueError("about does not say a format")
    if about["format"] != FORMAT:
        raise ValueError(f"their format is {about['format']:.9g}; needs {FORMAT}")
    for key in ("digest", "inputs"):
        if not isinstance(about.get(key), str) or not about[key].isprintable() or len(about[key]) > _LONGEST_TEXT:
            raise ValueError(f"about does not say {key} in a line")
    return about


def _check(arrays: Mapping[str, np.ndarray], network: Network) -> None:
    frames, shapes = arrays["frames"], network.shapes()
    if frames.dtype != np.float32 or frames.ndim != len(network.shape) + 2 or 0 in frames.shape:
        raise ValueError(f"frames must be float32 [T, B, {', '.join(map(str, network.shape))}]")
    wanted = {"frames": network.shape, **shapes}
    if arrays.keys() - {"about"} != wanted.keys():
        raise ValueError("they must hold the spikes and potentials of all the network's populations, and no others")
    for name, shape in wanted.items():
        array = arrays[name]
        is_spikes = name.startswith("spikes/")
        if array.shape != (*frames.shape[:2], *shape) or array.dtype.kind not in ("u" if is_spikes else "fi"):
            raise ValueError(f"{name!r:.200} is {array.dtype} {array.shape!s:.200}")
        if is_spikes and array.max() > 1:
            raise ValueError(f"{name!r:.200} must be 0 or 1")
