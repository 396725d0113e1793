"""Run a Lava bundle, on real Lava or on its own numpy engine, and bring back what it recorded."""

from __future__ import annotations

import math
import os
import signal
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from tet_deploy.batches import FrameBatches
from tet_deploy.contracts import ProbeNames, Probes, Progress, Recording, check_frames, probe_names
from tet_deploy.errors import ArtifactError, DataError, ExecutionError, cut
from tet_deploy.mapped import map_array, stored_at
from tet_deploy.ranges import Ranges
from tet_deploy.runtimes.loihi.child import run_child
from tet_deploy.runtimes.loihi.interpreter import check_lava_python, find_lava_python
from tet_deploy.runtimes.loihi.plan import read_plan

_MOST_ON_DISK = 2**33  # bytes of frames and recorded values of one run
_LONGEST_SILENCE = 600.0  # seconds; a step of the slowest network, with Lava's own models, takes about a minute


class _BundleRuntime:
    """What both engines have in common: the bundle's run.py, in an interpreter, with options."""

    name: str

    def __init__(self, bundle: Path, command: Sequence[str], options: Sequence[str], timeout: float | None) -> None:
        self.bundle = Path(bundle)
        self.plan = read_plan(self.bundle)
        self._command, self._options = command, options
        self.timeout = _LONGEST_SILENCE if timeout is None else timeout

    def run(self, frames: np.ndarray, *, probes: Probes = "all", progress: Progress | None = None) -> Recording:
        """Run the network over frames [T, B, *shape]; see `contracts.Runtime`.

        Spikes are uint8 and potentials int32, [T, B, *shape] in the layout of torch; the readout is int64 [T, B, K].
        `progress` counts time steps of Lava: T, or the bundle's period, for each sample and one for each layer.

        Raises
        ------
        DataError
            Frames that do not fit the network.
        ExecutionError
            The run failed, was killed, or fell silent; nothing of it is left behind.
        """
        frames = check_frames(frames, self.plan.input_shape, self.plan.encoding)
        self._check_steps(len(frames))
        names = probe_names(tuple(self.plan.populations), probes)
        return self._recording(self.execute(frames, probes, progress), names)

    def recordings(
        self, frames: FrameBatches, *, size: int, probes: Probes = "all", progress: Progress | None = None
    ) -> Iterator[Recording]:
        """Stream all samples through one run, and read what it recorded so many samples at a time.

        Memory does not grow with their number; the temporary folder must hold the frames and what is recorded. Where that
        is more than 8 GB, the samples go through in several runs.
        """
        names = probe_names(tuple(self.plan.populations), probes)
        self._check_steps(frames.steps)
        for part in frames.batches(self._samples_of_a_run(frames, names)):
            with tempfile.TemporaryDirectory(prefix="tet-deploy-lava-") as folder:
                scratch = Path(folder)
                shape = (part.steps, len(part), *part.shape)
                np.lib.format.open_memmap(scratch / "frames.npy", mode="w+", dtype=np.float32, shape=shape)
                for some in part.batches(size):
                    array = np.lib.format.open_memmap(scratch / "frames.npy", mode="r+")  # anew: its pages leave memory
                    array[:, some.start - part.start : some.stop - part.start] = some.frames()
                    del array
                log = self._run(scratch, probes, progress)
                for start in range(0, len(part), size):
                    whole = self._recording(_mapped(self.bundle, scratch / "recording.npz", log), names)
                    yield whole.sample(start, start + size)

    def execute(self, frames: np.ndarray, probes: Probes, progress: Progress | None = None) -> dict[str, np.ndarray]:
        """All arrays of the recording that the bundle's run.py writes, `clock` (the second each step ended) included."""
        with tempfile.TemporaryDirectory(prefix="tet-deploy-lava-") as folder:
            scratch = Path(folder)
            np.save(scratch / "frames.npy", frames)
            log = self._run(scratch, probes, progress)
            return {name: np.array(array) for name, array in _mapped(self.bundle, scratch / "recording.npz", log).items()}

    def _check_steps(self, steps: int) -> None:
        if self.plan.period is not None and steps > self.plan.period:
            raise DataError(
                f"frames: have {steps} steps a sample; {self.bundle} resets its neurons every {self.plan.period}. "
                "Export the network again with a longer period."
            )

    def _samples_of_a_run(self, frames: FrameBatches, names: ProbeNames) -> int:
        sizes = {name: math.prod(shape) for name, shape in self.plan.populations.items()}
        values = sum(sizes[name] for name in names.spikes) + 4 * sum(sizes[name] for name in names.potentials)
        return max(1, _MOST_ON_DISK // (frames.steps * (values + 4 * math.prod(frames.shape))))

    def _recording(self, arrays: Mapping[str, np.ndarray], names: ProbeNames) -> Recording:
        return Recording(
            spikes={name: arrays[f"spikes/{name}"] for name in names.spikes},
            potentials={name: arrays[f"potentials/{name}"] for name in names.potentials},
            readout=arrays["readout"],
            ranges=self._ranges(arrays),
            runtime=self.name,
        )

    def _ranges(self, arrays: Mapping[str, np.ndarray]) -> Ranges:
        """What the run counted; Lava's own models and older bundles do not."""
        places = {kind: {name: f"ranges/{kind}/{name}" for name in names} for kind, names in self.plan.possible.items()}
        counts = {kind: {name: arrays[key] for name, key in keys.items() if key in arrays} for kind, keys in places.items()}
        unknown = dict.fromkeys(name for keys in places.values() for name, key in keys.items() if key not in arrays)
        return Ranges(**counts, unknown=tuple(unknown))

    def _run(self, scratch: Path, probes: Probes, progress: Progress | None) -> _Log:
        """Run frames.npy of a folder into its recording.npz."""
        chosen = [probes] if isinstance(probes, str) else list(probes)
        options = ["--probes", *(chosen or ["none"]), *self._options]
        script = [*self._command, "-B", str(self.bundle.resolve() / "run.py")]
        log = _Log(progress)
        try:
            code = run_child(
                [*script, str(scratch / "frames.npy"), str(scratch / "recording.npz"), *options],
                on_line=log.take,
                longest_silence=self.timeout,
            )
        except ExecutionError as error:
            raise log.failure(self.bundle, str(error)) from None
        if code:
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            raise log.failure(self.bundle, cut(log.reason) or f"it {how}.")
        return log


class LavaRuntime(_BundleRuntime):
    """Executes a Lava bundle on real Lava: the very folder that `exporters.to_lava` wrote and users ship.

    Lava runs in a process of its own, in CPython 3.10, so that it can neither hang nor crash this one.

    Parameters
    ----------
    bundle
        Folder of the bundle. Its run.py is executed: use bundles whose origin you trust.
    python
        Interpreter with Lava; found by `find_lava_python` if None.
    stock
        Use Lava's own process models instead of the bundle's faster ones. Both give the same integers.
    timeout
        Seconds after which a run that finishes no step is given up; None for ten minutes.
    processes
        Into how many processes the network is cut; None for as many as pay. All give the same integers.

    Raises
    ------
    ArtifactError
        The folder is no bundle, or a damaged one.
    MissingDependencyError
        No Lava interpreter.

    Examples
    --------
    >>> recording = LavaRuntime(Path("net.lava")).run(frames, probes="spikes")  # doctest: +SKIP
    """

    name = "lava"

    def __init__(
        self,
        bundle: Path,
        python: Path | None = None,
        stock: bool = False,
        timeout: float | None = None,
        processes: int | None = None,
    ) -> None:
        found = check_lava_python(python) if python else find_lava_python()
        options = [*(["--stock"] if stock else []), *(["--processes", str(processes)] if processes is not None else [])]
        super().__init__(bundle, [str(found.path), "-E"], options, timeout)


class LavaNumpyRuntime(_BundleRuntime):
    """Executes a Lava bundle on its own numpy engine: the same integers without Lava, in this Python.

    Parameters
    ----------
    bundle, timeout
        As for `LavaRuntime`.

    Raises
    ------
    ArtifactError
        The folder is no bundle, a damaged one, or one from before bundles had this engine.

    Examples
    --------
    >>> recording = LavaNumpyRuntime(Path("net.lava")).run(frames, probes="spikes")  # doctest: +SKIP
    """

    name = "lava-numpy"

    def __init__(self, bundle: Path, timeout: float | None = None) -> None:
        super().__init__(bundle, [sys.executable], ["--engine", "numpy"], timeout)
        if not (self.bundle / "loihi_engine").is_dir():
            raise ArtifactError(f"{bundle}: has no numpy engine, as it is of an older version. Export the network again.")


def _mapped(bundle: Path, recording: Path, log: _Log) -> dict[str, np.ndarray]:
    """The arrays of a recording; run.py stores them as they are, so they are read where they are looked at."""
    try:
        with zipfile.ZipFile(recording) as archive:
            places = {member.filename.removesuffix(".npy"): stored_at(recording, member) for member in archive.infolist()}
        return {name: map_array(recording, offset) for name, offset in places.items() if offset is not None}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise log.failure(bundle, f"its recording cannot be read: {error}.") from error


class _Log:
    """Output of a run: progress is passed on, the rest kept for when something goes wrong."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._lines: list[str] = []
        self.reason = ""

    def take(self, line: str) -> bool:
        """Take one line and say whether it reports progress."""
        word, _, rest = line.partition(" ")
        numbers = [int(number) for number in rest.split() if number.isdigit()]
        if word == "progress" and len(numbers) == 2:
            if self._progress:
                self._progress(*numbers)
            return True
        self._lines.append(line)
        if word == "error:" and not self.reason:
            self.reason = rest
        return False

    def failure(self, bundle: Path, reason: str) -> ExecutionError:
        """An error that says what went wrong and where the whole output lies."""
        handle, path = tempfile.mkstemp(prefix="tet-deploy-lava-", suffix=".log")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write("\n".join(self._lines) + "\n")
        return ExecutionError(
            f"{bundle}: the run failed: {reason}\nIts whole output: {path}\n"
            "Run `tet-deploy doctor` to test the Lava installation, or use the reference runtime."
        )
