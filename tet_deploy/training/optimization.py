"""Optimisers of a stage, and the learning rate of each batch."""

from __future__ import annotations

import math

import torch
from torch import nn

from tet_deploy.training.recipes import Recipe, Stage


def make_optimizer(stage: Stage, model: nn.Module) -> torch.optim.Optimizer:
    """A fresh optimiser; weight decay is added to the gradient."""
    if stage.optimizer == "sgd":
        return torch.optim.SGD(
            model.parameters(), lr=stage.learning_rate, momentum=stage.momentum, weight_decay=stage.weight_decay
        )
    return torch.optim.Adam(model.parameters(), lr=stage.learning_rate, weight_decay=stage.weight_decay)


def learning_rate(recipe: Recipe, *, stage: int, epoch: int, batch: int, batches: int) -> float:
    """Learning rate of one batch: rate * (1 + cos(pi * k / n)) / 2 at batch k of the n that the schedule spans.

    Stage, epoch and batch are counted from 0; `batches` is their number in each epoch. A stage that continues the one before
    shares its schedule.
    """
    here = recipe.stages[stage]
    if here.schedule == "constant":
        return here.learning_rate
    first = last = stage
    while recipe.stages[first].continues:
        first -= 1
    while last + 1 < len(recipe.stages) and recipe.stages[last + 1].continues:
        last += 1
    before = sum(each.epochs for each in recipe.stages[first:stage]) + epoch
    total = sum(each.epochs for each in recipe.stages[first : last + 1])
    return here.learning_rate * (1 + math.cos(math.pi * (before * batches + batch) / (total * batches))) / 2
