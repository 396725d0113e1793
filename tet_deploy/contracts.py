"""What an exporter and a runtime are, and what a runtime observes."""

from __future__ import annotations

import contextlib
import functools
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from tet_deploy.errors import ArgumentError, DataError, RangeWarning, TetDeployWarning, cut, first_line, shown, warn
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import Spiking
from tet_deploy.ir.spec import need_graph
from tet_deploy.range_totals import RangeTotals
from tet_deploy.ranges import Ranges, joined
from tet_deploy.wording import number_of

Progress = Callable[[int, int], None]  # (done, total)
Frames = Any  # a numpy array or a torch tensor, [T, B, C, H, W] or [T, B, N]: time first, then samples
_OTHER_FRAMES = "Those are frames of another size or of other data. Take such as the network was trained on."
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
    ranges
        How many values left the chip's range, of the nodes of a quantized network that may.
    runtime
        Name of the runtime.
    """

    spikes: Mapping[str, np.ndarray] = field(default_factory=dict)
    potentials: Mapping[str, np.ndarray] = field(default_factory=dict)
    readout: np.ndarray
    ranges: Ranges = field(default_factory=Ranges)
    runtime: str

    def __repr__(self) -> str:
        probes = f"spikes of {', '.join(self.spikes) or 'none'}; potentials of {', '.join(self.potentials) or 'none'}"
        shown = f"{number_of('sample', self.samples)} of {number_of('step', self.steps)}"
        return f"<Recording: {self.runtime}, {shown}, {number_of('class', self.readout.shape[-1])}; {probes}>"

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
        return np.asarray(self.sums.argmax(axis=-1))

    @property
    def sums(self) -> np.ndarray:
        """Readout summed over steps 1..t, int64 or float64 [T, B, K]."""
        return np.asarray(np.cumsum(self.readout, axis=0, dtype=sum_dtype(self.readout)))

    def sample(self, start: int, stop: int) -> Recording:
        """The part of the recording that belongs to samples start..stop-1."""
        part = slice(start, stop)
        return Recording(
            spikes={name: array[:, part] for name, array in self.spikes.items()},
            potentials={name: array[:, part] for name, array in self.potentials.items()},
            readout=self.readout[:, part],
            ranges=self.ranges.sample(start, stop),
            runtime=self.runtime,
        )


def sum_dtype(readout: np.ndarray) -> type:
    """In which a readout is added up over steps: int64, or float64."""
    return np.int64 if readout.dtype.kind == "i" else np.float64


def concatenate(parts: Sequence[Recording]) -> Recording:
    """Join recordings of successive samples."""
    first = parts[0]
    return Recording(
        spikes={name: np.concatenate([part.spikes[name] for part in parts], axis=1) for name in first.spikes},
        potentials={name: np.concatenate([part.potentials[name] for part in parts], axis=1) for name in first.potentials},
        readout=np.concatenate([part.readout for part in parts], axis=1),
        ranges=joined([part.ranges for part in parts], functools.partial(np.concatenate, axis=1)),
        runtime=first.runtime,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """What one runtime observed of one step: as in a `Recording`, without the axis of time."""

    spikes: Mapping[str, np.ndarray] = field(default_factory=dict)
    potentials: Mapping[str, np.ndarray] = field(default_factory=dict)
    readout: np.ndarray
    ranges: Ranges = field(default_factory=Ranges)


def recorded(steps: Sequence[Step], runtime: str) -> Recording:
    """The recording of successive steps of the same samples."""
    first = steps[0]
    return Recording(
        spikes={name: np.stack([step.spikes[name] for step in steps]) for name in first.spikes},
        potentials={name: np.stack([step.potentials[name] for step in steps]) for name in first.potentials},
        readout=np.stack([step.readout for step in steps]),
        ranges=joined([step.ranges for step in steps], np.stack),
        runtime=runtime,
    )


class Runtime(Protocol):
    """Executes one deployed network: made from a graph, an ONNX file or a Lava bundle."""

    name: str

    def run(self, frames: Frames, *, probes: Probes = "all", progress: Progress | None = None) -> Recording:
        """Run the network over frames [T, B, C, H, W] and record what the probes ask for."""
        ...


class StreamingRuntime(Runtime, Protocol):
    """A runtime that can also be driven a step at a time; `run` gives what the fold of `step` gives, value for value."""

    def start(self, samples: int) -> Any:
        """The state before the first step of so many samples."""
        ...

    def step(self, state: Any, frame: np.ndarray, *, probes: Probes = "all") -> tuple[Step, Any]:
        """What one frame [B, *shape] for each sample makes of a state: outputs, and the state afterwards."""
        ...


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
    return tuple(node.name for node in graph.of_kind(Spiking))


def as_array(values: Any) -> np.ndarray:
    """What a caller gave as a numpy array; torch tensors, also those on a GPU or with a gradient, are taken alike."""
    if hasattr(values, "detach"):  # a torch tensor, known by what it can do, as torch need not be installed
        values = values.detach().cpu().resolve_conj().resolve_neg()
        values = (values.float() if str(values.dtype) == "torch.bfloat16" else values).numpy()  # numpy has no bfloat16
    return np.asarray(values)


def network_frames(graph: Graph, frames: Frames) -> np.ndarray:
    """Frames for a network, checked by `check_frames`; called first by each public function that takes both.

    Raises
    ------
    ArgumentError, DataError
        No network, or frames that do not fit it.

    Warns
    -----
    TetDeployWarning
        The network was trained with another number of steps, as if samples stood where time belongs.
    """
    array = check_frames(frames, need_graph(graph).input.shape, graph.input.encoding)
    tell_other_steps(graph, *array.shape[:2])
    return array


def tell_other_steps(graph: Graph, steps: int, samples: int) -> None:
    """Warn where a network was trained with another number of steps, as if samples stood where time belongs."""
    trained = graph.metadata.get("steps", str(steps))
    if trained != str(steps):
        swap = " If samples stand first, swap the axes: frames.swapaxes(0, 1)." if trained == str(samples) else ""
        warn(
            f"frames: read as {number_of('sample', samples)} of {number_of('step', steps)}, time first; the network was "
            f"trained with {trained:.20} steps.{swap}",
            TetDeployWarning,
        )


def tell_ranges(totals: RangeTotals) -> None:
    """Warn where numbers left the chip's range, or may have done so uncounted: once, of a whole call."""
    if totals.said:
        warn(f"{totals}. {totals.advice()}", RangeWarning)


