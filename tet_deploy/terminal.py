"""What a person sees: progress on standard error, so that results can be piped, and results on standard output.

What is printed is data, names of files and of nodes among it: nothing in it is read as markup or as a control character.
"""

from __future__ import annotations

import contextlib
import io
import sys
import time
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text

from tet_deploy.contracts import Progress
from tet_deploy.errors import ArtifactError
from tet_deploy.layout import Table, wrapped

console = Console(stderr=True, markup=False, emoji=False, highlight=False)
output = Console(markup=False, emoji=False, highlight=False)
_WORDS, _BAR = 24, 28  # characters of a progress bar's line


def say(what: str | Table) -> None:
    """Print a result: text as it is, or a table that fits the terminal."""
    if isinstance(what, Table):
        output.print(Text(plain("\n".join(wrapped(what.title, output.width))), style="bold"), end="\n\n", soft_wrap=True)
        output.print(plain(what.fit(output.width)), end="\n\n", soft_wrap=True)
    else:
        output.print(plain(what), soft_wrap=True)


def say_now(text: str) -> None:
    """Print a line of a result that goes on, and see that a reader gets it at once."""
    print(plain(text), flush=True)


def reader_left() -> bool:
    """Whether nobody reads standard output any more; see `let_readers_leave`."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return isinstance(raw, _Patient) and not raw.open


def tell(text: str) -> None:
    """Print a remark or an error, on standard error, above a progress bar if there is one."""
    console.print(plain(text), soft_wrap=True)


def let_readers_leave() -> None:
    """From now on, standard output takes what nobody reads any more, so that `| head` changes no exit code.

    Also a name of a file that is no valid text then prints, escaped.
    """
    output = sys.stdout
    if output is None:  # closed from the beginning
        return
    raw = _Patient(output.fileno(), "wb", closefd=False)
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=output.encoding, errors="backslashreplace", line_buffering=output.isatty()
    )


class _Patient(io.FileIO):
    """A file that swallows what its reader, who has left, does not want; and all that follows a failure."""

    open = True

    def write(self, data: Any, /) -> int:
        """Write, or say once why not."""
        try:
            return super().write(data) if self.open else memoryview(data).nbytes
        except BrokenPipeError:
            self.open = False
            return memoryview(data).nbytes
        except OSError as error:
            self.open = False
            raise ArtifactError(f"standard output: cannot be written ({error.strerror}).") from error


def plain(text: str) -> str:
    """Text in which everything that does not print, save line breaks, is written out: `\\x1b`."""
    return "".join(char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode() for char in text)


@contextlib.contextmanager
def progress_bar(description: str) -> Iterator[Progress]:
    """A bar with count, rate, time passed and left; give what this yields to anything that takes a progress callback."""
    with RichProgress(*_columns(console.width), console=console) as bars:
        task = bars.add_task(description, total=None)

        def update(done: int, total: int) -> None:
            bars.update(task, completed=done, total=total)

        yield update
        total = bars.tasks[0].total or 1
        bars.update(task, completed=total, total=total)


def _columns(width: int) -> list[ProgressColumn]:
    """The count always; then, as far as the width allows, the times, what is being done, a bar and the rate."""
    columns: list[ProgressColumn] = [MofNCompleteColumn()]
    room = width - len("100000/100000")
    if room > (times := len(" 0:00:00 left 0:00:00")):
        columns += [TimeElapsedColumn(), TextColumn("left", markup=False), TimeRemainingColumn()]
        room -= times
    if room > (rate := len(" 1.23e+04/s")) + _WORDS + _BAR:
        columns.insert(1, _Rate())
        room -= rate
    if room > _WORDS + 10:
        columns.insert(0, BarColumn(bar_width=min(room - _WORDS - 2, _BAR)))
        room -= min(room - _WORDS, _BAR)
    return [_Description(room - 1), *columns] if room > 10 else columns


class _Description(ProgressColumn):
    """What is being done, in at most so many characters."""

    def __init__(self, most: int) -> None:
        self.most = most
        super().__init__()

    def render(self, task: Task) -> Text:
        words = plain(task.description)
        return Text((words if len(words) <= self.most else words[: self.most - 1] + "…").ljust(min(_WORDS, self.most)))


class _Rate(ProgressColumn):
    """How many of what is counted are done in a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if not speed else f"{speed:.3g}/s")


class Stages:
    """Runs the parts of a long command one after another, each with a bar, and remembers how long they took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, name: str, description: str) -> Iterator[Progress]:
        """One stage: its key in `seconds`, and what the person reads."""
        start = time.perf_counter()
        with progress_bar(description) as progress:
            yield progress
        self.seconds[name] = round(time.perf_counter() - start, 2)
