import numpy as np
import pytest

from tet_deploy.contracts import Recording
from tet_deploy.ir.nodes import Spiking
from tet_deploy.reporting.membrane_plot import membrane_plot
from tet_deploy.reporting.membranes import EDGES, added, membranes
from tet_deploy.runtimes.reference import ReferenceRuntime
from tet_deploy.testing import random_float_network, random_frames, random_quantized_network
from tet_deploy.validation import thresholds


def recorded(potentials, spikes):
    v = np.asarray(potentials, dtype=np.float32)
    fired = np.asarray(spikes, dtype=np.uint8)
    return Recording(potentials={"lif": v}, spikes={"lif": fired}, readout=np.zeros((*v.shape[:2], 2)), runtime="reference")


def test_potentials_are_counted_in_thresholds_of_their_channel():
    """Of those that did not fire, each by the threshold of its own channel; what lies beyond stands in the last bins."""
    v = np.array([[[[0.5], [1.0]], [[-99.0], [4.0]]]])  # [T=1, B=2, C=2, 1]
    found = membranes(recorded(v, [[[[0], [0]], [[0], [1]]]]), {"lif": (1.0, 4.0)})["lif"]
    assert (found.least, found.greatest) == (-99.0, 0.5)
    where = {float(EDGES[i]): int(found.counts[i]) for i in np.flatnonzero(found.counts)}
    assert where == {-4.0: 1, 0.2: 1, 0.5: 1}


@pytest.mark.parametrize("seed", range(4))
def test_parts_of_the_samples_add_up(seed):
    """However samples are split, counts and extremes are the same, and each silent neuron is counted at each step."""
    rng = np.random.default_rng(seed)
    graph = random_quantized_network(rng)
    frames = random_frames(graph, rng, samples=5)
    runtime = ReferenceRuntime(graph)
    run = runtime.run(frames)
    every = membranes(run, thresholds(graph))
    parts = [membranes(runtime.run(frames[:, part]), thresholds(graph)) for part in (slice(0, 2), slice(2, 5))]
    total = added(added({}, parts[0]), parts[1])
    assert every.keys() == total.keys() and every
    for name, found in every.items():
        assert found.to_dict() == total[name].to_dict()
        assert found.counts.sum() == np.count_nonzero(run.spikes[name] == 0)


@pytest.mark.parametrize("seed", range(4))
def test_every_kind_of_neuron_has_a_histogram(seed):
    """Those with a soft reset or a synaptic current too, below the threshold wherever they did not fire."""
    rng = np.random.default_rng(seed)
    graph = random_float_network(rng, layers=3, soft=True, currents=True)
    found = membranes(ReferenceRuntime(graph).run(random_frames(graph, rng)), thresholds(graph))
    assert [*found] == [node.name for node in graph.of_kind(Spiking) if node.reset != "subtract-twice"]
    assert all(each.greatest <= 1 for each in found.values())


def test_neurons_that_always_fire_have_no_potentials():
    """There is nothing to count, and the drawing says so."""
    found = membranes(recorded(np.zeros((2, 1, 3)), np.ones((2, 1, 3))), {"lif": 1.0})
    assert found["lif"].to_dict()["least"] is None
    assert "lif all fired" in membrane_plot(found)


@pytest.mark.parametrize("missing", [{}, {"other": 1.0}, {"lif": 0.0}])
def test_populations_without_a_threshold_are_left_out(missing):
    """And those whose threshold is 0, of which nothing is a multiple."""
    assert membranes(recorded(np.zeros((1, 1, 2)), np.zeros((1, 1, 2))), missing) == {}
