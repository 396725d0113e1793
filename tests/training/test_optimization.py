"""Optimisers and learning rates are those that the recipe says."""

import itertools
import math

import pytest
import torch
from torch import nn

from tet_deploy.errors import ArgumentError
from tet_deploy.training import Recipe, Stage
from tet_deploy.training.optimization import learning_rate, make_optimizer

BATCHES = 5


def recipe(*stages):
    return Recipe(model="own", data="own", stages=stages)


def rates(recipe):
    return [
        learning_rate(recipe, stage=number, epoch=epoch, batch=batch, batches=BATCHES)
        for number, stage in enumerate(recipe.stages)
        for epoch in range(stage.epochs)
        for batch in range(BATCHES)
    ]


def test_the_cosine_is_torchs():
    """As CosineAnnealingLR over all batches, which ends at 0."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=4 * BATCHES)
    expected = []
    for _ in range(4 * BATCHES):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates(recipe(Stage(steps=1, epochs=4, learning_rate=0.1))) == pytest.approx(expected, abs=1e-15)


def test_each_stage_has_a_cosine_of_its_own():
    """The second begins at its own learning rate."""
    found = rates(recipe(Stage(steps=1, epochs=2, learning_rate=0.1), Stage(steps=2, epochs=1, learning_rate=1e-3)))
    assert (found[0], found[2 * BATCHES]) == (0.1, 1e-3)
    assert all(later < earlier for earlier, later in itertools.pairwise(found[: 2 * BATCHES]))


def test_a_stage_that_continues_shares_the_cosine():
    """Three stages of one schedule have the learning rates of one long stage."""
    one = rates(recipe(Stage(steps=1, epochs=6, learning_rate=0.1)))
    first, *others = (Stage(steps=1, epochs=n, learning_rate=0.1, continues=n != 3) for n in (3, 2, 1))
    assert rates(recipe(first, *others)) == one


def test_a_stage_can_only_continue_one_that_is_alike():
    """Another learning rate would be another schedule."""
    first = Stage(steps=1, epochs=1, learning_rate=0.1)
    with pytest.raises(ArgumentError, match="stage 2: continues"):
        recipe(first, Stage(steps=1, epochs=1, learning_rate=0.2, continues=True))


def test_a_constant_rate_stays():
    """No schedule."""
    assert set(rates(recipe(Stage(steps=1, epochs=2, learning_rate=0.1, schedule="constant")))) == {0.1}


def test_optimisers_get_their_values():
    """SGD with momentum and weight decay; Adam with weight decay added to the gradient."""
    model = nn.Linear(2, 2)
    sgd = make_optimizer(
        Stage(steps=1, epochs=1, learning_rate=0.1, optimizer="sgd", momentum=0.9, weight_decay=4e-5), model
    )
    assert isinstance(sgd, torch.optim.SGD)
    assert {key: sgd.defaults[key] for key in ("lr", "momentum", "weight_decay")} == {
        "lr": 0.1,
        "momentum": 0.9,
        "weight_decay": 4e-5,
    }
    adam = make_optimizer(Stage(steps=1, epochs=1, learning_rate=1e-3, weight_decay=5e-4), model)
    assert type(adam) is torch.optim.Adam
    assert adam.defaults["weight_decay"] == 5e-4
    assert math.isclose(adam.defaults["lr"], 1e-3)
