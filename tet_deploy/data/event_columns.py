"""Named columns x, y, t, p to one array of events; columns without names are refused with what they look like."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tet_deploy.data.event_clock import ticks
from tet_deploy.errors import DataError, cut
from tet_deploy.reprs import short_repr

# Wide, so that a coordinate off the sensor is seen instead of wrapped; p is 0 (off) or 1 (on).
WIDE_EVENT_DTYPE = np.dtype([("x", np.int64), ("y", np.int64), ("t", np.int64), ("p", np.int8)])
NAMES = {  # column -> what files call it, in any case
    "x": ("x", "xs"),
    "y": ("y", "ys"),
    "t": ("t", "ts", "time", "times", "timestamp", "timestamps"),
    "p": ("p", "ps", "pol", "polarity", "polarities", "on"),
}
_LARGEST = 2**53  # of coordinates in floating point; NaN is not below it either


@dataclass(frozen=True, kw_only=True, eq=False)
class EventStream:
    """The events of one recording.

    Attributes
    ----------
    events
        WIDE_EVENT_DTYPE, in the file's order, t in ticks of the file's clock.
    sensor_size
        Width and height of the camera, if the file says so.
    repairs
        What was left out or changed -> how many.
    decimals
        Whether the file's times were decimals, of which the ticks are the last digits.
    """

    events: np.ndarray
    sensor_size: tuple[int, int] | None = None
    repairs: Mapping[str, int] = field(default_factory=dict)
    decimals: bool = False
    __repr__ = short_repr


def named(names: Iterable[str]) -> dict[str, str] | None:
    """Which of these names stands for x, y, t and p; None where one is missing or stands twice."""
    names = list(names)
    found = {column: [name for name in names if name.lower() in known] for column, known in NAMES.items()}
    return {column: one[0] for column, one in found.items()} if all(len(one) == 1 for one in found.values()) else None


def as_events(path: object, columns: Mapping[str, Any] | np.ndarray) -> EventStream:
    """Columns of whole numbers to a stream of events.

    Raises
    ------
    DataError
        Columns that have no names, are missing, of different lengths, or hold what they cannot; a polarity that is none.
    """
    if isinstance(columns, np.ndarray) and columns.dtype.names is None:
        raise unnamed(path, columns)
    names = columns.dtype.names or () if isinstance(columns, np.ndarray) else tuple(columns)
    known = named(names)
    if known is None:
        raise DataError(
            f"{path}: events need one column each of x, y, t and p; found {listed(names)}. "
            "Name them, for example with np.savez(path, x=..., y=..., t=..., p=...)."
        )
    arrays = {column: np.asarray(columns[name]) for column, name in known.items()}
    shapes = {column: array.shape for column, array in arrays.items()}
    if len(set(shapes.values())) != 1 or arrays["t"].ndim != 1:
        raise DataError(f"{path}: x, y, t and p must be of one length; got {shapes}.")
    t, rounded = ticks(str(path), arrays["t"])
    events = np.empty(len(t), WIDE_EVENT_DTYPE)
    events["t"], events["p"] = t, _polarity(path, arrays["p"])
    for axis in "xy":
        events[axis] = _whole(path, axis, arrays[axis])
    decimals = arrays["t"].dtype.kind == "f" and not np.array_equal(t, arrays["t"])
    repairs = {"times with too many decimals, rounded": rounded} if rounded else {}
    return EventStream(events=events, repairs=repairs, decimals=decimals)


def unnamed(path: object, array: np.ndarray) -> DataError:
    """What to do with an array whose columns have no names."""
    rows = array.T if array.ndim == 2 and array.shape[0] == 4 != array.shape[1] else array
    found = f"{path}: holds an array of {array.dtype} of shape {array.shape} whose columns have no names"
    if rows.ndim != 2 or rows.shape[1] != 4 or rows.dtype.kind not in "iufb":
        return DataError(
            f"{found}, and events need x, y, t and p. Save them with np.savez(path, x=..., y=..., t=..., p=...)."
        )
    rest = ":, " if rows is array else ""
    order, looks = _guess(rows)
    named_so = ", ".join(f"{name}=a[{rest}{column}]" for column, name in enumerate(order))
    return DataError(f"{found}{looks}. Name them: np.savez(path, {named_so}).")


def listed(names: Iterable[str]) -> str:
    """A list of names from a file, cut where it is long."""
    return cut(", ".join(map(repr, names))) or "none"


def _guess(rows: np.ndarray) -> tuple[str, str]:
    """Names of four columns in order, and the words that say whether anything speaks for them."""
    polarities = [c for c in range(4) if np.isin(rows[:, c], (-1, 0, 1)).all()]
    ordered = [c for c in range(4) if c not in polarities and (np.diff(rows[:, c].astype(np.float64)) >= 0).all()]
    if len(rows) < 2 or len(polarities) != 1 or len(ordered) != 1:
        return "xytp", " and do not show which is which; for example, if they are x, y, t and p"
    order = ["x", "y"]
    for column, name in sorted([(polarities[0], "p"), (ordered[0], "t")]):
        order.insert(column, name)
    return "".join(order), f"; they look like {', '.join(order)} (which of x and y comes first does not show)"


def _whole(path: object, name: str, array: np.ndarray) -> np.ndarray:
    whole = array.dtype.kind in "iub" or (
        array.dtype.kind == "f" and (np.abs(array) < _LARGEST).all() and np.array_equal(array, np.rint(array))
    )
    if not whole:
        raise DataError(f"{path}: {name} must be whole numbers, the pixel's column and row; got {array.dtype}. Convert it.")
    return array.astype(np.int64)


def _polarity(path: object, array: np.ndarray) -> np.ndarray:
    """0 or 1, from 0 and 1, or from -1 and 1."""
    if array.dtype.kind not in "iubf":
        raise DataError(f"{path}: p must be numbers; got {array.dtype}. Convert it.")
    values = np.unique(array)
    if not (np.isin(values, (0, 1)).all() or np.isin(values, (-1, 1)).all()):
        lost = array.dtype.kind == "u" and values[-1] == np.iinfo(array.dtype).max
        hint = f"{values[-1]} is -1 that lost its sign. " if lost else ""
        shown = ", ".join(f"{value:g}" for value in values[:5]) + (", ..." if len(values) > 5 else "")
        raise DataError(f"{path}: polarity must be 0 or 1, or -1 or 1; found {shown}. {hint}Convert it.")
    return array > 0
