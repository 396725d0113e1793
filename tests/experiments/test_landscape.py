"""A landscape is a plane through the trained network."""

import numpy as np
import pytest
import torch

from tet_deploy.experiments import Setting
from tet_deploy.experiments.landscape import landscape, plane
from tet_deploy.experiments.trainings import Plan, trained
from tet_deploy.training import readouts
from tet_deploy.training.losses import sdt_loss, tet_loss


@pytest.fixture(scope="module")
def network(recipes):
    setting = Setting(data=recipes["digits"], seeds=(0,), samples=96, epochs=8)
    ((_, model, samples),) = trained(setting, [Plan(seed=0, loss="tet")])
    return model, samples.train_frames, samples.train_labels


def test_the_middle_is_the_trained_network(network):
    """At distance zero both losses are exactly those of the network, which the walk leaves as it was."""
    model, frames, labels = network
    readout, target = torch.from_numpy(readouts(model, frames)), torch.from_numpy(labels)
    losses = plane(model, frames, labels, np.linspace(-1, 1, 3), seed=0)
    assert losses.shape == (2, 3, 3)
    assert losses[:, 1, 1].tolist() == [float(sdt_loss(readout, target)), float(tet_loss(readout, target))]
    assert np.array_equal(readouts(model, frames), readout.numpy())


def test_the_sdt_plane_lies_below_the_tet_plane(network):
    """Lemma 4.1 holds at every point; far from the middle the losses are others."""
    losses = plane(*network, np.linspace(-1, 1, 5), seed=1)
    assert (losses[0] <= losses[1] + 1e-6).all()
    assert losses[0].max() > losses[0, 2, 2] + 0.1


def test_the_report_holds_the_grids(recipes):
    """For each network and loss: the loss in the middle is the minimum reported; radii beyond the grid are left out."""
    outcome = landscape(Setting(data=recipes["digits"], seeds=(0,), samples=24, epochs=1), points=3, extent=0.5, shown=24)
    for network in outcome.values["networks"].values():
        for found in network.values():
            assert found["loss"][0][1][1] == pytest.approx(found["minimum"]["mean"], abs=1e-5)
            assert list(found["mean_rise_within"]) == ["0.25", "0.5"]
            assert found["mean_rise_within"]["0.25"]["mean"] == 0  # only the middle lies within
