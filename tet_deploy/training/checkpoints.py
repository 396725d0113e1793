"""Checkpoints of trained networks: safetensors, with the network's description as JSON in the header; never pickle."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from tet_deploy import file_kinds
from tet_deploy.errors import ArtifactError, cut, first_line, shown
from tet_deploy.files import Kind, has_header, written_whole
from tet_deploy.models import build
from tet_deploy.training.state_dicts import without_wrappers

FORMAT = 1
_HEADER_KEY = "tet_deploy_checkpoint"
CHECKPOINT = Kind("a checkpoint of tet_deploy", has_header(_HEADER_KEY))
_LARGEST_FRAME = 2**21  # values: an event camera of 1280 x 720 has nearly as many, and tracing runs the network on some
_FIELDS: dict[str, tuple[type, ...]] = {  # of a Description, as JSON reads them
    "model": (str,),
    "shape": (list,),
    "encoding": (str,),
    "steps": (int,),
    "seed": (int,),
    "data": (str,),
    "arguments": (dict,),
    "accuracy": (float, type(None)),
    "test_samples": (int, type(None)),
    "recipe": (dict,),
}


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a checkpoint's weights belong to.

    Attributes
    ----------
    model, arguments
        Name in `models.MODELS`, and its constructor's arguments as JSON values.
    shape, encoding
        Of one frame: (C, H, W), and "analog" or "events".
    steps, seed
        T and seed of the training.
    data
        Name of the data set.
    accuracy, test_samples
        On the data's test samples, with the last epoch's weights, and how many they are; None if it was not measured.
    recipe
        How it was trained, as JSON values, and the digests of its split and of its losses.
    """

    model: str
    shape: tuple[int, ...]
    encoding: str
    steps: int
    seed: int
    data: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    accuracy: float | None = None
    test_samples: int | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)

    @property
    def recipe_alone(self) -> dict[str, Any]:
        """The recipe without what stands beside it of the very training: its split and its losses."""
        return {key: value for key, value in self.recipe.items() if key not in ("split", "losses")}


def save_checkpoint(
    model: nn.Module, description: Description, path: str | os.PathLike[str], *, overwrite: bool = False
) -> Path:
    """Write weights and description to a .safetensors file, whole or not at all.

    Parameters
    ----------
    overwrite
        Whether a checkpoint that lies there is replaced. Anything else never is.

    Raises
    ------
    ArtifactError
        The folder does not exist or cannot be written, or something lies there.
    """
    path = Path(path)
    if not overwrite:
        check_unfinished(path)
    header = {"format": FORMAT, **dataclasses.asdict(description)}
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in without_wrappers(model.state_dict()).items()}
    with written_whole(path, CHECKPOINT) as temporary:
        temporary.write_bytes(save(state, metadata={_HEADER_KEY: json.dumps(header)}))
    return path


def check_unfinished(
    path: Path, way_out: str = "Choose another name, or replace it with --force (in Python: overwrite=True)."
) -> None:
    """Raise an ArtifactError where the checkpoint of a training lies."""
    if path.is_file() and CHECKPOINT.test(path):
        raise ArtifactError(f"{path}: is a finished training. {way_out}")


def load_checkpoint(path: str | os.PathLike[str]) -> tuple[nn.Module, Description]:
    """Rebuild the network of a checkpoint, in eval mode.

    Raises
    ------
    ArtifactError
        No such file, not a checkpoint of ours, damaged, or weights that do not fit the model it names.
    """
    path = file_kinds.expected(path, file_kinds.CHECKPOINT, "Give a checkpoint; `tet-deploy train` writes one.")
    try:
        with safe_open(path, framework="pt") as file:
            description = _description(path, file.metadata())
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it cannot be iterated
    except ArtifactError:
        raise
    except Exception as error:  # a file can be wrong in any way: it must not surprise the caller
        raise _damaged(path, error) from error
    try:
        with torch.device("meta"):  # shapes only: a file cannot make us allocate more than it holds
            model = build(description.model, **description.arguments)
    except Exception as error:  # the arguments are the file's
        raise ArtifactError(f"{path}: its model cannot be built: {first_line(error)}") from error
    load_weights(model, state, source=str(path))
    return model.eval(), description


