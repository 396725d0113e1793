"""A training from top to bottom: stages, their epochs, the batches of each; every function gives the position it comes to.

One step reads: samples, as the feed changes them at random -> `update`: forward, loss, backward, weights -> the state, where
it is due. After the last batch of an epoch: accuracy -> log -> state.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from tet_deploy.contracts import Progress
from tet_deploy.errors import DataError
from tet_deploy.training import log, resuming
from tet_deploy.training.batches import Feed, order, parts
from tet_deploy.training.evaluation import accuracy_of_feed
from tet_deploy.training.optimization import learning_rate, make_optimizer
from tet_deploy.training.placement import Placement
from tet_deploy.training.recipes import Recipe, Stage
from tet_deploy.training.settings import Settings
from tet_deploy.training.state import Position
from tet_deploy.training.update import Network, update

Feeds = Callable[[Stage], tuple[Feed, Feed | None]]  # a stage's training samples, and those held out


@dataclass(frozen=True, kw_only=True, eq=False)
class Training:
    """What stays the same while a network trains; `about` is what its state must have in common with one that resumes it."""

    network: Network
    recipe: Recipe
    settings: Settings
    about: Mapping[str, Any]
    progress: Progress | None = None


class Stopwatch:
    """Wall-clock time from lap to lap."""

    def __init__(self) -> None:
        self._last = time.perf_counter()

    def lap(self) -> float:
        """Seconds since the last lap."""
        last, self._last = self._last, time.perf_counter()
        return self._last - last


def train_stages(training: Training, feeds: Feeds) -> Position:
    """Go through a recipe, or what is left of it where the training resumes."""
    network, recipe, settings = training.network, training.recipe, training.settings
    saved = resuming.begin(network.model, recipe, settings, network.group, training.about)
    watch = Stopwatch()
    at = Position() if saved is None else saved.position
    optimizer: Optimizer | None = None
    for stage in recipe.stages[at.stage :]:
        feed, held_out = feeds(stage)
        for samples in (feed, held_out):
            if samples is not None:
                samples.check_classes(_classes(network.model, samples, network.placement))
        if optimizer is None or not stage.continues:
            optimizer = make_optimizer(stage, network.model)
        if saved is not None:
            resuming.go_on(saved, stage, network.model, optimizer, network.group)
            if settings.log and network.group.leads:
                log.begin(settings.log, at.history)
            saved = None
        for _ in range(at.epoch, stage.epochs):
            at = train_epoch(training, stage, feed, optimizer, at, watch)
            at = end_epoch(training, stage, feed, held_out, optimizer, at, watch)
    return at


def train_epoch(
    training: Training, stage: Stage, feed: Feed, optimizer: Optimizer, at: Position, watch: Stopwatch
) -> Position:
    """Train on the batches that are left of an epoch."""
    network, recipe, settings = training.network, training.recipe, training.settings
    epoch = sum(before.epochs for before in recipe.stages[: at.stage]) + at.epoch
    batches = order(len(feed), stage.batch_size, seed=recipe.seed, epoch=epoch)
    mine = [parts(batch, network.group, settings.accumulate) for batch in batches]
    samples = network.placement.batches(feed, [part for batch in mine[at.batch :] for part in batch], epoch)
    done, total = _progress(recipe, feed, at)
    network.parallel.train()
    for number in range(at.batch, len(batches)):
        loss_sum = update(
            network,
            optimizer,
            [next(samples) for _ in mine[number]],
            stage,
            learning_rate=learning_rate(recipe, stage=at.stage, epoch=at.epoch, batch=number, batches=len(batches)),
            samples=len(batches[number]),
            where=_where(recipe, at),
            state=settings.state,
        )
        at = at.after_batch(loss_sum, watch.lap())
        if settings.state_every and at.batch % settings.state_every == 0 and at.batch < len(batches):
            resuming.keep(settings.state, network.model, optimizer, network.group, position=at, about=training.about)
        if training.progress:
            training.progress(done + at.batch, total)
    return at


def end_epoch(
    training: Training,
    stage: Stage,
    feed: Feed,
    held_out: Feed | None,
    optimizer: Optimizer,
    at: Position,
    watch: Stopwatch,
) -> Position:
    """Measure and log what an epoch gave, and keep the state."""
    network, recipe, settings = training.network, training.recipe, training.settings
    line: dict[str, Any] = {
        "stage": at.stage + 1,
        "epoch": at.epoch + 1,
        "steps": stage.steps,
        "learning_rate": learning_rate(recipe, stage=at.stage, epoch=at.epoch, batch=0, batches=1),
        "loss": at.loss_sum / len(feed),
        "samples_per_second": round(len(feed) / at.epoch_seconds, 2),
    }
    ends_stage = at.epoch + 1 == stage.epochs
    ends_all = ends_stage and at.stage + 1 == len(recipe.stages)
    due = settings.evaluate_every and (at.epoch + 1) % settings.evaluate_every == 0
    if held_out is not None and (ends_all or due):
        size = max(1, stage.batch_size // network.group.size)
        accuracy = accuracy_of_feed(
            network.model, held_out, network.placement, steps=stage.steps, batch_size=size, group=network.group
        )
        line |= {"accuracy": float(accuracy[-1]), "accuracy_by_step": accuracy.tolist()}
    at = at.later(watch.lap())
    at = at.after_epoch(line | {"seconds": round(at.epoch_seconds, 3)}, last=ends_stage)
    if settings.log and network.group.leads:
        (log.begin if len(at.history) == 1 else log.append)(settings.log, at.history[-1:])
    resuming.keep(settings.state, network.model, optimizer, network.group, position=at, about=training.about)
    return at


def _where(recipe: Recipe, at: Position) -> str:
    """Of the next batch, for the errors."""
    stage = f"stage {at.stage + 1}, " if len(recipe.stages) > 1 else ""
    return f"{stage}epoch {at.epoch + 1}, batch {at.batch + 1}, seed {recipe.seed}"


def _progress(recipe: Recipe, feed: Feed, at: Position) -> tuple[int, int]:
    """Batches of the epochs that are done, and all of them."""
    of_epoch = [math.ceil(len(feed) / stage.batch_size) for stage in recipe.stages]
    of_stage = [stage.epochs * batches for stage, batches in zip(recipe.stages, of_epoch, strict=True)]
    return sum(of_stage[: at.stage]) + at.epoch * of_epoch[at.stage], sum(of_stage)


def _classes(model: nn.Module, feed: Feed, placement: Placement) -> int:
    """Number of readouts K, from a run on one sample."""
    frames, _ = next(iter(placement.batches(feed, [np.array([0])])))
    was_training = model.training
    try:
        with torch.no_grad():
            readout = model.eval()(frames)
    except RuntimeError as error:
        raise DataError(f"training frames: the network cannot run on {tuple(frames.shape)} ({error}).") from error
    finally:
        model.train(was_training)
    if readout.dim() != 3 or readout.shape[:2] != (len(frames), 1):
        found = tuple(readout.shape)
        raise DataError(f"the network must give a readout [T, B, K] at each step; got {found} for T={len(frames)}, B=1.")
    return int(readout.shape[2])
