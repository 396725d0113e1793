"""Quantization-aware fine-tuning: the trainer on a network whose forward pass is that of the integers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tet_deploy.batches import FrameBatches
from tet_deploy.contracts import Progress, Recording
from tet_deploy.errors import ExecutionError
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import Population
from tet_deploy.meaning import State, evaluate
from tet_deploy.passes.quantize import certified
from tet_deploy.training.batches import ArrayFeed, Feed
from tet_deploy.training.distribution import Group
from tet_deploy.training.evaluation import accuracy_of_feed
from tet_deploy.training.placement import Placement
from tet_deploy.training.quantized import QuantizedNetwork
from tet_deploy.training.recipes import Recipe, Stage
from tet_deploy.training.settings import Settings
from tet_deploy.training.trainer import TrainingResult, run

CALIBRATION_SAMPLES = 128  # of the training samples, as `tet-deploy quantize` takes them
_PROVED_SAMPLES = 8
_AT_ONCE = 2**24  # values that a pass over the calibration frames holds at a time


@dataclass(frozen=True, kw_only=True, eq=False)
class Finetuned:
    """A fine-tuned network, and its accuracy on all held-out samples after 1..T steps.

    Attributes
    ----------
    graph, model
        Quantized; its integers are those that training ended with. And the module that trained, in eval mode.
    trained, before, accuracy_by_step
        Of the float network as trained, where that is known; as `td.quantize` left it; and with the weights of the last
        epoch. Empty where no samples were held out.
    """

    graph: Graph
    model: QuantizedNetwork
    result: TrainingResult
    trained: float | None = None
    before: tuple[float, ...] = ()
    accuracy_by_step: tuple[float, ...] = ()
    test_samples: int = 0


def finetune(
    network: Graph,
    quantized: Graph,
    frames: np.ndarray,
    labels: np.ndarray,
    stage: Stage,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> Graph:
    """Train the integers of a quantized network on frames in memory, with its float network's weights behind them.

    The forward pass is the integer reference's, to the last potential; gradients go straight through the rounding. Scales,
    thresholds and identities stay. What is returned holds the very integers that training ended with.

    Parameters
    ----------
    network, quantized
        A deployable float network, and what `td.quantize` made of it.
    frames, labels
        Training samples [T, N, *shape], and their classes [N].
    stage
        Steps, epochs, loss and optimiser. The learning rate counts in steps of the integers: 0.03 is a good one for Adam.
    seed
        Of the order of samples.

    Raises
    ------
    GraphError
        The networks are not such a pair, or hold a node that cannot be trained in integers.
    DataError, ExecutionError
        See `train`.

    Examples
    --------
    >>> int4 = td.quantize(network, frames, bits=4)  # doctest: +SKIP
    >>> tuned = finetune(network, int4, frames, labels, Stage(steps=4, epochs=3, learning_rate=0.03))  # doctest: +SKIP
    """
    feed = ArrayFeed(frames, labels, steps=stage.steps)
    recipe = Recipe(model="", data="", stages=(stage,), seed=seed)
    calibration = FrameBatches.of(network, frames).part(0, CALIBRATION_SAMPLES)
    return fit(network, quantized, recipe, feed, calibration, progress=progress).graph


def fit(
    network: Graph,
    quantized: Graph,
    recipe: Recipe,
    feed: Feed,
    calibration: FrameBatches,
    *,
    held_out: Feed | None = None,
    settings: Settings | None = None,
    group: Group | None = None,
    about: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Finetuned:
    """Fine-tune by a recipe of one stage, and measure before and after; see `finetune`.

    Parameters
    ----------
    calibration
        Frames that the quantization's summary is of.
    settings, group, about
        How it is run, in fp32, by which processes, and what one that resumes must have in common: see `trainer.run`.
    """
    group, settings = group or Group(), settings or Settings(precision="fp32")
    model, stage = QuantizedNetwork(quantized, network), recipe.stages[-1]
    before: tuple[float, ...] = ()
    if held_out is not None:
        size = max(1, stage.batch_size // group.size)
        placement = Placement.chosen(settings, group.device)
        placed = placement.network(model)
        before = tuple(
            accuracy_of_feed(placed, held_out, placement, steps=stage.steps, batch_size=size, group=group).tolist()
        )
    about = {**(about or {}), "start": quantized.digest()}
    result = run(model, recipe, lambda _: (feed, held_out), settings=settings, group=group, about=about, progress=progress)
    return Finetuned(
        graph=summarized(model, calibration),
        model=model,
        result=result,
        before=before,
        accuracy_by_step=result.accuracy_by_step,
        test_samples=0 if held_out is None else len(held_out),
    )


def summarized(model: QuantizedNetwork, calibration: FrameBatches) -> Graph:
    """The network with the integers of now, proved on some frames, and what `td.quantize` writes of each population.

    Raises
    ------
    ExecutionError
        What trained is not what the integers compute: this device rounds where it must not.
    """
    graph, device = model.graph(), next(model.parameters()).device
    largest: dict[str, int] = {}
    least: dict[str, int] = {}
    size = max(1, _AT_ONCE // (calibration.steps * max(map(math.prod, graph.shapes.values()))))
    for number, part in enumerate(calibration.batches(size)):
        frames = part.frames()
        recording, seen = model.record(torch.tensor(frames, device=device))
        largest = {name: max(total, largest.get(name, 0)) for name, total in seen.items()}
        least = {name: min(int(v.min()), least.get(name, 0)) for name, v in recording.potentials.items()}
        if number == 0:
            _prove(graph, frames[:, :_PROVED_SAMPLES], recording)
    summary: dict[str, dict[str, object]] = {}
    for node in graph.of_kind(Population):
        assert node.quantization is not None
        summary[node.name] = {
            "layers": list(node.inputs),
            "scale": node.quantization.scale,
            "clipped_weights": model.clipped_weights(node.name),
            "clipped_biases": model.clipped_biases(node.name),
            "largest_sum_seen": largest[node.name],
            "least_potential_seen": least.get(node.name, 0),
        }
    return certified(graph, summary)


def _prove(graph: Graph, frames: np.ndarray, recording: Recording) -> None:
    """See that potentials and readouts are those of the integers, as `meaning.py` says."""
    found, state = {**recording.potentials, graph.readout.name: recording.readout}, State()
    for step, frame in enumerate(frames):
        sent: dict[str, np.ndarray] = {}
        for node in graph:
            sent[node.name] = evaluate(node, [sent[name] for name in node.inputs] or [frame], state)
            expected = sent[node.name] if node is graph.readout else state.get(node.name)
            if node.name in found and not np.array_equal(found[node.name][step, : len(frame)], np.asarray(expected)):
                raise ExecutionError(
                    f"node {node.name!r}: what was trained is not what its integers compute, in step {step + 1}: this "
                    "device rounds sums of whole numbers. Fine-tune on another: --device cpu."
                )
