"""The event camera reports changes of log intensity, in order, reproducibly, in arrays that tonic takes."""

import dataclasses

import numpy as np
import pytest
from tonic import transforms

from tet_deploy.data.event_camera import EVENT_DTYPE, EventCamera, simulate
from tet_deploy.errors import DataError

SILENT = EventCamera(noise=0.0)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).random((6, 8, 8))


def test_the_same_seed_gives_the_same_events(images):
    """Equal seeds give equal arrays; another seed gives another camera."""
    first, again, other = simulate(images, seed=1), simulate(images, seed=1), simulate(images, seed=2)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_events_are_in_order_and_on_the_sensor(images):
    """Times rise within the recording, pixels lie on the sensor, polarities are 0 and 1."""
    camera = EventCamera()
    for events in simulate(images, camera):
        assert events.dtype == EVENT_DTYPE
        assert np.all(np.diff(events["t"]) >= 0)
        assert events["t"].min() >= 0
        assert events["t"].max() < camera.duration
        for axis, name in enumerate(("x", "y", "p")):
            assert events[name].min() >= 0
            assert events[name].max() < camera.sensor_size[axis]


def test_the_gaze_returns_so_events_cancel(images):
    """The path ends where it began: at each pixel, as many thresholds up as down, but for one that is just being reached."""
    for events in simulate(images, SILENT):
        balance = np.zeros((20, 20), dtype=int)
        np.add.at(balance, (events["y"], events["x"]), 2 * events["p"].astype(int) - 1)
        assert len(events) > 500
        assert np.abs(balance).max() <= 1


def test_polarity_and_place_follow_the_edge():
    """While the gaze moves right over a bright left half, its edge moves left: pixels there only darken."""
    image = np.zeros((1, 8, 8))
    image[:, :, :4] = 1
    (events,) = simulate(image, SILENT)
    first = events[events["t"] < SILENT.duration // 3]
    edge = first[(abs(first["x"] - 9.5) < 3) & (abs(first["y"] - 9.5) < 3)]
    assert len(edge) > 20
    assert not edge["p"].any()


def test_nothing_moves_nothing_happens():
    """A dark image gives no events; with noise, about noise * pixels * seconds of them."""
    dark = np.zeros((50, 8, 8))
    assert sum(map(len, simulate(dark, SILENT))) == 0
    expected = 1.0 * 400 * 0.3 * 50
    assert abs(sum(map(len, simulate(dark))) - expected) < 5 * np.sqrt(expected)  # five standard deviations of Poisson


def test_a_lower_threshold_gives_more_events(images):
    """Halving the contrast threshold about doubles the events."""
    coarse = sum(map(len, simulate(images, SILENT)))
    fine = sum(map(len, simulate(images, dataclasses.replace(SILENT, contrast=0.125))))
    assert 1.6 < fine / coarse < 2.6


@pytest.mark.parametrize(
    "transform",
    [
        transforms.ToFrame(sensor_size=(20, 20, 2), n_time_bins=4),
        transforms.Denoise(filter_time=10_000),
        transforms.RandomFlipLR(sensor_size=(20, 20, 2), p=1.0),
        transforms.TimeJitter(std=100),
        transforms.DropEvent(p=0.2),
        transforms.ToVoxelGrid(sensor_size=(20, 20, 2), n_time_bins=4),
    ],
    ids=lambda transform: type(transform).__name__,
)
def test_tonics_transforms_take_the_events(images, transform):
    """The arrays pass through tonic's transforms."""
    assert len(transform(simulate(images[:1])[0])) > 0


@pytest.mark.parametrize(
    "images", [np.zeros((8, 8)), np.zeros((0, 8, 8)), np.full((1, 8, 8), 16.0), np.full((1, 8, 8), np.nan)]
)
def test_images_out_of_range_are_refused(images):
    """Images must be [N, H, W] in [0, 1]."""
    with pytest.raises(DataError, match=r"\[N, H, W\]"):
        simulate(images)
