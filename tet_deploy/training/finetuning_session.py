"""One fine-tuning from a checkpoint to a file of a quantized network."""

from __future__ import annotations

import math
import shlex
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tet_deploy.batches import FrameBatches
from tet_deploy.contracts import Progress
from tet_deploy.data import FrameData
from tet_deploy.data.frames import samples_of, which_samples
from tet_deploy.errors import ArgumentError, ArtifactError, QuantizationWarning, first_line
from tet_deploy.files import check_apart, check_writable
from tet_deploy.ir.artifact import NETWORK, save
from tet_deploy.ir.graph import Graph
from tet_deploy.loss_digest import KEY, loss_digest
from tet_deploy.passes import lower, quantize
from tet_deploy.training import claims, finetuning, session
from tet_deploy.training.batches import feed_of
from tet_deploy.training.checkpoints import Description, read_description
from tet_deploy.training.finetuning import CALIBRATION_SAMPLES, Finetuned
from tet_deploy.training.recipes import Recipe, Stage, from_dict
from tet_deploy.training.settings import Settings
from tet_deploy.training.state import load_state
from tet_deploy.wording import number_of

BITS, EPOCHS, LEARNING_RATE = 8, 3, 0.03  # how it was chosen: benchmarks/results/few_bits.md


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is fine-tuned: how, and to how many bits."""

    recipe: Recipe
    bits: int


def plan_for(checkpoint: Path, bits: int, **changes: Any) -> Plan:
    """The checkpoint's own recipe as one stage of fine-tuning: its data, loss, steps, batches and seed.

    Parameters
    ----------
    bits
        Width of the signed weights.
    changes
        Of fields of the stage (epochs, learning_rate, batch_size, ...), and `data`.

    Raises
    ------
    ArgumentError
        A value out of range.
    ArtifactError
        The file is no checkpoint, or does not say how it was trained.
    """
    about = read_description(checkpoint)
    try:
        recipe = from_dict(about.recipe_alone, source="of a checkpoint")
    except ArgumentError as error:
        raise ArtifactError(
            f"{checkpoint}: does not say how it was trained ({first_line(error)}) "
            "Fine-tune it in Python: tet_deploy.training.finetune."
        ) from error
    last = recipe.stages[-1]
    kept = {name: getattr(last, name) for name in ("steps", "batch_size", "loss", "mse_weight")}
    data = changes.pop("data", None)
    stage = Stage(**{"epochs": EPOCHS, "learning_rate": LEARNING_RATE, **kept, **changes})
    return Plan(recipe=replace(recipe, stages=(stage,), data=data or recipe.data), bits=bits)


def plan_begun(state: Path) -> Plan:
    """The plan of a fine-tuning that was interrupted.

    Raises
    ------
    ArtifactError
        There is none, or its state is damaged.
    """
    bits = load_state(state).about.get("bits")
    if not isinstance(bits, int):
        raise ArtifactError(f"{state}: is of a training, not of a fine-tuning. Go on with `tet-deploy train --resume`.")
    return Plan(recipe=session.recipe_begun(state), bits=bits)


def choose(settings: Settings, checkpoint: Path, bits: int | None, changes: Mapping[str, Any]) -> Plan:
    """The plan that a command line asks for; one that resumes keeps what it was begun with.

    Raises
    ------
    ArgumentError, ArtifactError
        See `plan_for` and `plan_begun`; or resuming while asking for something else.
    """
    if not settings.resume:
        return plan_for(checkpoint, BITS if bits is None else bits, **changes)
    extra = [f"--{name.replace('_', '-')}" for name, value in {"bits": bits, **changes}.items() if value is not None]
    if extra:
        raise ArgumentError(f"--resume: goes on with what was begun, as it was begun. Leave out {', '.join(extra)}.")
    assert settings.state is not None
    return plan_begun(settings.state)


def begin(network: Graph, calibration: FrameBatches, bits: int, *, progress: Progress | None = None) -> Graph:
    """The quantized network that training begins with; coarse thresholds and biases are no reason to stop or to warn.

    Training sees them as they are held and makes the weights fit; what that gives is told as accuracy, before and after.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", QuantizationWarning)
        return quantize(network, calibration, bits=bits, rounding_limit=math.inf, progress=progress)


def how_to_go_on(checkpoint: Path, out: Path) -> str:
    """What to do after a fine-tuning that writes to `out` was interrupted."""
    return session.how_to_go_on(out, f"tet-deploy finetune {shlex.quote(str(checkpoint))}")


def finetune_into(
    out: Path,
    checkpoint: Path,
    plan: Plan,
    settings: Settings,
    *,
    device: str = "auto",
    workers: int = 0,
    bar: Callable[[str], AbstractContextManager[Progress]],
) -> Finetuned | None:
    """Fold and quantize a checkpoint, fine-tune its integers, and write the network; see `session.train_into`.

    Returns
    -------
    Finetuned | None
        None in all processes but the first.

    Raises
    ------
    ArtifactError
        `out`, or a file of `settings`, cannot be written, holds what would be lost, or is another training's just now; or
        the data are not split as they were, so that test samples were trained on.
    """
    check_apart(out, checkpoint)
    about, recipe = read_description(checkpoint), plan.recipe

    def check() -> None:
        check_writable(out, NETWORK)
        claims.check_free(settings)

    with claims.of_process_group(out, settings, check, device) as group:

        def shown(title: str) -> AbstractContextManager[Progress | None]:
            return bar(title) if group.leads else nullcontext()

        with shown(f"loading {Path(recipe.data).name}") as progress:
            samples = session.load_samples(recipe, progress=progress)
        _check_split(samples, checkpoint, about, recipe)
        with shown("quantizing") as progress:
            calibration = FrameBatches.of(traced := session.traced(checkpoint), samples.train).part(0, CALIBRATION_SAMPLES)
            network = lower(traced, calibration)
            quantized = begin(network, calibration, plan.bits, progress=progress)
        with shown(f"fine-tuning {recipe.model}") as progress:
            found = finetuning.fit(
                network,
                quantized,
                recipe,
                feed_of(samples.train, workers=workers),
                calibration,
                held_out=feed_of(samples.test, workers=workers),
                settings=settings,
                group=group,
                about={"bits": plan.bits, "split": samples.split_hash},
                progress=progress,
            )
        if not group.leads:
            return None
        trained = about.accuracy if recipe.data == about.data else None
        found = replace(found, trained=trained, graph=_described(found, plan))
        save(found.graph, out)
    return found


def _check_split(samples: FrameData, checkpoint: Path, about: Description, recipe: Recipe) -> None:
    if recipe.data == about.data and about.recipe.get("split") != samples.split_hash:
        raise ArtifactError(
            f"{checkpoint}: was trained on another split of {recipe.data}: test samples of now may have been trained on. "
            "Name other data, or train anew."
        )


def _described(found: Finetuned, plan: Plan) -> Graph:
    stage = plan.recipe.stages[-1]
    epochs = number_of("epoch", stage.epochs)
    which = which_samples(found.test_samples, found.test_samples, samples_of(plan.recipe.data))
    return found.graph.with_metadata(
        **{KEY: loss_digest(found.result.losses)},
        finetuned=f"{plan.bits} bits, {epochs}, learning rate {stage.learning_rate:g}, {stage.loss} loss",
        finetuned_accuracy=f"{found.accuracy_by_step[-1]:.4f}",
        finetuned_accuracy_of=f"the quantized network as fine-tuned, on {which}",
    )
