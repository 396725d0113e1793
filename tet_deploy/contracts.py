"""What an exporter and a runtime are, and what a runtime observes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tet_deploy.errors import ArgumentError, DataError, cut, shown
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import LIF

Progress = Callable[[int, int], None]  # (done, total)
Probes = str | Sequence[str]  # "all" | "spikes" | "none" | names of LIF nodes


@dataclass(frozen=True, kw_only=True, eq=False)
class Recording:
    """What one runtime observed of one run.

    Attributes
    ----------
    spikes
        Per probed LIF: uint8 [T, B, *shape], 0 or 1.
    potentials
        Per probed LIF: membrane potential after the reset, [T, B, *shape]; float32, or int32 for quantized networks.
    readout
        [T, B, K]; float32, or int64 in units of 64 * scale for quantized networks.
    runtime
        Name of the runtime.
    """

    spikes: Mapping[str, np.ndarray] = field(default_factory=dict)
    potentials: Mapping[str, np.ndarray] = field(default_factory=dict)
    readout: np.ndarray
    runtime: str

    @property
    def steps(self) -> int:
        """Number of time steps T."""
        return int(self.readout.shape[0])

    @property
    def samples(self) -> int:
        """Number of samples B."""
        return int(self.readout.shape[1])

    @property
    def decisions(self) -> np.ndarray:
        """Class of each sample, int64 [B]: the largest readout, averaged over all steps."""
        return np.asarray(self.decisions_by_step[-1])

    @property
    def decisions_by_step(self) -> np.ndarray:
        """Class of each sample if the run ended after step 1..T, int64 [T, B]."""
        return np.asarray(np.cumsum(self.readout, axis=0, dtype=_sum_dtype(self.readout)).argmax(axis=-1))

    def sample(self, start: int, stop: int) -> Recording:
        """The part of the recording that belongs to samples start..stop-1."""
        part = slice(start, stop)
        return Recording(
            spikes={name: array[:, part] for name, array in self.spikes.items()},
            potentials={name: array[:, part] for name, array in self.potentials.items()},
            readout=self.readout[:, part],
            runtime=self.runtime,
        )


def _sum_dtype(readout: np.ndarray) -> type:
    return np.int64 if readout.dtype.kind == "i" else np.float64


def concatenate(parts: Sequence[Recording]) -> Recording:
    """Join recordings of successive samples."""
    first = parts[0]
    return Recording(
        spikes={name: np.concatenate([part.spikes[name] for part in parts], axis=1) for name in first.spikes},
        potentials={name: np.concatenate([part.potentials[name] for part in parts], axis=1) for name in first.potentials},
        readout=np.concatenate([part.readout for part in parts], axis=1),
        runtime=first.runtime,
    )


class Runtime(Protocol):
    """Executes one deployed network: made from a graph, an ONNX file or a Lava bundle."""

    name: str

    def run(self, frames: np.ndarray, *, probes: Probes = "all", progress: Progress | None = None) -> Recording:
        """Run the network over frames [T, B, C, H, W] and record what the probes ask for."""
        ...


class Exporter(Protocol):
    """Writes a deployable graph in another tool's format and returns the path written."""

    def __call__(self, graph: Graph, path: Path) -> Path: ...


@dataclass(frozen=True)
class ProbeNames:
    """Names of the LIF nodes whose spikes and whose membrane potentials are recorded."""

    spikes: tuple[str, ...]
    potentials: tuple[str, ...]


def probe_names(populations: Sequence[str], probes: Probes) -> ProbeNames:
    """Resolve what a user asked for: "all", "spikes", "none", or names (spikes and potentials of those).

    Raises
    ------
    ArgumentError
        A name that is no LIF node of the network.
    """
    everything = tuple(populations)
    if isinstance(probes, str):
        named = {"all": (everything, everything), "spikes": (everything, ()), "none": ((), ())}
        if probes in named:
            return ProbeNames(*named[probes])
        probes = [probes]
    try:
        probes = tuple(probes)
    except TypeError:
        raise ArgumentError(f"probes: must be 'all', 'spikes', 'none' or names of LIF nodes; got {shown(probes)}.") from None
    for name in probes:
        if name not in everything:
            raise ArgumentError(
                f"probe {shown(name)}: no LIF node has that name. Use 'all', 'spikes', 'none' or one of "
                f"{cut(', '.join(everything))}."
            )
    return ProbeNames(probes, probes)


def populations(graph: Graph) -> tuple[str, ...]:
    """Names of the LIF nodes, in order."""
    return tuple(node.name for node in graph.of_kind(LIF))


def as_array(values: Any) -> np.ndarray:
    """What a caller gave as a numpy array; torch tensors, also those on a GPU or with a gradient, are taken alike."""
    if hasattr(values, "detach"):  # a torch tensor, known by what it can do, as torch need not be installed
        values = values.detach().cpu().resolve_conj().resolve_neg().numpy()
    return np.asarray(values)


def check_frames(frames: Any, shape: Sequence[int], encoding: str) -> np.ndarray:
    """Frames as float32 [T, B, *shape], after checking them against what a network's Input wants.

    Raises
    ------
    DataError
        Wrong rank, channels, size or dtype, no step or no sample, NaN, or fractions where events are counted.
    """
    frames = as_array(frames)
    layout = f"[T, B, {', '.join(map(str, shape))}]"
    if frames.dtype.kind not in "fiub":
        raise DataError(f"frames: must hold numbers in the layout {layout}; got dtype {frames.dtype}.")
    if frames.ndim != len(shape) + 2 or tuple(frames.shape[2:]) != tuple(shape):
        raise DataError(
            f"frames: the network takes {layout}, time first; got shape {frames.shape}. "
            "Move or add axes, e.g. frames[:, None] for one sample."
        )
    if frames.shape[0] < 1 or frames.shape[1] < 1:
        raise DataError(f"frames: need at least one step and one sample in {layout}; got shape {frames.shape}.")
    frames = frames.astype(np.float32, copy=False)
    if not np.isfinite(frames).all():
        raise DataError("frames: must be finite; found NaN or infinity. Look at the preprocessing.")
    if encoding == "events" and not np.array_equal(frames, np.rint(frames)):
        raise DataError(
            "frames: the network's input counts events, so frames must hold whole numbers; found fractions. "
            "Do not normalise event frames, or trace with encoding='analog'."
        )
    return frames
