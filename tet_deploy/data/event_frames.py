"""Event streams to frames of event counts, through tonic."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tet_deploy.errors import ArgumentError, MissingDependencyError


def to_frames(events: Sequence[np.ndarray], *, steps: int, duration: int, sensor_size: tuple[int, int, int]) -> np.ndarray:
    """Count events in equal bins of time.

    Parameters
    ----------
    events
        Per sample a structured array with x, y, t, p, in order of t.
    steps
        Number of bins T. All last ceil(duration / T); the first starts at t = 0.
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
        No step, more steps than units of time, or no sample.
    MissingDependencyError
        tonic is not installed.
    """
    if not 1 <= steps <= duration or not len(events):
        raise ArgumentError(
            f"event frames: need 1 to {duration} steps and one sample or more; got {steps} and {len(events)}."
        )
    try:
        from tonic.transforms import ToFrame
    except ModuleNotFoundError as error:
        raise MissingDependencyError("event data need tonic. Install it with: pip install 'tet_deploy[events]'") from error
    window = -(-duration // steps)
    transform = ToFrame(sensor_size=sensor_size, time_window=window, start_time=0, end_time=window * steps)
    width, height, polarities = sensor_size
    frames = np.zeros((steps, len(events), polarities, height, width), dtype=np.float32)
    for sample, stream in enumerate(events):
        if len(stream):  # tonic gives one frame, not T, for a sample without events
            frames[:, sample] = transform(stream)
    return frames
