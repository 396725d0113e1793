"""Files are read only if they are files, written whole or not at all, and replaced only by a writer of their kind."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open

from tet_deploy.errors import ArtifactError

try:
    import fcntl
except ImportError:  # not on Windows: there nothing is swept
    fcntl = None  # type: ignore[assignment]  # that is the sign of it

_PREFIX = ".tet_deploy-"  # of the private folders in which files are written
_STALE_SECONDS = 60  # younger ones may not be locked yet
LARGEST_FILE_BYTES = 2**34  # of anything that is read in one piece; a file of more is broken or hostile
_SPECIAL = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class Kind(NamedTuple):
    """A kind of file that we write, and how one that lies there is known.

    Attributes
    ----------
    name
        For messages, with its article: "a network of tet_deploy".
    test
        Whether a regular file is of this kind. It reads no more than the file's header, and says False where it fails.
    """

    name: str
    test: Callable[[Path], bool]


def regular_file(path: str | os.PathLike[str], way_out: str, *, largest: int = LARGEST_FILE_BYTES) -> Path:
    """See before a file is opened that it is one, so that reading it neither hangs nor eats memory.

    Parameters
    ----------
    path
        A file, or a link to one.
    way_out
        The sentence that ends the message, for example "Write one with `tet-deploy convert`."
    largest
        Bytes that it may have.

    Raises
    ------
    ArtifactError
        There is none; or it is a folder, a FIFO, a socket or a device; or it is empty or too large.
    """
    try:
        status = Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        raise ArtifactError(f"{path}: no such file. {way_out}") from None
    except (OSError, ValueError) as error:  # a loop of links, no permission, a name with a null
        raise ArtifactError(f"{path}: cannot be read ({getattr(error, 'strerror', error)}). {way_out}") from None
    found = special(status.st_mode)
    if found:
        raise ArtifactError(f"{path}: must be a file; it is {found}. {way_out}")
    if not 0 < status.st_size <= largest:
        size = f"has {status.st_size:,} bytes; {largest:,} are read at most" if status.st_size else "is empty"
        raise ArtifactError(f"{path}: {size}. {way_out}")
    return Path(path)


def special(mode: int) -> str | None:
    """What stands there, with its article, if it is no regular file."""
    return None if stat.S_ISREG(mode) else _SPECIAL.get(stat.S_IFMT(mode), "no regular file")


def head(path: Path, count: int = 1024) -> bytes:
    """The first bytes of a regular file, for the test of a `Kind`; none of what cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(count)
    except OSError:
        return b""


def begins_with(*beginnings: bytes) -> Callable[[Path], bool]:
    """Test of a `Kind`: a file begins with one of these."""
    return lambda path: head(path).startswith(beginnings)


def has_header(key: str) -> Callable[[Path], bool]:
    """Test of a `Kind`: a safetensors file has a header of this name."""

    def test(path: Path) -> bool:
        try:
            with safe_open(path, framework="np") as file:
                return key in (file.metadata() or {})
        except (OSError, SafetensorError):
            return False

    return test


BY_NAME = Kind("a file of our own", lambda path: True)  # in folders of our own: whatever bears the name


