"""Recordings in files: what one runtime observed, of which network, in which units and of which frames.

An .npz: `readout` first, then `decisions`, `NAME.spikes` and `NAME.potentials` of each probed population, `NAME.clipped`,
`NAME.wrapped` and `NAME.saturated`, how many values left the chip's range at each step, `frames`, a fingerprint of each
sample's frames, and `about`, JSON in UTF-8.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tet_deploy import plain
from tet_deploy.batches import FrameBatches
from tet_deploy.contracts import Probes, Progress, Recording
from tet_deploy.data.frames import check_claimed_size, unpacked_limit
from tet_deploy.errors import ArtifactError, DataError, TetDeployError, first_line
from tet_deploy.files import Kind, head, regular_file, written_whole
from tet_deploy.ranges import CLIPPED, KINDS, SATURATED, WRAPPED, Ranges
from tet_deploy.units import ByChannel, by_channel
from tet_deploy.wording import number_of

FORMAT = 1
RECORDING = Kind("a recording of tet_deploy", lambda path: head(path)[30:].startswith(b"readout.npy"))  # first in the .zip
_SPIKES, _POTENTIALS = ".spikes", ".potentials"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a recording is of.

    Attributes
    ----------
    digest
        Of the network that was run.
    shape, encoding
        Of one frame.
    units
        Per population, and for "readout": recorded units per unit of the float network.
    thresholds
        Per population: firing threshold in units of the float network.
    metadata
        The network's.
    """

    digest: str
    shape: tuple[int, ...]
    encoding: str
    units: Mapping[str, ByChannel]
    thresholds: Mapping[str, ByChannel]
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredRecording:
    """A recording from a file, what it is of, and a fingerprint of each sample's frames, uint64 [B]."""

    recording: Recording
    origin: Origin
    frames: np.ndarray


def fingerprints(frames: np.ndarray) -> np.ndarray:
    """What tells the frames of each sample from others, uint64 [B]; frames float32 [T, B, *shape]."""
    samples = np.ascontiguousarray(np.moveaxis(frames.astype(np.float32, copy=False), 1, 0)) + np.float32(0)  # no -0
    digests = [hashlib.blake2b(sample.tobytes(), digest_size=8).digest() for sample in samples]
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def save_recording(recording: Recording, path: str | os.PathLike[str], *, origin: Origin, frames: np.ndarray) -> Path:
    """Write a recording, whole or not at all; another one that lies there is replaced.

    Parameters
    ----------
    frames
        Fingerprints of the samples' frames, see `fingerprints`.

    Raises
    ------
    ArtifactError
        It cannot be written, or another kind of file lies there.
    """
    about = {"format": FORMAT, "runtime": recording.runtime, **vars(origin), "uncounted": list(recording.ranges.unknown)}
    arrays = {"readout": recording.readout, "decisions": recording.decisions}
    arrays |= {name + _SPIKES: array for name, array in recording.spikes.items()}
    arrays |= {name + _POTENTIALS: array for name, array in recording.potentials.items()}
    arrays |= {f"{name}.{kind}": array for kind in KINDS for name, array in getattr(recording.ranges, kind).items()}
    arrays |= {"frames": frames, "about": np.frombuffer(json.dumps(about, default=dict).encode(), np.uint8)}
    with written_whole(path, RECORDING) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # its keywords are arrays, save one
    return Path(path)


def load_recording(path: str | os.PathLike[str]) -> StoredRecording:
    """Read what `save_recording` wrote.

    Raises
    ------
    ArtifactError
        No such file, not a recording, damaged, or one of version 0.1, which does not say what it is of.
    """
    file = regular_file(path, "Write one with `tet-deploy run --probes all --out`.")
    try:
        return _stored(_arrays(file))
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}") from error
    except TetDeployError:
        raise
    except Exception as error:  # a file can be wrong in any way: it must not surprise the caller
        raise ArtifactError(f"{path}: is no recording, or a damaged one ({first_line(error)}). Run it again.") from error


def _arrays(path: Path) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            with archive.open(member) as header:
                check_claimed_size(header, min(member.file_size, unpacked_limit(path)))
            with archive.open(member) as file:
                found[member.filename.removesuffix(".npy")] = np.lib.format.read_array(file, allow_pickle=False)
    return found


