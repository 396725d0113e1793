"""What quantization holds does not grow with the number of calibration samples."""

import sys
import tracemalloc

import numpy as np
import pytest

from tet_deploy import batches
from tet_deploy.passes import calibrate, messages, quantize
from tet_deploy.testing import random_float_network, random_frames


class Repeated:
    """A source that shows the same few samples again and again."""

    def __init__(self, frames, samples):
        self.frames, self.samples = frames, samples
        self.steps, self.shape = len(frames), frames.shape[2:]

    def __len__(self):
        return self.samples

    def batch(self, indices):
        return self.frames[:, np.asarray(indices) % self.frames.shape[1]], None


@pytest.fixture
def network():
    rng = np.random.default_rng(2)
    graph = random_float_network(rng, encoding="events")
    return graph, random_frames(graph, rng, steps=4, samples=16)


def test_a_source_gives_the_integers_that_its_frames_give(network):
    """Read in batches or given as one array, the same samples make the same network."""
    graph, frames = network
    many = Repeated(frames, 48)
    assert quantize(graph, many).digest() == quantize(graph, many.batch(range(48))[0]).digest()


def test_memory_does_not_grow_with_the_samples(network, monkeypatch):
    """Three times the samples need no more memory: what edges carry lies in temporary files."""
    monkeypatch.setattr(messages, "_IN_MEMORY", 1)
    monkeypatch.setattr(calibrate, "_AT_ONCE", 2**12)
    monkeypatch.setattr(calibrate, "_MANY", 2**14)
    monkeypatch.setattr(calibrate, "_FEW", 2**14)
    monkeypatch.setattr(batches, "_VALUES_AT_ONCE", 2**12)
    monkeypatch.setattr(sys.modules["tet_deploy.passes.quantize"], "_AT_ONCE", 2**12)
    graph, frames = network
    peaks = []
    for samples in (1000, 3000):  # which fill every buffer
        tracemalloc.start()
        quantize(graph, Repeated(frames, samples))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def test_all_candidates_together_cost_about_one_pass(network, monkeypatch):
    """A layer's convolution runs over each sample at most three times: float, candidates, the one that is taken."""
    graph, frames = network
    monkeypatch.setattr(calibrate, "_FEW", 1)
    seen, run = {}, calibrate.dynamics.synaptic_sum

    def counted(node, x):
        seen[node.name] = seen.get(node.name, 0) + len(x)
        return run(node, x)

    monkeypatch.setattr(calibrate.dynamics, "synaptic_sum", counted)
    quantize(graph, Repeated(frames, 130))
    assert seen and max(seen.values()) <= 3 * 130 * len(frames)
