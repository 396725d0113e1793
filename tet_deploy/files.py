"""Files are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from tet_deploy.errors import ArtifactError


@contextlib.contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary name beside `path`; rename it when the block ends well, remove it otherwise.

    Raises
    ------
    ArtifactError
        The folder does not exist, or cannot be written to.

    Examples
    --------
    >>> with written_whole("report.json") as temporary:  # doctest: +SKIP
    ...     temporary.write_text("{}")
    """
    path = Path(path)
    if not path.name or path.is_dir():
        raise ArtifactError(f"{path}: cannot be written, as it names a folder. Add a file name.")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())  # some writers make files that only their owner can read
        temporary.replace(path)
    except OSError as error:
        raise ArtifactError(
            f"{path}: cannot be written ({error.strerror or error}). Choose a folder that exists and is writable."
        ) from error
    finally:
        with contextlib.suppress(OSError):  # whatever kept it from being written
            temporary.unlink(missing_ok=True)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Find out before long work whether a file can be written.

    Raises
    ------
    ArtifactError
        As `written_whole` would.
    """
    with contextlib.suppress(_Abandoned), written_whole(path) as temporary:
        temporary.touch()
        raise _Abandoned


class _Abandoned(Exception):
    """Leaves `written_whole` without renaming."""


def _umask() -> int:
    mask = os.umask(0)  # it can only be read by setting it
    os.umask(mask)
    return mask