@contextlib.contextmanager
def written_whole(path: str | os.PathLike[str], own: Kind) -> Iterator[Path]:
    """Give an empty file in a private folder beside `path`; when the block ends well, it takes that name.

    Nobody else can know, read or plant the temporary name; it ends as `path` does, for writers that go by suffixes. A crash
    or a power failure leaves the old file or the new one, and at worst a hidden folder `.tet_deploy-...`, which a later
    write into the same folder removes. A file that is replaced keeps its mode. A link stays, and what it points to is
    replaced.

    Parameters
    ----------
    path
        The file to write.
    own
        What may be replaced: a file of this kind, or an empty one.

    Raises
    ------
    ArtifactError
        The folder does not exist, or cannot be written to; or something stands at `path` that is not of our own kind.

    Examples
    --------
    >>> with written_whole("network.safetensors", NETWORK) as temporary:  # doctest: +SKIP
    ...     temporary.write_bytes(content)
    """
    target = Path(os.path.realpath(path))
    kept = _check_replaceable(path, target, own)
    folder, lock = None, None
    try:
        _sweep(target.parent)
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=target.parent))
        lock = _locked(folder)
        temporary = folder / target.name
        temporary.touch(0o666, exist_ok=False)
        fresh = stat.S_IMODE(temporary.stat().st_mode)  # as the umask, or the folder, has it
        yield temporary
        temporary.chmod(fresh if kept is None else kept)  # some writers make files that only their owner can read
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        _check_replaceable(path, target, own)
        temporary.replace(target)
        _flush_folder(target.parent)
    except OSError as error:
        raise ArtifactError(
            f"{path}: cannot be written ({error.strerror or error}). Choose a folder that exists and is writable."
        ) from error
    finally:
        if folder:
            shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def check_writable(path: str | os.PathLike[str], own: Kind) -> None:
    """Find out before long work whether a file can be written.

    Raises
    ------
    ArtifactError
        As `written_whole` would.
    """
    with contextlib.suppress(_Abandoned), written_whole(path, own):
        raise _Abandoned


def check_apart(path: str | os.PathLike[str], source: str | os.PathLike[str]) -> None:
    """See that what will be written is not what is read.

    Raises
    ------
    ArtifactError
        Both are one file.
    """
    with contextlib.suppress(OSError):  # one of them is not there
        if Path(path).samefile(source):
            raise ArtifactError(f"{path}: is read and would be replaced. Choose another name for what is written.")


def check_distinct(*paths: str | os.PathLike[str] | None) -> None:
    """See before long work that no two of the files that it will write, if it does, are one.

    Raises
    ------
    ArtifactError
        Two have one name.
    """
    places = [os.path.realpath(path) for path in paths if path is not None]
    for place in places:
        if places.count(place) > 1:
            raise ArtifactError(f"{place}: would be written twice, one over the other. Give each file a name of its own.")


def _locked(folder: Path) -> int | None:
    """A handle that keeps a folder from being swept as long as this process lives; None where that cannot be had."""
    if fcntl is None:
        return None
    handle = None
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return handle
    except OSError:
        if handle is not None:
            os.close(handle)
        return None


def _sweep(parent: Path) -> None:
    """Remove what killed writers left: folders that no living one holds, with no more in them than the one file."""
    with contextlib.suppress(OSError):
        for left in parent.glob(f"{_PREFIX}????????"):
            with contextlib.suppress(OSError):  # another's, or gone by now
                if time.time() - left.lstat().st_mtime < _STALE_SECONDS or (lock := _locked(left)) is None:
                    continue
                try:
                    held = list(left.iterdir())
                    if len(held) <= 1 and all(stat.S_ISREG(path.lstat().st_mode) for path in held):
                        shutil.rmtree(left)
                finally:
                    os.close(lock)


class _Abandoned(Exception):
    """Leaves `written_whole` without renaming."""


def _check_replaceable(path: str | os.PathLike[str], target: Path, own: Kind) -> int | None:
    """The mode of the file that will be replaced, if there is one."""
    try:
        status = target.lstat()
    except OSError:  # nothing there; or something is wrong, which writing will say
        return None
    found = special(status.st_mode)
    if found:
        raise ArtifactError(f"{path}: cannot be written, as it is {found}. Choose the name of a file.")
    if not status.st_mode & 0o222:
        raise ArtifactError(f"{path}: exists and is read-only. Remove it or choose another name.")
    if status.st_size and not own.test(target):
        raise ArtifactError(
            f"{path}: exists and is not {own.name}, so it is not replaced. Remove it or choose another name."
        )
    return stat.S_IMODE(status.st_mode)


def _flush_folder(folder: Path) -> None:
    """Put names on disk, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