def read_description(path: str | os.PathLike[str]) -> Description:
    """Read what a checkpoint says of itself, without its weights.

    Raises
    ------
    ArtifactError
        See `load_checkpoint`.
    """
    path = file_kinds.expected(path, file_kinds.CHECKPOINT, "Give a checkpoint; `tet-deploy train` writes one.")
    try:
        with safe_open(path, framework="pt") as file:
            return _description(path, file.metadata())
    except ArtifactError:
        raise
    except Exception as error:  # a file can be wrong in any way: it must not surprise the caller
        raise _damaged(path, error) from error


def load_weights(model: nn.Module, state: Mapping[str, Tensor], *, source: str) -> None:
    """Put a state dict into a model, which may live on torch's meta device.

    Raises
    ------
    ArtifactError
        See `check_weights`.
    """
    check_weights(model, state, source=source)
    model.load_state_dict(dict(state), assign=True)


def check_weights(model: nn.Module, state: Mapping[str, Tensor], *, source: str) -> None:
    """See that a state dict is one of this model.

    Raises
    ------
    ArtifactError
        Names every key that is missing or unknown, or the first that has another shape or dtype or is not finite.
    """
    wanted = model.state_dict()
    missing, unknown = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    if missing or unknown:
        raise ArtifactError(
            f"{source}: its keys do not fit the model; missing: {cut(', '.join(missing)) or 'none'}; "
            f"unknown: {cut(', '.join(unknown)) or 'none'}."
        )
    for name, tensor in state.items():
        if tensor.shape != wanted[name].shape or tensor.dtype != wanted[name].dtype:
            raise ArtifactError(
                f"{source}: {name!r} must be {wanted[name].dtype} {tuple(wanted[name].shape)} to fit the model; "
                f"got {tensor.dtype} {tuple(tensor.shape)}."
            )
        if not torch.isfinite(tensor).all():
            raise ArtifactError(f"{source}: {name!r} holds NaN or infinite values. Did training diverge? Train again.")


def _damaged(path: Path, error: Exception) -> ArtifactError:
    return ArtifactError(f"{path}: is no checkpoint, or a damaged one ({first_line(error)}). Train again.")


def _description(path: Path, metadata: Mapping[str, str] | None) -> Description:
    if not metadata or _HEADER_KEY not in metadata:
        raise ArtifactError(f"{path}: not a checkpoint that tet_deploy wrote. Write one with `tet-deploy train`.")
    header: Any = json.loads(metadata[_HEADER_KEY])
    if not isinstance(header, dict) or header.pop("format", None) != FORMAT:
        raise ArtifactError(f"{path}: must be of format {FORMAT}, and is not. Use the version that wrote it.")
    header.setdefault("test_samples", None)  # version 0.1 did not write it
    wrong = [name for name, kinds in _FIELDS.items() if type(header.get(name)) not in kinds]
    if wrong or header.keys() != _FIELDS.keys() or not all(type(size) is int for size in header["shape"]):
        raise ArtifactError(
            f"{path}: its description must hold {', '.join(_FIELDS)}; wrong or missing: {', '.join(wrong) or 'other keys'}. "
            "The file is damaged, or a newer version wrote it."
        )
    shape, encoding = header["shape"], header["encoding"]
    if encoding not in ("analog", "events") or min(shape, default=0) < 1 or math.prod(shape) > _LARGEST_FRAME:
        raise ArtifactError(
            f"{path}: its frames must be analog or events, of at most {_LARGEST_FRAME:,} values; "
            f"got {shown(encoding)}, {shown(shape)}. The file is damaged; train again."
        )
    return Description(**{**header, "shape": tuple(shape)})
