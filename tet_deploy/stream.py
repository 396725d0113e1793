"""A deployed network that takes frames one at a time, as they come, of any number of streams side by side."""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from typing import Any, cast

import numpy as np

from tet_deploy.arguments import whole
from tet_deploy.contracts import Probes, Step, StreamingRuntime, as_array, as_lines, sum_dtype, tell_ranges
from tet_deploy.deployment import deployed
from tet_deploy.errors import ArgumentError, RangeWarning, shown, warn
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.spec import need_graph
from tet_deploy.latency import Latency
from tet_deploy.range_totals import RangeTotals
from tet_deploy.ranges import joined
from tet_deploy.stopping import EarlyStop, margins

_MEASURED = 100_000  # latest steps that the latency is of


class Stream:
    """Runs a network a step at a time; what it gives is what `td.run` gives for the same frames, value for value.

    Parameters
    ----------
    network
        The network, or the path of an ONNX file that was exported with `stream=True`.
    runtime
        "reference" or "onnx": one that can be driven a step at a time. By default the reference, and of a file "onnx".
    samples
        How many streams run side by side; none knows of the others.
    probes
        As in `td.run`: what each step tells of the neurons.
    stop
        When each of them decides, see `td.early_stop`; without a rule `decisions` change with every step.
    options
        For the runtime, see `deployment.deployed`.

    Attributes
    ----------
    steps
        int64 [B]: how many steps each stream took since its beginning or last `reset`.
    stopped
        bool [B]: which streams have decided by the rule; such a decision stays until the stream is reset.
    mean_readout
        [B, K]: the readout averaged over these steps; its largest value is the decision.

    Raises
    ------
    ArgumentError
        A runtime that takes whole runs only, or a rule that was calibrated for another network.

    Examples
    --------
    >>> stream = td.Stream(int8, runtime="onnx", samples=4, stop=stop)  # doctest: +SKIP
    >>> for frame in cameras:  # each [4, C, H, W], or [C, H, W] of a single stream  # doctest: +SKIP
    ...     stream.step(frame)
    ...     print(stream.decisions[stream.stopped])
    ...     stream.reset(stream.stopped)

    A step at a time it computes what a whole run does:

    >>> stream = td.Stream(int8, samples=3)
    >>> for frame in frames:  # [T, B, C, H, W]
    ...     _ = stream.step(frame)
    >>> bool((stream.decisions == td.run(int8, frames).decisions).all())
    True
    """

    def __init__(
        self,
        network: Graph | str | os.PathLike[str],
        *,
        runtime: str | None = None,
        samples: int = 1,
        probes: Probes = "none",
        stop: EarlyStop | None = None,
        **options: Any,
    ) -> None:
        if stop is not None and not isinstance(stop, EarlyStop):
            raise ArgumentError(f"stop: must be an EarlyStop, as td.early_stop gives; got {shown(stop)}.")
        self.samples, self._probes, self._rule = whole("samples", samples), probes, stop
        self._stack = contextlib.ExitStack()
        self._graph: Graph | None = None
        if isinstance(network, (str, os.PathLike)):
            digest = self._open(network, runtime, options)
        else:
            digest = self._deploy(need_graph(network), runtime or "reference", options)
        if stop is not None and stop.digest not in ("", digest):
            self.close()
            raise ArgumentError("stop: was calibrated for another network. Calibrate it with td.early_stop for this one.")
        self._told: frozenset[tuple[str, str]] = frozenset()
        self._seconds: deque[float] = deque(maxlen=_MEASURED)
        self.reset()

    def _open(self, path: str | os.PathLike[str], runtime: str | None, options: dict[str, Any]) -> str:
        from tet_deploy.runtimes.onnx_session import OnnxRuntime

        if runtime not in (None, "onnx"):
            raise ArgumentError(f"runtime {runtime!r}: an ONNX file is run by 'onnx'. Give the network instead.")
        found = OnnxRuntime(path, **options)
        self._runner: StreamingRuntime = found
        self._shape, self._name = tuple(found.input_shape), str(path)
        return found.digest

    def _deploy(self, graph: Graph, runtime: str, options: dict[str, Any]) -> str:
        runner = self._stack.enter_context(deployed(graph, runtime, probes=self._probes, states=True, **options))
        if not hasattr(runner, "step"):
            self.close()
            raise ArgumentError(f"runtime {runtime!r}: takes whole runs, not single steps. Use 'reference' or 'onnx'.")
        self._runner, self._shape, self._graph = cast(StreamingRuntime, runner), tuple(graph.input.shape), graph
        return graph.digest()

    def reset(self, sample_mask: Any = None) -> None:
        """Begin a new sample, every potential 0: in all streams, or in those that a mask, bool [B], names.

        Raises
        ------
        ArgumentError
            No such mask.
        """
        fresh = self._runner.start(self.samples)
        if sample_mask is None:
            self._state: Any = fresh
            self.steps, self.stopped = np.zeros(self.samples, np.int64), np.zeros(self.samples, bool)
            self._total: np.ndarray | None = None
            self._held = np.zeros(self.samples, np.int64)
            return
        mask = as_array(sample_mask)
        if mask.dtype != bool or mask.shape != (self.samples,):
            raise ArgumentError(
                f"sample_mask: must be bool of shape ({self.samples},), one for each stream; got {mask.dtype} of shape "
                f"{mask.shape}."
            )
        self._state = {name: _where(mask, fresh[name], array) for name, array in self._state.items()}
        self.steps, self.stopped = _where(mask, 0, self.steps), self.stopped & ~mask
        if self._total is not None:
            self._total = _where(mask, 0, self._total)

    def step(self, frame: Any) -> Step:
        """Show one frame [B, C, H, W] (or [C, H, W] to a single stream) and return what the network does with it.

        Raises
        ------
        DataError
            A frame that does not fit; the state stays as it was.

        Warns
        -----
        RangeWarning
            Values of a node left the chip's range for the first time in this stream; `ranges` of each step has the numbers.
        """
        array = as_array(frame)
        if self.samples == 1 and array.shape in (self._shape, as_lines(self._shape)):
            array = array[None]
        begun = time.perf_counter()
        seen, self._state = self._runner.step(self._state, array, probes=self._probes)
        self._seconds.append(time.perf_counter() - begun)
        self._tell_ranges(seen)
        self.steps = self.steps + 1
        readout: np.ndarray = seen.readout.astype(sum_dtype(seen.readout))
        self._total = readout if self._total is None else self._total + readout
        if self._rule is not None:
            now = self._rule.reached(self.margins, self.steps) & ~self.stopped
            self._held, self.stopped = np.where(now, self._total.argmax(axis=-1), self._held), self.stopped | now
        return seen

    def _tell_ranges(self, seen: Step) -> None:
        """Warn where a node leaves its range for the first time, however long the stream; each step has its numbers."""
        left = seen.ranges.left
        if left <= self._told:
            return
        new, self._told = sorted(left - self._told), self._told | left
        if self._graph is not None:
            tell_ranges(RangeTotals.of(self._graph, joined([seen.ranges], np.stack)))
        else:
            nodes = ", ".join(f"{name} ({kind})" for kind, name in new)
            warn(f"{self._name}: values left the chip's range, of {nodes}. See `ranges` of each step.", RangeWarning)

    @property
    def mean_readout(self) -> np.ndarray:
        return np.asarray(self._seen() / self.steps[:, None])

    @property
    def margins(self) -> np.ndarray:
        """Lead of the best class in the mean readout of each stream so far, float64 [B]; what a rule stops by."""
        return margins(self._seen(), self.steps)

    @property
    def decisions(self) -> np.ndarray:
        """Class of each stream, int64 [B]: so far, or where it has stopped, what it decided then."""
        return np.where(self.stopped, self._held, self._seen().argmax(axis=-1))

    @property
    def latency(self) -> Latency:
        """How long steps took, the latest 100,000 of them."""
        return Latency.of(self._seconds)

    def _seen(self) -> np.ndarray:
        """The readout summed over the steps of each stream, [B, K]."""
        if self._total is None or not self.steps.all():
            which = "the stream" if self.samples == 1 else f"stream {shown(np.flatnonzero(self.steps == 0).tolist())}"
            raise ArgumentError(f"{which} has seen no frame yet. Call step(frame) first.")
        return self._total

    def close(self) -> None:
        """Remove what the runtime left in temporary files; leaving a `with` block does so too."""
        self._stack.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _where(mask: np.ndarray, fresh: Any, array: np.ndarray) -> np.ndarray:
    """A copy of an array [B, ...] with the samples of a mask taken from another."""
    changed = array.copy()
    changed[mask] = fresh[mask] if isinstance(fresh, np.ndarray) else fresh
    return changed