def _stored(arrays: dict[str, np.ndarray]) -> StoredRecording:
    if "readout" not in arrays:
        raise ArtifactError("is no recording. Write one with `tet-deploy run --probes all --out`.")
    if "about" not in arrays or "frames" not in arrays:
        raise ArtifactError("does not say which network and frames it is of; version 0.1 wrote none of it. Run it again.")
    about = plain.mapping(json.loads(arrays["about"].tobytes()), "about")
    if plain.count(about, "format") != FORMAT:
        raise ArtifactError("was written by a newer tet_deploy. Read it with that version.")
    recording = Recording(
        spikes={name.removesuffix(_SPIKES): array for name, array in arrays.items() if name.endswith(_SPIKES)},
        potentials={name.removesuffix(_POTENTIALS): array for name, array in arrays.items() if name.endswith(_POTENTIALS)},
        readout=arrays["readout"],
        ranges=_ranges(arrays, about),
        runtime=plain.text(about, "runtime"),
    )
    origin = Origin(
        digest=plain.text(about, "digest"),
        shape=tuple(map(int, plain.counts(about, "shape"))),
        encoding=plain.text(about, "encoding"),
        units=_numbers(about, "units"),
        thresholds=_numbers(about, "thresholds"),
        metadata={k: v for k, v in plain.mapping(plain.get(about, "metadata"), "metadata").items() if isinstance(v, str)},
    )
    _check(recording, origin, arrays["frames"])
    return StoredRecording(recording=recording, origin=origin, frames=arrays["frames"])


def _ranges(arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> Ranges:
    counts = {
        kind: {name.removesuffix(f".{kind}"): array for name, array in arrays.items() if name.endswith(f".{kind}")}
        for kind in KINDS
    }
    for name, array in ((name, array) for found in counts.values() for name, array in found.items()):
        if array.dtype != np.int64 or array.shape != arrays["readout"].shape[:2] or array.min() < 0:
            raise plain.damaged(f"{name!r} is not what a recording must hold")
    unknown = tuple(plain.texts(about, "uncounted"))
    return Ranges(clipped=counts[CLIPPED], wrapped=counts[WRAPPED], saturated=counts[SATURATED], unknown=unknown)


def _numbers(about: Mapping[str, Any], key: str) -> dict[str, ByChannel]:
    entries = plain.mapping(plain.get(about, key), key)
    found = {
        name: by_channel(
            plain.reals(entries, name, key) if isinstance(entries[name], list) else plain.real(entries, name, key)
        )
        for name in entries
    }
    if not all(np.all(np.asarray(value) > 0) for value in found.values()):
        raise plain.damaged(f"{key}: must be positive")
    return found


def _check(recording: Recording, origin: Origin, frames: np.ndarray) -> None:
    readout, named = recording.readout, {**recording.spikes, **recording.potentials}
    wrong = [name for name, array in recording.spikes.items() if array.shape != named[name].shape or array.dtype != np.uint8]
    wrong += [name for name, array in named.items() if array.shape[:2] != readout.shape[:2] or array.dtype.kind not in "fiu"]
    if readout.ndim != 3 or 0 in readout.shape or readout.dtype.kind not in "fi":
        wrong.append("readout")
    if frames.shape != readout.shape[1:2] or frames.dtype != np.uint64:
        wrong.append("frames")
    wrong += [name for name in ("readout", *named) if name not in origin.units]
    wrong += [name for name in named if name not in origin.thresholds]
    if not origin.shape or math.prod(origin.shape) < 1 or origin.encoding not in ("analog", "events"):
        wrong.append("shape")
    if wrong:
        raise plain.damaged(f"{wrong[0]!r} is not what a recording must hold")


class Recorded:
    """A runtime that gives what was recorded, for the very frames that were."""

    def __init__(self, stored: StoredRecording, name: str, first: int = 0) -> None:
        self._stored, self.name, self._first = stored, name, first

    def run(self, frames: np.ndarray, *, probes: Probes = "all", progress: Progress | None = None) -> Recording:
        """The first samples, see `contracts.Runtime`."""
        return self._part(frames, 0)

    def recordings(
        self, frames: FrameBatches, *, size: int, probes: Probes = "all", progress: Progress | None = None
    ) -> Iterator[Recording]:
        """What was recorded of these samples of the source; see `batches.OneGo`."""
        for part in frames.batches(size):
            yield self._part(part.frames(), part.start - self._first)
            if progress:
                progress(part.stop - frames.start, len(frames))

    def _part(self, frames: np.ndarray, start: int) -> Recording:
        stop, recording = start + frames.shape[1], self._stored.recording
        if recording.steps != len(frames) or recording.samples < stop:
            raise DataError(
                f"{self.name}: is of {number_of('sample', recording.samples)} of {number_of('step', recording.steps)}; "
                f"asked for samples {start:,} to {stop - 1:,} of {len(frames)}. Give it the frames that it was made of, or "
                "fewer samples."
            )
        other = np.flatnonzero(fingerprints(frames) != self._stored.frames[start:stop])
        if len(other):
            raise DataError(
                f"{self.name}: was made of other frames: {len(other):,} of these {stop - start:,} samples differ, the first "
                f"is number {start + other[0]:,}. Give it its own, or record these."
            )
        return recording.sample(start, stop)
