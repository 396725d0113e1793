"""What layers are fed makes them work: neurons fire and stay silent, weights are met, thresholds are approached."""

import numpy as np
import pytest

from tet_deploy import dynamics
from tet_deploy.ir.nodes import LIF
from tet_deploy.tracing import stimuli


@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 3, 64, 9, 9), (6, 1, 1), (2, 3)])
def test_every_neuron_fires_and_most_are_silent_too(shape):
    """At least once each, whatever the shape; the same spikes for the same seed."""
    spikes = stimuli.spikes(shape, seed=1)
    assert spikes.shape == shape and set(np.unique(spikes)) <= {0, 1}
    assert spikes.any(axis=(0, 1)).all()
    assert spikes.size < 100 or 0.2 < spikes.mean() < 0.7
    assert np.array_equal(spikes, stimuli.spikes(shape, seed=1))
    assert spikes.size < 30 or not np.array_equal(spikes, stimuli.spikes(shape, seed=2))


@pytest.mark.parametrize(("decay", "threshold"), [(0.5, 1.0), (1.0, 0.3), (0.0, 7.0), (0.93, 1e-6)])
@pytest.mark.parametrize("shape", [(3,), (5, 2, 300)])
def test_currents_bring_potentials_to_both_sides_of_the_threshold(decay, threshold, shape):
    """Far from it and close to it, at every step; no wider than a few pixels."""
    node = LIF(name="n", decay=decay, threshold=threshold)
    currents = stimuli.currents(node, shape)
    assert currents[0].shape == (2, shape[0], *(min(side, 4) for side in shape[1:]))
    v, away = np.zeros_like(currents[0]), []
    for current in currents:
        u = decay * v + current
        away.append(u / threshold - 1)
        _, v = dynamics.lif_step(v, current, decay, threshold)
    assert 0.2 < np.mean(np.stack(away) > 0) < 0.8
    assert np.abs(away).min() < 2e-4 and np.abs(away).max() > 0.2


def test_frames_are_of_the_encoding():
    """Event counts are whole numbers from zero, images any numbers."""
    events, images = (stimuli.frames((2, 3, 2, 8, 8), encoding) for encoding in ("events", "analog"))
    assert set(np.unique(events)) >= {0, 1, 2} and np.array_equal(events, np.rint(events)) and events.min() == 0
    assert images.min() < 0 < images.max()
