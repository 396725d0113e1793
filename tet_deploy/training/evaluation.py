"""How well a network decides, after each step and at each step."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from tet_deploy.contracts import Progress
from tet_deploy.data.frames import check_labels

_MICRO_BATCH = 256  # samples at a time, so that memory stays small


def readouts(model: nn.Module, frames: np.ndarray, *, progress: Progress | None = None) -> np.ndarray:
    """Readout of every step, float32 [T, N, K], of frames [T, N, *shape]; in eval mode, which is then undone."""
    modes = {module: module.training for module in model.modules()}
    samples, parts = frames.shape[1], []
    model.eval()
    try:
        with torch.inference_mode():
            for start in range(0, samples, _MICRO_BATCH):
                batch = torch.tensor(np.asarray(frames[:, start : start + _MICRO_BATCH], dtype=np.float32))
                parts.append(model(batch).numpy())
                if progress:
                    progress(min(start + _MICRO_BATCH, samples), samples)
    finally:
        for module, training in modes.items():
            module.training = training
    return np.concatenate(parts, axis=1)


def accuracy_by_step(readout: np.ndarray, labels: np.ndarray) -> np.ndarray:
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
    return accuracy_of_single_steps(np.cumsum(readout, axis=0, dtype=np.float64), labels)


def accuracy_of_single_steps(readout: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Accuracy of each step's own readout, float64 [T]; table 4 of Deng et al., ICLR 2022."""
    labels = check_labels(labels, samples=readout.shape[1], classes=readout.shape[2])
    return np.asarray((readout.argmax(axis=-1) == labels).mean(axis=1))
