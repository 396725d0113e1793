"""Ends a Lava run that failed, with its reason; left alone Lava would wait for ever.

When a process model raises or is killed, Lava's run() does not return, its stop() hangs, and the processes and shared memory
stay behind. So a thread watches the processes, and the run always leaves through `Supervisor.end`.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any, NoReturn

FAILED = 70  # EX_SOFTWARE
INTERRUPTED = 130
_SECONDS_BETWEEN_LOOKS = 0.1
_SECONDS_FOR_A_REASON = 5.0
_LONGEST_FOLDER_FOR_SOCKETS = 50
_LOOK = threading.Lock()  # two threads that read what a process sent would each get a part of it
_END_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux' prctl
_KEEPER = """
import os, shutil, sys, time
while os.getppid() == int(sys.argv[1]):
    time.sleep(0.1)
for folder in sys.argv[2:]:
    shutil.rmtree(folder, ignore_errors=True)
"""
FULL = "Make room in shared memory (/dev/shm) and on the disk, or use --engine numpy, which needs no shared memory."


class Supervisor:
    """Owns the temporary folders, the shared-memory names and the end of a run.

    Parameters
    ----------
    scratch_beside
        File beside which the scratch folder is made.
    shared_memory_prefix
        At most 10 characters, '/' first; given by a supervising program. It also names the folder of sockets. The run then
        ends when that program does, which removes what a killed run leaves. Without one a small program of its own does.
    """

    def __init__(self, scratch_beside: Path, shared_memory_prefix: str | None) -> None:
        self.scratch = Path(tempfile.mkdtemp(prefix=".lava-", dir=scratch_beside.resolve().parent))
        self._sockets = tempfile.tempdir = _folder_for_sockets(shared_memory_prefix)
        self._main_process = os.getpid()
        self._network: Any = None
        self._keeper = None if shared_memory_prefix else _keeper_of(self.scratch, self._sockets)
        self._end = threading.RLock()  # whoever ends the run first decides how; a signal handler may come in between
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._interrupted)
        if shared_memory_prefix:
            shared_memory._SHM_NAME_PREFIX = shared_memory_prefix  # type: ignore[attr-defined]  # no public way
            # The host's own word: it may have died while numpy and Lava were imported, and getppid() be another's by now.
            _start_thread(self._watch_parent, int(os.environ.get("TET_DEPLOY_HOST_PID", os.getppid())))

    def watch(self, process: Any) -> None:
        """Fail when an operating-system process behind a Lava network dies; call before the network is built."""
        self._network = process
        os.register_at_fork(after_in_child=self._end_with_parent)
        _start_thread(self._watch_network, process)

    def end(self, code: int, reason: str = "") -> NoReturn:
        """Kill what Lava started, remove temporary folders and leave without running Lava's exit handlers, which hang."""
        self._end.acquire()
        try:
            if reason:
                _say(f"error: {reason}")
            for child in multiprocessing.active_children():
                child.kill()
            infrastructure = _infrastructure(self._network)
            for segment in infrastructure.smm._shared_memory_handles if infrastructure else ():
                with contextlib.suppress(OSError):
                    segment.unlink()
            for folder in (self.scratch, self._sockets):
                shutil.rmtree(folder, ignore_errors=True)
            if self._keeper:
                self._keeper.kill()
        finally:
            os._exit(code)

    def _end_with_parent(self) -> None:
        """In a process that Lava forks: be killed where this one is, and could not do it."""
        ctypes.CDLL(None).prctl(_END_WITH_PARENT, signal.SIGKILL)
        if os.getppid() != self._main_process:
            os._exit(FAILED)

    def _interrupted(self, number: int, frame: Any) -> None:
        if os.getpid() == self._main_process:  # the processes that Lava forks inherit this handler
            self.end(INTERRUPTED, f"ended by signal {signal.Signals(number).name}")

    def _watch_parent(self, parent: int) -> None:
        while os.getppid() == parent:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        self.end(FAILED, "the program that started this run has ended")

    def _watch_network(self, process: Any) -> None:
        while True:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            failure = find_failure(process)
            if failure:
                self.end(FAILED, failure)


def find_failure(process: Any) -> str:
    """Which process of a Lava network failed and how, after printing its traceback; empty while all are well."""
    infrastructure = _infrastructure(process)
    if infrastructure is None:
        return ""
    names = [f"process {process.name!r}" for process in process.runtime._executable.proc_builders]
    for index, actor in enumerate(list(infrastructure.actors)):
        name = names[index] if index < len(names) else "Lava's runtime service"
        with _LOOK:
            failure = _failure_of(actor)
        if failure:
            return f"{name} {failure}"
    return ""


def wait_for_failure(process: Any) -> str:
    """As `find_failure`, for when Lava raised: a process that raises tells Lava first, and the watching side after that."""
    deadline = time.monotonic() + _SECONDS_FOR_A_REASON
    while not (failure := find_failure(process)) and time.monotonic() < deadline:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    return failure


def _infrastructure(process: Any) -> Any:
    """What holds the network's operating-system processes and shared memory; None before they are built."""
    infrastructure = getattr(getattr(process, "runtime", None), "_messaging_infrastructure", None)
    return infrastructure if getattr(infrastructure, "smm", None) else None


def _failure_of(actor: Any) -> str:
    try:
        if actor.exception:
            error, trace = actor.exception
            _say(trace)
            return f"failed with {type(error).__name__}: {error}"
        code = actor.exitcode
    except (ValueError, OSError, EOFError):
        return ""  # joined meanwhile
    if code and code < 0:
        full = f", as where memory that is a file is full. {FULL}" if -code == signal.SIGBUS else ""
        return f"was killed by {signal.Signals(-code).name}{full}"
    return f"ended with exit code {code}" if code else ""


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody may be listening any more
        print(text, file=sys.stderr, flush=True)


def _folder_for_sockets(name: str | None) -> str:
    """A new folder in which multiprocessing puts sockets, whose paths may have about a hundred characters in all."""
    temporary = tempfile.gettempdir()
    if len(temporary) > _LONGEST_FOLDER_FOR_SOCKETS:
        temporary = "/tmp"
    if name is None:
        return tempfile.mkdtemp(prefix="lava-", dir=temporary)
    Path(temporary + name).mkdir(mode=0o700)
    return temporary + name


def _keeper_of(*folders: Path | str) -> subprocess.Popen[bytes] | None:
    """A program that outlives this one, to remove its folders where it is killed; not where orphans keep a parent."""
    if os.name != "posix":
        return None
    command = [sys.executable, "-I", "-S", "-c", _KEEPER, str(os.getpid()), *map(str, folders)]
    nothing = subprocess.DEVNULL
    try:
        return subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True)
    except OSError:  # no more processes, or no such interpreter any more
        return None


def _start_thread(target: Any, argument: Any) -> None:
    threading.Thread(target=target, args=(argument,), daemon=True).start()
