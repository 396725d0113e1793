"""Random changes move pixels, all steps and channels of a sample alike."""

import numpy as np
import pytest

from tet_deploy.data.augmentation import Augmentation, Normalisation, augmentation_for
from tet_deploy.errors import ArgumentError

RNG = np.random.default_rng(0)
FRAMES = RNG.integers(0, 5, (3, 2, 8, 9)).astype(np.uint16)  # [T, C, H, W]


def draws(augmentation, frames=FRAMES, count=400):
    return [augmentation(frames, np.random.default_rng(seed)) for seed in range(count)]


def test_half_of_the_samples_are_mirrored():
    """Each result is the sample or its mirror image; both come about as often."""
    mirrored = sum(np.array_equal(found, FRAMES[..., ::-1]) for found in draws(Augmentation(flip=True)))
    unchanged = sum(np.array_equal(found, FRAMES) for found in draws(Augmentation(flip=True)))
    assert mirrored + unchanged == 400
    assert abs(mirrored - 200) < 50  # five standard deviations of a fair coin


def test_a_roll_reaches_every_shift_and_no_other():
    """Every shift of up to 2 pixels on both axes comes, all steps alike, and no event is lost."""
    shifts = {
        (down, right): np.roll(FRAMES, (down, right), axis=(-2, -1)).tobytes()
        for down in range(-2, 3)
        for right in range(-2, 3)
    }
    found = {np.ascontiguousarray(one).tobytes() for one in draws(Augmentation(roll=2))}
    assert found == set(shifts.values())


def test_a_crop_is_a_window_of_the_padded_frame():
    """Every window of the frame with 2 pixels of zeros around it comes, and no other."""
    padded = np.pad(FRAMES, ((0, 0), (0, 0), (2, 2), (2, 2)))
    windows = {padded[..., top : top + 8, left : left + 9].tobytes() for top in range(5) for left in range(5)}
    assert {np.ascontiguousarray(one).tobytes() for one in draws(Augmentation(crop_padding=2))} == windows


def test_the_frames_given_stay_as_they_are():
    """The sample itself is not written to; its type stays."""
    before = FRAMES.copy()
    for found in draws(Augmentation(flip=True, roll=3, crop_padding=1), count=5):
        assert (found.dtype, found.shape) == (FRAMES.dtype, FRAMES.shape)
    np.testing.assert_array_equal(FRAMES, before)


def test_normalisation_is_by_channel():
    """(x / 255 - mean) / deviation, in float32."""
    images = RNG.integers(0, 256, (1, 2, 4, 4)).astype(np.uint8)
    found = Normalisation((0.5, 0.25), (0.2, 0.4))(images, np.random.default_rng(0))
    expected = (images / 255 - np.array([0.5, 0.25])[:, None, None]) / np.array([0.2, 0.4])[:, None, None]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)  # float32 against float64


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"roll": -1}, "at least 0; got -1"),
        ({"roll": 2.5}, "in pixels: must be a whole number.*2.5"),
        ({"crop_padding": True}, "whole number"),
        ({"flip": 1}, "True or False; got 1"),
        ({"flips": True}, "no 'flips'. Did you mean 'flip'"),
        ({"roll": 1}, "cannot be augmented by roll: it is still"),
    ],
)
def test_wrong_wishes_are_named(wanted, message):
    """Wrong types, ranges and names; changes that do not suit the data."""
    with pytest.raises(ArgumentError, match=message):
        augmentation_for("own", wanted, without={"roll": "it is still"})