@contextlib.contextmanager
def ranges_untold() -> Iterator[None]:
    """Within it no `tell_ranges` is heard: whoever shows the result tells."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RangeWarning)
        yield


def check_frames(frames: Frames, shape: Sequence[int], encoding: str) -> np.ndarray:
    """Frames as float32 [T, B, *shape], after checking them against what a network's Input wants.

    Of a network that takes (C, 1, L), frames [T, B, C, L] are taken too.

    Raises
    ------
    DataError
        Wrong rank, channels, size or dtype, no step or no sample, NaN or infinity, and where events are counted fractions
        or negative numbers.
    """
    layout = f"[T, B, {', '.join(map(str, shape))}]"
    try:
        array = as_array(frames)
    except (TypeError, ValueError, RuntimeError) as error:  # lists of unequal lengths, sparse tensors
        raise DataError(f"frames: must be one array {layout} ({first_line(error)}).") from error
    if array.dtype.kind not in "fiub":
        raise DataError(f"frames: must hold numbers in the layout {layout}; got dtype {array.dtype}.")
    if array.ndim == 4 and len(shape) == 3 and tuple(shape) == (array.shape[2], 1, array.shape[3]):
        array = array[:, :, :, None]  # lines [C, L] are images of height 1
    if array.ndim != len(shape) + 2 or tuple(array.shape[2:]) != tuple(shape):
        raise DataError(
            f"frames: the network takes {layout}, time first; got shape {array.shape}. {fitting(array.shape, shape)}"
        )
    if array.shape[0] < 1 or array.shape[1] < 1:
        raise DataError(f"frames: need at least one step and one sample in {layout}; got shape {array.shape}.")
    with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite, and is refused
        array = array.astype(np.float32, copy=False)
    if not np.isfinite(array).all():
        raise DataError("frames: must be finite; found NaN or infinity. Look at the preprocessing.")
    if encoding == "events" and not np.array_equal(array, np.rint(array)):
        raise DataError(
            "frames: the network's input counts events, so frames must hold whole numbers; found fractions. "
            "Do not normalise event frames, or trace with encoding='analog'."
        )
    if encoding == "events" and array.min() < 0:
        raise DataError(
            f"frames: the network's input counts events, so frames must not be negative; found {array.min():g}. "
            "Give each polarity a channel of its own, or trace with encoding='analog'."
        )
    return array


def as_lines(shape: Sequence[int]) -> tuple[int, ...]:
    """(C, L) of images of height 1, which lines [C, L] are to a network; any other shape as it is."""
    return (shape[0], shape[2]) if len(shape) == 3 and shape[1] == 1 else tuple(shape)


def check_frame(frame: Any, shape: Sequence[int], encoding: str) -> np.ndarray:
    """One step's frame as float32 [B, *shape]; as `check_frames`."""
    array, shape = as_array(frame), tuple(shape)
    if array.shape[1:] not in (shape, as_lines(shape)):
        layout, way_out = f"[B, {', '.join(map(str, shape))}]", _fitting_a_step(array.shape, shape)
        raise DataError(f"frame: a step takes {layout}; got shape {array.shape}. {way_out}")
    frames = check_frames(array[None], shape, encoding)
    return np.asarray(frames[0])


