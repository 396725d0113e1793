"""Read damaged files, thousands of each kind: `python tests/fuzz/runner.py [--files N] [--only KIND ...]`.

File number i of a kind is always the same: the first ones are the samples themselves and special files (a FIFO, a link to
/dev/zero, ...), the others samples with damage that i decides. A file must be read, or refused by an error of our own in one
to three lines. Workers read them under a limit of memory and are watched: one that dies or is silent is a fault as well. A
file at fault is kept, with the command that reads it again.
"""

import argparse
import collections
import faulthandler
import multiprocessing
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from random import Random

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(1, str(ROOT))  # this checkout is read with, whatever is installed

from targets import ODD, ONNX_RUNTIME_IS_FIT, TARGETS, Files, Target  # noqa: E402  # after the path

from tet_deploy.errors import TetDeployError  # noqa: E402  # likewise

MEMORY = 4 * 2**30  # bytes
SECONDS = 10.0  # for one file
SPECIAL = ("fifo", "/dev/zero", "/dev/full", "itself", "nowhere", "folder", "empty", "socket")
_LONGEST = 2000  # characters of a message
_NO_MEMORY = ("nable to allocate", "can't allocate", "bad_alloc", "bad allocation")  # what numpy, torch and C++ say
_FORK = multiprocessing.get_context("fork")


def main() -> None:
    """Read what was asked for and print a table; the exit code says whether every file was read or refused well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=20_000, help="of each kind")
    parser.add_argument("--only", nargs="+", default=list(TARGETS), choices=list(TARGETS), metavar="KIND")
    parser.add_argument("--again", type=int, metavar="I", help="read file number I of one kind, without a worker")
    parser.add_argument("--keep", type=Path, default=Path("out/fuzz"), help="folder for files at fault")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    if "onnx" in options.only and not ONNX_RUNTIME_IS_FIT:
        print("leaving out onnx: ONNX Runtime before 1.31 crashes over damaged files with a right checksum")
        options.only.remove("onnx")
    with tempfile.TemporaryDirectory(prefix="tet-deploy-fuzz-") as scratch:
        if options.again is not None:
            (kind,) = options.only
            sys.exit(_again(TARGETS[kind], options.again, Path(scratch)))
        print(f"{'kind':16}{'files':>8}{'seconds':>9}{'slowest':>9}{'peak MB':>9}  outcomes", flush=True)
        results = [_fuzz(TARGETS[kind], options, Path(scratch) / kind) for kind in options.only]
    faults = [fault for result in results for fault in result.faults]
    _print_faults(faults)
    sys.exit(bool(faults))


def _print_faults(faults: list[tuple[str, str]]) -> None:
    """Each kind of fault once, with how many there are and the command that reads the first again."""
    alike: dict[str, list[str]] = {}
    for outcome, command in faults:
        alike.setdefault(re.sub(r"\d+", "N", outcome)[:80], []).append(f"{outcome}\n    {command}")
    for examples in alike.values():
        print(f"{len(examples)} x {examples[0]}", file=sys.stderr)


@dataclass
class Result:
    """What became of the files of one kind."""

    counts: collections.Counter[str] = field(default_factory=collections.Counter)
    faults: list[tuple[str, str]] = field(default_factory=list)
    slowest: float = 0.0
    peak: int = 0  # KiB of a worker


def _fuzz(target: Target, options: argparse.Namespace, folder: Path) -> Result:
    begun, result = time.perf_counter(), Result()
    folder.mkdir()
    _in_a_process(_write_samples, target, folder / "samples")
    workers = [
        Worker(target, folder, range(first, options.files, options.workers), result, options.keep)
        for first in range(min(options.workers, options.files))
    ]
    while busy := [worker for worker in workers if worker.process]:
        for ready in wait([worker.inbox for worker in busy], timeout=0.2):
            next(worker for worker in busy if worker.inbox is ready).take()
        for worker in busy:
            worker.check()
    seconds = time.perf_counter() - begun
    outcomes = ", ".join(f"{name} {count}" for name, count in result.counts.most_common())
    figures = f"{result.counts.total():8}{seconds:9.1f}{result.slowest:9.2f}{result.peak // 1024:9}"
    print(f"{target.name:16}{figures}  {outcomes}", flush=True)
    return result


class Worker:
    """A process that reads some of the files, and what the parent knows of it."""

    def __init__(self, target: Target, folder: Path, numbers: range, result: Result, keep: Path) -> None:
        self.target, self.folder, self.numbers, self.result, self.keep = target, folder, numbers, result, keep
        self.process: multiprocessing.process.BaseProcess | None = None
        self._start()

    def _start(self) -> None:
        if not self.numbers:
            self.process = None
            return
        self.inbox, outbox = _FORK.Pipe(duplex=False)
        self.place = self.folder / f"worker{self.numbers[0] % self.numbers.step}"
        self.process = _FORK.Process(target=_read_all, args=(self.target, self.folder, self.numbers, self.place, outbox))
        self.process.start()
        outbox.close()
        self.heard = time.monotonic()

    def take(self) -> None:
        """Take what the process says of its file; one that says nothing any more has ended or died."""
        try:
            outcome, seconds, peak = self.inbox.recv()
        except EOFError:
            self._over(None)
            return
        self.heard = time.monotonic()
        self.result.slowest = max(self.result.slowest, seconds)
        self.result.peak = max(self.result.peak, peak)
        self._count(outcome)

    def check(self) -> None:
        """End a process that has been silent for too long."""
        if self.process and time.monotonic() - self.heard > SECONDS:
            self.process.kill()
            self._over(f"took more than {SECONDS:g} s")

    def _over(self, why: str | None) -> None:
        assert self.process
        self.process.join()
        if self.numbers:
            code = self.process.exitcode or 0
            self._count(f"fault: {why or (signal.Signals(-code).name if code < 0 else f'exit code {code}')}")
        self._start()

    def _count(self, outcome: str) -> None:
        number, self.numbers = self.numbers[0], self.numbers[1:]
        name = outcome.partition(":")[0]
        self.result.counts[name] += 1
        if name == "fault":
            kept = _lay(self.target, _samples(self.folder / "samples"), number, self.keep / f"{self.target.name}-{number}")
            command = f"python tests/fuzz/runner.py --only {self.target.name} --again {number}  # kept: {kept}"
            self.result.faults.append((f"{self.target.name}: {outcome[7:]}", command))


def _read_all(target: Target, folder: Path, numbers: range, place: Path, outbox: Connection) -> None:
    """Read files and say of each what became of it. Runs in a process of its own."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    log = (folder / f"{place.name}.log").open("wb")
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    faulthandler.enable()
    warnings.simplefilter("ignore")
    samples = _samples(folder / "samples")
    for number in numbers:
        begun = time.perf_counter()
        path = _lay(target, samples, number, place)
        outcome = _outcome(target, path)
        if outcome != "read" and number < len(samples) and not path.name.startswith(ODD):
            outcome = "fault: a file that nobody damaged is not read"
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        outbox.send((outcome, time.perf_counter() - begun, peak))


