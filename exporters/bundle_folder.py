"""Write a bundle's files into a folder that may hold an older bundle, and leave everything else there as it is.

plan.json is written first and last. First it says which files an export is about to write, last what the bundle is: one that
was cut short in between is known by it, to whoever reads it, and to the next export, which finishes it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tet_deploy.errors import ArtifactError
from tet_deploy.files import Kind, written_whole
from tet_deploy.runtimes.loihi.bundle.loihi_checks.bundle import (
    FORMAT,
    PLAN,
    UNFINISHED,
    VERSION,
    read_plan,
    sealed,
    sha256,
    with_checksum,
)
from tet_deploy.runtimes.loihi.bundle.loihi_checks.reading import Refused

try:
    import fcntl
except ImportError:  # not on Windows: there two exports are not kept apart
    fcntl = None  # type: ignore[assignment]  # that is the sign of it


def write_bundle(folder: Path, plan: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    """Write a bundle into a new or an empty folder, or in place of an older bundle.

    Of what stands in the folder exactly the older bundle's files are replaced or removed.

    Raises
    ------
    ArtifactError
        Something else stands there, a file of the older bundle was changed since, another export is writing there, or the
        folder cannot be written.
    """
    check_bundle_folder(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _only_export(folder):
            _replace(folder, sealed(plan, files), files)
    except OSError as error:
        raise ArtifactError(f"{folder}: cannot be written: {error.strerror or error}. Choose another folder.") from error


def check_bundle_folder(folder: Path) -> None:
    """See before long work that nothing stands there, or a bundle as it was exported.

    Raises
    ------
    ArtifactError
        As `write_bundle` would.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise ArtifactError(f"{folder}: must be a folder; it is a link or a file. Choose another name.")
    for name, expected in _files_of_older(folder).items() if folder.exists() else ():
        digest = _digest(folder, name)
        if digest and not _is_own(digest, expected):
            raise _not_ours(folder / name)


def _replace(folder: Path, plan: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    old_plan = _digest(folder, PLAN)
    older, digests = _files_of_older(folder), plan["files"]
    found = {name: _digest(folder, name) for name in {*older, *files}}
    for name, digest in found.items():
        if digest and digest != digests.get(name) and not _is_own(digest, older.get(name)):
            raise _not_ours(folder / name)
    coming = {name: [digest, digests.get(name, digest)] for name, digest in found.items()}
    unfinished = _text(with_checksum({"format": FORMAT, "version": VERSION, UNFINISHED: coming}))
    _write(folder / PLAN, unfinished, old_plan)
    for name, content in files.items():
        if found[name] != digests[name]:
            (folder / name).parent.mkdir(exist_ok=True)
            _write(folder / name, content, found[name])
    for name in older.keys() - files.keys():
        (folder / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # something of the user's is beside it
            (folder / name).parent.rmdir()
    _write(folder / PLAN, _text(plan), hashlib.sha256(unfinished).hexdigest())


def _files_of_older(folder: Path) -> dict[str, set[str]]:
    """Files of the bundle that stands there, with the SHA-256 they may have; of a folder without one nothing."""
    if not [path for path in folder.iterdir() if not path.name.startswith(".tet_deploy-")]:  # left by a killed write
        return {}
    try:
        return read_plan(folder)[1]
    except Refused as error:
        raise ArtifactError(
            f"{folder}: exists and is no Lava bundle to replace ({error.problem}). Remove it or choose another folder."
        ) from error


def _is_own(digest: str, expected: set[str] | None) -> bool:
    """Whether a file is the older bundle's; an empty set stands for one of version 1, which does not tell what was in it."""
    return expected is not None and (not expected or digest in expected)


def _digest(folder: Path, name: str) -> str:
    """SHA-256 of the file that stands in a file's place; empty where nothing does."""
    path = folder / name
    try:
        kinds = [parent.lstat().st_mode for parent in path.parents if parent.is_relative_to(folder)]
        if not all(map(stat.S_ISDIR, kinds)) or not stat.S_ISREG(path.lstat().st_mode):
            raise _not_ours(path)
    except FileNotFoundError:
        return ""
    return _sha256(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return sha256(file)


def _not_ours(path: Path) -> ArtifactError:
    return ArtifactError(
        f"{path}: is not what was exported there, so it is not replaced. Move it away or choose another folder."
    )


def _text(plan: Mapping[str, Any]) -> bytes:
    return (json.dumps(plan, indent=1) + "\n").encode()


def _write(path: Path, content: bytes, old: str) -> None:
    """Write a file in place of the one with this SHA-256."""
    with written_whole(path, Kind("what stood there when the export began", lambda path: _sha256(path) == old)) as temporary:
        temporary.write_bytes(content)


@contextlib.contextmanager
def _only_export(folder: Path) -> Iterator[None]:
    """Keep other exports out, where the system locks folders (NFS does not); the lock ends however this process ends."""
    with contextlib.ExitStack() as stack:
        if fcntl is not None:
            handle = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, handle)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in (errno.EACCES, errno.EAGAIN):
                    raise ArtifactError(
                        f"{folder}: another export is writing there. Wait for its end, or choose another folder."
                    ) from None
        yield
