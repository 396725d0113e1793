"""What can go wrong, each in one to three lines that end with the way out.

Every error names the thing, the requirement, what was found and the next step. The command line prints the
message without a traceback and leaves with `exit_code`: 1 where a check or a run failed, 2 where the request was wrong.
"""

import reprlib
import sys
import warnings


class TetDeployError(Exception):
    """Base of every error that tet_deploy raises on purpose."""

    exit_code = 2


def first_line(error: BaseException) -> str:
    """What an error says, in one short line, to stand inside another's."""
    return cut((str(error).strip().splitlines() or [type(error).__name__])[0])


def note(error: BaseException, words: str) -> None:
    """Add a line to what is shown of an error, as `add_note` does, which came with Python 3.11."""
    error.__notes__ = [*getattr(error, "__notes__", ()), words]


def with_notes(error: BaseException) -> str:
    """What an error says, and the lines that were added."""
    return "\n".join((str(error), *getattr(error, "__notes__", ())))


def shown(value: object) -> str:
    """A value that came from a file, as its `repr` in one short line, however large or nested it is."""
    try:
        return cut(_SHORT.repr(value))
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return f"a value of type {type(value).__name__} with an integer too long to show"


def cut(text: str) -> str:
    """Text that came from a file, at most 200 characters of it, and what cannot be printed as its escape."""
    text = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text[:201])
    return text if len(text) <= 200 else text[:197] + "..."


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 200
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = 20


class ArgumentError(TetDeployError, ValueError):
    """A value given to a function or command that is none of those it takes: a name, a number, a type."""


class TetDeployWarning(UserWarning):
    """Something that is allowed and seldom meant."""


def warn(message: str, category: type[TetDeployWarning]) -> None:
    """Warn of the line of the first caller that is none of ours, which is the one that people can change."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "tet_deploy":
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


class RangeWarning(TetDeployWarning):
    """Numbers of a quantized network left the chip's range in a run, so that it computed others; says where and how many."""


class GraphError(TetDeployError):
    """A network, a node or an edge that cannot be built, lowered or exported."""


class ArtifactError(TetDeployError):
    """A file or folder that cannot be read or written."""


class DataError(TetDeployError):
    """Frames, events or labels that do not fit the network."""


class DataWarning(TetDeployWarning):
    """Data were read, and something in them was left out, sorted or repaired; says what and how many."""


class QuantizationWarning(TetDeployWarning):
    """A network was quantized, and its integers follow the trained numbers less closely than they seem to."""


class MissingDependencyError(TetDeployError):
    """A library, an extra or an interpreter that is not installed."""


class ExecutionError(TetDeployError):
    """A runtime or a training run that started and did not finish."""

    exit_code = 1
