"""Files that are filled step by step, so that memory stays small and nothing need be read back from Lava. numpy only."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Where = Mapping[str, Any]  # what `Record` is made of; it crosses processes
_SECONDS_BETWEEN_REPORTS = 0.2


def report(done: int, steps: int) -> None:
    """Tell on standard error how far a run is: on a terminal in one line, elsewhere in lines for programs."""
    if sys.stderr.isatty():
        print(f"\r{done} of {steps} steps", end="" if done < steps else "\n", file=sys.stderr, flush=True)
    else:
        print(f"progress {done} {steps}", file=sys.stderr, flush=True)


class Record:
    """An existing .npy file [T, B, ...] for what becomes of each frame.

    Parameters
    ----------
    path
        The file.
    latency, period
        Steps until the first frame gets there, and that a sample takes: frame k of sample n does in Lava step
        n*period + k + 1 + latency.
    """

    def __init__(self, path: str, latency: int, period: int) -> None:
        self._array = np.load(path, mmap_mode="r+").view(np.ndarray)  # whose slices cost less
        self._latency, self._period = latency, period
        self._steps, self._samples = self._array.shape[:2]

    def write(self, time_step: int, data: np.ndarray | int) -> None:
        """Store the data of a Lava step at [k, n]; what comes of silence, before, between and after samples, is dropped."""
        sample, step = divmod(time_step - 1 - self._latency, self._period)
        if 0 <= sample < self._samples and step < self._steps:
            self._array[step, sample] = data


class Clock:
    """An existing .npy file [all steps] for the second at which each ended; reports progress on the way."""

    def __init__(self, path: str) -> None:
        self._seconds = np.load(path, mmap_mode="r+").view(np.ndarray)
        self._last_report = 0.0

    def tick(self, time_step: int) -> None:
        """Note that a step has ended."""
        self._seconds[time_step - 1] = now = time.monotonic()
        if now - self._last_report > _SECONDS_BETWEEN_REPORTS:
            self._last_report = now
            report(time_step, len(self._seconds))


class Records:
    """All files of a run in a folder, by kind and by the node they belong to.

    Parameters
    ----------
    folder
        Empty; receives readout.npy, clock.npy and <kind>.<i>.npy.
    plan
        Content of plan.json.
    layout
        Steps and samples [T, B].
    probes
        Names of populations under "spikes" and "potentials".
    counted
        Names of nodes whose values are counted, under "clipped", "wrapped" and "saturated", where they leave their range.

    Attributes
    ----------
    period
        Steps that a sample takes, after which all neurons are reset: as many as it has frames, if the plan says no more.
    clock
        File of a `Clock`.
    steps
        Of the whole run: until the last sample's last frame has become a readout.
    """

    def __init__(
        self,
        folder: Path,
        plan: Mapping[str, Any],
        layout: tuple[int, int],
        probes: Mapping[str, Collection[str]],
        counted: Mapping[str, Collection[str]],
    ) -> None:
        self._folder, self._layout = folder, layout
        self.period = int(plan.get("period", layout[0]))
        self._places: dict[tuple[str, str], Where] = {}
        nodes = {node["name"]: node for node in [plan["input"] | {"latency": 0}, *plan["nodes"], plan["readout"]]}
        for kind, names in {**probes, **counted}.items():
            for index, name in enumerate(names):
                node = nodes[name]
                probed = kind in probes
                early = kind == "wrapped" and node["kind"] == "conv"  # a sum is made a step before it is sent
                self._new(
                    (kind, name),
                    f"{kind}.{index}.npy",
                    {"spikes": np.uint8, "potentials": np.int32}.get(kind, np.int64),
                    tuple(node["shape"]) if probed else (),
                    node["latency"] - early,
                )
        readout = plan["readout"]
        self._new(("readout", readout["name"]), "readout.npy", np.int32, tuple(readout["shape"]), readout["latency"])
        self.clock = str(folder / "clock.npy")
        self.steps = (layout[1] - 1) * self.period + layout[0] + readout["latency"]
        _new_file(self.clock, np.float64, (self.steps,))

    def where(self, kind: str, name: str) -> Where | None:
        """What a `Record` is made of; None where nothing is recorded."""
        return self._places.get((kind, name))

    def files(self) -> dict[str, Path]:
        """Each file but the readout under its name in a recording: spikes/<name>, ranges/wrapped/<name>, clock and so on."""
        named = {
            f"{kind}/{name}" if kind in ("spikes", "potentials") else f"ranges/{kind}/{name}": Path(place["path"])
            for (kind, name), place in self._places.items()
            if kind != "readout"
        }
        return {**named, "clock": Path(self.clock)}

    def _new(self, key: tuple[str, str], file: str, dtype: type, shape: tuple[int, ...], latency: int) -> None:
        path = str(self._folder / file)
        _new_file(path, dtype, (*self._layout, *shape))
        self._places[key] = {"path": path, "latency": latency, "period": self.period}


def optional_record(where: Where | None) -> Record | None:
    """The record that is asked for; None where none is."""
    return None if where is None else Record(**where)


def _new_file(path: str, dtype: type, shape: tuple[int, ...]) -> None:
    np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
