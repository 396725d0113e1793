"""One training from data to checkpoint, and from checkpoint to traced network."""

from __future__ import annotations

import inspect
import json
import os
import shlex
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from tet_deploy import data
from tet_deploy.arguments import check_named
from tet_deploy.contracts import Progress
from tet_deploy.data import FrameData
from tet_deploy.data.event_folder import load_event_folder
from tet_deploy.data.frames import samples_of
from tet_deploy.errors import ArgumentError, ArtifactError, first_line
from tet_deploy.files import check_apart
from tet_deploy.ir.graph import Graph
from tet_deploy.loss_digest import KEY, loss_digest
from tet_deploy.models import MODELS, build
from tet_deploy.recipes import RECIPES
from tet_deploy.tracing import trace
from tet_deploy.training import claims, named_checkpoints
from tet_deploy.training.batches import Feed, feed_of
from tet_deploy.training.checkpoints import Description, check_unfinished, load_checkpoint, save_checkpoint
from tet_deploy.training.distribution import Group
from tet_deploy.training.recipes import DEMO, Recipe, Stage, changed, from_dict, load_recipe, one_stage
from tet_deploy.training.settings import Settings
from tet_deploy.training.state import load_state
from tet_deploy.training.trainer import TrainingResult, run


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """A trained network with its accuracy on all test samples after 1..T steps, [T], with the weights of the last epoch."""

    model: nn.Module
    result: TrainingResult
    accuracy_by_step: tuple[float, ...]
    test_samples: int


def recipe_for(source: str | None = None, recipe: str | None = None, **changes: Any) -> Recipe:
    """The recipe that is asked for by its name or file; or the one that suits a data set.

    Parameters
    ----------
    source
        Name of a data set, or path of one's own: an .npz of frames and labels, or a folder of event files.
    recipe
        Name or file of a recipe; its data are replaced by `source`, if that is given.
    changes
        Of fields of the recipe, and of fields of all its stages.

    Raises
    ------
    ArgumentError, ArtifactError
        See `load_recipe`; or a data set that has recipes of its own, so that one must be chosen.
    """
    if recipe is not None:
        chosen = load_recipe(recipe)
        return changed(chosen, **({} if source is None else {"data": source}), **changes)
    if source is None or source in DEMO:
        return changed(DEMO[source or "event-digits"], **changes)
    fitting = [name for name in RECIPES if load_recipe(name).data == source]
    if fitting:
        raise ArgumentError(f"data {source!r}: say how to train on it. Give --recipe, one of {', '.join(fitting)}.")
    if Path(source).is_file():
        changes.setdefault("steps", len(data.load_frames(source).frames))
    return changed(DEMO["event-digits"], **{"data": source, "threads": None, **changes})


def choose(
    settings: Settings,
    *,
    out: Path | None = None,
    data: str | None = None,
    recipe: str | None = None,
    stage: int | None = None,
    weights: Path | None = None,
    width: float | None = None,
    root: Path | None = None,
    changes: Mapping[str, Any],
) -> Recipe:
    """The recipe that a command line asks for; a training that resumes keeps the one that it was begun with.

    Raises
    ------
    ArgumentError, ArtifactError
        See `recipe_for`; or resuming while asking for something else, or what is finished or was never begun.
    """
    if settings.resume:
        assert settings.state is not None
        if out is not None and not settings.state.exists():
            check_unfinished(out, "There is nothing to resume.")
        given = {"data": data, "recipe": recipe, "stage": stage, "weights": weights, "width": width, "root": root, **changes}
        extra = [f"--{name.replace('_', '-')}" for name, value in given.items() if value is not None]
        if extra:
            raise ArgumentError(f"--resume: goes on with what was begun, as it was begun. Leave out {', '.join(extra)}.")
        return recipe_begun(settings.state)
    chosen = recipe_for(data, recipe, **changes)
    chosen = one_stage(chosen, stage) if stage is not None else chosen
    if width is not None:
        chosen = replace(chosen, model_arguments={**chosen.model_arguments, "width": width})
    if root is not None:
        chosen = replace(chosen, data_arguments={**chosen.data_arguments, "root": str(root)})
    return chosen


def recipe_begun(state: Path) -> Recipe:
    """The recipe of a training that was interrupted.

    Raises
    ------
    ArtifactError
        There is none, or its state is damaged.
    """
    begun = load_state(state).about.get("recipe")
    try:
        return from_dict(begun if isinstance(begun, dict) else {}, source="of a training")
    except ArgumentError as error:
        raise ArtifactError(f"{state}: holds no valid recipe ({first_line(error)}) Start anew.") from error


def files_beside(out: Path) -> dict[str, Path]:
    """Where a training that writes to `out` keeps its state and its log: those of no other, so a name keeps its dots."""
    name = out.name.removesuffix(".safetensors")
    return {"state": out.parent / f"{name}.state.safetensors", "log": out.parent / f"{name}.log.jsonl"}


def how_to_go_on(out: Path, command: str = "tet-deploy train") -> str:
    """What to do after a training that writes to `out` was interrupted."""
    if files_beside(out)["state"].exists():
        return f"Go on with: {command} --resume --out {shlex.quote(str(out))}"
    return "Nothing was kept yet; start again. --save-every keeps the state within an epoch."


