"""Training is deterministic, leaves torch's settings alone, and says what went wrong."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from tet_deploy.data import load
from tet_deploy.errors import DataError, ExecutionError
from tet_deploy.models import build
from tet_deploy.nn import LIF, TimeMajor
from tet_deploy.training import DEMO, Recipe, Stage, accuracy_by_step, readouts, train
from tet_deploy.training.recipes import changed

STAGE = Stage(steps=3, epochs=4, learning_rate=1e-2, batch_size=16)
RECIPE = Recipe(model="own", data="own", stages=(STAGE,), threads=1)


def network(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return TimeMajor(nn.Linear(6, 12), nn.BatchNorm1d(12), LIF(), nn.Dropout(0.1), nn.Linear(12, 2))


def samples(count=50):
    """Two classes that differ in the mean of their first inputs."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, count)
    frames = rng.normal(size=(3, count, 6)).astype(np.float32)
    frames[:, labels == 1, :3] += 1.5
    return frames, labels


def weights(model):
    return torch.cat([value.flatten().double() for value in model.state_dict().values()])


def test_the_same_seed_gives_the_same_weights():
    """Weights depend on the arguments alone, dropout included; another seed gives others."""
    first, again, other = network(), network(), network()
    train(first, *samples(), RECIPE)
    torch.manual_seed(99)
    train(again, *samples(), RECIPE)
    train(other, *samples(), dataclasses.replace(RECIPE, seed=1))
    assert torch.equal(weights(first), weights(again))
    assert not torch.equal(weights(first), weights(other))


def test_training_learns_and_reports():
    """The loss falls, every batch is reported, and the model ends in eval mode."""
    model, reports = network(), []
    result = train(model, *samples(), RECIPE, progress=lambda done, total: reports.append((done, total)))
    assert result.losses[-1] < result.losses[0]
    assert reports == [(done, 16) for done in range(1, 17)]  # 50 samples in 4 batches of at most 16
    assert not model.training


def test_settings_of_torch_are_left_alone():
    """Threads and torch's random generator are as before, also after Ctrl-C in the middle."""

    def interrupt(done, total):
        raise KeyboardInterrupt

    torch.manual_seed(7)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    train(network(), *samples(), RECIPE)
    with pytest.raises(KeyboardInterrupt):
        train(network(), *samples(), RECIPE, progress=interrupt)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_a_loss_that_is_not_finite_stops_training():
    """The error names epoch and batch."""
    with pytest.raises(ExecutionError, match="not finite in epoch 1, batch 2, seed 0"):
        train(network(), *samples(), changed(RECIPE, learning_rate=3e37))


def test_a_nan_that_only_gradients_show_stops_training():
    """Neurons whose membrane potential is NaN never fire, so the loss stays finite; training stops nevertheless."""
    model = network()
    with torch.no_grad():
        model[0].weight[0, 0] = float("nan")
    with pytest.raises(ExecutionError, match="not finite in epoch 1, batch 1"):
        train(model, *samples(), RECIPE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frames, labels: (frames[:2], labels), "T = 3"),
        (lambda frames, labels: (frames[:, :0], labels[:0]), "at least one sample"),
        (lambda frames, labels: (frames[..., :5], labels), "cannot run"),
        (lambda frames, labels: (np.where(frames > 2, np.nan, frames), labels), "finite"),
        (lambda frames, labels: (frames, labels[:-1]), "one a sample"),
        (lambda frames, labels: (frames, labels + 0.5), "integers"),
        (lambda frames, labels: (frames, labels + 1), r"in 0\.\.1; got 2"),
    ],
)
def test_samples_that_do_not_fit_are_refused(change, message):
    """Wrong steps, shapes, labels: refused before training begins."""
    with pytest.raises(DataError, match=message):
        train(network(), *change(*samples()), RECIPE)


def test_real_digits_are_learned():
    """Three epochs on the digits give 90 % on unseen ones."""
    data = load("digits", steps=2)
    model = build("digits", seed=0)
    train(model, data.train_frames, data.train_labels, changed(DEMO["digits"], steps=2, epochs=3))
    assert accuracy_by_step(readouts(model, data.test_frames), data.test_labels)[-1] > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", DEMO)
def test_the_demo_recipes_reach_96_percent(name, seed):
    """Every seed of the demo's recipes gives at least 96 % on unseen digits with the last epoch's weights."""
    recipe = dataclasses.replace(DEMO[name], seed=seed)
    data = load(name, steps=recipe.steps, seed=seed)
    model = build(recipe.model, seed=seed)
    train(model, data.train_frames, data.train_labels, recipe)
    assert accuracy_by_step(readouts(model, data.test_frames), data.test_labels)[-1] >= 0.96
