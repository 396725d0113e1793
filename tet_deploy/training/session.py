"""One training from data to checkpoint, and from checkpoint to traced network."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from tet_deploy import data
from tet_deploy.contracts import Progress
from tet_deploy.data import DigitData
from tet_deploy.errors import DataError
from tet_deploy.ir.graph import Graph
from tet_deploy.models import MODELS, build
from tet_deploy.tracing import trace
from tet_deploy.training.checkpoints import Description, load_checkpoint, save_checkpoint
from tet_deploy.training.evaluation import accuracy_by_step, readouts
from tet_deploy.training.recipes import DEMO, Recipe
from tet_deploy.training.trainer import TrainingResult, train

HELD_OUT = 0.2  # share of a user's own samples that is kept for the test


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """A trained network with its accuracy on held-out samples after 1..T steps, [T]."""

    model: nn.Module
    result: TrainingResult
    accuracy_by_step: tuple[float, ...]


def prepare(source: str, **changes: Any) -> tuple[Recipe, DigitData]:
    """Recipe and samples for a data set by name or an .npz of one's own, which is split 80:20 at random by the seed."""
    if source in data.DATA:
        recipe = dataclasses.replace(DEMO[source], **changes)
        return recipe, data.load(source, steps=recipe.steps, seed=recipe.seed)
    loaded = data.load_frames(source)
    if loaded.labels is None:
        raise DataError(f"{source}: training needs 'labels' beside 'frames'. Write np.savez(path, frames=..., labels=...).")
    steps = loaded.frames.shape[0]
    if changes.get("steps", steps) != steps:
        raise DataError(f"{source}: holds {steps} steps; got steps={changes['steps']}. Leave --steps out.")
    base = DEMO["event-digits"]
    recipe = dataclasses.replace(base, **{"data": str(source), "steps": steps, "threads": None, **changes})
    return recipe, _split(str(source), loaded.frames, loaded.labels, recipe.seed)


def _split(name: str, frames: np.ndarray, labels: np.ndarray, seed: int) -> DigitData:
    order = np.random.default_rng(seed).permutation(len(labels))
    held_out = max(1, round(HELD_OUT * len(labels)))
    if held_out >= len(labels):
        raise DataError(f"{name}: training needs at least 2 samples; got {len(labels)}.")
    test, training = order[:held_out], order[held_out:]
    whole = bool(np.array_equal(frames, np.rint(frames)))
    return DigitData(
        name=name,
        train_frames=frames[:, training],
        train_labels=labels[training],
        test_frames=frames[:, test],
        test_labels=labels[test],
        encoding="events" if whole else "analog",
        seed=seed,
        classes=int(labels.max()) + 1,
    )


def fit(recipe: Recipe, samples: DigitData, *, progress: Progress | None = None) -> Trained:
    """Build the recipe's network, train it, and measure it on the samples that were held out."""
    if recipe.model not in MODELS:
        raise DataError(f"model {recipe.model!r}: there is none of that name. Use one of {', '.join(MODELS)}.")
    model = build(recipe.model, seed=recipe.seed, shape=samples.shape, classes=samples.classes)
    result = train(model, samples.train_frames, samples.train_labels, recipe, progress=progress)
    accuracy = accuracy_by_step(readouts(model, samples.test_frames), samples.test_labels)
    return Trained(model=model, result=result, accuracy_by_step=tuple(float(value) for value in accuracy))


def store(trained: Trained, samples: DigitData, path: str | os.PathLike[str]) -> Path:
    """Write the checkpoint."""
    recipe = trained.result.recipe
    description = Description(
        model=recipe.model,
        arguments={"shape": list(samples.shape), "classes": samples.classes},
        shape=samples.shape,
        encoding=samples.encoding,
        steps=recipe.steps,
        seed=recipe.seed,
        data=recipe.data,
        accuracy=trained.accuracy_by_step[-1],
        recipe=dataclasses.asdict(recipe),
    )
    return save_checkpoint(trained.model, description, path)


def traced(path: str | os.PathLike[str]) -> Graph:
    """The network of a checkpoint as a graph; its metadata says how it was trained."""
    model, about = load_checkpoint(path)
    graph = trace(model, about.shape, about.encoding)
    accuracy = {} if about.accuracy is None else {"accuracy": f"{about.accuracy:.4f}"}
    return graph.with_metadata(model=about.model, data=about.data, steps=str(about.steps), seed=str(about.seed), **accuracy)
