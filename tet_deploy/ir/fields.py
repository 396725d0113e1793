"""What a field of a node may hold, by its annotation: numpy's numbers become Python's, lists tuples, arrays read-only."""

from __future__ import annotations

import numbers
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from tet_deploy.errors import GraphError, shown


def read_field(annotation: str, value: Any, name: str) -> Any:
    """The value as a node keeps it.

    Raises
    ------
    GraphError
        The value is of another type; `name` begins the message.
    """
    kind, _, optional = (annotation, "", "") if annotation in _READERS else annotation.partition(" | ")
    if value is None and optional:
        return None
    words, read = _READERS[kind]
    try:
        return read(value)
    except (TypeError, ValueError, OverflowError):
        raise GraphError(f"{name} must be {words}; got {_found(value)}.") from None


def _found(value: Any) -> str:
    return shown(value) if isinstance(value, (str, bool, int, float, list, tuple)) else type(value).__name__


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return str(value)


def _whole(value: Any) -> int:
    if isinstance(value, (bool, np.ndarray)):
        raise TypeError
    return operator.index(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError
    real = float(value)  # also where it stays whole: larger ones than a float holds are refused
    return int(value) if isinstance(value, numbers.Integral) else real


def _quantization(value: Any) -> Any:
    if type(value).__name__ != "Quantization":  # its class reads its own fields by this module
        raise TypeError
    return value


def _array(value: Any) -> np.ndarray:
    if not isinstance(value, np.ndarray):
        raise TypeError
    native = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("="))
    frozen = native.copy() if native.flags.writeable else native.view()  # nobody else may change a node's numbers
    frozen.flags.writeable = False
    return frozen


def _tuple_of(read: Callable[[Any], Any], length: int | None = None) -> Callable[[Any], tuple[Any, ...]]:
    def read_all(values: Any) -> tuple[Any, ...]:
        if not isinstance(values, (list, tuple)) or length not in (None, len(values)):
            raise TypeError
        return tuple(map(read, values))

    return read_all


def _either(value: Any, array: Callable[[Any], Any], kinds: tuple[type, ...]) -> Any:
    if isinstance(value, np.ndarray) and value.ndim == 0:
        return _number(value.item())
    return array(value) if isinstance(value, kinds) else _number(value)


_READERS: dict[str, tuple[str, Callable[[Any], Any]]] = {  # annotation: in words, and how it is read
    "np.ndarray": ("a numpy array", _array),
    "Quantization": ("a Quantization", _quantization),
    "str": ("a string", _text),
    "int": ("a whole number", _whole),
    "float": ("a number", _number),
    "float | np.ndarray": ("a number or a numpy array", lambda value: _either(value, _array, (np.ndarray,))),
    "float | tuple[float, ...]": (
        "a number or a tuple of numbers",
        lambda value: _either(value, _tuple_of(_number), (list, tuple)),
    ),
    "Pair": ("a pair of whole numbers", _tuple_of(_whole, 2)),
    "tuple[int, ...]": ("a tuple of whole numbers", _tuple_of(_whole)),
    "tuple[str, ...]": ("a tuple of strings", _tuple_of(_text)),
}
