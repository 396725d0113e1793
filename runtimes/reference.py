"""Executes graphs slowly and obviously, one step and one node at a time, as `meaning.py` says.

Every other runtime is judged against this one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tet_deploy.contracts import Probes, Progress, Recording, check_frames, concatenate, populations, probe_names
from tet_deploy.ir.graph import Graph
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

    def _run_batch(self, frames: np.ndarray, probes: Probes) -> Recording:
        names = probe_names(populations(self.graph), probes)
        potential_type = np.int32 if self.graph.is_quantized else self.dtype
        spikes: dict[str, list[np.ndarray]] = {name: [] for name in names.spikes}
        potentials: dict[str, list[np.ndarray]] = {name: [] for name in names.potentials}
        readout: list[np.ndarray] = []
        state: State = {}
        for frame in frames:
            values = self._step(frame, state)
            readout.append(values[self.graph.readout.name])
            for name in spikes:
                spikes[name].append(values[name].astype(np.uint8))
            for name in potentials:
                potentials[name].append(state[name].astype(potential_type))
        return Recording(
            spikes={name: np.stack(steps) for name, steps in spikes.items()},
            potentials={name: np.stack(steps) for name, steps in potentials.items()},
            readout=np.stack(readout),
            runtime=self.name,
        )

    def _step(self, frame: np.ndarray, state: State) -> dict[str, np.ndarray]:
        """Outputs of all nodes for one frame [B, C, H, W]; updates the state."""
        values: dict[str, np.ndarray] = {}
        for node in self.graph:
            inputs = [values[source] for source in node.inputs] or [frame]
            values[node.name] = np.asarray(evaluate(node, inputs, state)).astype(self.dtype, copy=False)
        return values
