"""Event streams to frames of event counts: T equal blocks of time, exact in any unit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tet_deploy.errors import ArgumentError, DataError


def to_frames(events: Sequence[np.ndarray], *, steps: int, duration: int, sensor_size: tuple[int, int, int]) -> np.ndarray:
    """Count events in T blocks of equal time.

    Event (x, y, t, p) adds 1 at [block, p, y, x], where

        block = floor(t T / duration), and T - 1 for t = duration

    in whole numbers of any size: no width is rounded, so all blocks are as long as they can be told apart, in any unit.

    Parameters
    ----------
    events
        Per sample a structured array with x, y, t, p, of whole numbers; 0 <= t <= duration, in any order.
    steps
        Number of blocks T.
    duration
        Of every sample, in the unit of t.
    sensor_size
        Width, height, polarities.

    Returns
    -------
    np.ndarray
        float32 [T, N, polarity, height, width]: counts.

    Raises
    ------
    ArgumentError
        No step, no time, or no sample.
    DataError
        An event outside of the sensor or the duration.
    """
    if steps < 1 or duration < 1 or not len(events):
        raise ArgumentError(
            "event frames: need at least one step, one unit of time and one sample; "
            f"got {steps}, {duration} and {len(events)}."
        )
    width, height, polarities = sensor_size
    shape = (steps, polarities, height, width)
    starts = np.array([-(-block * duration // steps) for block in range(1, steps)], dtype=np.int64)
    frames = np.zeros((steps, len(events), *shape[1:]), dtype=np.float32)
    for sample, stream in enumerate(events):
        t = stream["t"].astype(np.int64)
        if len(t) and not 0 <= t.min() <= t.max() <= duration:
            raise DataError(f"event frames: t must lie in 0..{duration}; sample {sample} has {t.min()}..{t.max()}.")
        place = (np.searchsorted(starts, t, side="right"), *(stream[name].astype(np.int64) for name in "pyx"))
        try:
            index = np.ravel_multi_index(place, shape)
        except ValueError:
            raise DataError(f"event frames: sample {sample} has events outside of the sensor {sensor_size}.") from None
        frames[:, sample] = np.bincount(index, minlength=np.prod(shape)).reshape(shape)
    return frames