def _outcome(target: Target, path: Path) -> str:
    try:
        target.read(path)
        return "read"
    except TetDeployError as error:
        return _problem(error) or type(error).__name__
    except BaseException as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return f"fault: {type(error).__name__}: {str(error)[:200]!r} in {Path(last.filename).name}:{last.lineno}"


def _problem(error: BaseException) -> str:
    """What is wrong with an error of our own, or empty."""
    text, cause = str(error), error
    if len(text) > _LONGEST or text.count("\n") > 2:
        return f"fault: a message of {len(text)} characters in {text.count(chr(10)) + 1} lines: {text[:200]!r}"
    if not text.replace("\n", "").isprintable():
        return f"fault: a message that cannot be printed: {text[:200]!r}"
    while cause := cause.__cause__ or cause.__context__:
        if isinstance(cause, MemoryError) or any(words in str(cause) for words in _NO_MEMORY):
            return f"fault: it asked for more than {MEMORY} bytes: {cause!s:.200}"
    return ""


def _write_samples(target: Target, folder: Path) -> None:
    folder.mkdir()
    target.samples(folder)


def _samples(folder: Path) -> list[tuple[str, Files]]:
    """Each sample's name and files; that of a file holds it alone, under an empty name."""
    return [
        (path.name, {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()})
        if path.is_dir()
        else (path.name, {"": path.read_bytes()})
        for path in sorted(folder.iterdir())
    ]


def _lay(target: Target, samples: list[tuple[str, Files]], number: int, place: Path) -> Path:
    """Put file number i into a fresh folder and say where it is."""
    rng = Random(f"{target.name} {number}")
    name, files = samples[number] if number < len(samples) else rng.choice(samples)
    special = dict(enumerate(((file, kind) for kind in SPECIAL for file in files), start=len(samples))).get(number)
    if number >= len(samples) and not special:
        files = target.damage(files, rng)
    shutil.rmtree(place, ignore_errors=True)
    for file, content in files.items():
        path = place / name / file if file else place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content) if not special or file != special[0] else _lay_special(path, special[1])
    return place / name


def _lay_special(path: Path, kind: str) -> None:
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "empty":
            path.touch()
        case "socket":
            import socket

            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(path))
        case _:
            path.symlink_to(path if kind == "itself" else path.with_name("absent") if kind == "nowhere" else kind)


def _in_a_process(function, *arguments) -> None:
    """Call a function where it can leave no threads and no memory behind for those that are forked later."""
    process = _FORK.Process(target=function, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        sys.exit(f"{arguments[0].name}: its samples cannot be written")


def _again(target: Target, number: int, scratch: Path) -> int:
    _in_a_process(_write_samples, target, scratch / "samples")
    path = _lay(target, _samples(scratch / "samples"), number, scratch / "again")
    print(f"reading {path}", flush=True)
    print(target.read(path))
    return 0


if __name__ == "__main__":
    main()
