"""Frames in a file, checked as tet_deploy checks frames in memory, block by block."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .reading import Refused, npy_header, opened

_LARGEST_FILE = 2**50  # bytes; it is never in memory as a whole
_VALUES_AT_A_TIME = 2**22


def check_frames(path: Path, entry: Mapping[str, Any]) -> tuple[int, int]:
    """Check the frames in a .npy file against a plan's input.

    Parameters
    ----------
    path
        The file.
    entry
        The plan's "input": of it "shape" and "encoding".

    Returns
    -------
    tuple
        Steps T and samples B.

    Raises
    ------
    Refused
        No .npy file, wrong rank, channels, size or dtype, no step or no sample, NaN or infinity, and where events are
        counted fractions or negative numbers.
    """
    layout = f"[T, B, {', '.join(map(str, entry['shape']))}]"
    with opened(path, _LARGEST_FILE, "Write frames with numpy.save.") as file:
        try:
            header = npy_header(file.read(2**14))
        except ValueError as error:
            raise Refused(
                f"{path}: must be a .npy file of numbers {layout}: {error}", "Write it with numpy.save."
            ) from error
        if len(header.shape) != len(entry["shape"]) + 2 or list(header.shape[2:]) != list(entry["shape"]):
            raise Refused(f"{path}: must hold {layout}, time first; got shape {header.shape!s:.200}", "Move or add axes.")
        if 0 in header.shape:
            raise Refused(
                f"{path}: needs at least one step and one sample in {layout}; got shape {header.shape!s:.200}", "Add some."
            )
        if header.size > file.seek(0, 2):
            raise Refused(f"{path}: is shorter than its header says", "Write it again.")
        frames = np.memmap(file, header.dtype, "r", header.offset, header.shape, "F" if header.fortran_order else "C")
        problem, way_out = _problem(frames.ravel(order="K"), entry["encoding"] == "events")
    if problem:
        raise Refused(f"{path}: {problem}", way_out)
    return header.shape[0], header.shape[1]


def check_period(path: Path, steps: int, plan: Mapping[str, Any]) -> None:
    """Check that so many steps of a sample fit into the period of a plan, if it has one.

    Raises
    ------
    Refused
        They do not.
    """
    period = plan.get("period", steps)
    if steps > period:
        needed = 1 << (steps - 1).bit_length()
        raise Refused(
            f"{path}: has {steps} steps a sample; the bundle's neurons are reset every {period}",
            f"Export the network again with period={needed} (--period {needed}).",
        )


def _problem(values: np.ndarray, events: bool) -> tuple[str, str]:
    """What is wrong with the first block that is wrong, and the way out."""
    for start in range(0, len(values), _VALUES_AT_A_TIME):
        with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite
            block = values[start : start + _VALUES_AT_A_TIME].astype(np.float32)
        if not np.isfinite(block).all():
            return "must be finite; found NaN or infinity", "Look at the preprocessing."
        if events and not np.array_equal(block, np.rint(block)):
            return "the network's input counts events: whole numbers; found fractions", "Do not normalise event frames."
        if events and block.min() < 0:
            return f"the network's input counts events; found {block.min():g}", "Give each polarity a channel of its own."
    return "", ""
