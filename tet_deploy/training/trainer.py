"""Training a network through all stages of a recipe, from where it was begun or interrupted, on one process or many."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from tet_deploy.contracts import Frames, Progress
from tet_deploy.nn import TimeMajor
from tet_deploy.training import claims
from tet_deploy.training.batches import ArrayFeed
from tet_deploy.training.distribution import Group
from tet_deploy.training.loop import Feeds, Training, train_stages
from tet_deploy.training.placement import Placement
from tet_deploy.training.randomness import seeded
from tet_deploy.training.recipes import Recipe
from tet_deploy.training.settings import Settings
from tet_deploy.training.update import Network


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """What one training gave, besides the weights in the model.

    Attributes
    ----------
    losses
        Mean loss of each epoch.
    seconds
        Wall-clock time, also that before an interruption.
    history
        The lines of the log, one dictionary for each epoch.
    accuracy_by_step
        On held-out samples, with the weights of the last epoch, after 1..T steps; empty where none were given.
    """

    recipe: Recipe
    losses: tuple[float, ...]
    seconds: float
    history: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)
    accuracy_by_step: tuple[float, ...] = ()


def train(
    model: nn.Module, frames: Frames, labels: Any, recipe: Recipe, *, progress: Progress | None = None
) -> TrainingResult:
    """Train a network in place on frames in memory; it ends with the weights of the last epoch, in eval mode.

    Only training samples are passed in: nothing can be chosen on test data. On a CPU the weights depend on the arguments
    alone. No file is written.

    Parameters
    ----------
    model
        Takes [T, B, *shape], gives readouts [T, B, K].
    frames
        [T, N, *shape], T as in every stage of the recipe.
    labels
        Their classes, integers [N] in 0..K-1.
    recipe
        Its `model`, `data` and `augmentation` are not read here.
    progress
        Called as progress(done, total) after each batch.

    Raises
    ------
    DataError
        Frames or labels that do not fit.
    ExecutionError
        The loss or a gradient became NaN or infinite, or a batch needs more memory than there is.
    """
    feeds = {steps: ArrayFeed(frames, labels, steps=steps) for steps in {stage.steps for stage in recipe.stages}}
    return run(model, recipe, lambda stage: (feeds[stage.steps], None), progress=progress)


def run(
    model: nn.Module,
    recipe: Recipe,
    feeds: Feeds,
    *,
    settings: Settings | None = None,
    group: Group | None = None,
    about: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> TrainingResult:
    """Train a network in place through all stages of a recipe; every process of the group calls this alike.

    Parameters
    ----------
    feeds
        Gives each stage its samples; equally many in all stages.
    settings, group
        How it is run, and by which processes; by default by this one alone, on the CPU.
    about
        What else a training that resumes must have in common with the one that was begun, as JSON values.

    Raises
    ------
    DataError, ExecutionError
        See `train`.
    ArtifactError
        A state that cannot be read or written; or a former training's that would be lost, see `claims.check_free`; or
        another training writes to the same files.
    """
    group, settings = group or Group(), settings or Settings()
    with (
        claims.held(group, (settings.state, settings.log), lambda: claims.check_free(settings)),
        seeded((recipe.seed, group.rank), group.device),
        _threads(recipe.threads),
    ):
        placement = Placement.chosen(settings, group.device)
        if not settings.encode_once:
            _encode_always(model)
        training = Training(
            network=Network.of(model, group, placement, sync_batch_norm=settings.sync_batch_norm),
            recipe=recipe,
            settings=settings,
            about=_about(recipe, settings, group, placement, about),
            progress=progress,
        )
        end = train_stages(training, feeds)
    model.eval()
    history = end.history
    return TrainingResult(
        recipe=recipe,
        losses=tuple(line["loss"] for line in history),
        seconds=end.seconds,
        history=tuple(history),
        accuracy_by_step=tuple(history[-1].get("accuracy_by_step", ())),
    )


def _about(
    recipe: Recipe, settings: Settings, group: Group, placement: Placement, about: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What a training that resumes must have in common with the one that was begun."""
    return {
        "recipe": recipe.as_dict(),
        **(about or {}),
        "processes": group.size,
        "precision": placement.precision,
        **{name: getattr(settings, name) for name in ("accumulate", "sync_batch_norm", "encode_once")},
    }


def _encode_always(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, TimeMajor):
            module.encode_once = False


@contextlib.contextmanager
def _threads(threads: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads or before)
        yield
    finally:
        torch.set_num_threads(before)
