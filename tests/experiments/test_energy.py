"""Accuracy and energy by step come from one run."""

import numpy as np
import pytest

from tet_deploy.experiments import Setting
from tet_deploy.experiments.energy import energy, one_run, record
from tet_deploy.experiments.trainings import Plan, trained
from tet_deploy.runtimes.reference import ReferenceRuntime
from tet_deploy.tracing import trace
from tet_deploy.training import readouts


@pytest.fixture(scope="module")
def network(recipes):
    setting = Setting(data=recipes["event-digits"], seeds=(0,), samples=48, epochs=8)
    ((_, model, samples),) = trained(setting, [Plan(seed=0, loss="tet")])
    return model, samples


def test_spikes_are_those_of_the_traced_network(network):
    """Every population under its name, as the reference runtime computes it up to rare ties; no hook is left behind."""
    model, samples = network
    recording = record(model, samples.test_frames)
    graph = trace(model, samples.shape, samples.encoding)
    expected = ReferenceRuntime(graph).run(samples.test_frames, probes="spikes")
    assert set(recording.spikes) == set(expected.spikes)
    for name, spikes in recording.spikes.items():
        assert spikes.shape == expected.spikes[name].shape
        assert (spikes != expected.spikes[name]).mean() < 1e-3  # torch and the reference round differently
    assert all(not module._forward_hooks for module in model.modules())


def test_batches_do_not_change_the_count(network, monkeypatch):
    """Samples are counted a few at a time; readouts and energies are those of all at once."""
    model, samples = network
    whole, at_once = one_run(model, samples)
    monkeypatch.setattr("tet_deploy.experiments.energy.SAMPLES_AT_ONCE", 7)
    parts, in_parts = one_run(model, samples)
    np.testing.assert_allclose(parts, whole, atol=1e-5)
    np.testing.assert_allclose(whole, readouts(model, samples.test_frames), atol=1e-5)
    assert in_parts.samples == at_once.samples == 48
    np.testing.assert_allclose(in_parts.by_step("event"), at_once.by_step("event"), rtol=1e-3)


def test_energy_grows_with_every_step(recipes):
    """Longer runs cost more in every named energy but 'ann', which is a single dense pass."""
    outcome = energy(Setting(data=recipes["event-digits"], seeds=(0,), samples=48, epochs=1), steps=3)
    for network in outcome.values["networks"].values():
        for name, spent in network["energy_by_step"].items():
            grows = np.diff(np.array(spent["by_seed"]), axis=1) > 0
            assert grows.shape == (1, 2)
            assert name == "ann" or grows.all()
