"""Results of part of some work in a file, and a folder of such files from which a run that was cut short goes on.

A file is JSON: {"tet_deploy": "part of a result", "format": 1, "kind", "network", "of", "total", "fingerprint", "settings",
"spans": [{"start", "stop", "result"}]}; see `work`. Numbers are kept exactly.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tet_deploy import plain
from tet_deploy.errors import ArtifactError, first_line
from tet_deploy.files import BY_NAME, Kind, begins_with, regular_file, written_whole
from tet_deploy.work import KINDS, Done, Span, What, put_together

PART = Kind("part of a result of tet_deploy", begins_with(b'{"tet_deploy": "part of a result"'))
_SUFFIX = ".part.json"


def to_state(done: Done) -> dict[str, Any]:
    """In plain JSON values."""
    write = KINDS[done.what.kind].to_state
    spans = [{"start": span.start, "stop": span.stop, "result": write(span.result)} for span in done.spans]
    return {"tet_deploy": "part of a result", "format": 1, **vars(done.what), "spans": spans}


def from_state(state: Any) -> Done:
    """What `to_state` gave.

    Raises
    ------
    ArtifactError
        Something else.
    """
    state = plain.mapping(state, "the file")
    if state.get("tet_deploy") != "part of a result":
        raise ArtifactError("is no part of a result of tet_deploy. Make one with --range.")
    if plain.count(state, "format") != 1:
        raise ArtifactError("was written by a newer tet_deploy. Read it with that version.")
    kind = plain.text(state, "kind")
    if kind not in KINDS:
        raise plain.damaged(f"kind: must be one of {', '.join(KINDS)}; found {kind!r:.100}")
    what = What(
        kind=kind,
        network=plain.text(state, "network"),
        of=plain.text(state, "of"),
        total=plain.count(state, "total"),
        fingerprint=plain.text(state, "fingerprint"),
        settings=plain.mapping(plain.get(state, "settings"), "settings"),
    )
    spans = plain.entries(state, "spans")
    if not spans:
        raise plain.damaged("spans: must be a list of at least one")
    return put_together(Done(what, (_span(kind, entry, what.total),)) for entry in spans)


def _span(kind: str, entry: Any, total: int) -> Span:
    entry = plain.mapping(entry, "spans")
    start, stop = plain.count(entry, "start", "spans"), plain.count(entry, "stop", "spans", least=1)
    if not start < stop <= total:
        raise plain.damaged(f"spans: {start}:{stop} is no range of {total} samples")
    result = KINDS[kind].from_state(plain.get(entry, "result", "spans"))
    if result.samples != stop - start:
        raise plain.damaged(f"spans: the result of {start}:{stop} is of other samples")
    return Span(start, stop, result)


def write_part(done: Done, path: str | os.PathLike[str]) -> Path:
    """Write a part of a result, whole or not at all; another one that lies there is replaced.

    Raises
    ------
    ArtifactError
        It cannot be written, or another kind of file lies there.
    """
    with written_whole(path, PART) as temporary:
        temporary.write_text(json.dumps(to_state(done)), encoding="utf-8")
    return Path(path)


def read_part(path: str | os.PathLike[str]) -> Done:
    """Read a part of a result.

    Raises
    ------
    ArtifactError
        No such file, or not as it was written; the message begins with its name.
    """
    file = regular_file(path, "Give a result that --range wrote.")
    try:
        return from_state(json.loads(file.read_text(encoding="utf-8")))
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}") from error
    except (ValueError, RecursionError, OSError) as error:
        raise ArtifactError(f"{path}: is no JSON ({first_line(error)}). Give a result that --range wrote.") from error


class PartsFolder:
    """A folder that keeps what is done of some work until all of it is.

    Parameters
    ----------
    path
        The folder; made if need be.
    what
        What the results are of.
    resume
        Whether to go on from what lies there.

    Raises
    ------
    ArtifactError
        It cannot be made, parts lie there and `resume` is off, or they are of other work.
    """

    def __init__(self, path: Path, what: What, *, resume: bool) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ArtifactError(f"{path}: cannot be made ({error.strerror}). Run it where you may write.") from error
        found = sorted(path.glob(f"*{_SUFFIX}"))
        if found and not resume:
            raise ArtifactError(
                f"{path}: holds results of a run that did not end. Go on with --resume, or remove the folder."
            )
        self.parts = [read_part(file) for file in found]
        for file, part in zip(found, self.parts, strict=True):
            if part.what != what:
                raise ArtifactError(f"{file}: is of other work. Choose the same options as before, or remove {path}.")

    @contextlib.contextmanager
    def while_it_grows(self) -> Iterator[None]:
        """Within it results are kept; where none was, the folder does not stay."""
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # it holds some
                self.path.rmdir()

    def keep(self, done: Done) -> None:
        """Add one result."""
        ((start, stop, _),) = done.spans
        with written_whole(self.path / f"{start}-{stop}{_SUFFIX}", BY_NAME) as temporary:
            temporary.write_text(json.dumps(to_state(done)), encoding="utf-8")
        self.parts.append(done)

    def remove(self) -> None:
        """Remove what was kept; the folder stays where others have put something into it."""
        for file in self.path.glob(f"*{_SUFFIX}"):
            file.unlink()
        with contextlib.suppress(OSError):
            self.path.rmdir()
