"""A training that can be killed: `python interrupted.py FOLDER begin|resume KILL_AT [while-writing]`, or import it."""

import os
import random
import signal
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tet_deploy.nn import LIF, TimeMajor
from tet_deploy.training import Recipe, Settings, SourceFeed, Stage, run

STAGES = (
    Stage(steps=2, epochs=2, learning_rate=1e-2, batch_size=8, mse_weight=0.05),
    Stage(steps=3, epochs=2, learning_rate=5e-2, batch_size=8, optimizer="sgd", momentum=0.9, weight_decay=1e-3),
    Stage(steps=3, epochs=1, learning_rate=5e-2, batch_size=8, optimizer="sgd", momentum=0.9, weight_decay=1e-3, loss="sdt",
          schedule="constant"),
)  # fmt: skip
RECIPE = Recipe(model="own", data="own", stages=STAGES, seed=5, threads=1)
SAMPLES, BATCHES = 30, 4


class Noisy:
    """Samples with noise from numpy's and Python's global generators, as other people's transforms draw it."""

    def __init__(self, steps):
        self.steps = steps

    def __len__(self):
        return SAMPLES

    def __getitem__(self, index):
        label = index % 3
        frames = np.random.normal(size=(self.steps, 6)).astype(np.float32)  # noqa: NPY002  # that is the case to test
        frames[:, label] += 1 + random.random()
        return frames, label


def network():
    """With everything that has a state: batch norm, and dropout that draws from torch's generator."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TimeMajor(nn.Linear(6, 16), nn.BatchNorm1d(16), LIF(), nn.Dropout(0.2), nn.Linear(16, 3))


def train(folder, *, resume=False, progress=None):
    """Train; the network, the result."""
    settings = Settings(
        state=Path(folder, "state.safetensors"),
        state_every=3,
        resume=resume,
        log=Path(folder, "log.jsonl"),
        evaluate_every=1,
    )
    model = network()
    feeds = lambda stage: (SourceFeed(Noisy(stage.steps), steps=stage.steps, seed=5), None)  # noqa: E731  # short
    return model, run(model, RECIPE, feeds, settings=settings, progress=progress)


def die():
    """As if the power had failed: no handler, no clean-up."""
    os.kill(os.getpid(), signal.SIGKILL)


def main(folder, how, kill_at, when="after a batch"):
    """Train until batch `kill_at` of all batches is done; then die, there or in the middle of the next writing."""
    replace = Path.replace

    def progress(done, total):
        if done == int(kill_at):
            if when == "after a batch":
                die()
            Path.replace = lambda *_: die()  # everything is written under the temporary name, which then gets the real one

    train(folder, resume=how == "resume", progress=progress)
    Path.replace = replace


if __name__ == "__main__":
    main(*sys.argv[1:])
