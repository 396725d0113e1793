"""Accuracy and energy by step come from one run."""

import numpy as np
import pytest

from tet_deploy.experiments import Setting
from tet_deploy.experiments.energy import energy, one_run
from tet_deploy.experiments.trainings import Plan, trained
from tet_deploy.models import build
from tet_deploy.training import accuracy_by_step, readouts


@pytest.fixture(scope="module")
def network(recipes):
    setting = Setting(data=recipes["event-digits"], seeds=(0,), samples=48, epochs=8)
    ((_, model, samples),) = trained(setting, [Plan(seed=0, loss="tet")])
    return model, samples


def test_batches_do_not_change_the_count(network, monkeypatch):
    """Samples are counted a few at a time; decisions and energies are those of all at once, and of the model."""
    model, samples = network
    whole, at_once = one_run(model, samples)
    monkeypatch.setattr("tet_deploy.deployment._AT_ONCE", 2**19)
    parts, in_parts = one_run(model, samples)
    expected = accuracy_by_step(readouts(model, samples.test_frames), samples.test_labels)
    np.testing.assert_allclose(whole.accuracy_by_step, expected, atol=1 / 48)  # a tie may round otherwise
    np.testing.assert_allclose(parts.accuracy_by_step, expected, atol=1 / 48)
    assert in_parts.samples == at_once.samples == 48
    np.testing.assert_allclose(in_parts.by_step("event"), at_once.by_step("event"), rtol=1e-3)


def test_a_network_with_max_pools_and_sums_of_spikes_is_counted(network):
    """SEW-ResNet34: what its max pool sends is counted though no layer of neurons gives it."""
    _, samples = network
    model = build("sew_resnet34", seed=0, shape=samples.shape, classes=10, width=1 / 16)
    decided, spent = one_run(model.eval(), samples)
    assert decided.samples == spent.samples == 48
    assert spent.mean("event") > 0


def test_energy_grows_with_every_step(recipes):
    """Longer runs cost more in every named energy but 'ann', which is a single dense pass."""
    outcome = energy(Setting(data=recipes["event-digits"], seeds=(0,), samples=48, epochs=1), steps=3)
    for network in outcome.values["networks"].values():
        for name, spent in network["energy_by_step"].items():
            grows = np.diff(np.array(spent["by_seed"]), axis=1) > 0
            assert grows.shape == (1, 2)
            assert name == "ann" or grows.all()
