"""Spread work over processes of this machine or over a dask cluster; each does ranges of samples, and results add up.

A worker that dies is named and its range is done again by another. A range counts once: when its result has arrived.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import importlib
import itertools
import json
import multiprocessing
import os
import secrets
from collections.abc import Callable, Generator, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from tet_deploy import part_files
from tet_deploy.contracts import Progress
from tet_deploy.errors import ArgumentError, ExecutionError, MissingDependencyError, TetDeployError, first_line
from tet_deploy.part_files import PartsFolder
from tet_deploy.work import Done, OpenedWork, Work, put_together

Tell = Callable[[str], None]
_SHARES = 8  # ranges for each worker, so that a death costs little and all end at about the same time
_WORKERS_ELSEWHERE = 8  # of a cluster, for the size of ranges; it may have any number
_TRIES = 3  # of one range
_SECONDS_BETWEEN_LOOKS = 0.5


def carry_out(
    opened: OpenedWork,
    start: int,
    stop: int,
    *,
    kept: PartsFolder,
    workers: int = 1,
    cluster: str | None = None,
    tell: Tell = print,
    progress: Progress | None = None,
) -> Done:
    """Do the work on samples start..stop-1, on so many processes here or on a cluster, but for what is kept already.

    Parameters
    ----------
    cluster
        Address of a dask scheduler, "tcp://HOST:PORT" or "tls://HOST:PORT", or "local:N" to start one here with N workers.
        Its workers need tet_deploy, and the network's file and the samples under the same paths.
    tell
        Called with a line about each worker that died.
    """
    before = put_together(kept.parts) if kept.parts else Done(opened.what(), ())
    local = (cluster or "").removeprefix("local:")
    parallel = workers if cluster is None else int(local) if local.isdigit() else _WORKERS_ELSEWHERE
    size = -(-(stop - start) // (_SHARES * max(1, parallel)))
    ranges = [(a, min(a + size, last)) for first, last in before.missing(start, stop) for a in range(first, last, size)]
    total = stop - start
    counted = total - sum(b - a for a, b in ranges)
    results = (
        _on_cluster(opened.work, ranges, cluster, tell) if cluster else _on_processes(opened.work, ranges, workers, tell)
    )
    what = opened.what()
    with kept.while_it_grows(), contextlib.closing(results):
        for result in results:
            if dataclasses.replace(result.what, of=what.of) != what:  # elsewhere files may have longer names
                raise ExecutionError(
                    "a worker has another network or other samples under that name. Give all the same files."
                )
            result = Done(what, result.spans)
            kept.keep(result)
            counted += result.samples
            if progress:
                progress(counted, total)
    return put_together(kept.parts)


def _on_processes(work: Work, ranges: Sequence[tuple[int, int]], workers: int, tell: Tell) -> Generator[Done, None, None]:
    waiting, tries = collections.deque(ranges), collections.Counter[tuple[int, int]]()
    cores = _shares_of_cores(workers)
    idle: list[_Worker] = []
    busy: dict[Connection, tuple[_Worker, tuple[int, int]]] = {}
    try:
        while waiting or busy:
            while waiting and len(busy) < workers:
                worker = idle.pop() if idle else _Worker(work, next(cores))
                chosen = waiting.popleft()
                worker.connection.send(chosen)
                busy[worker.connection] = worker, chosen
            ready = set(wait(list(busy)))
            for connection in [connection for connection in busy if connection in ready]:
                worker, chosen = busy.pop(connection)
                try:
                    answer = worker.connection.recv()
                except (EOFError, OSError):
                    worker.end()
                    tries[chosen] += 1
                    _died(f"process {worker.process.pid}, {_how(worker.process.exitcode)}", chosen, tries[chosen], tell)
                    waiting.appendleft(chosen)
                    continue
                idle.append(worker)
                yield _read(answer)
    finally:
        for worker in [*idle, *(worker for worker, _ in busy.values())]:
            worker.end()


class _Worker:
    """A process that does ranges of one work, one after the other."""

    def __init__(self, work: Work, cores: set[int]) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(work, theirs, cores), daemon=False)
        self.process.start()
        theirs.close()

    def end(self) -> None:
        """End it, whatever it does."""
        self.connection.close()
        self.process.join(1.0)
        if self.process.exitcode is None:
            self.process.terminate()
            self.process.join()


def _serve(work: Work, connection: Connection, cores: set[int]) -> None:
    if hasattr(os, "sched_setaffinity") and cores:
        os.sched_setaffinity(0, cores)  # so that as many threads are started as there are cores for them
    with contextlib.suppress(EOFError, OSError, KeyboardInterrupt):
        while True:
            start, stop = connection.recv()
            connection.send(_do(_key(work), start, stop))


def _shares_of_cores(workers: int) -> Iterator[set[int]]:
    """The cores of each worker in turn."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    each = max(1, len(cores) // workers)
    return itertools.cycle([set(cores[i : i + each]) for i in range(0, len(cores), each)] or [set()])