def check_shown(recording: Recording, frames: np.ndarray) -> None:
    """See that frames [T, B, *shape] can be those of a recording.

    Raises
    ------
    DataError
        They have other steps or samples.
    """
    if frames.shape[:2] != (recording.steps, recording.samples):
        raise DataError(
            f"frames: must be those of the recording, {number_of('step', recording.steps)} of "
            f"{number_of('sample', recording.samples)}; got {number_of('step', frames.shape[0])} of {frames.shape[1]}."
        )


def check_samples(frame: np.ndarray, state: Mapping[str, np.ndarray]) -> None:
    """See that a frame [B, *shape] shows as many samples as a state holds.

    Raises
    ------
    DataError
        It shows more or fewer; numpy would show one of them to all.
    """
    held = {len(array) for array in state.values()}
    if held and held != {len(frame)}:
        raise DataError(
            f"frame: shows {number_of('sample', len(frame))} to a state of {max(held)}. Show each stream its own, or "
            f"start({len(frame)})."
        )


def _fitting_a_step(found: tuple[int, ...], shape: tuple[int, ...]) -> str:
    """How a frame of another shape could be made to fit, as far as its shape tells."""
    if found == shape:
        return "Add an axis: frame[None] is that of one sample."
    if found[2:] == shape:
        return "Those are several steps: show them one by one."
    if found[1:] == (*shape[1:], shape[0]):
        return "Channels stand last: np.moveaxis(frame, -1, 1) puts them where they belong."
    return _OTHER_FRAMES


def fitting(found: Sequence[int], shape: Sequence[int]) -> str:
    """How frames of another shape [T, B, ...] could be made to fit, as far as their shape tells."""
    found, shape = tuple(found), tuple(shape)
    if found == shape:
        return "Add time and samples: frames[None, None] is one step of one sample."
    if found[1:] == shape:
        return (
            f"Add an axis: frames[:, None] for one sample of {number_of('step', found[0])}, frames[None] for one step of so "
            "many samples."
        )
    if found[2:] == (*shape[1:], shape[0]):
        return "Channels stand last: np.moveaxis(frames, -1, 2) puts them where they belong."
    if len(found) > 2 and math.prod(found[2:]) == math.prod(shape):
        return f"Reshape them: frames.reshape({', '.join(map(str, (*found[:2], *shape)))})."
    return _OTHER_FRAMES
