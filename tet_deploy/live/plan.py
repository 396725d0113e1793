"""What a live run needs to know of the network's file, the recording and the options, checked before it begins."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tet_deploy import file_kinds, pipeline
from tet_deploy.data.event_clock import in_order
from tet_deploy.data.event_files import read_stream
from tet_deploy.data.opened import open_samples
from tet_deploy.errors import ArgumentError, DataError, shown
from tet_deploy.ir.artifact import load
from tet_deploy.ir.graph import Graph
from tet_deploy.live.notes import Notes
from tet_deploy.stopping import EarlyStop, calibrated
from tet_deploy.stream import Stream

STEP_TIME = "step_microseconds"  # metadata: how long one frame of the training lasts


@dataclass(frozen=True, kw_only=True, eq=False)
class Network:
    """A network's file, of either kind, as far as a live run asks.

    Attributes
    ----------
    source
        The network, or the path of an ONNX step file.
    size
        Height and width of its frames.
    metadata
        Where it came from.
    """

    source: Graph | Path
    digest: str
    size: tuple[int, int]
    metadata: Mapping[str, str]

    @classmethod
    def of(cls, path: Path) -> Network:
        """That at a path.

        Raises
        ------
        ArtifactError
            Neither a network nor an ONNX file, or damaged.
        DataError
            Its frames are no counts of events.
        """
        if file_kinds.ONNX.test(path):
            from tet_deploy.runtimes.onnx_session import OnnxRuntime

            runtime = OnnxRuntime(path)
            source: Graph | Path = path
            shape, encoding, metadata = tuple(runtime.input_shape), runtime.encoding, runtime.metadata
            digest = runtime.digest
        else:
            source = graph = load(path)
            shape, encoding, metadata = tuple(graph.input.shape), graph.input.encoding, graph.metadata
            digest = graph.digest()
        if len(shape) != 3 or shape[0] != 2 or encoding != "events":
            raise DataError(
                f"{path}: takes {encoding} frames {list(shape)}; live events make counts [2, height, width]. Take a "
                "network that was trained on events."
            )
        return cls(source=source, digest=digest, size=(shape[1], shape[2]), metadata=metadata)

    def number(self, key: str, option: str, given: int | None, what: str) -> int:
        """A whole number that an option gives, or else the metadata.

        Raises
        ------
        ArgumentError
            Neither does.
        """
        if given is not None:
            return given
        text = self.metadata.get(key, "")
        if not re.fullmatch(r"[1-9]\d{0,11}", text):
            raise ArgumentError(f"{option}: the network does not say {what}. Give {option}.")
        return int(text)

    def held_out(self, name: str | None, steps: int, accuracy: float) -> EarlyStop:
        """The rule of that accuracy, calibrated on samples of that name, by default the network's own test samples.

        Raises
        ------
        DataError
            Samples of another number of steps, or such as do not show that accuracy.
        """
        samples, _ = open_samples(name, self.metadata, option="--held-out")
        if samples.steps != steps:
            raise DataError(f"held-out samples: have {samples.steps} steps; windows have {steps}. Let them be as many.")
        if isinstance(self.source, Graph):
            recording = pipeline.run(self.source, samples, runtime="onnx", probes="none")
        else:
            from tet_deploy.runtimes.onnx_session import OnnxRuntime

            recording = OnnxRuntime(self.source).run(samples.batch(range(len(samples)))[0], probes="none")
        return calibrated(recording, getattr(samples, "labels", None), accuracy=accuracy, digest=self.digest)

    def stream(self, stop: EarlyStop) -> Stream:
        """A stream of it on ONNX Runtime."""
        return Stream(self.source, runtime="onnx", stop=stop)


def sensor_size(text: str | None, said: tuple[int, int] | None, size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of the camera: as given, as the recording says, or those of the frames.

    Raises
    ------
    ArgumentError
        No such size, or less than the frames'.
    """
    found = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text) if text is not None else None
    if text is not None and not found:
        raise ArgumentError(f"--sensor: must be WIDTHxHEIGHT, such as 128x128; got {shown(text)}.")
    width, height = (int(found[1]), int(found[2])) if found else said or (size[1], size[0])
    if width < size[1] or height < size[0]:
        raise ArgumentError(
            f"--sensor: {width} x {height} pixels are fewer than the network's {size[1]} x {size[0]}. Give the camera's."
        )
    return width, height


def recording(path: Path, notes: Notes) -> tuple[np.ndarray, tuple[int, int] | None]:
    """The events of a file in order of time, and the width and height that it says its camera has.

    Raises
    ------
    ArtifactError, DataError
        As `read_events`, a clock that was set back, and times in decimals, whose unit is not known.
    """
    found = read_stream(path)
    if found.decimals:
        raise DataError(
            f"{path}: its times are decimals, of a unit that it does not say; live, they must be whole microseconds. "
            "Convert them: if they are seconds, np.savez(path, x=x, y=y, p=p, t=np.rint(1e6 * t).astype(np.int64))."
        )
    events, repairs = in_order(str(path), found.events)
    for what, count in {**found.repairs, **repairs}.items():
        notes.add(what, count)
    return events, found.sensor_size
