"""Capture a time-major torch model as a graph.

Every layer that forward() calls becomes a node (a max pool of spikes two); reshaping that only moves the axes of time and
batch disappears; anything else stops with an error.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import nn

from tet_deploy.errors import ArgumentError
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import Input, Spiking
from tet_deploy.ir.shapes import Shape
from tet_deploy.ir.spec import TRACED, check
from tet_deploy.tracing.capture import capture
from tet_deploy.tracing.eval_mode import in_eval_mode, unwrapped
from tet_deploy.tracing.layers import takes_lines
from tet_deploy.tracing.proof import prove
from tet_deploy.tracing.translation import Call, Translation


def trace(model: nn.Module, input_shape: Sequence[int], encoding: str = "analog", *, verify: bool = True) -> Graph:
    """Turn a torch model, as it is in eval mode, into a graph, and prove each node; the model is left as it was.

    Each layer, as the model calls it, is compared with the meaning of its node, on seeded values that make neurons fire and
    stay silent at every depth. Both compute in float64, so that differences of float rounding alone are tiny and known; the
    first larger one stops the trace. One core takes 0.5 s for SNN-5, 1.4 s for VGGSNN, 2.2 s for ResNet-19 and 4.4 s for a
    ResNet-34 of 224x224 pixels (there in 1.5 GB), of which the comparison is a fifth to two thirds.

    Parameters
    ----------
    model
        Takes frames [T, B, *input_shape] and returns the readout of each step, [T, B, K], or its mean or sum over time. Or
        takes an image [B, *input_shape] and shows it at every step; or, of SpikingJelly in step mode "s" and of snnTorch,
        takes and returns one step. Of snnTorch, forward() may loop over time, and the first of several results counts. What
        torch.compile, DataParallel, DistributedDataParallel or AveragedModel has wrapped is unwrapped.
        (x - mean) / std, by numbers or tensors of the model's, is what the graph's Input does then.
    input_shape
        Of one sample in one step: (C, H, W), (N,), or (C, L) of a model with Conv1d. Samples [C, L] are [C, 1, L] in the
        graph, and all that takes arrays of frames takes [T, B, C, L] for [T, B, C, 1, L].
    encoding
        "analog" (images) or "events" (event counts).
    verify
        False leaves out the comparison with the nodes, for those who know.

    Returns
    -------
    Graph
        Nodes are named by module paths ("block1.lif"), a layer's second call gets "_2"; weights are float32 copies. The
        first node is called "input", the last "readout".

    Raises
    ------
    GraphError
        A layer, function or setting that cannot be expressed: with its path, its type and what can be. A forward hook that
        changes values, a layer that stays in training mode or whose forward() was replaced: by name. A node that does not
        compute what its layer does: with the size of the difference.
    ArgumentError
        What is given is no model, no shape or no encoding.

    Examples
    --------
    >>> from tet_deploy.nn import LIF, TimeMajor
    >>> model = TimeMajor(nn.Conv2d(2, 8, 3), LIF(), nn.Flatten(), nn.Linear(2592, 10))
    >>> graph = trace(model, input_shape=(2, 20, 20), encoding="events")
    >>> [node.kind for node in graph]
    ['Input', 'Conv', 'LIF', 'Flatten', 'Linear', 'Readout']
    """
    return trace_calls(model, input_shape, encoding, verify=verify).graph


class Traced(NamedTuple):
    """A graph, and how the model is run to see what the graph's populations do.

    Attributes
    ----------
    populations
        The call whose spikes each population stands for, but those that a function gives.
    readout
        The call of the layer that gives the readout of each step, where that is an integrator's potential, or the model
        gives its mean or sum; else None.
    by_step
        Whether the model takes and gives one step.
    shown
        At how many steps the model shows an image that it takes; None if it takes frames.
    calls_per_step
        Of layers that are called for each step.
    lines
        Whether the model takes samples [C, L], which are [C, 1, L] in the graph.
    """

    graph: Graph
    populations: Mapping[str, Call]
    readout: Call | None
    by_step: bool
    shown: int | None
    calls_per_step: Mapping[nn.Module, int]
    lines: bool


def trace_calls(model: nn.Module, input_shape: Sequence[int], encoding: str = "analog", *, verify: bool = True) -> Traced:
    """As `trace`, and beside the graph the calls that its populations were made from."""
    shape = _checked(model, input_shape, encoding)
    model = unwrapped(model)
    lines = takes_lines(model) and (len(shape) == 2 or (len(shape) == 3 and shape[1] == 1))
    taken = (shape[0], shape[-1]) if lines else shape
    shape = (shape[0], 1, shape[-1]) if lines else shape
    with in_eval_mode(model):
        captured = capture(model, taken, encoding, lines=lines)
        translation = Translation(model, captured, Input(name="input", shape=shape, encoding=encoding))
        for call in captured.program.graph.nodes:
            translation.add(call)
        graph = check(Graph(tuple(translation.nodes), {"source": type(model).__name__}), TRACED)
        if verify:
            translation.check_normalization()
            prove(graph, translation.values(), translation.neurons, lines=lines)
    calls = {node.name: translation.calls[node.name] for node in graph.of_kind(Spiking) if node.name in translation.calls}
    shown = captured.steps if captured.frames.op != "placeholder" else None
    return Traced(graph, calls, translation.readout, captured.by_step, shown, translation.calls_per_step, lines)


def _checked(model: Any, input_shape: Any, encoding: Any) -> Shape:
    if isinstance(model, Graph):
        raise ArgumentError("model: is a graph already. Lower it: td.lower(graph).")
    if not isinstance(model, nn.Module):
        way_out = (
            "Weights belong into one: model.load_state_dict(...)."
            if isinstance(model, Mapping)
            else "Give the model itself."
        )
        raise ArgumentError(f"model: must be a torch.nn.Module; got a {type(model).__name__}. {way_out}")
    if encoding not in ("analog", "events"):
        raise ArgumentError(f"encoding: must be 'analog' or 'events'; got {encoding!r:.80}.")
    try:
        shape = tuple(operator.index(size) for size in input_shape)
    except TypeError:
        shape = ()
    if not shape or min(shape) < 1:
        raise ArgumentError(
            f"input_shape: must be that of one sample in one step, (C, H, W), (C, L) or (N,); got {input_shape!r:.80}."
        )
    return shape
