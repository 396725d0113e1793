"""Executes graphs slowly and obviously, one step and one node at a time, as `meaning.py` says.

Every other runtime is judged against this one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tet_deploy import dynamics
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
    populations,
    probe_names,
    recorded,
)
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import WEIGHTED, CubaLIF, Input, Node, Population
from tet_deploy.meaning import State, current_of, evaluate
from tet_deploy.ranges import CLIPPED, KINDS, SATURATED, WRAPPED, Ranges, clipped_messages, per_sample, possible

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
        self._possible = possible(graph)

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
            name: np.zeros((samples, *self.graph.shapes[node.name]), self.dtype)
            for node in self.graph.of_kind(Population)
            for name in (node.name, *([current_of(node.name)] if isinstance(node, CubaLIF) else []))
        }

    def step(self, state: State, frame: np.ndarray, *, probes: Probes = "all") -> tuple[Step, State]:
        """One step of all samples; see `contracts.Runtime`. The state that was passed in stays as it was.

        Raises
        ------
        DataError
            The frame [B, *shape] does not fit the network.
        """
        checked = check_frame(frame, self.graph.input.shape, self.graph.input.encoding)
        check_samples(checked, state)
        return self._step(state, checked, probe_names(populations(self.graph), probes))

    def _run_batch(self, frames: np.ndarray, probes: Probes) -> Recording:
        names, state, steps = probe_names(populations(self.graph), probes), self.start(frames.shape[1]), []
        for frame in frames:
            seen, state = self._step(state, frame, names)
            steps.append(seen)
        return recorded(steps, self.name)

    def _step(self, state: State, frame: np.ndarray, names: ProbeNames) -> tuple[Step, State]:
        values: dict[str, np.ndarray] = {}
        given = frame if self.graph.is_quantized else frame.astype(self.dtype, copy=False)
        after = dict(state)  # `evaluate` exchanges potentials, it does not change them
        counts: dict[str, dict[str, np.ndarray]] = {kind: {} for kind in KINDS}
        for node in self.graph:
            inputs = [values[source] for source in node.inputs] or [given]
            kinds = [kind for kind in KINDS if node.name in self._possible[kind]]
            sent = _counted(node, inputs, after, kinds, counts) if kinds else evaluate(node, inputs, after)
            values[node.name] = np.asarray(sent).astype(self.dtype, copy=False)
        potential_type = np.int32 if self.graph.is_quantized else self.dtype
        seen = Step(
            spikes={name: values[name].astype(np.uint8) for name in names.spikes},
            potentials={name: after[name].astype(potential_type) for name in names.potentials},
            readout=values[self.graph.readout.name],
            ranges=Ranges(clipped=counts[CLIPPED], wrapped=counts[WRAPPED], saturated=counts[SATURATED]),
        )
        return seen, after


def _counted(
    node: Node, inputs: list[np.ndarray], state: State, kinds: list[str], counts: dict[str, dict[str, np.ndarray]]
) -> np.ndarray:
    """`evaluate`, and how many values of each sample left their range on the way."""
    found: dict[str, np.ndarray] = {}
    if isinstance(node, WEIGHTED):
        sums = dynamics.synaptic_sum(node, inputs[0]).astype(np.int64)
        found[WRAPPED] = per_sample(dynamics.wraps24(sums))
        sent = dynamics.wrap24(sums)
    elif isinstance(node, Population):
        before, presynaptic = state[node.name], np.asarray(sum(inputs[1:], start=inputs[0]))
        held = current_of(node.name)
        current = dynamics.unwrapped_current(node, state.get(held, 0), presynaptic)
        sent = evaluate(node, inputs, state)
        found = dict.fromkeys(kinds, np.zeros(len(before), np.int64))
        if WRAPPED in kinds and dynamics.wraps_once(np.array([current.min(), current.max()])).any():
            found[WRAPPED] = per_sample(dynamics.wraps_once(current))
        if SATURATED in kinds and state[node.name].min() == dynamics.LOWEST_POTENTIAL:  # held, or there by itself
            found[SATURATED] = per_sample(dynamics.is_held(node, before, state.get(held, presynaptic)))
    else:
        assert isinstance(node, Input)
        sent = evaluate(node, inputs, state)
        found[CLIPPED] = clipped_messages(node, inputs[0])
    for kind in kinds:
        counts[kind][node.name] = found[kind]
    return sent
