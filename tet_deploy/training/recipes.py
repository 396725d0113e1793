"""How a network is trained, as plain data: recipes, their stages, and how they are read from TOML."""

from __future__ import annotations

import dataclasses
import math
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from tet_deploy.arguments import check_keys, nearest
from tet_deploy.errors import ArgumentError, ArtifactError, first_line, shown
from tet_deploy.files import regular_file
from tet_deploy.recipes import RECIPES
from tet_deploy.training.losses import check_loss

if sys.version_info >= (3, 11):
    import tomllib
else:
    try:
        import tomli as tomllib
    except ModuleNotFoundError as error:
        raise ArgumentError("recipes need tomli in Python 3.10. Run: pip install 'tet-deploy[train]'") from error

OPTIMIZERS = ("adam", "sgd")
SCHEDULES = ("cosine", "constant")
_CONTINUED = ("learning_rate", "optimizer", "momentum", "weight_decay", "schedule", "batch_size")
_LARGEST_RECIPE_BYTES = 2**20
_MOST_THREADS = 2**16
_KINDS = {"whole": "a whole number", "number": "a number", "text": "a text", "flag": "true or false"}
_KIND_OF = {
    **dict.fromkeys(("steps", "epochs", "batch_size", "seed", "threads"), "whole"),
    **dict.fromkeys(("learning_rate", "momentum", "weight_decay", "mse_weight"), "number"),
    **dict.fromkeys(("model", "data", "optimizer", "schedule", "loss"), "text"),
    "continues": "flag",
}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One part of a training, at one number of time steps.

    Attributes
    ----------
    steps
        Time steps T.
    learning_rate
        At the start of the stage; the schedule "cosine" lets it fall to zero over all batches, "constant" keeps it.
    optimizer
        "adam", or "sgd" with `momentum`. `weight_decay` is added to the gradient.
    batch_size
        Samples per update, of all processes together. Batches are of nearly equal size, at most this.
    loss
        "tet" (eq. 9) or "sdt" (eq. 7).
    mse_weight
        lambda of eq. 13, in [0, 1].
    continues
        Keep the optimiser of the stage before and let one schedule span both, as if only steps, epochs or loss had changed.

    Raises
    ------
    ArgumentError
        A value of the wrong type or out of range.
    """

    steps: int
    epochs: int
    learning_rate: float
    optimizer: str = "adam"
    momentum: float = 0.0
    weight_decay: float = 0.0
    schedule: str = "cosine"
    batch_size: int = 64
    loss: str = "tet"
    mse_weight: float = 0.05
    continues: bool = False

    def __post_init__(self) -> None:
        _check_kinds(self)
        check_loss(self.loss, self.mse_weight)
        _check_one_of("optimizer", self.optimizer, OPTIMIZERS)
        _check_one_of("schedule", self.schedule, SCHEDULES)
        for name in ("steps", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ArgumentError(f"{name}: must be at least 1; got {getattr(self, name)}.")
        for name in ("learning_rate", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ArgumentError(f"{name}: must be finite and not negative; got {getattr(self, name)}.")
        if self.learning_rate == 0:
            raise ArgumentError("learning_rate: must be positive; got 0.")
        if not 0 <= self.momentum < 1 or (self.momentum and self.optimizer != "sgd"):
            raise ArgumentError(f"momentum: is SGD's and lies in [0, 1); got {self.momentum} with {self.optimizer!r}.")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What is trained on what, in one or more stages; each inherits the weights of the one before.

    Attributes
    ----------
    model, model_arguments
        Name in `models.MODELS`, and arguments for its constructor besides shape and classes, which are the data's.
    data, data_arguments
        Name of a data set or path of an .npz, and arguments for its reader.
    augmentation
        Random changes of each training sample, as the data set's reader takes them: flip, roll, crop_padding, ...
    seed
        Of initial weights, order of samples, augmentation and dropout.
    threads
        CPU threads while training; None leaves torch's setting.

    Raises
    ------
    ArgumentError
        A value of the wrong type or out of range.
    """

    model: str
    data: str
    stages: tuple[Stage, ...]
    model_arguments: Mapping[str, Any] = field(default_factory=dict)
    data_arguments: Mapping[str, Any] = field(default_factory=dict)
    augmentation: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    threads: int | None = None

    def __post_init__(self) -> None:
        if not self.stages:
            raise ArgumentError("stages: needs at least one.")
        _check_kinds(self)
        if self.seed < 0:
            raise ArgumentError(f"seed: must be at least 0; got {self.seed}.")
        if self.threads is not None and not 1 <= self.threads <= _MOST_THREADS:
            raise ArgumentError(f"threads: must be in 1..{_MOST_THREADS}; got {self.threads}.")
        for number, (before, stage) in enumerate(zip((None, *self.stages), self.stages, strict=False), 1):
            if stage.continues and (before is None or any(getattr(before, n) != getattr(stage, n) for n in _CONTINUED)):
                raise ArgumentError(
                    f"stage {number}: continues the stage before; there must be one, with the same {', '.join(_CONTINUED)}."
                )

    @property
    def steps(self) -> int:
        """Time steps T of the last stage: those of the finished network."""
        return self.stages[-1].steps

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` reads them."""
        model, data = ({"name": n, "arguments": dict(a)} for n, a in
                       ((self.model, self.model_arguments), (self.data, self.data_arguments)))  # fmt: skip
        whole = {"seed": self.seed, "threads": self.threads, "augmentation": dict(self.augmentation)}
        whole = {key: value for key, value in whole.items() if value is not None}
        return {**whole, "model": model, "data": data, "stages": [dataclasses.asdict(stage) for stage in self.stages]}


def load_recipe(source: str | os.PathLike[str]) -> Recipe:
    """Read a recipe, by its name in `recipes.RECIPES` or from a TOML file of your own.

    Raises
    ------
    ArtifactError
        A file that cannot be read or is not TOML.
    ArgumentError
        No such recipe or file; an unknown key (the nearest known one is named), a missing one, or a value of the wrong type
        or out of range.

    Examples
    --------
    >>> load_recipe("cifar10-resnet19-t6").stages[1].steps
    6
    """
    name, path = str(source), Path(source)
    if name in RECIPES:
        text = (resources.files("tet_deploy.recipes") / f"{name}.toml").read_text(encoding="utf-8")
    elif path.exists():
        text = _read(regular_file(path, "A recipe is a TOML file.", largest=_LARGEST_RECIPE_BYTES))
    else:
        raise ArgumentError(
            f"recipe {name!r}: no such file, and none of that name.{nearest(name, RECIPES)} There are {', '.join(RECIPES)}."
        )
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # not TOML, or an integer longer than Python reads
        raise ArtifactError(
            f"recipe {name}: is not TOML ({first_line(error)}). See the recipe 'digits' for an example."
        ) from error
    return from_dict(values, source=name)


def from_dict(values: Mapping[str, Any], *, source: str) -> Recipe:
    """A recipe from the values of a TOML file, or of `Recipe.as_dict`; see `load_recipe` for the errors."""
    where = f"recipe {source}"
    check_keys(values, where, known=("model", "data", "augmentation", "seed", "threads", "stages"),
                needed=("model", "data", "stages"))  # fmt: skip
    parts: dict[str, Any] = {}
    for part in ("model", "data"):
        table = _kind_of(values[part], dict, f"{where}: {part}", "a table")
        check_keys(table, f"{where}, {part}", known=("name", "arguments"), needed=("name",))
        parts[part] = table["name"]
        parts[f"{part}_arguments"] = _kind_of(table.get("arguments", {}), dict, f"{where}: {part}.arguments", "a table")
    augmentation = _kind_of(values.get("augmentation", {}), dict, f"{where}: augmentation", "a table")
    stages = [
        _stage(stage, f"{where}, stage {number}")
        for number, stage in enumerate(_kind_of(values["stages"], list, f"{where}: stages", "a list of tables"), 1)
    ]
    rest = {key: values[key] for key in ("seed", "threads") if key in values}
    try:
        return Recipe(stages=tuple(stages), augmentation=augmentation, **parts, **rest)
    except ArgumentError as error:
        raise ArgumentError(f"{where}: {error}") from None  # the same error, with its place


def _stage(values: Any, where: str) -> Stage:
    fields = dataclasses.fields(Stage)
    needed = [f.name for f in fields if f.default is dataclasses.MISSING]
    check_keys(_kind_of(values, dict, where, "a table"), where, known=[f.name for f in fields], needed=needed)
    try:
        return Stage(**values)
    except ArgumentError as error:
        raise ArgumentError(f"{where}: {error}") from None  # the same error, with its place


def with_stages(recipe: Recipe, **changes: Any) -> Recipe:
    """The recipe with fields of every one of its stages changed."""
    return dataclasses.replace(recipe, stages=tuple(dataclasses.replace(stage, **changes) for stage in recipe.stages))


def changed(recipe: Recipe, **changes: Any) -> Recipe:
    """The recipe with fields changed: its own (model, data, seed), and those of stages (epochs, loss) in every stage."""
    of_stages = {field.name for field in dataclasses.fields(Stage)}
    own = {name: value for name, value in changes.items() if name not in of_stages}
    return dataclasses.replace(
        with_stages(recipe, **{name: value for name, value in changes.items() if name in of_stages}), **own
    )


def one_stage(recipe: Recipe, number: int) -> Recipe:
    """The recipe with one stage alone, counted from 1.

    Raises
    ------
    ArgumentError
        There is no such stage.
    """
    if not 1 <= number <= len(recipe.stages):
        raise ArgumentError(f"stage {number}: the recipe has stages 1 to {len(recipe.stages)}.")
    return dataclasses.replace(recipe, stages=(dataclasses.replace(recipe.stages[number - 1], continues=False),))


def sdt(recipe: Recipe) -> Recipe:
    """The same training with the standard loss (eq. 7), which has no regularising term."""
    return with_stages(recipe, loss="sdt", mse_weight=0.0)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path}: cannot be read as text ({error}). A recipe is a TOML file.") from error


def _check_kinds(values: Stage | Recipe) -> None:
    for name, kind in _KIND_OF.items():
        value = getattr(values, name, None)
        if value is None and (not hasattr(values, name) or name == "threads"):
            continue
        types = {"whole": (int,), "number": (int, float), "text": (str,), "flag": (bool,)}[kind]
        if type(value) not in types:
            raise ArgumentError(f"{name}: must be {_KINDS[kind]}; got {shown(value)}.")


def _kind_of(value: Any, kind: type, where: str, what: str) -> Any:
    if not isinstance(value, kind):
        raise ArgumentError(f"{where}: must be {what}; got {shown(value)}.")
    return value


def _check_one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ArgumentError(f"{name}: must be one of {', '.join(known)}; got {shown(value)}.{nearest(value, known)}")


# The demo's, by the name of their data.
DEMO = {name: load_recipe(name) for name in ("digits", "event-digits")}
