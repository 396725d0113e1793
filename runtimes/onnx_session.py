"""Executes ONNX files that `to_onnx` wrote, on ONNX Runtime's processor backend."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from tet_deploy import file_kinds
from tet_deploy.arguments import whole
from tet_deploy.contracts import (
    ProbeNames,
    Probes,
    Progress,
    Recording,
    Step,
    check_frame,
    check_frames,
    check_samples,
    concatenate,
    probe_names,
)
from tet_deploy.errors import (
    ArtifactError,
    ExecutionError,
    MissingDependencyError,
    TetDeployError,
    first_line,
    shown,
)
from tet_deploy.ir.shapes import Shape
from tet_deploy.meaning import current_of
from tet_deploy.onnx_file import (
    FORMAT,
    FRAMES,
    READOUT,
    READOUT_STATE,
    UNSEALED_FORMAT,
    Description,
    check_seal,
    output_of,
    read_metadata,
)
from tet_deploy.ranges import SATURATED, WRAPPED, Possible, Ranges, clipped_messages, joined

try:
    import onnxruntime
except ModuleNotFoundError as error:
    raise MissingDependencyError(
        "running ONNX files needs the package onnxruntime. Install it: pip install 'tet-deploy[onnx]'."
    ) from error

LARGEST_FILE_BYTES = 2**31 - 1  # protobuf's limit
LARGEST_THREADS, LARGEST_MICRO_BATCH = 2**10, 2**20
State = Mapping[str, np.ndarray]  # the membrane potential of each population, [B, *shape]


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
    input_shape, encoding
        What the frames of one step and sample are.
    populations
        Names of the LIF nodes.
    population_shapes
        Of each of them, whether or not the file offers what it does.
    shapes
        Of one step and sample: each output that the file offers, see `onnx_file.output_of`.
    is_quantized
        Whether it holds integers.
    metadata
        That of the graph that the file was exported from.

    Raises
    ------
    ArtifactError
        No such file, not ONNX, not written by us, truncated, changed after it was written, or damaged in any other way.

    Notes
    -----
    The whole file is verified against its checksum before ONNX Runtime sees it. Files of version 0.1 carry none and are read
    as they are. A checksum finds damage, not malice: like any ONNX file, run it only if you trust where it comes from.
    """

    name = "onnx"

    def __init__(self, path: str | os.PathLike[str], *, threads: int | None = None, micro_batch: int | None = None) -> None:
        _need_count("threads", threads, LARGEST_THREADS)
        _need_count("micro_batch", micro_batch, LARGEST_MICRO_BATCH)
        self.path = file_kinds.expected(
            path, file_kinds.ONNX, "Write one with to_onnx or `tet-deploy export --to onnx`.", largest=LARGEST_FILE_BYTES
        )
        try:
            self._session, about = _open(self.path.read_bytes(), threads)
            self.shapes = _output_shapes(self._session, about)
        except TetDeployError as error:
            raise ArtifactError(f"{self.path}: {error}") from error
        except OSError as error:
            raise ArtifactError(f"{self.path}: cannot be read ({error.strerror}). Look at its permissions.") from error
        except Exception as error:  # ONNX Runtime's exceptions share no base class; a file can be wrong in any way
            raise ArtifactError(
                f"{self.path}: cannot be read as an ONNX network, it is damaged or of another kind ({first_line(error)}). "
                "Export the network again."
            ) from error
        self.digest, self.input_shape, self.encoding = about.digest, about.input_shape, about.encoding
        self.populations, self.metadata, self._format = tuple(about.populations), about.metadata, about.format
        self.population_shapes = dict(about.populations)
        self.is_quantized = any(value.name == READOUT and "int64" in value.type for value in self._session.get_outputs())
        self._states, self._keeps = _states(self._session, about), bool(about.populations) or about.leaky_readout
        self._messages = about.messages
        self._counted, self._unknown = _counted(self._session, about)
        self._largest = max([1, *map(math.prod, about.populations.values())])
        self._micro_batch = micro_batch

    def run(self, frames: np.ndarray, *, probes: Probes = "all", progress: Progress | None = None) -> Recording:
        """Run the network over frames [T, B, *shape]; see `contracts.Runtime`.

        Raises
        ------
        DataError
            The frames do not fit the network.
        ArtifactError
            The file does not carry a probe that is asked for, or does not give what its metadata says.
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

    def start(self, samples: int) -> State:
        """The state before the first step of so many samples: every potential 0. See `contracts.StreamingRuntime`.

        Raises
        ------
        ArtifactError
            The file was exported without states.
        """
        if not self._states and self._keeps:
            raise ArtifactError(
                f"{self.path}: has no states, which single steps need. Export it with stream=True, or `tet-deploy "
                "export --to onnx --stream`."
            )
        return self._zeros(samples)

    def step(self, state: State, frame: np.ndarray, *, probes: Probes = "all") -> tuple[Step, State]:
        """One step of all samples; see `contracts.StreamingRuntime`. The state that was passed in stays as it was."""
        names = probe_names(self.populations, probes)
        self._need_outputs(names)
        checked = check_frame(frame, self.input_shape, self.encoding)
        check_samples(checked, state)
        seen, after = self._run(checked[None], names, state)
        step = Step(
            spikes={name: array[0] for name, array in seen.spikes.items()},
            potentials={name: array[0] for name, array in seen.potentials.items()},
            readout=seen.readout[0],
            ranges=joined([seen.ranges], lambda parts: parts[0][0]),
        )
        return step, after

    def _zeros(self, samples: int) -> State:
        return {name: np.zeros((samples, *shape), dtype) for name, (dtype, shape) in self._states.items()}

    def _run_batch(self, frames: np.ndarray, names: ProbeNames) -> Recording:
        return self._run(frames, names, self._zeros(frames.shape[1]), after=False)[0]

    def _run(self, frames: np.ndarray, names: ProbeNames, state: State, after: bool = True) -> tuple[Recording, State]:
        spikes = {name: output_of(name, "spikes") for name in names.spikes}
        potentials = {name: output_of(name, "potentials") for name in names.potentials}
        states = {name: output_of(name, "after") for name in state} if after else {}
        counts = {kind: {name: output_of(name, kind) for name in names} for kind, names in self._counted.items()}
        outputs = (spikes, potentials, states, *counts.values())
        wanted = [READOUT, *(output for group in outputs for output in group.values())]
        before = {output_of(name, "before"): array for name, array in state.items()}
        try:
            arrays = self._session.run(wanted, {FRAMES: np.ascontiguousarray(frames), **before})
        except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
            raise self._stopped(error) from error
        found = dict(zip(wanted, arrays, strict=True))
        for output, array in found.items():
            axes = frames.shape[1:2] if output in states.values() else frames.shape[:2]
            shape = (*axes, *self.shapes[output])
            if array.shape != shape:
                raise ArtifactError(
                    f"{self.path}: its output {output!r} must be of shape {shape}; ONNX Runtime gave {array.shape}. The "
                    "file is damaged; export the network again."
                )
        recording = Recording(
            spikes={name: found[output] for name, output in spikes.items()},
            potentials={name: found[output] for name, output in potentials.items()},
            readout=found[READOUT],
            ranges=Ranges(
                clipped={name: clipped_messages(node, frames, axes=2) for name, node in self._messages.items()},
                **{kind: {name: found[output] for name, output in group.items()} for kind, group in counts.items()},
                unknown=self._unknown,
            ),
            runtime=self.name,
        )
        return recording, {name: found[output] for name, output in states.items()}

    def _stopped(self, error: Exception) -> TetDeployError:
        if self._format == UNSEALED_FORMAT and "Subgraph must have the shape set" in str(error):
            return ArtifactError(
                f"{self.path}: a file of format {UNSEALED_FORMAT} whose sums may wrap needs onnxruntime 1.24 or later; this "
                f"is {onnxruntime.__version__}. Export the network again."
            )
        way_out = "Try micro_batch=1." if "alloc" in str(error) else "Export the network again, or use another runtime."
        return ExecutionError(f"{self.path}: ONNX Runtime stopped: {first_line(error)}. {way_out}")

    def _need_outputs(self, names: ProbeNames) -> None:
        for what in ("spikes", "potentials"):
            missing = [name for name in getattr(names, what) if output_of(name, what) not in self.shapes]
            if missing:
                raise ArtifactError(
                    f"{self.path}: does not carry the {what} of {missing[0]!r}. Export it again with probes, "
                    "to_onnx(graph, path, probes='all'), or run it with probes='none'."
                )


def _need_count(option: str, value: int | None, largest: int) -> None:
    if value is not None:
        whole(option, value, greatest=largest, instead=", or None")


def _open(content: bytes, threads: int | None) -> tuple[Any, Description]:
    sealed = check_seal(content)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what we raise says it better
    options.intra_op_num_threads = int(threads or 0)
    # Spinning threads take the cores from torch, or from a second session, in the same process.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # A fallback to the same provider would only print to stdout that the first try failed.
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"], enable_fallback=0)
    about = read_metadata(session.get_modelmeta().custom_metadata_map)
    if about.format == FORMAT and not sealed:
        raise ArtifactError("lacks its checksum, it is damaged or was changed by another tool. Export the network again.")
    return session, about


def _output_shapes(session: Any, about: Description) -> dict[str, Shape]:
    """Shape of each output for one step of one sample, after comparing inputs and outputs with the metadata."""
    values = {value.name: value for value in [*session.get_inputs(), *session.get_outputs()]}
    readout = values[READOUT]
    shapes = {READOUT: tuple(readout.shape[2:])}
    state = {"tensor(float)": "tensor(float)", "tensor(int64)": "tensor(int32)"}[readout.type]
    expected = {FRAMES: ("tensor(float)", about.input_shape)}
    over_samples = set()  # values without an axis of time
    for name, shape in about.populations.items():
        expected[output_of(name, "spikes")] = ("tensor(uint8)", shape)
        expected[output_of(name, "potentials")] = (state, shape)
        for what, held in itertools.product(("before", "after"), (name, current_of(name))):
            expected[output_of(held, what)] = (state, shape)
            over_samples.add(output_of(held, what))
    for what in ("before", "after"):
        expected[output_of(READOUT_STATE, what)] = (readout.type, shapes[READOUT])
        over_samples.add(output_of(READOUT_STATE, what))
    for name, kind in _range_outputs(about):
        expected[output_of(name, kind)] = ("tensor(int64)", ())
    for name in expected.keys() & values.keys():
        found = (values[name].type, tuple(values[name].shape[1 if name in over_samples else 2 :]))
        if found != expected[name]:
            raise ArtifactError(
                f"{name!r} must be {shown(expected[name])} in one step of one sample, as the metadata says; the graph has "
                f"{shown(found)}. The file is damaged; export the network again."
            )
        shapes[name] = expected[name][1]
    return shapes


def _range_outputs(about: Description) -> list[tuple[str, str]]:
    """Nodes that may leave the chip's range and the kind of it, which an output of that name may count."""
    possible = about.possible or {}
    return [(name, kind) for kind in (WRAPPED, SATURATED) for name in possible.get(kind, ())]


