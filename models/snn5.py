"""SNN-5 of Deng et al., ICLR 2022, section 5 and figure 7: "suitable for multiple runs to discover statistical rules"."""

from __future__ import annotations

from collections.abc import Sequence

from tet_deploy.models.notation import from_notation
from tet_deploy.nn import TimeMajor


def snn5(shape: Sequence[int] = (3, 32, 32), classes: int = 10, width: float = 1.0) -> TimeMajor:
    """16C3-64C5-AP2-128C5-AP2-256C5-AP2-512C3-AP2-FC; frames of at least 16x16."""
    return from_notation("16C3-64C5-AP2-128C5-AP2-256C5-AP2-512C3-AP2-FC", shape, classes, width=width)
