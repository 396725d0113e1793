"""Real handwritten digits that need no download: scikit-learn's 1,797, as images or shown to a simulated event camera.

They are the test part of UCI's "Optical recognition of handwritten digits" (Alpaydin and Kaynak, 1998), 8x8 pixels with 17
levels of grey.
"""

from __future__ import annotations

import numpy as np

from tet_deploy.data.event_camera import EventCamera, simulate
from tet_deploy.data.event_frames import to_frames
from tet_deploy.data.frames import check_labels
from tet_deploy.data.sources import FrameData, from_arrays
from tet_deploy.errors import MissingDependencyError

CLASSES = 10
TEST_SHARE = 0.2
_LEVELS = 16.0  # grey levels above black


def load_digits(*, steps: int, seed: int = 0) -> FrameData:
    """1x8x8 images in [0, 1], the same at every step, split 80:20 so that every class has its share of both parts.

    `seed` is that of the split.

    Raises
    ------
    MissingDependencyError
        scikit-learn is not installed.
    """
    images, labels = _digits()
    return _split("digits", images[None, :, None], labels, "analog", seed, steps)


def load_event_digits(*, steps: int, seed: int = 0) -> FrameData:
    """2x20x20 event counts, three saccades cut into `steps` equal times; computed anew in seconds, split as the images are.

    `seed` is that of the split, and of the camera.

    Raises
    ------
    MissingDependencyError
        scikit-learn is not installed.
    """
    images, labels = _digits()
    camera = EventCamera()
    events = simulate(images, camera, seed=seed)
    frames = to_frames(events, steps=steps, duration=camera.duration, sensor_size=camera.sensor_size)
    return _split("event-digits", frames, labels, "events", seed)


def _digits() -> tuple[np.ndarray, np.ndarray]:
    """Images float32 [N, 8, 8] and labels."""
    try:
        from sklearn.datasets import load_digits as read
    except ModuleNotFoundError as error:
        raise MissingDependencyError("digits need scikit-learn. Run: pip install 'tet-deploy[digits]'") from error
    images, labels = read(return_X_y=True)
    images = images.reshape(-1, 8, 8).astype(np.float32) / np.float32(_LEVELS)
    return images, check_labels(labels, samples=len(images), classes=CLASSES)


def _split(
    name: str, frames: np.ndarray, labels: np.ndarray, encoding: str, seed: int, shown_for: int | None = None
) -> FrameData:
    from sklearn.model_selection import train_test_split

    train, test = train_test_split(np.arange(len(labels)), test_size=TEST_SHARE, stratify=labels, random_state=seed)
    return from_arrays(
        name=name,
        train_frames=np.ascontiguousarray(frames[:, train]),
        train_labels=labels[train],
        test_frames=np.ascontiguousarray(frames[:, test]),
        test_labels=labels[test],
        encoding=encoding,
        seed=seed,
        classes=CLASSES,
        steps=shown_for,
    )
