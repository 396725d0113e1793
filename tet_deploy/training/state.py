"""A training at one moment, on disk: what is needed to go on as if nothing had happened.

One safetensors file, written whole: weights, optimiser and random states as named tensors, everything else (recipe, how it
is run, stage, epoch, batch, the log so far) as JSON in the header. The learning rate is computed from stage, epoch and
batch, so the scheduler has no state beyond them. Nothing in it is a pickle.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from tet_deploy import file_kinds
from tet_deploy.errors import ArtifactError, cut, first_line, shown
from tet_deploy.files import Kind, has_header, written_whole
from tet_deploy.training.checkpoints import check_weights
from tet_deploy.training.recipes import Recipe

FORMAT = 1
_HEADER_KEY = "tet_deploy_training"
STATE = Kind("the state of a training", has_header(_HEADER_KEY))


@dataclass(frozen=True, kw_only=True)
class Position:
    """How far a training has come.

    Attributes
    ----------
    stage, epoch, batch
        Of the next batch, counted from 0.
    loss_sum
        Sum of the losses of this epoch's samples so far.
    epoch_seconds, seconds
        Wall-clock time spent, in this epoch and in all.
    history
        One dictionary for each epoch that is done: the lines of the log.
    """

    stage: int = 0
    epoch: int = 0
    batch: int = 0
    loss_sum: float = 0.0
    epoch_seconds: float = 0.0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)

    def later(self, seconds: float) -> Position:
        """The same place, after so much more time."""
        return replace(self, seconds=self.seconds + seconds, epoch_seconds=self.epoch_seconds + seconds)

    def after_batch(self, loss_sum: float, seconds: float) -> Position:
        """The next batch of the epoch."""
        return replace(self.later(seconds), batch=self.batch + 1, loss_sum=self.loss_sum + loss_sum)

    def after_epoch(self, line: dict[str, Any], *, last: bool) -> Position:
        """The next epoch, or after the `last` one of a stage the next stage; with a line more in the history."""
        stage, epoch = (self.stage + 1, 0) if last else (self.stage, self.epoch + 1)
        return Position(stage=stage, epoch=epoch, seconds=self.seconds, history=[*self.history, line])


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """What a file holds: `about` is the recipe, how it is run, and the data; tensors by their names."""

    about: Mapping[str, Any]
    position: Position
    tensors: Mapping[str, Tensor]
    path: Path


def save_state(
    path: str | os.PathLike[str],
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    randomness: list[dict[str, Tensor]],
    position: Position,
    about: Mapping[str, Any],
) -> None:
    """Write the state, whole or not at all; `randomness` holds one entry for each process.

    Raises
    ------
    ArtifactError
        The folder does not exist or cannot be written.
    """
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    names = [name for name, _ in model.named_parameters()]
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{names[index]}:{key}": value for key, value in values.items() if value is not None}
    for rank, states in enumerate(randomness):
        tensors |= {f"random.{rank}.{name}": state for name, state in states.items()}
    header = {"format": FORMAT, "about": about, "position": dataclasses.asdict(position)}
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with written_whole(path, STATE) as temporary:
        temporary.write_bytes(save(plain, metadata={_HEADER_KEY: json.dumps(header)}))


def load_state(path: str | os.PathLike[str]) -> TrainingState:
    """Read a state.

    Raises
    ------
    ArtifactError
        No such file, not a state of ours, or damaged.
    """
    way_out = "There is nothing to resume: start without --resume, or name the --out that was begun."
    path = file_kinds.expected(path, file_kinds.STATE, way_out)
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get(_HEADER_KEY, "null"))
            if not isinstance(header, dict) or header.get("format") != FORMAT:
                raise ArtifactError(f"{path}: not the state of a training, of format {FORMAT}. Start without --resume.")
            position, about = _position(**header["position"]), dict(header["about"])
            # Copies: what get_tensor gives may be a view into the file, which the next state replaces.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118  # it cannot be iterated
    except ArtifactError:
        raise
    except Exception as error:  # a file can be wrong in any way: it must not surprise the caller
        raise ArtifactError(
            f"{path}: is no training state, or a damaged one ({first_line(error)}). Start without --resume."
        ) from error
    return TrainingState(about=about, position=position, tensors=tensors, path=path)


def _position(**values: Any) -> Position:
    position = Position(**values)
    for name, default in dataclasses.asdict(Position()).items():
        value = getattr(position, name)
        if type(value) is not type(default) or (name != "history" and not 0 <= value < 2**53):
            raise ValueError(f"its position has {name} = {shown(value)}")
    for line in position.history:
        steps = line.get("accuracy_by_step", []) if isinstance(line, dict) else None
        flat = isinstance(line, dict) and all(type(line[key]) in (int, float) for key in line.keys() - {"accuracy_by_step"})
        if (
            not flat
            or not isinstance(steps, list)
            or not all(type(number) is float for number in (line.get("loss"), *steps))
        ):
            raise ValueError(f"its log has the line {shown(line)}")
    return position


def check_position(state: TrainingState, recipe: Recipe) -> None:
    """Raise an ArtifactError where a state claims to be at a place that its recipe does not have."""
    at = state.position
    epochs = [stage.epochs for stage in recipe.stages]
    if at.stage > len(epochs) or at.epoch >= (*epochs, 1)[at.stage] or len(at.history) != sum(epochs[: at.stage]) + at.epoch:
        raise ArtifactError(
            f"{state.path}: its position, stage {at.stage}, epoch {at.epoch} and {len(at.history)} epochs in the log, is "
            "not one of its recipe. It is damaged; start anew."
        )


def check_same(state: TrainingState, about: Mapping[str, Any]) -> None:
    """Raise an ArtifactError that names the first thing that is not as it was when the training was begun."""
    found = _difference(state.about, json.loads(json.dumps(about)), "")
    if found:
        name, before, now = found
        raise ArtifactError(
            f"{state.path}: was begun with {cut(name)} = {shown(before)}; now it is {shown(now)}. "
            "Resume as it was begun, or start anew."
        )


def restore_weights(state: TrainingState, model: nn.Module) -> None:
    """Put the weights back into a model, in place."""
    weights = _under(state, "model.")
    check_weights(model, weights, source=str(state.path))
    model.load_state_dict(weights)


def restore_optimizer(state: TrainingState, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put moments, momentum and step counts back into an optimiser of the model's parameters."""
    saved: dict[str, dict[str, Tensor]] = {}
    for name, tensor in _under(state, "optimizer.").items():
        owner, _, key = name.rpartition(":")
        saved.setdefault(owner, {})[key] = tensor
    parameters = dict(model.named_parameters())
    kept = {dtype: _kept(optimizer, dtype) for dtype in {parameter.dtype for parameter in parameters.values()}}
    for name, values in saved.items():
        parameter, wanted = parameters.get(name), None
        if parameter is not None:
            wanted = {k: (() if scalar else parameter.shape, dtype) for k, (scalar, dtype) in kept[parameter.dtype].items()}
        if {key: (value.shape, value.dtype) for key, value in values.items()} != wanted:
            raise ArtifactError(f"{state.path}: its optimiser state of {shown(name)} does not fit the model. Start anew.")
    by_index = {
        index: {key: _laid_out_as(parameters[name], value) for key, value in saved[name].items()}
        for index, name in enumerate(parameters)
        if name in saved
    }
    optimizer.load_state_dict({"state": by_index, "param_groups": optimizer.state_dict()["param_groups"]})