def _on_cluster(work: Work, ranges: Sequence[tuple[int, int]], address: str, tell: Tell) -> Generator[Done, None, None]:
    try:
        distributed = importlib.import_module("distributed")
    except ImportError as error:
        raise MissingDependencyError("a cluster needs dask.distributed: pip install 'tet-deploy[cluster]'.") from error
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(_client(distributed, address, stack))
        token = secrets.token_hex(4)
        waiting = {
            client.submit(
                _do, _key(_absolute(work)), *chosen, key=f"tet-deploy-{token}-{chosen[0]}-{chosen[1]}", pure=False
            ): chosen
            for chosen in ranges
        }
        named = {future.key: chosen for future, chosen in waiting.items()}
        known: dict[str, list[tuple[int, int]]] = {}
        while waiting:
            with contextlib.suppress(distributed.TimeoutError):
                distributed.wait(list(waiting), timeout=_SECONDS_BETWEEN_LOOKS, return_when="FIRST_COMPLETED")
            for future in [future for future in waiting if future.done()]:
                chosen = waiting.pop(future)
                try:
                    answer = future.result()
                except distributed.scheduler.KilledWorker as error:
                    raise ExecutionError(_given_up(chosen)) from error
                except Exception as error:  # such as a worker that cannot import us
                    raise ExecutionError(f"samples {chosen[0]}:{chosen[1]}: {first_line(error)}") from error
                yield _read(answer)
            now = client.processing()
            for worker, had in known.items():
                if worker not in now:
                    for chosen in had:
                        _died(f"worker {worker}", chosen, 1, tell)
            known = {worker: [named[key] for key in keys if key in named] for worker, keys in now.items()}


def _client(distributed: Any, address: str, stack: contextlib.ExitStack) -> Any:
    """A client of the scheduler at an address, or of one that is started here; dask's own settings say how, TLS included."""
    if address.startswith("local:"):
        count = address[6:]
        if not count.isdigit() or not 0 < int(count) < 1000:
            raise ArgumentError(f"cluster {address!r}: must be local:N with N workers, such as local:2.")
        cluster = distributed.LocalCluster(n_workers=int(count), threads_per_worker=1, dashboard_address=None)
        return distributed.Client(stack.enter_context(cluster))
    try:
        return distributed.Client(address, timeout=10)
    except (OSError, ValueError, distributed.TimeoutError) as error:
        raise ExecutionError(
            f"cluster {address!r}: no scheduler answers there ({first_line(error)}). Start one with `dask scheduler`, or "
            "use --cluster local:2."
        ) from error


def _absolute(work: Work) -> Work:
    """The same work for a process that stands in another folder."""
    frames = str(Path(work.frames).resolve()) if work.frames and Path(work.frames).exists() else work.frames
    settings = {key: str(Path(value).resolve()) if key == "other" else value for key, value in work.settings.items()}
    return dataclasses.replace(work, network=str(Path(work.network).resolve()), frames=frames, settings=settings)


def _key(work: Work) -> str:
    return json.dumps(vars(work), sort_keys=True)


def _do(work: str, start: int, stop: int) -> str | TetDeployError:
    """What a worker does with one range: the part of a result, as JSON, or an error to be raised where it is wanted."""
    try:
        return json.dumps(part_files.to_state(_opened(work).do(start, stop)))
    except TetDeployError as error:
        return error
    except Exception as error:
        return ExecutionError(f"samples {start}:{stop}: {type(error).__name__}: {first_line(error)}")


def _read(answer: str | TetDeployError) -> Done:
    if isinstance(answer, TetDeployError):
        raise answer
    return part_files.from_state(json.loads(answer))


@functools.lru_cache(maxsize=1)
def _opened(work: str) -> OpenedWork:
    return Work(**json.loads(work)).opened()


def _died(who: str, chosen: tuple[int, int], tries: int, tell: Tell) -> None:
    if tries >= _TRIES:
        raise ExecutionError(_given_up(chosen))
    tell(f"{who}: is gone; samples {chosen[0]}:{chosen[1]}, which it had, are done again")


def _given_up(chosen: tuple[int, int]) -> str:
    return (
        f"samples {chosen[0]}:{chosen[1]}: {_TRIES} workers died over them. Look for lack of memory (`dmesg`), take fewer "
        "workers, or run these alone with --range."
    )


def _how(code: int | None) -> str:
    return f"killed by signal {-code}" if code is not None and code < 0 else f"ended with {code}"
