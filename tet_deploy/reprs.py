"""Short reprs for values that hold arrays: an array is its type and shape, a mapping its keys."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

_MANY = 8  # keys of a mapping that are shown
_LONG = 60  # characters of anything else


def short_repr(self: Any) -> str:
    """What stands as `__repr__` in a dataclass: its fields, save those with their default value, each in a few words."""
    fields = [field for field in dataclasses.fields(self) if field.repr]
    shown = (f"{field.name}={_short(getattr(self, field.name))}" for field in fields if not _is_default(self, field))
    return f"{type(self).__name__}({', '.join(shown)})"


def _short(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"<{value.dtype} {list(value.shape)}>"
    if isinstance(value, Mapping):
        keys = [str(key) for key in value]
        more = f" and {len(keys) - _MANY} more" if len(keys) > _MANY else ""
        return f"<of {', '.join(keys[:_MANY]) or 'nothing'}{more}>"
    text = repr(value)
    return text if len(text) <= _LONG or dataclasses.is_dataclass(value) else f"{text[: _LONG - 3]}..."


def _is_default(self: Any, field: dataclasses.Field[Any]) -> bool:
    value = getattr(self, field.name)
    return isinstance(value, (str, int, float, tuple, type(None))) and value == field.default
