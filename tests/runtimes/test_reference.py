"""The reference runtime executes the equations, for any batch."""

import numpy as np
import pytest

from tet_deploy.contracts import probe_names
from tet_deploy.errors import ArgumentError, DataError
from tet_deploy.ir.graph import Graph, chain
from tet_deploy.ir.nodes import LIF, Add, AvgPool, BatchNorm, Flatten, Input, Linear, Readout
from tet_deploy.runtimes.reference import ReferenceRuntime
from tet_deploy.testing import random_frames, random_quantized_network


def test_a_network_worked_out_by_hand():
    """Two steps of a leaky neuron: 0.75 stays, 0.375 + 0.75 fires and resets."""
    graph = chain(
        [
            Input(name="input", shape=(1,)),
            Linear(name="in", weight=np.float32([[1.0]]), bias=np.float32([0.25])),
            LIF(name="lif"),
            Linear(name="out", weight=np.float32([[2.0], [0.0]])),
            Readout(name="readout"),
        ]
    )
    result = ReferenceRuntime(graph).run(np.full((3, 1, 1), 0.5, np.float32))
    assert result.spikes["lif"][:, 0, 0].tolist() == [0, 1, 0]
    assert result.potentials["lif"][:, 0, 0].tolist() == [0.75, 0.0, 0.75]
    assert result.readout[:, 0, 0].tolist() == [0.0, 2.0, 0.0]


def test_samples_do_not_see_each_other():
    """A sample gives the same recording alone and in a batch larger than the runtime's own."""
    rng = np.random.default_rng(0)
    graph = random_quantized_network(rng)
    frames = random_frames(graph, rng, 4, 70)
    runtime = ReferenceRuntime(graph)
    whole, alone = runtime.run(frames), runtime.run(frames[:, 67:68])
    for name in whole.spikes:
        assert np.array_equal(whole.spikes[name][:, 67:68], alone.spikes[name])
        assert np.array_equal(whole.potentials[name][:, 67:68], alone.potentials[name])
    assert np.array_equal(whole.readout[:, 67:68], alone.readout)


def test_traced_kinds_follow_their_equations():
    """Batch norm, pooling and addition, by hand."""
    nodes = (
        Input(name="input", shape=(1, 2, 2)),
        BatchNorm(
            name="bn", inputs=("input",), epsilon=1.0,
            mean=np.array([1.0]), variance=np.array([3.0]), gamma=np.array([2.0]), beta=np.array([5.0]),
        ),
        Add(name="add", inputs=("bn", "input")),
        AvgPool(name="pool", inputs=("add",), kernel=(2, 2), stride=(2, 2)),
        Flatten(name="flat", inputs=("pool",)),
        Readout(name="readout", inputs=("flat",)),
    )  # fmt: skip
    frames = np.float32([[[[[1, 2], [3, 6]]]], [[[[0, 0], [0, 0]]]]])
    result = ReferenceRuntime(Graph(nodes)).run(frames)
    assert result.readout[:, 0, 0].tolist() == [5 + (0 + 1 + 2 + 5) / 4 + 3.0, 5 - 1]


def test_probes_choose_what_is_recorded():
    """ "none" records the readout alone, names record those nodes, and an unknown name is an error."""
    graph = random_quantized_network(np.random.default_rng(4), layers=2)
    frames = random_frames(graph, np.random.default_rng(0))
    assert not ReferenceRuntime(graph).run(frames, probes="none").spikes
    only = ReferenceRuntime(graph).run(frames, probes=["layer0.lif"])
    assert (list(only.spikes), list(only.potentials)) == (["layer0.lif"], ["layer0.lif"])
    assert not ReferenceRuntime(graph).run(frames, probes="spikes").potentials
    with pytest.raises(ArgumentError, match="'typo': no LIF node has that name"):
        probe_names(("layer0.lif",), ["typo"])


def test_frames_that_do_not_fit_are_refused():
    """The error states the layout that the network takes."""
    graph = random_quantized_network(np.random.default_rng(0))
    with pytest.raises(DataError, match=r"frames: the network takes \[T, B, "):
        ReferenceRuntime(graph).run(np.zeros((2, 3)))
