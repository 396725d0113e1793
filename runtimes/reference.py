"""Executes graphs slowly and obviously, one step and one node at a time, as `meaning.py` says.

Every other runtime is judged against this one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tet_deploy.contracts import (
    ProbeNames,
    Probes,
    Progress,
    Recording,
    Step,
    as_array,
    check_frames,
    concatenate,
    populations,
    probe_names,
    recorded,
)
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import Population
from tet_deploy.meaning import State, evaluate

_MICRO_BATCH = 64  # samples at a time, so that memory stays small


class ReferenceRuntime:
    """Executes any graph, float or quantized, traced or deployable.

    Parameters
    ----------
    graph
        The network.
    dtype
        Float type in which float networks keep their values between nodes; ignored for quantized networks.
    """

    name = "reference"

    def __init__(self, graph: Graph, dtype: type[np.floating[Any]] = np.float32) -> None:
        self.graph = graph
        self.dtype = np.dtype(np.int64 if graph.is_quantized else dtype)

    def run(self, frames: np.ndarray, *, probes: Probes = "all", progress: Progress | None = None) -> Recording:
        """Run the network over frames [T, B, C, H, W]; see `contracts.Runtime`."""
        frames = check_frames(frames, self.graph.input.shape, self.graph.input.encoding)
        samples, parts = frames.shape[1], []
        for start in range(0, samples, _MICRO_BATCH):
            parts.append(self._run_batch(frames[:, start : start + _MICRO_BATCH], probes))
            if progress:
                progress(min(start + _MICRO_BATCH, samples), samples)
        return concatenate(parts)

    def start(self, samples: int) -> State:
        """The state before the first step of so many samples: every potential 0."""
        return {
            node.name: np.zeros((samples, *self.graph.shapes[node.name]), self.dtype)
            for node in self.graph.of_kind(Population)
        }

    def step(self, state: State, frame: np.ndarray, *, probes: Probes = "all") -> tuple[Step, State]:
        """One step of all samples; see `contracts.Runtime`. The state that was passed in stays as it was.

        Raises
        ------
        DataError
            The frame [B, *shape] does not fit the network.
        """
        checked = check_frames(as_array(frame)[None], self.graph.input.shape, self.graph.input.encoding)[0]
        return self._step(state, checked, probe_names(populations(self.graph), probes))

    def _run_batch(self, frames: np.ndarray, probes: Probes) -> Recording:
        names, state, steps = probe_names(populations(self.graph), probes), self.start(frames.shape[1]), []
        for frame in frames:
            seen, state = self._step(state, frame, names)
            steps.append(seen)
        return recorded(steps, self.name)

    def _step(self, state: State, frame: np.ndarray, names: ProbeNames) -> tuple[Step, State]:
        values: dict[str, np.ndarray] = {}
        after = dict(state)  # `evaluate` exchanges potentials, it does not change them
        for node in self.graph:
            inputs = [values[source] for source in node.inputs] or [frame]
            values[node.name] = np.asarray(evaluate(node, inputs, after)).astype(self.dtype, copy=False)
        potential_type = np.int32 if self.graph.is_quantized else self.dtype
        seen = Step(
            spikes={name: values[name].astype(np.uint8) for name in names.spikes},
            potentials={name: after[name].astype(potential_type) for name in names.potentials},
            readout=values[self.graph.readout.name],
        )
        return seen, after
