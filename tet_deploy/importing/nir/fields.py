"""A node of a NIR file, and what its fields may hold."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tet_deploy.errors import GraphError, shown
from tet_deploy.importing.nir.hdf5 import AGAIN

_ANY = ("metadata", "input_type", "output_type")  # fields that any node may have: they say nothing of what it computes
_LARGEST = 2**31  # whole number that a shape, a stride or the like holds


@dataclass(frozen=True, eq=False)
class NirNode:
    """One node as the file has it; the methods say what is wrong with a field by the node's name."""

    name: str
    kind: str
    fields: Mapping[str, Any]

    def __contains__(self, field: str) -> bool:
        return field in self.fields

    def check(self, needs: tuple[str, ...], knows: tuple[str, ...] = ()) -> None:
        """See that it has the fields of its kind and no other, which might change what it means."""
        missing = next((name for name in needs if name not in self), None)
        if missing is not None:
            raise self.refused(f"lacks {missing!r}, which a node of type {self.kind} has")
        unknown = next((name for name in self.fields if name not in (*needs, *knows, *_ANY)), None)
        if unknown is not None:
            raise self.refused(
                f"{shown(unknown)} is none of the fields of type {self.kind} that are known", "Update tet_deploy."
            )

    def array(self, field: str) -> np.ndarray:
        """Floats, all finite: float32 where that holds them exactly, float64 elsewhere."""
        found = self._numbers(field)
        if not np.isfinite(found).all():
            raise self.refused(f"{field} must hold finite numbers; it holds NaN or infinity", _INFINITE)
        if found.dtype == np.float32:
            return found
        wide = found.astype(np.float64)
        with np.errstate(over="ignore"):
            narrow = wide.astype(np.float32)
        if not np.isfinite(narrow).all():
            raise self.refused(f"{field} must hold numbers within float32's range; it reaches {np.abs(wide).max():g}")
        return narrow if np.array_equal(narrow, wide) else wide

    def constant(self, field: str, shape: tuple[int, ...]) -> float:
        """The one number that all neurons of a population of that shape share."""
        found = self.array(field)
        try:
            fits = found.size == 1 or np.broadcast_shapes(found.shape, shape) == shape
        except ValueError:
            fits = False
        if not fits and not (found.ndim == 1 and shape and found.shape[0] == shape[0]):
            raise self.refused(f"{field} has shape {found.shape}; the node's neurons have {shape}")
        least, greatest = float(found.min()), float(found.max())
        if least != greatest:
            raise self.refused(
                f"{field} must be one number for all neurons of the node; it goes from {least:g} to {greatest:g}"
                f"{_by_channel(found, shape)}",
                f"Train with one {field} for the layer.",
            )
        return least

    def whole(self, field: str) -> int:
        """One whole number."""
        return self.wholes(field, 1)[0]

    def wholes(self, field: str, count: int | None = None) -> tuple[int, ...]:
        """Whole numbers: `count` of them, where one stands for all, or as many as there are."""
        found = self._numbers(field).reshape(-1)
        if found.size > 32 or (count is not None and found.size not in (1, count)):
            raise self.refused(f"{field} must hold {count or 'at most 32'} whole numbers; it holds {found.size}")
        if not all(math.isfinite(value) and value == int(value) and abs(value) < _LARGEST for value in found.tolist()):
            raise self.refused(f"{field} must hold whole numbers; got {shown(found.tolist())}")
        values = tuple(int(value) for value in found.tolist())
        return values * count if count is not None and len(values) == 1 else values

    def replaced(self, **fields: Any) -> NirNode:
        """The same node with other fields."""
        return dataclasses.replace(self, fields={**self.fields, **fields})

    def refused(self, why: str, way_out: str = AGAIN) -> GraphError:
        """The error that names this node."""
        return GraphError(f"node {shown(self.name)}: {why}. {way_out}")

    def _numbers(self, field: str) -> np.ndarray:
        found = self.fields.get(field)
        if not isinstance(found, np.ndarray) or not found.size:
            what = "a group" if isinstance(found, dict) else shown(found) if isinstance(found, (str, list)) else "nothing"
            raise self.refused(f"{field} must hold numbers; got {what}")
        return found


_INFINITE = (
    "A decay of exactly 1 (snnTorch's beta = 1) is written so: export an integrate-and-fire neuron, or a decay below 1. "
    "If training diverged, restore a checkpoint."
)


def _by_channel(found: np.ndarray, shape: tuple[int, ...]) -> str:
    """Says so where numbers differ between channels only."""
    if len(shape) < 2 or found.shape != shape:
        return ""
    flat = found.reshape(shape[0], -1)
    return ", one for each channel" if (flat == flat[:, :1]).all() else ""
