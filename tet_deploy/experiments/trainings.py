"""The trainings of an experiment, one after another."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from torch import nn

from tet_deploy import data
from tet_deploy.contracts import Progress
from tet_deploy.data import FrameData, from_arrays
from tet_deploy.experiments.setting import Setting
from tet_deploy.models import build
from tet_deploy.nn import LIF
from tet_deploy.training.batches import ArrayFeed, Feed, SourceFeed
from tet_deploy.training.distribution import process_group
from tet_deploy.training.recipes import Recipe, load_recipe
from tet_deploy.training.trainer import run

_PARTS = 100  # of one training in the progress of all


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One training of an experiment.

    Attributes
    ----------
    steps
        Time steps T; None: the recipe's.
    loss, mse_weight
        "tet" or "sdt", and lambda of eq. 13. Unlike in recipes it is 0: most experiments of the paper compare the two
        cross-entropies alone.
    neurons
        Makes what stands in for each population of LIF neurons; None leaves them.
    """

    seed: int
    loss: str
    steps: int | None = None
    mse_weight: float = 0.0
    neurons: Callable[[LIF], nn.Module] | None = None


def recipe_of(setting: Setting, plan: Plan) -> Recipe:
    """The first stage of the setting's recipe with what the plan changes."""
    recipe = load_recipe(setting.data)
    first = recipe.stages[0]
    stage = dataclasses.replace(
        first,
        steps=plan.steps or first.steps,
        epochs=setting.epochs or first.epochs,
        loss=plan.loss,
        mse_weight=plan.mse_weight,
    )
    return dataclasses.replace(recipe, stages=(stage,), seed=plan.seed)


def samples_of(setting: Setting, recipe: Recipe) -> FrameData:
    """What a recipe trains on and is tested on; the seed is also that of the split."""
    return _load(setting.data, recipe.steps, recipe.seed, setting.samples)


@lru_cache(maxsize=1)  # trainings on the same samples follow each other
def _load(source: str, steps: int, seed: int, count: int | None) -> FrameData:
    recipe = load_recipe(source)
    whole = data.load(recipe.data, steps=steps, seed=seed, augmentation=recipe.augmentation, **recipe.data_arguments)
    if count is None:
        return whole
    return from_arrays(
        name=whole.name,
        train_frames=whole.train_frames[:, :count],
        train_labels=whole.train_labels[:count],
        test_frames=whole.test_frames[:, :count],
        test_labels=whole.test_labels[:count],
        encoding=whole.encoding,
        seed=seed,
        classes=whole.classes,
    )


def fit(
    recipe: Recipe,
    samples: FrameData,
    *,
    neurons: Callable[[LIF], nn.Module] | None = None,
    watch: Callable[[nn.Module, int, int], None] | None = None,
    progress: Progress | None = None,
) -> nn.Module:
    """Build the recipe's network, train it and return it in eval mode.

    Parameters
    ----------
    neurons
        As in Plan.
    watch
        Called as watch(model, done, total) after each batch; must leave the model as it is.
    """
    model = build(
        recipe.model, seed=recipe.seed, shape=samples.shape, classes=samples.classes, **dict(recipe.model_arguments)
    )
    if neurons:
        replace_neurons(model, neurons)

    def after_batch(done: int, total: int) -> None:
        if watch:
            watch(model, done, total)
        if progress:
            progress(done, total)

    with process_group() as group:
        run(model, recipe, lambda stage: (_feed(samples, stage.steps, recipe.seed), None), group=group, progress=after_batch)
    return model


def _feed(samples: FrameData, steps: int, seed: int) -> Feed:
    if samples.train.transforms:  # augmentation: read one by one, anew in each epoch
        return SourceFeed(samples.train, steps=steps, seed=seed)
    return ArrayFeed(samples.train_frames, samples.train_labels, steps=steps)


def trained(
    setting: Setting, plans: Sequence[Plan], progress: Progress | None = None
) -> Iterator[tuple[Plan, nn.Module, FrameData]]:
    """Train one network for each plan, and give it with the samples as soon as it is done."""
    for plan, part in zip(plans, shares(progress, len(plans)), strict=True):
        recipe = recipe_of(setting, plan)
        samples = samples_of(setting, recipe)
        yield plan, fit(recipe, samples, neurons=plan.neurons, progress=part), samples


def replace_neurons(model: nn.Module, make: Callable[[LIF], nn.Module]) -> None:
    """Put make(population) in the place of every population of LIF neurons."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, LIF):
                setattr(module, name, make(child))


def shares(progress: Progress | None, count: int) -> list[Progress]:
    """As many progress callbacks, each of which moves the given one by its share."""

    def share(index: int) -> Progress:
        def update(done: int, total: int) -> None:
            if progress:
                progress(round(_PARTS * (index + done / total)), _PARTS * count)

        return update

    return [share(index) for index in range(count)]
