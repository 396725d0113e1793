"""The log of a training: a text file with one JSON object a line, for each epoch that is done."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tet_deploy.errors import ArtifactError
from tet_deploy.files import Kind, begins_with, written_whole

LOG = Kind("the log of a training", begins_with(b'{"stage": '))


def begin(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Write the lines so far, in place of what an interrupted training may have left."""
    with written_whole(path, LOG) as temporary:
        temporary.write_text("".join(map(_line, lines)))


def append(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Add lines, for those who watch the file."""
    try:
        with path.open("a") as file:
            file.write("".join(map(_line, lines)))
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be written ({error.strerror or error}). Is the disk full?") from error


def _line(values: Mapping[str, Any]) -> str:
    return json.dumps(values) + "\n"