def _laid_out_as(parameter: Tensor, value: Tensor) -> Tensor:
    """A file holds every tensor contiguous; moments lie in memory as their parameter does."""
    return torch.empty_like(parameter).copy_(value) if value.dim() == 4 else value


def _kept(optimizer: torch.optim.Optimizer, dtype: torch.dtype) -> dict[str, tuple[bool, torch.dtype]]:
    """What an optimiser keeps of a parameter of that type, found out on one: whether it is a scalar, and its dtype."""
    parameter = nn.Parameter(torch.zeros(1, dtype=dtype))
    parameter.grad = torch.zeros(1, dtype=dtype)
    probe = type(optimizer)([parameter], **optimizer.defaults)
    probe.step()
    return {key: (value.dim() == 0, value.dtype) for key, value in probe.state[parameter].items() if value is not None}


def random_states(state: TrainingState, rank: int) -> dict[str, Tensor]:
    """The states of the generators of one process."""
    return _under(state, f"random.{rank}.")


def _under(state: TrainingState, prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.tensors.items() if name.startswith(prefix)}


def _difference(before: Any, now: Any, name: str) -> tuple[str, Any, Any] | None:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in (*before, *(key for key in now if key not in before)):
            found = _difference(before.get(key), now.get(key), f"{name}.{key}".lstrip("."))
            if found:
                return found
        return None
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        pairs = enumerate(zip(before, now, strict=True), 1)
        return next((found for n, (a, b) in pairs if (found := _difference(a, b, f"{name} {n}"))), None)
    return None if before == now else (name, before, now)