def _counted(session: Any, about: Description) -> tuple[Possible, tuple[str, ...]]:
    """The nodes that outputs count, by kind, and those that the file does not count: in an older one all that it names."""
    outputs = {value.name: value.type for value in session.get_outputs()}
    if about.possible is None and outputs[READOUT] == "tensor(int64)":
        return {}, (FRAMES, *about.populations)
    counted: dict[str, tuple[str, ...]] = {WRAPPED: (), SATURATED: ()}
    unknown: dict[str, None] = {}
    for name, kind in _range_outputs(about):
        if output_of(name, kind) in outputs:
            counted[kind] += (name,)
        else:
            unknown[name] = None
    return counted, tuple(unknown)


def _states(session: Any, about: Description) -> dict[str, tuple[type, Shape]]:
    """Type and shape of each potential, a leaky readout's too, and current of a sample; none in a file without states."""
    types = {"tensor(float)": np.float32, "tensor(int32)": np.int32, "tensor(int64)": np.int64}
    inputs = {value.name: value for value in session.get_inputs()}
    found: dict[str, tuple[type, Shape]] = {}
    for name, shape in about.populations.items():
        for held in (name, current_of(name)):
            value = inputs.get(output_of(held, "before"))
            if value is not None:
                found[held] = (types[value.type], shape)
    readout = inputs.get(output_of(READOUT_STATE, "before"))
    if readout is not None:
        found[READOUT_STATE] = (types[readout.type], tuple(readout.shape[1:]))
    return found


def _default_micro_batch(largest: int, steps: int) -> int:
    """Samples that keep the largest population's values of all steps within a quarter of a million.

    Larger working sets leave the cache: measured, 1 is best for large networks, and a few for tiny ones, where calls cost.
    """
    return max(1, 2**18 // (largest * steps))
