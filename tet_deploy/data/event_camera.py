"""A simulated event camera that looks at images while it makes three saccades, as N-MNIST was recorded.

A pixel sends an event each time its log intensity has moved by a threshold C since its last event:

    |log(I(t) + floor) - reference| >= C * (1 + mismatch of this pixel) ;  reference moves by that much ;  p = 1 if brighter

which is the model of ESIM (Rebecq et al., CoRL 2018) and v2e (Hu et al., CVPRW 2021). Saccades: Orchard et al., Frontiers
in Neuroscience 2015.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tet_deploy.contracts import as_array
from tet_deploy.errors import DataError

EVENT_DTYPE = np.dtype([("x", np.int16), ("y", np.int16), ("t", np.int64), ("p", np.int8)])  # t in microseconds
_CORNERS = np.array([[-1, -1], [0, 1], [1, -1], [-1, -1]], dtype=np.float64)  # (x, y) at the ends of the three saccades


@dataclass(frozen=True, kw_only=True)
class EventCamera:
    """The camera and its movement.

    Attributes
    ----------
    size
        Pixels in height and in width.
    image_size
        Pixels that an image covers, centred; it is enlarged by cubic convolution. Around it, all is dark.
    amplitude
        Pixels from the centre to the corners of the saccades.
    duration
        Microseconds for the three of them.
    renderings
        Images rendered along the way; between two of them the log intensity runs straight.
    contrast, mismatch
        Threshold C, and the relative standard deviation of C over the pixels.
    floor
        Added to intensities in [0, 1], so that darkness has a logarithm.
    noise
        Events per pixel and second that nothing caused.
    """

    size: int = 20
    image_size: int = 16
    amplitude: float = 2.0
    duration: int = 300_000
    renderings: int = 150
    contrast: float = 0.25
    mismatch: float = 0.03
    floor: float = 0.15
    noise: float = 1.0

    @property
    def sensor_size(self) -> tuple[int, int, int]:
        """Width, height and polarities, as tonic's transforms take it."""
        return (self.size, self.size, 2)


def simulate(images: np.ndarray, camera: EventCamera | None = None, *, seed: int = 0) -> list[np.ndarray]:
    """Show images to an event camera.

    Parameters
    ----------
    images
        [N, H, W] in [0, 1].
    camera
        Default: `EventCamera()`.
    seed
        Of the pixels' thresholds and the noise.

    Returns
    -------
    list of np.ndarray
        Per image its events in order of time, structured as EVENT_DTYPE: what tonic's transforms take.

    Raises
    ------
    DataError
        Images of another rank or range.
    """
    images = as_array(images).astype(np.float32)
    if images.ndim != 3 or not images.size or not (images.min() >= 0 and images.max() <= 1):
        raise DataError(f"event camera: images must be [N, H, W] with values in [0, 1]; got shape {images.shape}.")
    camera = camera or EventCamera()
    rng = np.random.default_rng(seed)
    spread = rng.standard_normal((camera.size, camera.size))
    thresholds = (camera.contrast * (1 + camera.mismatch * spread)).astype(np.float32)
    path = _saccades(camera)
    before = _log_intensity(images, path[0], camera)
    reference = before.copy()
    chunks = [_noise(rng, len(images), camera)]
    for index, position in enumerate(path[1:]):
        after = _log_intensity(images, position, camera)
        chunks.append(_crossings(before, after, reference, thresholds, index, camera))
        before = after
    return _by_image(chunks, len(images))


def _saccades(camera: EventCamera) -> np.ndarray:
    """Gaze (x, y) in pixels at each rendering, [renderings + 1, 2]."""
    progress = np.linspace(0, 3, camera.renderings + 1)
    return camera.amplitude * np.stack([np.interp(progress, np.arange(4), _CORNERS[:, axis]) for axis in (0, 1)], axis=-1)


def _log_intensity(images: np.ndarray, gaze: np.ndarray, camera: EventCamera) -> np.ndarray:
    """What the pixels see, float32 [N, size, size]."""
    rows = _resampling(images.shape[1], gaze[1], camera)
    columns = _resampling(images.shape[2], gaze[0], camera)
    intensity = np.clip(rows @ images @ columns.T, 0, 1)
    return np.asarray(np.log(intensity + np.float32(camera.floor)))


def _resampling(pixels: int, offset: float, camera: EventCamera) -> np.ndarray:
    """Weights [size, pixels] of an image's pixels for each camera pixel: cubic convolution with a = -0.75 (Keys, 1981)."""
    centres = np.arange(camera.size) + 0.5 + offset - (camera.size - camera.image_size) / 2
    positions = centres * pixels / camera.image_size - 0.5
    d = np.abs(positions[:, None] - np.arange(pixels))
    a = -0.75
    near = ((a + 2) * d - (a + 3)) * d**2 + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0)).astype(np.float32)


def _crossings(
    before: np.ndarray, after: np.ndarray, reference: np.ndarray, thresholds: np.ndarray, index: int, camera: EventCamera
) -> tuple[np.ndarray, ...]:
    """Events (image, x, y, t, p) between two renderings [N, size, size]; moves `reference` by what they report."""
    levels = ((after - reference) / thresholds).astype(np.int32)  # truncates: whole thresholds crossed, signed
    image, y, x = np.nonzero(levels)
    crossed = levels[image, y, x]
    start = reference[image, y, x]
    reference[image, y, x] += crossed * thresholds[y, x]

    count = np.abs(crossed)
    event = np.repeat(np.arange(len(count)), count)
    order = np.arange(len(event)) - np.repeat(np.cumsum(count) - count, count) + 1  # 1, 2, ... at each pixel
    image, y, x, sign = image[event], y[event], x[event], np.sign(crossed)[event]
    level = start[event] + order * sign * thresholds[y, x]
    risen = after[image, y, x] - before[image, y, x]
    with np.errstate(divide="ignore", invalid="ignore"):
        fraction = np.nan_to_num(np.clip((level - before[image, y, x]) / risen, 0, 1))
    t = ((index + fraction) * (camera.duration / camera.renderings)).astype(np.int64)
    return image, x, y, np.minimum(t, camera.duration - 1), sign > 0


def _noise(rng: np.random.Generator, images: int, camera: EventCamera) -> tuple[np.ndarray, ...]:
    """Events (image, x, y, t, p), uniform over pixels, time and polarity."""
    pixels = images * camera.size**2
    count = rng.poisson(camera.noise * camera.duration * 1e-6 * pixels)
    image, y, x = np.unravel_index(rng.integers(0, pixels, count), (images, camera.size, camera.size))
    return image, x, y, rng.integers(0, camera.duration, count), rng.random(count) < 0.5


def _by_image(chunks: list[tuple[np.ndarray, ...]], images: int) -> list[np.ndarray]:
    image, x, y, t, p = (np.concatenate(column) for column in zip(*chunks, strict=True))
    order = np.lexsort((t, image))
    events = np.empty(len(image), EVENT_DTYPE)
    for name, column in (("x", x), ("y", y), ("t", t), ("p", p)):
        events[name] = column[order]
    return np.split(events, np.searchsorted(image[order], np.arange(1, images)))
