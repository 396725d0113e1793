"""Executes ONNX files that `to_onnx` wrote, on ONNX Runtime's processor backend."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from tet_deploy.contracts import ProbeNames, Probes, Progress, Recording, check_frames, concatenate, probe_names
from tet_deploy.errors import ArgumentError, ArtifactError, ExecutionError, MissingDependencyError

try:
    import onnxruntime
except ModuleNotFoundError as error:
    raise MissingDependencyError(
        "running ONNX files needs the package onnxruntime. Install it: pip install 'tet_deploy[onnx]'."
    ) from error

FORMAT = "1"  # as `to_onnx` writes it


class OnnxRuntime:
    """Executes one exported network, float or quantized.

    Parameters
    ----------
    path
        A file written by `to_onnx`.
    threads
        Processor threads; all cores if None.
    micro_batch
        Samples at a time; if None, as many as keep the largest population in the cache.

    Attributes
    ----------
    digest
        Digest of the graph that the file was exported from.

    Raises
    ------
    ArtifactError
        No such file, not ONNX, truncated, or not written by us.
    """

    name = "onnx"

    def __init__(self, path: str | os.PathLike[str], *, threads: int | None = None, micro_batch: int | None = None) -> None:
        for option, value in (("threads", threads), ("micro_batch", micro_batch)):
            if value is not None and value < 1:
                raise ArgumentError(f"{option}: must be at least 1; got {value}.")
        self.path = Path(path)
        self._session = _open(self.path, threads)
        self._read_metadata()
        self._outputs = {output.name for output in self._session.get_outputs()}
        self._micro_batch = micro_batch

    def run(self, frames: np.ndarray, *, probes: Probes = "all", progress: Progress | None = None) -> Recording:
        """Run the network over frames [T, B, *shape]; see `contracts.Runtime`.

        Raises
        ------
        DataError
            The frames do not fit the network.
        ArtifactError
            The file does not carry a probe that is asked for.
        ExecutionError
            ONNX Runtime stopped, for example for lack of memory.
        """
        names = probe_names(self.populations, probes)
        self._need_outputs(names)
        frames = check_frames(frames, self.input_shape, self.encoding)
        steps, samples = frames.shape[:2]
        size = self._micro_batch or _default_micro_batch(self._largest, steps)
        parts = []
        for start in range(0, samples, size):
            parts.append(self._run_batch(frames[:, start : start + size], names))
            if progress:
                progress(min(start + size, samples), samples)
        return concatenate(parts)

    def _run_batch(self, frames: np.ndarray, names: ProbeNames) -> Recording:
        wanted = [f"{name}.spikes" for name in names.spikes] + [f"{name}.potentials" for name in names.potentials]
        wanted.append("readout")
        try:
            arrays = self._session.run(wanted, {"frames": np.ascontiguousarray(frames)})
        except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
            raise ExecutionError(f"{self.path}: ONNX Runtime stopped: {_first_line(error)}. Try micro_batch=1.") from error
        found = dict(zip(wanted, arrays, strict=True))
        return Recording(
            spikes={name: found[f"{name}.spikes"] for name in names.spikes},
            potentials={name: found[f"{name}.potentials"] for name in names.potentials},
            readout=found["readout"],
            runtime=self.name,
        )

    def _read_metadata(self) -> None:
        properties = self._session.get_modelmeta().custom_metadata_map
        if "tet_deploy.format" not in properties:
            raise ArtifactError(
                f"{self.path}: an ONNX file, but not one that tet_deploy wrote. Export the network with to_onnx."
            )
        if properties["tet_deploy.format"] != FORMAT:
            raise ArtifactError(
                f"{self.path}: this version reads format {FORMAT}; the file has format {properties['tet_deploy.format']}. "
                "Export the network again, or use the version that did."
            )
        try:
            self.digest: str = properties["tet_deploy.graph_digest"]
            source = json.loads(properties["tet_deploy.input"])
            self.input_shape = tuple(int(size) for size in source["shape"])
            self.encoding = str(source["encoding"])
            shapes = json.loads(properties["tet_deploy.populations"])
            self.populations = tuple(shapes)
            self._largest = max([1, *(int(np.prod(shape)) for shape in shapes.values())])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(f"{self.path}: its metadata is damaged ({error}). Export the network again.") from error

    def _need_outputs(self, names: ProbeNames) -> None:
        for what in ("spikes", "potentials"):
            missing = [name for name in getattr(names, what) if f"{name}.{what}" not in self._outputs]
            if missing:
                raise ArtifactError(
                    f"{self.path}: does not carry the {what} of {missing[0]!r}. Export it again with probes, "
                    "to_onnx(graph, path, probes='all'), or run it with probes='none'."
                )


def _open(path: Path, threads: int | None) -> Any:
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file. Write one with to_onnx or `tet-deploy export --to onnx`.")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only: what we raise says it better
    options.intra_op_num_threads = threads or 0
    # Spinning threads take the cores from torch, or from a second session, in the same process.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
        raise ArtifactError(
            f"{path}: cannot be read as an ONNX network, it is damaged or of another kind ({_first_line(error)}). "
            "Export it again."
        ) from error


def _default_micro_batch(largest: int, steps: int) -> int:
    """Samples that keep the largest population's values of all steps within a quarter of a million.

    Larger working sets leave the cache: measured, 1 is best for large networks, and a few for tiny ones, where calls cost.
    """
    return max(1, 2**18 // (largest * steps))


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:160]
