"""Weights alone, by name, from files that others wrote: .pth without running any code that it may hold, or safetensors."""

from __future__ import annotations

import io
import os
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tet_deploy.errors import ArtifactError, cut, first_line, shown
from tet_deploy.files import regular_file

_DEPTH = 3  # dicts within dicts in which a state dict is looked for
_COMPILED = "_orig_mod"  # what torch.compile puts into keys
_PARALLEL = "module."  # what DataParallel, DistributedDataParallel and AveragedModel put before every key
_AVERAGED = "n_averaged"  # what AveragedModel adds to them


def read_state_dict(path: str | os.PathLike[str], key: str | None = None) -> dict[str, Tensor]:
    """Read the state dict of a .pth or .safetensors file.

    Parameters
    ----------
    path
        A state dict, or a dict that holds one under some key ("model", "state_dict", "net", ...) beside epoch, optimizer and
        the like.
    key
        Under which it lies, where several do: "ema", or "ema.model" for one deeper down.

    Returns
    -------
    dict
        Key to tensor, on the CPU, as the model inside torch.compile, DataParallel and AveragedModel would have it.

    Raises
    ------
    ArtifactError
        No such file, damaged, holding Python objects other than weights, a value that is no tensor, or several state dicts
        of which none is chosen.
    """
    path = regular_file(path, "Give the .pth or .safetensors file that holds the weights.")
    state = _chosen(path, _safetensors(path) if is_safetensors(path) else _pickled(path), key)
    if not isinstance(state, Mapping) or not state or not all(isinstance(key, str) for key in state):
        raise ArtifactError(f"{path}: must hold weights by name; got {_shown(state)}. Save model.state_dict().")
    for key, value in state.items():
        if not _is_whole(value):
            raise ArtifactError(f"{path}: {shown(key)} must be a dense tensor with all its values; got {_shown(value)}.")
    return without_wrappers({key: value.detach() for key, value in state.items()})


def without_wrappers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict as the model itself gives it, without what torch.compile, DataParallel or AveragedModel put around it."""
    inner = {".".join(part for part in key.split(".") if part != _COMPILED): value for key, value in state.items()}
    while len(inner) > (_AVERAGED in inner) and all(key.startswith(_PARALLEL) for key in inner if key != _AVERAGED):
        inner = {key.removeprefix(_PARALLEL): value for key, value in inner.items() if key != _AVERAGED}
    return inner


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
        zipped = zipfile.is_zipfile(path)
        if zipped:
            with zipfile.ZipFile(path) as archive:
                unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked > path.stat().st_size:  # torch.save does not compress: nothing small may unpack to something huge
                raise ArtifactError(f"{path}: is compressed, as torch.save never leaves it. Save the weights again.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old formats; the result is checked in any case
            # Read from memory, an old file gives no more than it has; from disk it is asked for all that it claims.
            source = path if zipped else io.BytesIO(path.read_bytes())
            return torch.load(source, map_location="cpu", weights_only=True)
    except ArtifactError:
        raise
    except Exception as error:  # a damaged or hostile pickle can fail in any way
        raise ArtifactError(
            f"{path}: cannot be read as weights alone ({type(error).__name__}): it is damaged, or holds Python objects, "
            "which could run code when loaded. Save only the weights: torch.save(model.state_dict(), path)."
        ) from error


def _chosen(path: Path, content: Any, key: str | None) -> Any:
    """The state dict in what a file holds: all of it, or what lies under the one key, or the key chosen."""
    found = _state_dicts(content, all, to_the_end=key is not None) or _state_dicts(
        content, any
    )  # any: to name what is wrong
    if key is not None and key not in found:
        raise ArtifactError(f"{path}: holds no state dict under {key!r}; there are {_listed(found)}.")
    if key is None and len(found) > 1:
        raise ArtifactError(
            f"{path}: holds several state dicts, under {_listed(found)}. Choose one: "
            f"td.load_checkpoint(..., key={shown(list(found)[-1])}), or save it alone."
        )
    return found[key] if key is not None else next(iter(found.values()), content)


def _state_dicts(content: Any, tensors: Callable[[Iterable[bool]], bool], *, to_the_end: bool = False) -> dict[str, Any]:
    """Dicts of strings to tensors, by the keys that lead to them: the outermost, or those of all depths to the end."""
    level, found = {"": content}, dict[str, Any]()
    seen: set[int] = set()  # a small file can hold one dict in very many places
    for _ in range(_DEPTH + 1):
        below: dict[str, Any] = {}
        for name, holder in level.items():
            if not isinstance(holder, Mapping) or id(holder) in seen:
                continue
            seen.add(id(holder))
            if _holds_weights(holder, tensors):
                found[name] = holder
            below |= {f"{name}.{key}".lstrip("."): value for key, value in holder.items() if isinstance(key, str)}
        if found and not to_the_end:
            break
        level = below
    return found


def _holds_weights(value: Mapping[Any, Any], tensors: Callable[[Iterable[bool]], bool]) -> bool:
    """Whether all values are tensors, or any, and some have axes: losses and counts are no weights."""
    names = all(isinstance(key, str) for key in value)
    some = any(isinstance(entry, Tensor) and entry.dim() > 0 for entry in value.values())
    return names and some and tensors(isinstance(entry, Tensor) for entry in value.values())


def _listed(found: Mapping[str, Any]) -> str:
    return cut(", ".join(map(shown, found))) or "none"


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
