"""A deployed network that takes frames one at a time, as they come."""

from __future__ import annotations

import contextlib
from typing import Any, cast

import numpy as np

from tet_deploy.arguments import whole
from tet_deploy.contracts import Probes, Step, StreamingRuntime, as_array, tell_ranges
from tet_deploy.deployment import deployed
from tet_deploy.errors import ArgumentError
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.spec import need_graph
from tet_deploy.range_totals import RangeTotals
from tet_deploy.ranges import joined


class Stream:
    """Runs a network a step at a time; what it gives is what `td.run` gives for the same frames, value for value.

    Parameters
    ----------
    graph
        The network.
    runtime
        "reference" or "onnx": one that can be driven a step at a time.
    samples
        How many streams run side by side.
    probes
        As in `td.run`: what each step tells of the neurons.
    options
        For the runtime, see `deployment.deployed`.

    Attributes
    ----------
    steps
        How many steps were taken since the beginning or the last `reset`.
    mean_readout
        [B, K]: the readout averaged over these steps; its largest value is the decision.

    Raises
    ------
    ArgumentError
        A runtime that takes whole runs only.

    Examples
    --------
    >>> stream = td.Stream(int8, runtime="onnx")  # doctest: +SKIP
    >>> for frame in camera:  # each [1, C, H, W] or [C, H, W]  # doctest: +SKIP
    ...     print(stream.step(frame).readout, stream.decisions)
    """

    def __init__(
        self, graph: Graph, *, runtime: str = "reference", samples: int = 1, probes: Probes = "none", **options: Any
    ) -> None:
        samples = whole("samples", samples)
        self._stack = contextlib.ExitStack()
        runner = self._stack.enter_context(deployed(need_graph(graph), runtime, probes=probes, states=True, **options))
        if not hasattr(runner, "step"):
            self.close()
            raise ArgumentError(f"runtime {runtime!r}: takes whole runs, not single steps. Use 'reference' or 'onnx'.")
        self._runner, self._probes, self._shape = cast(StreamingRuntime, runner), probes, tuple(graph.input.shape)
        self._graph, self.samples = graph, samples
        self._told: frozenset[tuple[str, str]] = frozenset()
        self.reset()

    def reset(self) -> None:
        """Begin a new sample: every potential 0."""
        self._state, self.steps = self._runner.start(self.samples), 0
        self._total: np.ndarray | float = 0

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
        if self.samples == 1 and array.shape == self._shape:
            array = array[None]
        seen, self._state = self._runner.step(self._state, array, probes=self._probes)
        self._tell_ranges(seen)
        self.steps += 1
        self._total = self._total + seen.readout.astype(np.int64 if seen.readout.dtype.kind == "i" else np.float64)
        return seen

    def _tell_ranges(self, seen: Step) -> None:
        """Warn where a node leaves its range for the first time, however long the stream; each step has its numbers."""
        left = seen.ranges.left
        if not left <= self._told:
            self._told |= left
            tell_ranges(RangeTotals.of(self._graph, joined([seen.ranges], np.stack)))

    @property
    def mean_readout(self) -> np.ndarray:
        if not self.steps:
            raise ArgumentError("the stream has seen no frame yet. Call step(frame) first.")
        return np.asarray(self._total / self.steps)

    @property
    def decisions(self) -> np.ndarray:
        """Class of each stream so far, int64 [B]."""
        return np.asarray(self.mean_readout.argmax(axis=-1))

    def close(self) -> None:
        """Remove what the runtime left in temporary files; leaving a `with` block does so too."""
        self._stack.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
