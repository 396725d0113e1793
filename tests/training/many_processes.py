"""Trainings by the processes that torchrun started; each writes what it found to FOLDER/RANK.json. Its test imports it."""

import contextlib
import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tet_deploy.errors import ArtifactError, TetDeployError
from tet_deploy.nn import LIF, TimeMajor
from tet_deploy.training import ArrayFeed, Recipe, Settings, Stage, process_group, run

SAMPLES, HELD_OUT = 53, 31  # neither is a multiple of anything: shares are unequal
RECIPE = Recipe(
    model="own",
    data="own",
    threads=1,
    stages=(
        Stage(steps=3, epochs=3, learning_rate=2e-2, batch_size=12, mse_weight=0.05),
        Stage(
            steps=3, epochs=1, learning_rate=1e-2, batch_size=12, optimizer="sgd", momentum=0.9, loss="sdt", mse_weight=0.0
        ),
    ),
)
CASES = {  # name -> with batch norm, with dropout, settings
    "plain": (False, False, {}),
    "in parts": (False, False, {"accumulate": 3}),
    "synchronized batch norm": (True, False, {"sync_batch_norm": True}),
    "each its own batch norm": (True, False, {}),
    "dropout": (False, True, {}),
}


class Double(nn.Module):
    """From here on in double precision: rounding does not push a membrane potential over the threshold."""

    def forward(self, x):
        return x.double()


def network(batch_norm, dropout):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        norm = [nn.BatchNorm1d(16)] if batch_norm else []
        drop = [nn.Dropout(0.2)] if dropout else []
        layers = TimeMajor(nn.Linear(6, 16), *norm, LIF(), *drop, nn.Linear(16, 3)).double()
    return TimeMajor(Double(), layers)


def samples(count, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    frames = rng.normal(size=(3, count, 6)).astype(np.float32)
    frames[:, np.arange(count), labels] += 1
    return ArrayFeed(frames, labels, steps=3)


class Counting:
    """A feed that remembers which samples it gave for evaluation."""

    def __init__(self, feed):
        self.feed, self.given = feed, []

    def __len__(self):
        return len(self.feed)

    def check_classes(self, classes):
        self.given.clear()  # what was read to see the number of classes
        self.feed.check_classes(classes)

    def batches(self, chosen, device, epoch=None):
        self.given += [int(index) for indices in chosen for index in indices]
        return self.feed.batches(chosen, device, epoch)


def trained(case, group=None, progress=None, **settings):
    """Losses, accuracies and weights; and which held-out samples this process saw."""
    batch_norm, dropout, fixed = CASES[case]
    model, held_out = network(batch_norm, dropout), Counting(samples(HELD_OUT, 1))
    settings = Settings(**fixed, **settings)
    feeds = lambda stage: (samples(SAMPLES, 0), held_out)  # noqa: E731  # short
    result = run(model, RECIPE, feeds, settings=settings, group=group, progress=progress)
    return {
        "losses": result.losses,
        "accuracy": result.accuracy_by_step,
        "weights": {name: values.tolist() for name, values in model.state_dict().items()},
        "held out": held_out.given,
    }


class Interrupted(Exception):
    """In the middle of a training, in all processes at once."""


def interrupted_and_resumed(group, folder):
    """As if it had been stopped after 7 batches; each process goes on with its own random numbers."""

    def stop(done, total):
        if done == 7:
            raise Interrupted

    state = folder / "state.safetensors"
    with contextlib.suppress(Interrupted):
        trained("dropout", group, stop, state=state, state_every=2)
    return trained("dropout", group, state=state, state_every=2, resume=True)


def refused(group):
    """What each process says where the first finds that there is no way on."""

    def fail():
        raise ArtifactError(f"no, says {group.rank}")

    try:
        group.lead(fail)
    except TetDeployError as error:
        return str(error)


def main(folder):
    with process_group("cpu") as group:
        found = {case: trained(case, group) for case in CASES}
        found["resumed"] = interrupted_and_resumed(group, folder)
        found["refused"] = refused(group)
        (folder / f"{group.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
