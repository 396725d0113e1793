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
        found = self._per_neuron(field, shape)
        least, greatest = float(found.min()), float(found.max())
        if least != greatest:
            raise self.refused(
                f"{field} must be one number for all neurons of the node; it goes from {least:g} to {greatest:g}"
                f"{', one for each channel' if _is_by_channel(found) else ''}",
                f"Train with one {field} for the layer.",
            )
        return least

    def by_channel(self, field: str, shape: tuple[int, ...]) -> float | np.ndarray:
        """The one number that all neurons of a population share; or those [C] that the neurons of each channel share."""
        found = self._per_neuron(field, shape)
        if found.min() == found.max():
            return float(found.min())
        if not _is_by_channel(found):
            raise self.refused(
                f"{field} must be one number for all neurons of a channel; within one it differs",
                f"Train with one {field} for the layer, or for each channel.",
            )
        return np.asarray(found.reshape(len(found), -1)[:, 0])

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

    def _per_neuron(self, field: str, shape: tuple[int, ...]) -> np.ndarray:
        """Numbers of a population of that shape, of one for all, for each channel or for each neuron."""
        found = self.array(field)
        if found.size == 1:
            return np.broadcast_to(found.reshape(()), shape)
        try:
            return np.broadcast_to(found, shape)
        except ValueError:
            if found.ndim == 1 and shape and len(found) == shape[0]:
                return np.broadcast_to(found.reshape(-1, *(1,) * (len(shape) - 1)), shape)
            raise self.refused(f"{field} has shape {found.shape}; the node's neurons have {shape}") from None

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


def _is_by_channel(found: np.ndarray) -> bool:
    """Whether the numbers of a population differ between channels only."""
    flat = found.reshape(len(found), -1)
    return bool((flat == flat[:, :1]).all())
