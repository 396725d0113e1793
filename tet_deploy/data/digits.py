"""Real handwritten digits that need no download: scikit-learn's 1,797, as images or shown to a simulated event camera.

They are the test part of UCI's "Optical recognition of handwritten digits" (Alpaydin and Kaynak, 1998), 8x8 pixels with 17
levels of grey.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tet_deploy.data.event_camera import EventCamera, simulate
from tet_deploy.data.event_frames import to_frames
from tet_deploy.data.frames import check_labels
from tet_deploy.errors import DataError, MissingDependencyError

DATA = {"digits": "analog", "event-digits": "events"}  # name -> encoding
CLASSES = 10
TEST_SHARE = 0.2
_LEVELS = 16.0  # grey levels above black


@dataclass(frozen=True, kw_only=True, eq=False)
class DigitData:
    """Frames float32 [T, N, C, H, W] and labels int64 [N], split into training and test samples.

    `shape` is (C, H, W), `encoding` what the network's Input says ("analog" or "events").
    """

    name: str
    train_frames: np.ndarray
    train_labels: np.ndarray
    test_frames: np.ndarray
    test_labels: np.ndarray
    encoding: str
    seed: int
    classes: int = CLASSES

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) of one frame."""
        return self.train_frames.shape[2:]

    @property
    def steps(self) -> int:
        """Number of time steps T."""
        return int(self.train_frames.shape[0])


def load(name: str, *, steps: int, seed: int = 0) -> DigitData:
    """Load digits, split 80:20 so that every class has its share of both parts.

    Parameters
    ----------
    name
        "digits": 1x8x8 images in [0, 1], the same at every step.
        "event-digits": 2x20x20 event counts, three saccades cut into `steps` equal times; computed anew in seconds.
    steps
        Number of time steps T.
    seed
        Of the split, and of the camera.

    Raises
    ------
    DataError
        An unknown name, or no step.
    MissingDependencyError
        scikit-learn, or tonic for events, is not installed.
    """
    if name not in DATA:
        raise DataError(f"data {name!r}: must be one of {', '.join(DATA)}, or load frames of your own with load_frames.")
    if steps < 1:
        raise DataError(f"data {name!r}: needs at least one time step; got {steps}.")
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ModuleNotFoundError as error:
        raise MissingDependencyError("digits need scikit-learn. Install it with: pip install 'tet_deploy[train]'") from error
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8).astype(np.float32) / np.float32(_LEVELS)
    labels = check_labels(labels, samples=len(images), classes=CLASSES)
    frames = _as_events(images, steps, seed) if name == "event-digits" else _as_repeated(images, steps)
    train, test = train_test_split(np.arange(len(labels)), test_size=TEST_SHARE, stratify=labels, random_state=seed)
    return DigitData(
        name=name,
        train_frames=np.ascontiguousarray(frames[:, train]),
        train_labels=labels[train],
        test_frames=np.ascontiguousarray(frames[:, test]),
        test_labels=labels[test],
        encoding=DATA[name],
        seed=seed,
    )


def _as_repeated(images: np.ndarray, steps: int) -> np.ndarray:
    return np.broadcast_to(images[None, :, None], (steps, len(images), 1, *images.shape[1:]))


def _as_events(images: np.ndarray, steps: int, seed: int) -> np.ndarray:
    camera = EventCamera()
    events = simulate(images, camera, seed=seed)
    return to_frames(events, steps=steps, duration=camera.duration, sensor_size=camera.sensor_size)
