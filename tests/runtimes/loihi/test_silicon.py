"""A neuron on Loihi 2 silicon, as the NIR repository recorded it, beside the same neuron in our integers and in Lava's."""

from pathlib import Path

import numpy as np
import pytest

from tet_deploy.dynamics import fixed_point_lif_step
from tet_deploy.exporters.to_lava import to_lava
from tet_deploy.ir.graph import chain
from tet_deploy.ir.nodes import LIF, Input, Linear, Quantization, Readout
from tet_deploy.runtimes.loihi.session import LavaNumpyRuntime, LavaRuntime
from tet_deploy.runtimes.reference import ReferenceRuntime

TRACE = Path(__file__).resolve().parents[2] / "importing" / "nir_files" / "public_lif_loihi2.csv"
# As paper/nir_to_lava.py there gives them to Lava: int(0.04 * 4095), int(0.04 * 256), int(0.1 * 131071) >> 9.
DECAY, WEIGHT, THRESHOLD = 163, 10, 25
DISPLAYED = [461, 511, 711, 761]  # steps in which the chip's probe reads 128 beside a spike, and a simulator 0


def trace():
    """Input, potential and spike of 1000 steps."""
    columns = np.loadtxt(TRACE, delimiter=",")
    assert columns.shape == (1000, 3) and np.array_equal(columns, np.rint(columns))
    return columns.astype(np.int64).T


def assert_equals_silicon(potentials, spikes):
    """Of our steps 0 to 998 and the chip's 1 to 999: on the chip an input is in the potential a step later."""
    given, silicon, silicon_spikes = trace()
    assert given.sum() == 34 and silicon[0] == silicon_spikes[0] == 0
    assert np.array_equal(spikes[:-1], silicon_spikes[1:])
    differ = np.flatnonzero(potentials[:-1] != silicon[1:]) + 1
    assert differ.tolist() == np.flatnonzero(silicon_spikes).tolist() == DISPLAYED
    assert silicon[differ].tolist() == [128] * 4
    assert potentials[differ - 1].tolist() == [0] * 4


def network():
    """That neuron, with a synapse before it and one behind it."""
    one = Quantization(scale=1.0)
    synapse = {"weight": np.array([[WEIGHT]], np.int8), "quantization": one}
    neuron = {"decay": 1 - DECAY / 4096, "threshold": THRESHOLD, "quantization": Quantization(scale=1.0, bits=17)}
    return chain(
        [
            Input(name="input", shape=(1,), encoding="events", quantization=one),
            Linear(name="synapse", **synapse),
            LIF(name="lif", **neuron),
            Linear(name="fc", **synapse),
            Readout(name="readout", quantization=one),
        ]
    )


def frames():
    return trace()[0].reshape(1000, 1, 1).astype(np.float32)


def test_the_equation_gives_what_silicon_gave():
    """`fixed_point_lif_step`: 1000 spikes and 996 potentials equal; at the four spikes the chip's probe reads 128."""
    v, found = np.zeros(1, np.int64), []
    for given in trace()[0]:
        spikes, v = fixed_point_lif_step(v, np.array([WEIGHT * given]), 0, DECAY, THRESHOLD)
        found.append((v[0], spikes[0]))
    assert_equals_silicon(*np.array(found, np.int64).T)


def test_a_network_on_the_reference_and_on_the_numpy_engine_gives_it_too(tmp_path):
    """The same neuron as a quantized network, and as an exported bundle."""
    graph = network()
    for runtime in (ReferenceRuntime(graph), LavaNumpyRuntime(to_lava(graph, tmp_path / "net.lava"))):
        found = runtime.run(frames())
        assert_equals_silicon(found.potentials["lif"].ravel(), found.spikes["lif"].ravel())


@pytest.mark.parametrize("stock", [False, True])
def test_lava_gives_it_too(lava_python, tmp_path, stock):
    """The bundle on real Lava, on our process models and on Lava's own."""
    found = LavaRuntime(to_lava(network(), tmp_path / "net.lava"), lava_python.path, stock=stock).run(frames())
    assert_equals_silicon(found.potentials["lif"].ravel(), found.spikes["lif"].ravel())
