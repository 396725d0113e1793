"""Where a training writes: nothing that a former one left is lost there, and no two trainings write there at once."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tet_deploy.errors import ArtifactError
from tet_deploy.files import check_writable
from tet_deploy.training.checkpoints import CHECKPOINT, check_unfinished, read_description
from tet_deploy.training.distribution import Group, process_group
from tet_deploy.training.log import LOG
from tet_deploy.training.recipes import Recipe
from tet_deploy.training.settings import Settings
from tet_deploy.training.state import STATE

try:
    import fcntl
except ImportError:  # not on Windows: there two trainings are not kept apart
    fcntl = None  # type: ignore[assignment]  # that is the sign of it

_HELD: set[Path] = set()  # by this process, whose own locks do not stop it


@contextlib.contextmanager
def held(group: Group, paths: Iterable[Path | None], check: Callable[[], None]) -> Iterator[None]:
    """Keep other trainings away from these files and look at what lies there; the first process does it for its group.

    A lock is a file `.NAME.lock` beside the file. It ends with the process, however that ends, and the file is removed if it
    can be. Where a file system has no locks, as some network file systems, trainings are not kept apart.

    Raises
    ------
    ArtifactError
        Another training writes there, or what `check` raises.
    """
    with contextlib.ExitStack() as locks:

        def hold() -> None:
            for path in paths:
                if path is not None:
                    locks.enter_context(_locked(path))
            check()

        group.lead(hold)
        yield


@contextlib.contextmanager
def of_process_group(out: Path, settings: Settings, check: Callable[[], None], device: str) -> Iterator[Group]:
    """The processes that make one file together, which keep it to themselves; when it is made, the state is removed.

    Raises
    ------
    ArtifactError
        There is no folder for it, or see `held`.
    """
    if not out.parent.is_dir():
        raise ArtifactError(f"{out}: cannot be written, as there is no folder {out.parent}. Make it first.")
    with process_group(device) as group, held(group, [out], check):
        yield group
        if group.leads and settings.state is not None:
            settings.state.unlink(missing_ok=True)


def check_free(settings: Settings, out: Path | None = None, recipe: Recipe | None = None) -> None:
    """See that nothing will be lost: files that are no training's never, and those of a former training only if so asked.

    Parameters
    ----------
    out, recipe
        The checkpoint that will be written, and what is trained. One that was interrupted just before it removed its state
        may be written again.

    Raises
    ------
    ArtifactError
        Something lies there that would be lost, or a file cannot be written.
    """
    state = None if settings.resume else settings.state  # one that is read is looked at then
    for path, kind in ((out, CHECKPOINT), (state, STATE), (settings.log, LOG)):
        if path is not None:
            check_writable(path, kind)
    if settings.overwrite:
        return
    anew = "another name, or begin anew with --force (in Python: overwrite=True)."
    if state is not None and state.exists():
        raise ArtifactError(f"{state}: is of an interrupted training. Go on with --resume, choose {anew}")
    if settings.resume:
        if out is not None and not (recipe is not None and came_of(recipe, out)):
            check_unfinished(out, "Add --force (in Python: overwrite=True) to replace it when the training is done.")
        return
    if out is not None:
        check_unfinished(out)
    if settings.log is not None and settings.log.exists():
        raise ArtifactError(f"{settings.log}: is the log of a former training. Choose {anew}")


def came_of(recipe: Recipe, out: Path) -> bool:
    """Whether a checkpoint lies there and is of this recipe, seed and all: training would give it again."""
    if not (out.is_file() and CHECKPOINT.test(out)):
        return False
    found = read_description(out).recipe_alone
    return bool(found == json.loads(json.dumps(recipe.as_dict())))


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    target = Path(os.path.realpath(path))
    file = target.parent / f".{target.name}.lock"
    if file in _HELD:
        raise _busy(path)
    handle = _lock(file, path)
    _HELD.add(file)
    try:
        yield
    finally:
        _HELD.discard(file)
        with contextlib.suppress(OSError):
            file.unlink()  # before the lock ends, so that it is not another's
        os.close(handle)


def _lock(file: Path, path: Path) -> int:
    """An open file of this name that this process has locked."""
    while True:
        try:
            handle = os.open(file, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        except OSError as error:
            raise ArtifactError(
                f"{path}: cannot be written ({error.strerror}). Choose a folder that exists and is writable."
            ) from error
        try:
            if fcntl is not None:
                fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                os.close(handle)
                raise _busy(path) from None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(file.stat(), os.fstat(handle)):
                return handle
        os.close(handle)  # whoever held it removed it meanwhile


def _busy(path: Path) -> ArtifactError:
    return ArtifactError(f"{path}: another training is writing there. Wait for its end, or choose another name.")
