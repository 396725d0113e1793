"""Weights alone, by name, from files that others wrote: .pth without running any code that it may hold, or safetensors."""

from __future__ import annotations

import os
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tet_deploy.errors import ArtifactError, cut, first_line, shown
from tet_deploy.files import regular_file

_WRAPPINGS = ("state_dict", "model")  # under which training scripts store a state dict beside epoch, optimiser, ...
_DISTRIBUTED = "module."  # the prefix that DataParallel and DistributedDataParallel put before every key


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read the state dict of a .pth or .safetensors file; one under "state_dict" or "model" is taken out.

    Returns
    -------
    dict
        Key to tensor, on the CPU; a prefix "module." that all keys have is removed.

    Raises
    ------
    ArtifactError
        No such file, damaged, holding Python objects other than weights, or a value that is no tensor.
    """
    path = regular_file(path, "Give the .pth or .safetensors file that holds the weights.")
    state = _unwrapped(_safetensors(path) if is_safetensors(path) else _pickled(path))
    if not isinstance(state, Mapping) or not state or not all(isinstance(key, str) for key in state):
        raise ArtifactError(f"{path}: must hold weights by name; got {_shown(state)}. Save model.state_dict().")
    for key, value in state.items():
        if not _is_whole(value):
            raise ArtifactError(f"{path}: {shown(key)} must be a dense tensor with all its values; got {_shown(value)}.")
    prefix = _DISTRIBUTED if all(key.startswith(_DISTRIBUTED) for key in state) else ""
    return {key.removeprefix(prefix): value.detach() for key, value in state.items()}


def is_safetensors(path: Path) -> bool:
    """Whether a file starts as safetensors do: eight bytes of length, then JSON."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def metadata(path: Path) -> dict[str, str]:
    """What a safetensors file says about itself.

    Raises
    ------
    ArtifactError
        The file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path}: the file is damaged ({first_line(error)}). Copy or download it again.") from error


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # it cannot be iterated
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path}: the file is damaged ({first_line(error)}). Copy or download it again.") from error


def _pickled(path: Path) -> Any:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked > path.stat().st_size:  # torch.save does not compress: nothing small may unpack to something huge
                raise ArtifactError(f"{path}: is compressed, as torch.save never leaves it. Save the weights again.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old formats; the result is checked in any case
            return torch.load(path, map_location="cpu", weights_only=True)
    except ArtifactError:
        raise
    except Exception as error:  # a damaged or hostile pickle can fail in any way
        raise ArtifactError(
            f"{path}: cannot be read as weights alone ({type(error).__name__}): it is damaged, or holds Python objects, "
            "which could run code when loaded. Save only the weights: torch.save(model.state_dict(), path)."
        ) from error


def _unwrapped(state: Any) -> Any:
    for key in _WRAPPINGS:
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            return state[key]
    return state


def _is_whole(value: Any) -> bool:
    """Whether a value is a tensor as large as it says: a small file can describe a view of any size."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
        and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    )


def _shown(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{value.layout} {value.dtype} {tuple(value.shape)} on {value.device}"
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} with {cut(', '.join(map(shown, list(value)[:3]))) or 'nothing in it'}"
    return type(value).__name__
