"""The training loop: stages, epochs, batches, on one process or many, from where a training was begun or interrupted."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from tet_deploy.contracts import Progress
from tet_deploy.errors import ArtifactError, DataError, cut
from tet_deploy.nn import TimeMajor
from tet_deploy.training import claims, log, state
from tet_deploy.training.batches import ArrayFeed, Feed, order, parts
from tet_deploy.training.distribution import Group
from tet_deploy.training.evaluation import accuracy_of_feed
from tet_deploy.training.optimization import learning_rate, make_optimizer
from tet_deploy.training.placement import Placement
from tet_deploy.training.randomness import capture, restore, seeded
from tet_deploy.training.recipes import Recipe, Stage
from tet_deploy.training.settings import Settings
from tet_deploy.training.update import Updater

Feeds = Callable[[Stage], tuple[Feed, Feed | None]]  # a stage's training samples, and those held out


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
    model: nn.Module, frames: np.ndarray, labels: np.ndarray, recipe: Recipe, *, progress: Progress | None = None
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
        training = _Training(model, recipe, feeds, settings, group, about or {}, progress)
        training.run()
    model.eval()
    history = training.at.history
    return TrainingResult(
        recipe=recipe,
        losses=tuple(line["loss"] for line in history),
        seconds=training.at.seconds,
        history=tuple(history),
        accuracy_by_step=tuple(history[-1].get("accuracy_by_step", ())),
    )


class _Training:
    """One training while it runs, in one of its processes."""

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        feeds: Feeds,
        settings: Settings,
        group: Group,
        about: Mapping[str, Any],
        progress: Progress | None,
    ) -> None:
        self.recipe, self.feeds, self.settings, self.group, self.progress = recipe, feeds, settings, group, progress
        self.placement = Placement.chosen(settings, group.device)
        self.placement.network(model)
        self.about = {
            "recipe": recipe.as_dict(),
            **about,
            "processes": group.size,
            "precision": self.placement.precision,
            **{name: getattr(settings, name) for name in ("accumulate", "sync_batch_norm", "encode_once")},
        }
        self.at = state.Position()
        self.saved: state.TrainingState | None = None
        if settings.resume and settings.state is not None:
            self.saved = state.load_state(settings.state)
            state.check_same(self.saved, self.about)
            state.check_position(self.saved, recipe)
            place = self.saved.position
            read = group.gather(torch.tensor([place.stage, place.epoch, place.batch]))
            if any(not torch.equal(read[0], each) for each in read):
                raise ArtifactError(f"{settings.state}: the processes read different states. All must see the same file.")
            state.restore_weights(self.saved, model)
            self.at = self.saved.position
        elif settings.state is not None and group.leads:
            settings.state.unlink(missing_ok=True)  # so that nobody goes on with a training that is begun anew
        for module in model.modules() if not settings.encode_once else ():
            if isinstance(module, TimeMajor):
                module.encode_once = False
        self.updater = Updater(model, group, self.placement, sync_batch_norm=settings.sync_batch_norm)
        self.clock = time.perf_counter()

    def run(self) -> None:
        for number in range(self.at.stage, len(self.recipe.stages)):
            stage = self.recipe.stages[number]
            feed, held_out = self.feeds(stage)
            for samples in (feed, held_out):
                if samples is not None:
                    samples.check_classes(_classes(self.updater.model, samples, self.placement))
            self._enter(stage)
            for _ in range(self.at.epoch, stage.epochs):
                self._epoch(stage, feed)
                self._end_epoch(stage, feed, held_out)

    def _enter(self, stage: Stage) -> None:
        """Take a fresh optimiser, or the one before, or that of the saved state with its random generators."""
        updater = self.updater
        if updater.optimizer is None or not stage.continues:
            updater.optimizer = make_optimizer(stage, updater.model)
        if self.saved is None:
            return
        if stage.continues or self.at.epoch or self.at.batch:
            state.restore_optimizer(self.saved, updater.model, updater.optimizer)
        try:
            restore(state.random_states(self.saved, self.group.rank), self.group.device)
        except Exception as error:  # generators refuse what a file holds each in its own way
            raise ArtifactError(
                f"{self.saved.path}: its random states are damaged ({cut(repr(error))}). Start anew."
            ) from error
        if self.settings.log and self.group.leads:
            log.begin(self.settings.log, self.at.history)
        self.saved = None

    def _epoch(self, stage: Stage, feed: Feed) -> None:
        """Train on the batches that are left of the epoch."""
        at, stages = self.at, self.recipe.stages
        epoch = sum(before.epochs for before in stages[: at.stage]) + at.epoch
        batches = order(len(feed), stage.batch_size, seed=self.recipe.seed, epoch=epoch)
        mine = [parts(batch, self.group, self.settings.accumulate) for batch in batches]
        samples = self.placement.batches(feed, [part for batch in mine[at.batch :] for part in batch], epoch)
        done = sum(before.epochs * _batches(feed, before) for before in stages[: at.stage]) + at.epoch * len(batches)
        total = sum(each.epochs * _batches(feed, each) for each in stages)
        self.updater.parallel.train()
        for number in range(at.batch, len(batches)):
            rate = self._learning_rate(number, len(batches))
            batch = [next(samples) for _ in mine[number]]
            at.loss_sum += self.updater.update(batch, stage, rate, samples=len(batches[number]), where=self._where())
            at.batch = number + 1
            if self.settings.state_every and at.batch % self.settings.state_every == 0 and at.batch < len(batches):
                self._save()
            if self.progress:
                self.progress(done + at.batch, total)

    def _learning_rate(self, batch: int, batches: int) -> float:
        return learning_rate(self.recipe, stage=self.at.stage, epoch=self.at.epoch, batch=batch, batches=batches)

    def _where(self) -> str:
        """Of the next batch, for the errors; and what is left on disk."""
        stage = f"stage {self.at.stage + 1}, " if len(self.recipe.stages) > 1 else ""
        return f"{stage}epoch {self.at.epoch + 1}, batch {self.at.batch + 1}, seed {self.recipe.seed}"

    def _end_epoch(self, stage: Stage, feed: Feed, held_out: Feed | None) -> None:
        """Write the epoch into the history and the log, and keep the state."""
        at, every = self.at, self.settings.evaluate_every
        rate = self._learning_rate(0, 1)
        at.epoch += 1
        self._tick()
        line: dict[str, Any] = {
            "stage": at.stage + 1,
            "epoch": at.epoch,
            "steps": stage.steps,
            "learning_rate": rate,
            "loss": at.loss_sum / len(feed),
            "samples_per_second": round(len(feed) / at.epoch_seconds, 2),
        }
        last = at.epoch == stage.epochs and at.stage + 1 == len(self.recipe.stages)
        if held_out is not None and (last or (every and at.epoch % every == 0)):
            size = max(1, stage.batch_size // self.group.size)
            accuracy = accuracy_of_feed(
                self.updater.model, held_out, self.placement, steps=stage.steps, batch_size=size, group=self.group
            )
            line |= {"accuracy": float(accuracy[-1]), "accuracy_by_step": accuracy.tolist()}
        self._tick()
        at.history.append(line | {"seconds": round(at.epoch_seconds, 3)})
        at.batch, at.loss_sum, at.epoch_seconds = 0, 0.0, 0.0
        if self.settings.log and self.group.leads:
            (log.begin if len(at.history) == 1 else log.append)(self.settings.log, at.history[-1:])
        if at.epoch == stage.epochs:
            at.stage, at.epoch = at.stage + 1, 0
        self._save()

    def _save(self) -> None:
        """Keep the state; every process takes part, as each has random generators of its own."""
        if self.settings.state is None:
            return
        self._tick()
        gathered = {name: self.group.gather(values) for name, values in capture(self.group.device).items()}
        randomness = [{name: values[rank] for name, values in gathered.items()} for rank in range(self.group.size)]
        if self.group.leads:
            assert self.updater.optimizer is not None
            state.save_state(
                self.settings.state,
                model=self.updater.model,
                optimizer=self.updater.optimizer,
                randomness=randomness,
                position=self.at,
                about=self.about,
            )
        self.group.wait()  # nobody goes on from a state that is not on disk yet
        self.updater.last_state = f" The state before it is kept in {self.settings.state}."

    def _tick(self) -> None:
        """Count the time since the last tick."""
        now = time.perf_counter()
        passed, self.clock = now - self.clock, now
        self.at.seconds, self.at.epoch_seconds = self.at.seconds + passed, self.at.epoch_seconds + passed


def _batches(feed: Feed, stage: Stage) -> int:
    return math.ceil(len(feed) / stage.batch_size)


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


@contextlib.contextmanager
def _threads(threads: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads or before)
        yield
    finally:
        torch.set_num_threads(before)
