"""How well a network decides, after each step and at each step."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from tet_deploy.contracts import Frames, Progress, as_array
from tet_deploy.data.frames import check_labels
from tet_deploy.training.batches import Feed
from tet_deploy.training.distribution import Group
from tet_deploy.training.placement import Placement

_MICRO_BATCH = 256  # samples at a time, so that memory stays small


def readouts(model: nn.Module, frames: Frames, *, progress: Progress | None = None) -> np.ndarray:
    """Readout of every step, float32 [T, N, K], of frames [T, N, *shape]; in eval mode, which is then undone."""
    frames = as_array(frames)
    samples, parts = frames.shape[1], []
    device = next((parameter.device for parameter in model.parameters()), None)
    with _evaluating(model):
        for start in range(0, samples, _MICRO_BATCH):
            batch = torch.tensor(np.asarray(frames[:, start : start + _MICRO_BATCH], dtype=np.float32), device=device)
            parts.append(model(batch).cpu().numpy())
            if progress:
                progress(min(start + _MICRO_BATCH, samples), samples)
    return np.concatenate(parts, axis=1)


def accuracy_of_feed(
    model: nn.Module, feed: Feed, placement: Placement, *, steps: int, batch_size: int, group: Group
) -> np.ndarray:
    """Accuracy after 1..T steps, float64 [T], over all samples of a feed, in single precision.

    Each process takes its share of the samples, each sample once: none is repeated to make the shares equal.
    """
    mine = np.arange(len(feed))[group.rank :: group.size]
    chosen = [mine[start : start + batch_size] for start in range(0, len(mine), batch_size)]
    right = torch.zeros(steps, dtype=torch.int64, device=group.device)
    with _evaluating(model):
        for frames, labels in placement.batches(feed, chosen):
            decisions = model(frames).double().cumsum(dim=0).argmax(dim=-1)
            right += (decisions == labels).sum(dim=1)
    return np.asarray(group.sum(right).cpu().numpy() / len(feed))


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """In eval mode and without gradients, which is then undone."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, training in modes.items():
            module.training = training


def accuracy_by_step(readout: Any, labels: Any) -> np.ndarray:
    """Accuracy if the decision were taken after 1..T steps, on the mean readout so far.

    Parameters
    ----------
    readout
        [T, N, K].
    labels
        [N].

    Returns
    -------
    np.ndarray
        float64 [T], in [0, 1].

    Raises
    ------
    DataError
        Labels that do not fit the readout.
    """
    return accuracy_of_single_steps(np.cumsum(as_array(readout), axis=0, dtype=np.float64), labels)


def accuracy_of_single_steps(readout: Any, labels: Any) -> np.ndarray:
    """Accuracy of each step's own readout, float64 [T]; table 4 of Deng et al., ICLR 2022."""
    readout = as_array(readout)
    labels = check_labels(labels, samples=readout.shape[1], classes=readout.shape[2])
    return np.asarray((readout.argmax(axis=-1) == labels).mean(axis=1))
