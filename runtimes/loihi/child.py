"""Run a program that may hang, die or be interrupted, and leave no process and no shared memory behind.

The program gets a session of its own and a prefix of its own for the names of its shared memory, so that whatever is left of
it can be told from everybody else's.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tet_deploy.errors import ExecutionError

_SHARED_MEMORY = Path("/dev/shm")
_PROCESSES = Path("/proc")
_SECONDS_BETWEEN_LOOKS = 0.1
_SECONDS_FOR_TRACKER = 3.0
_LONGEST_FOLDER_FOR_SOCKETS = 50


def run_child(command: Sequence[str], *, on_line: Callable[[str], bool], longest_silence: float) -> int:
    """Run a command to its end and clean up after it, whatever happens.

    Parameters
    ----------
    command
        Program and arguments; `--shared-memory-prefix PREFIX` is added, which also names its folder of sockets in TMPDIR.
    on_line
        Called with each line of output; says whether it is a sign of progress.
    longest_silence
        Seconds without progress after which the command is given up.

    Returns
    -------
    int
        Exit code; negative for a signal.

    Raises
    ------
    ExecutionError
        The program cannot be started, or shows no progress for too long.
    """
    prefix = f"/td{secrets.token_hex(3)}_"  # Lava's names leave room for ten characters
    temporary = _folder_for_sockets()
    try:
        child = subprocess.Popen(
            [*command, "--shared-memory-prefix", prefix],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": temporary, "TET_DEPLOY_HOST_PID": str(os.getpid())},
            start_new_session=True,
        )
    except OSError as error:
        raise ExecutionError(f"{command[0]}: cannot be started: {error.strerror}.") from error
    try:
        _follow(child, on_line, longest_silence)
        return child.wait(timeout=_SECONDS_FOR_TRACKER)
    except subprocess.TimeoutExpired:
        raise ExecutionError("its output ended but it did not.") from None
    finally:
        with _interrupts_held():
            _end_session(child)
            _unlink_segments(prefix)
            shutil.rmtree(temporary + prefix, ignore_errors=True)  # its sockets


def _folder_for_sockets() -> str:
    """The folder for temporary files; Lava puts sockets below it, whose paths may have about a hundred characters in all."""
    folder = tempfile.gettempdir()
    return folder if len(folder) <= _LONGEST_FOLDER_FOR_SOCKETS else "/tmp"


def _follow(child: subprocess.Popen[bytes], on_line: Callable[[str], bool], longest_silence: float) -> None:
    """Pass on the child's output until it ends; a killed child's own children may hold its output open."""
    assert child.stdout is not None
    rest, last_progress = b"", time.monotonic()
    while True:
        if select.select([child.stdout], [], [], _SECONDS_BETWEEN_LOOKS)[0]:
            block = os.read(child.stdout.fileno(), 2**16)
            if not block:
                return
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                if on_line(line.decode(errors="replace")):
                    last_progress = time.monotonic()
        elif child.poll() is not None:
            return
        if time.monotonic() - last_progress > longest_silence:
            raise ExecutionError(f"no step was finished for {longest_silence:g} s.")


def _end_session(child: subprocess.Popen[bytes]) -> None:
    """Kill all processes of the child's session; multiprocessing's resource tracker last, as it tidies up when alone."""
    session = child.pid
    if _PROCESSES.is_dir():
        _kill(pid for pid, command in _members(session) if b"resource_tracker" not in command)
    else:  # no Linux: the group cannot be looked into
        with contextlib.suppress(ProcessLookupError):
            os.killpg(session, signal.SIGKILL)
    child.wait()
    deadline = time.monotonic() + _SECONDS_FOR_TRACKER
    while _members(session) and time.monotonic() < deadline:
        time.sleep(_SECONDS_BETWEEN_LOOKS / 4)
    _kill(pid for pid, _ in _members(session))
    if child.stdout is not None:
        child.stdout.close()


def _members(session: int) -> list[tuple[int, bytes]]:
    """Living processes of a session with their command lines."""
    members = []
    for folder in _PROCESSES.glob("[0-9]*"):
        try:
            state, *numbers = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            if int(numbers[2]) == session and state != "Z":
                members.append((int(folder.name), (folder / "cmdline").read_bytes()))
        except (OSError, IndexError, ValueError):
            continue  # it ended meanwhile
    return members


def _kill(processes: Iterator[int]) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _unlink_segments(prefix: str) -> None:
    for segment in _SHARED_MEMORY.glob(f"{prefix[1:]}*"):
        with contextlib.suppress(OSError):
            segment.unlink()


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Let a second Ctrl-C wait until the cleaning up is done."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
