"""How a training begins, anew or where it was interrupted, and how it is kept for that."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tet_deploy.errors import ArtifactError, cut
from tet_deploy.training import state
from tet_deploy.training.distribution import Group
from tet_deploy.training.randomness import capture, restore
from tet_deploy.training.recipes import Recipe, Stage
from tet_deploy.training.settings import Settings
from tet_deploy.training.state import Position, TrainingState


def begin(
    model: nn.Module, recipe: Recipe, settings: Settings, group: Group, about: Mapping[str, Any]
) -> TrainingState | None:
    """The state that a training resumes from, with its weights in the model; None where it begins anew.

    Raises
    ------
    ArtifactError
        The state cannot be read, is of another training, or is not the same for all processes.
    """
    path = settings.state
    if path is None:
        return None
    if not settings.resume:
        if group.leads:
            path.unlink(missing_ok=True)  # so that nobody goes on with a training that is begun anew
        return None
    saved = state.load_state(path)
    state.check_same(saved, about)
    state.check_position(saved, recipe)
    place = saved.position
    read = group.gather(torch.tensor([place.stage, place.epoch, place.batch]))
    if any(not torch.equal(read[0], each) for each in read):
        raise ArtifactError(f"{path}: the processes read different states. All must see the same file.")
    state.restore_weights(saved, model)
    return saved


def go_on(saved: TrainingState, stage: Stage, model: nn.Module, optimizer: torch.optim.Optimizer, group: Group) -> None:
    """Put optimiser and random generators back as they were: the last thing before the first batch.

    Raises
    ------
    ArtifactError
        What the state holds of them is damaged.
    """
    if stage.continues or saved.position.epoch or saved.position.batch:
        state.restore_optimizer(saved, model, optimizer)
    try:
        restore(state.random_states(saved, group.rank), group.device)
    except Exception as error:  # generators refuse what a file holds each in its own way
        raise ArtifactError(f"{saved.path}: its random states are damaged ({cut(repr(error))}). Start anew.") from error


def keep(
    path: Path | None,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    group: Group,
    *,
    position: Position,
    about: Mapping[str, Any],
) -> None:
    """Write the state, if it is to be kept; every process takes part, as each has random generators of its own.

    Raises
    ------
    ArtifactError
        See `state.save_state`.
    """
    if path is None:
        return
    gathered = {name: group.gather(values) for name, values in capture(group.device).items()}
    randomness = [{name: values[rank] for name, values in gathered.items()} for rank in range(group.size)]
    if group.leads:
        state.save_state(path, model=model, optimizer=optimizer, randomness=randomness, position=position, about=about)
    group.wait()  # nobody goes on from a state that is not on disk yet
