"""Every data set is loaded by its name; wrong names and options are answered with the nearest right ones."""

import subprocess
import sys

import pytest

from tet_deploy.data import DATA, load
from tet_deploy.errors import ArgumentError


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cifar-10", {}, "Did you mean 'cifar10'"),
        (
            "nothing like it",
            {},
            r"there is no such file or folder, nor .* one of digits, .*imagenet, a folder of event files, or an \.npz\.$",
        ),
        ("dvs-cifar10", {"augmentations": {"flip": True}}, "no option 'augmentations'. Did you mean 'augmentation'"),
        ("digits", {"root": "here"}, "no option 'root'. It takes steps, seed"),
        ("digits", {"augmentation": {"flip": True}}, "no option 'augmentation'"),
        ("digits", {"seed": -1}, "seed of data .* at least 0; got -1"),
    ],
)
def test_wrong_requests_are_answered_with_the_nearest_right_one(name, options, message):
    """Unknown names, options that a loader does not take."""
    with pytest.raises(ArgumentError, match=message):
        load(name, steps=2, **options)


@pytest.mark.parametrize("name", DATA)
def test_no_steps_are_refused(name):
    """T = 0 is named, whatever the data set, before anything is read."""
    with pytest.raises(ArgumentError, match=f"steps of data '{name}': must be a whole number of at least 1; got 0"):
        load(name, steps=0)


def test_no_augmentation_is_no_option():
    """An empty wish is fulfilled by every loader."""
    for nothing in ({}, None):
        assert len(load("digits", steps=1, augmentation=nothing).train) == 1437


def test_a_catalogue_needs_numpy_only():
    """Importing it loads neither torch, tonic, scikit-learn, Pillow nor h5py."""
    program = "import sys, tet_deploy.data; print(sorted({'torch', 'tonic', 'sklearn', 'PIL', 'h5py'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
