"""A network by its name, with the weights of a file: a checkpoint of ours, or a state dict of the authors of TET."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tet_deploy.errors import ArgumentError, ArtifactError, GraphError, cut, first_line, shown
from tet_deploy.models import build, constructor
from tet_deploy.training import checkpoints
from tet_deploy.training.authors_checkpoints import Names, authors_names
from tet_deploy.training.state_dicts import is_safetensors, metadata, read_state_dict


def load_checkpoint(name: str, path: str | os.PathLike[str], *, key: str | None = None, **arguments: Any) -> nn.Module:
    """Build a network and give it the weights of a file.

    Parameters
    ----------
    name
        A key of `models.MODELS`.
    path
        A checkpoint of ours, or a state dict (.pth or .safetensors) with our keys or, for "vgg_snn", "vgg_snn_strided" and
        "resnet19", with those of the authors of TET (Deng et al., ICLR 2022); also one that was saved from torch.compile,
        DataParallel, DistributedDataParallel or AveragedModel, or that lies under a key of its own in a larger dict.
    key
        Which state dict, where a file holds several: "ema", or "ema.model" for one in a dict in a dict.
    arguments
        For the constructor: shape (C, H, W), classes, width. A state dict's own shapes tell them where they are left out
        (height and width only if their ratio is that of the network's default).

    Returns
    -------
    nn.Module
        In eval mode, on the CPU, time-major: frames [T, B, C, H, W] to the readout of each step [T, B, K]. Readouts equal
        those of the authors' network, but for float rounding and for the order of axes: theirs takes [B, T, C, H, W], their
        ResNet [B, C, H, W], which it repeats T times.

    Raises
    ------
    ArtifactError
        The file cannot be read, or a key is missing, unknown, misshapen or not finite; it is named.
    GraphError
        No network of that name, or an argument that it does not take.

    Examples
    --------
    >>> model = td.load_checkpoint("vgg_snn", "VGGSNN.pth")  # doctest: +SKIP
    """
    if isinstance(name, nn.Module):
        raise ArgumentError(
            f"name: must be that of one of our networks, such as 'vgg_snn'; got a {type(name).__name__}. A model of yours "
            "takes its weights itself: model.load_state_dict(torch.load(path)). Then td.trace(model, input_shape=(C, H, W))."
        )
    path = Path(path)
    _on_meta(name, arguments)  # first: it says where there is no such network or argument
    if path.is_file() and is_safetensors(path) and any(key.startswith("tet_deploy") for key in metadata(path)):
        if key is not None:
            raise ArgumentError(f"key: {path} is a checkpoint of tet_deploy, which holds one network. Leave the key out.")
        return _from_our_checkpoint(name, path, arguments)
    state = read_state_dict(path, key)
    default = _on_meta(name, {}).state_dict()  # the arguments change the shapes, not the keys
    names = _names_in(state, name, default)
    _check_keys(path, name, names, state)
    for key, spellings in names.items():
        _check_values(path, spellings, default[key], state)
    weights = {key: state[spellings[0]] for key, spellings in names.items()}
    frame = inspect.signature(constructor(name)).parameters["shape"].default
    sizes = {**_sizes(weights, default, frame), **arguments}
    try:
        model = _on_meta(name, sizes)
    except (ArgumentError, GraphError, RuntimeError, OverflowError) as error:
        raise ArtifactError(f"{path}: no {name} has weights of such shapes ({first_line(error)}).") from error
    for key, wanted in model.state_dict().items():
        if weights[key].shape != wanted.shape:
            raise ArtifactError(
                f"{path}: {names[key][0]!r} must be {tuple(wanted.shape)} in a {name} of "
                f"{', '.join(f'{argument}={value}' for argument, value in sizes.items())}; got {tuple(weights[key].shape)}. "
                "If the network has other sizes, give them: shape=(C, H, W), classes=, width=."
            )
    model.load_state_dict({key: weight.clone() for key, weight in weights.items()}, assign=True)
    return model.eval()


def _from_our_checkpoint(name: str, path: Path, arguments: Mapping[str, Any]) -> nn.Module:
    model, description = checkpoints.load_checkpoint(path)
    if description.model != name:
        raise ArtifactError(f"{path}: holds a {shown(description.model)}, not a {name!r}. Load it by that name.")
    if arguments:  # they may only repeat what the file says
        weights = model.state_dict()
        model = _on_meta(name, {**description.arguments, **arguments})
        checkpoints.load_weights(model, weights, source=str(path))
    return model.eval()


def _on_meta(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    with torch.device("meta"):  # shapes only: a file cannot make us allocate more than it holds
        return build(name, **arguments)


def _names_in(state: Mapping[str, Tensor], name: str, keys: Collection[str]) -> Names:
    """The authors' spelling of our keys, or our own: whichever has more keys in common with the file."""
    ours: Names = {key: (key,) for key in keys}
    theirs = authors_names(name, keys)
    if theirs is None:
        return ours
    spelled = {spelling for spellings in theirs.values() for spelling in spellings}
    return theirs if len(spelled & state.keys()) >= len(ours.keys() & state.keys()) else ours


def _check_keys(path: Path, name: str, names: Names, state: Mapping[str, Tensor]) -> None:
    wanted = {spelling for spellings in names.values() for spelling in spellings}
    missing, unknown = sorted(wanted - state.keys()), sorted(state.keys() - wanted)
    if missing or unknown:
        raise ArtifactError(
            f"{path}: its keys are not those of a {name}; missing: {_first_few(missing)}; unknown: {_first_few(unknown)}. "
            "Load it by the name of the network that it holds."
        )


def _check_values(path: Path, spellings: tuple[str, ...], like: Tensor, state: Mapping[str, Tensor]) -> None:
    for key in spellings:
        value = state[key]
        if value.dim() != like.dim() or value.numel() == 0 or value.dtype != like.dtype:
            raise ArtifactError(
                f"{path}: {key!r} must be {like.dtype} with {like.dim()} axes; got {value.dtype} {tuple(value.shape)}."
            )
        if not torch.isfinite(value).all():
            raise ArtifactError(f"{path}: {key!r} holds NaN or infinite values. Did training diverge? Take an earlier file.")
        if not torch.equal(value, state[spellings[0]]):
            raise ArtifactError(
                f"{path}: {key!r} and {spellings[0]!r} name one weight and must be equal; they are not. "
                "Save the state dict again from the network itself."
            )


def _sizes(weights: Mapping[str, Tensor], default: Mapping[str, Tensor], shape: tuple[int, int, int]) -> dict[str, Any]:
    """The arguments of the network that has such weights; `default` and `shape` are those of the full network."""
    convs = [key for key, weight in default.items() if weight.dim() == 4]
    linears = [key for key, weight in default.items() if weight.dim() == 2]

    def pixels(state: Mapping[str, Tensor]) -> float:
        """What the convolutions leave of a frame's area."""
        return state[linears[0]].shape[1] / state[convs[-1]].shape[0]

    side = math.sqrt(pixels(weights) / pixels(default))
    return {
        "shape": (weights[convs[0]].shape[1], max(1, round(shape[1] * side)), max(1, round(shape[2] * side))),
        "classes": weights[linears[-1]].shape[0],
        "width": weights[convs[-1]].shape[0] / default[convs[-1]].shape[0],  # of the widest: least lost to rounding
    }


def _first_few(keys: list[str]) -> str:
    more = f" and {len(keys) - 4} more" if len(keys) > 4 else ""
    return cut(", ".join(keys[:4]) or "none") + more