def train_into(
    out: Path,
    recipe: Recipe,
    settings: Settings,
    *,
    weights: Path | None = None,
    device: str = "auto",
    workers: int = 0,
    bar: Callable[[str], AbstractContextManager[Progress]],
) -> Trained | None:
    """Train, write the checkpoint and remove the state; alone, or as one of the processes that torchrun started.

    Nothing of a former training is lost unless `settings.overwrite` says so, and no other training writes there meanwhile.

    Parameters
    ----------
    weights
        Checkpoint to begin with, instead of random weights.
    bar
        Shows what it is told under a title; only the first process calls it.

    Returns
    -------
    Trained | None
        None in all processes but the first.

    Raises
    ------
    ArtifactError
        `out`, or a file of `settings`, cannot be written, holds what would be lost, or is another training's just now.
    """
    if weights is not None:
        check_apart(out, weights)
    with claims.of_process_group(out, settings, lambda: claims.check_free(settings, out, recipe), device) as group:
        replaces = out.exists()  # what may be replaced, as was seen; not what may come meanwhile

        def shown(title: str) -> AbstractContextManager[Progress | None]:
            return bar(title) if group.leads else nullcontext()

        with shown(f"loading {Path(recipe.data).name}") as progress:
            samples = load_samples(recipe, progress=progress)
        with shown(f"training {recipe.model}") as progress:
            trained = fit(
                recipe, samples, weights=weights, settings=settings, group=group, workers=workers, progress=progress
            )
        if not group.leads:
            return None
        store(trained, samples, out, overwrite=replaces)
    return trained


def prepare(source: str, **changes: Any) -> tuple[Recipe, FrameData]:
    """Recipe and samples for a data set; see `recipe_for`. An .npz is split 80:20 at random by the seed."""
    recipe = recipe_for(source, **changes)
    return recipe, load_samples(recipe)


def load_samples(recipe: Recipe, *, steps: int | None = None, progress: Progress | None = None) -> FrameData:
    """A recipe's data at a number of time steps; by default those of its last stage."""
    loader = data.DATA.get(recipe.data, load_event_folder if Path(recipe.data).is_dir() else None)
    options = dict(recipe.data_arguments)
    if loader is not None and "progress" in inspect.signature(loader).parameters:
        options["progress"] = progress
    return data.load(
        recipe.data, steps=steps or recipe.steps, seed=recipe.seed, augmentation=dict(recipe.augmentation), **options
    )


def fit(
    recipe: Recipe,
    samples: FrameData,
    *,
    weights: str | os.PathLike[str] | None = None,
    settings: Settings | None = None,
    group: Group | None = None,
    workers: int = 0,
    progress: Progress | None = None,
) -> Trained:
    """Build the recipe's network, train it, and measure it on the samples that were held out.

    Parameters
    ----------
    samples
        Of the last stage; stages of other time steps load theirs.
    weights
        Checkpoint to begin with, instead of random weights.
    settings, group
        How it is run, and by which processes.
    workers
        Processes that read samples, for data that are read one by one.
    """
    check_named("model", recipe.model, MODELS)
    model = build(recipe.model, seed=recipe.seed, **arguments(recipe, samples))
    if weights is not None:
        loaded = named_checkpoints.load_checkpoint(recipe.model, weights, **arguments(recipe, samples))
        model.load_state_dict(loaded.state_dict())

    def feeds(stage: Stage) -> tuple[Feed, Feed | None]:
        at_steps = samples if stage.steps == samples.steps else load_samples(recipe, steps=stage.steps)
        return feed_of(at_steps.train, workers=workers), feed_of(at_steps.test, workers=workers)

    about = {"split": samples.split_hash, "samples": len(samples.train)}
    result = run(model, recipe, feeds, settings=settings, group=group, about=about, progress=progress)
    return Trained(model=model, result=result, accuracy_by_step=result.accuracy_by_step, test_samples=len(samples.test))


def arguments(recipe: Recipe, samples: FrameData) -> dict[str, Any]:
    """What the constructor of the recipe's network is given."""
    return {"shape": list(samples.shape), "classes": samples.classes, **recipe.model_arguments}


def store(trained: Trained, samples: FrameData, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write the checkpoint: weights, recipe, accuracy and the hash of the split; see `save_checkpoint`."""
    recipe = trained.result.recipe
    description = Description(
        model=recipe.model,
        arguments=arguments(recipe, samples),
        shape=samples.shape,
        encoding=samples.encoding,
        steps=recipe.steps,
        seed=recipe.seed,
        data=recipe.data,
        accuracy=trained.accuracy_by_step[-1],
        test_samples=trained.test_samples,
        recipe={**recipe.as_dict(), "split": samples.split_hash, "losses": loss_digest(trained.result.losses)},
    )
    return save_checkpoint(trained.model, description, path, overwrite=overwrite)


def traced(path: str | os.PathLike[str]) -> Graph:
    """The network of a checkpoint as a graph; its metadata says how it was trained."""
    model, about = load_checkpoint(path)
    return trace(model, about.shape, about.encoding).with_metadata(**metadata_of(about))


def metadata_of(about: Description) -> dict[str, str]:
    """How a checkpoint was trained, as the metadata of its graph."""
    accuracy = {}
    if about.accuracy is not None:
        number = "the" if about.test_samples is None else f"all {about.test_samples:,}"
        accuracy["trained_accuracy"] = f"{about.accuracy:.4f}"
        accuracy["trained_accuracy_of"] = f"the float network as trained, on {number} {samples_of(about.data)}"
    source = about.recipe.get("data")
    options = json.dumps(source.get("arguments", {}) if isinstance(source, dict) else {})
    how = {key: about.recipe[key] for key in ("stages", "augmentation") if key in about.recipe}
    duration = data.DURATIONS.get(about.data)
    return {
        "model": about.model,
        "data": about.data,
        "data_arguments": options,
        "steps": str(about.steps),
        **({"step_microseconds": str(round(duration / about.steps))} if duration is not None else {}),
        "seed": str(about.seed),
        **({"recipe": json.dumps(how)} if how else {}),
        **({KEY: about.recipe["losses"]} if isinstance(about.recipe.get("losses"), str) else {}),
        **accuracy,
    }
