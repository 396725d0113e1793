"""Training of a time-major network on frames that fit in memory."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from tet_deploy.contracts import Progress
from tet_deploy.data.frames import check_labels
from tet_deploy.errors import DataError, ExecutionError
from tet_deploy.training.losses import total_loss
from tet_deploy.training.recipes import Recipe


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """What one training gave, besides the weights in the model.

    Attributes
    ----------
    losses
        Mean loss of each epoch.
    seconds
        Wall-clock time.
    """

    recipe: Recipe
    losses: tuple[float, ...]
    seconds: float


def train(
    model: nn.Module, frames: np.ndarray, labels: np.ndarray, recipe: Recipe, *, progress: Progress | None = None
) -> TrainingResult:
    """Train a network in place; it ends with the weights of the last epoch, in eval mode.

    Only training samples are passed in: nothing can be chosen on test data. On a CPU the weights depend on the arguments
    alone. No file is written.

    Parameters
    ----------
    model
        Takes [T, B, *shape], gives readouts [T, B, K].
    frames
        [T, N, *shape], T as in the recipe.
    labels
        Their classes, integers [N] in 0..K-1.
    recipe
        Its `model` and `data` are not read here. Batches are of nearly equal size, at most `batch_size`.
    progress
        Called as progress(done, total) after each batch.

    Raises
    ------
    DataError
        Frames or labels that do not fit.
    ExecutionError
        The loss or a gradient became NaN or infinite.
    """
    start = time.perf_counter()
    x = torch.tensor(np.asarray(frames, dtype=np.float32))
    _check_frames(x, recipe.steps)
    y = torch.tensor(check_labels(labels, samples=x.shape[1], classes=_classes(model, x)))
    batches = math.ceil(x.shape[1] / recipe.batch_size)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=recipe.epochs * batches)
    losses = []
    with _seeded(recipe.seed), _threads(recipe.threads):
        model.train()
        for epoch in range(recipe.epochs):
            sum_of_losses = 0.0
            for batch, chosen in enumerate(torch.randperm(x.shape[1]).tensor_split(batches)):
                loss = total_loss(model(x[:, chosen]), y[chosen], loss=recipe.loss, mse_weight=recipe.mse_weight)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
                if not _finite(loss, model):
                    raise _diverged(loss.item(), epoch, batch, recipe)
                optimizer.step()
                scheduler.step()
                sum_of_losses += loss.item() * len(chosen)
                if progress:
                    progress(epoch * batches + batch + 1, recipe.epochs * batches)
            losses.append(sum_of_losses / x.shape[1])
    model.eval()
    return TrainingResult(recipe=recipe, losses=tuple(losses), seconds=time.perf_counter() - start)


def _check_frames(x: Tensor, steps: int) -> None:
    if x.dim() < 3 or x.shape[0] != steps or x.shape[1] < 1:
        raise DataError(
            f"training frames: must be [T, N, *shape] with T = {steps} as in the recipe and at least one sample; "
            f"got {tuple(x.shape)}."
        )
    if not torch.isfinite(x).all():
        raise DataError("training frames: must be finite; found NaN or infinity. Look at the preprocessing.")


def _classes(model: nn.Module, x: Tensor) -> int:
    """Number of readouts K, from a run on one sample."""
    try:
        with torch.no_grad():
            readout = model.eval()(x[:, :1])
    except RuntimeError as error:
        raise DataError(f"training frames: the network cannot run on {tuple(x.shape)} ({error}).") from error
    if readout.dim() != 3 or readout.shape[:2] != (len(x), 1):
        found = tuple(readout.shape)
        raise DataError(f"the network must give a readout [T, B, K] at each step; got {found} for T={len(x)}, B=1.")
    return int(readout.shape[2])


def _finite(loss: Tensor, model: nn.Module) -> bool:
    """Whether loss and gradients are finite. A NaN membrane potential never fires: it shows in the gradients only."""
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return all(bool(torch.isfinite(value).all()) for value in [loss, *gradients])


def _diverged(loss: float, epoch: int, batch: int, recipe: Recipe) -> ExecutionError:
    return ExecutionError(
        f"training: loss {loss} or its gradient is not finite in epoch {epoch + 1}, batch {batch + 1}, seed {recipe.seed}. "
        f"Lower the learning rate ({recipe.learning_rate}), or look at the scale of the frames."
    )


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Draw from a fresh generator inside, and leave torch's as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@contextlib.contextmanager
def _threads(threads: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads or before)
        yield
    finally:
        torch.set_num_threads(before)
