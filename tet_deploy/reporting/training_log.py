"""The log of a training, as `tet-deploy train` writes it: its loss and held-out accuracy by epoch."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tet_deploy.errors import ArtifactError, cut, shown
from tet_deploy.loss_digest import KEY, loss_digest

_MOST_BYTES = 2**26
_LARGEST = 1e30


def read_log(path: str | os.PathLike[str]) -> list[dict[str, float]]:
    """One row for each epoch that is done: its loss, its learning rate, and the accuracy where it was measured.

    Raises
    ------
    ArtifactError
        It cannot be read, or is no such log.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ArtifactError(f"{path}: is larger than any log of a training. Give the .log.jsonl that `train` wrote.")
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ArtifactError(
            f"{path}: cannot be read ({error.strerror or error}). Give the log that `train` wrote."
        ) from error
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{path}: is no text. Give the .log.jsonl that `train` wrote.") from error
    if not lines:
        raise ArtifactError(f"{path}: holds no epoch. Wait for the first, or give another log.")
    return [_row(line, f"{path}, line {number}") for number, line in enumerate(lines, start=1)]


def find_log(folder: str | os.PathLike[str], metadata: Mapping[str, str]) -> Path | None:
    """The log in a folder that is of the training of the network with this metadata, by its losses; or None."""
    for path in sorted(Path(folder).glob("*.log.jsonl")) if KEY in metadata else ():
        with contextlib.suppress(ArtifactError):  # it is no log, so not this one
            if path.is_file() and loss_digest(row["loss"] for row in read_log(path)) == metadata[KEY]:
                return path
    return None


def _row(line: str, place: str) -> dict[str, float]:
    try:
        values: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{place}: is no JSON object: {cut(line)}. Give the .log.jsonl that `train` wrote.") from error
    found = values if isinstance(values, dict) else {}
    named = ["loss", *(name for name in ("learning_rate", "accuracy") if name in found)]
    return {name: _number(found.get(name), f"{place}: {name}") for name in named}


def _number(value: Any, what: str) -> float:
    if type(value) in (int, float) and abs(value) < _LARGEST:
        return float(value)
    raise ArtifactError(f"{what} must be a number; got {shown(value)}. Give a log that `train` wrote.")
