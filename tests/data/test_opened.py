"""Samples by the words of a command line."""

import numpy as np
import pytest

from tet_deploy.data.opened import open_samples
from tet_deploy.errors import ArgumentError


@pytest.mark.parametrize("about", [{}, {"data": "{path}", "steps": "2"}])
def test_samples_are_called_by_the_name_of_their_file_alone(about, tmp_path):
    """Where it lies is no business of those who are handed a paper, a page or a bundle."""
    path = tmp_path / "a folder" / "net work.npz"
    path.parent.mkdir()
    np.savez(path, frames=np.zeros((2, 10, 1, 4, 4), np.float32), labels=np.arange(10) % 2)
    about = {key: value.format(path=path) for key, value in about.items()}
    opened = open_samples(None if about else str(path), about)
    assert opened.of == ("test samples of net work.npz" if about else "samples of net work.npz")


def test_training_data_that_lie_elsewhere_are_asked_for():
    """What the network alone names, and this machine does not have, may be given by the option."""
    with pytest.raises(
        ArgumentError, match=r"'moved\.npz': there is no such file.* trained on that.* --calibration FILE\.npz\.$"
    ):
        open_samples(None, {"data": "moved.npz"}, option="--calibration")
