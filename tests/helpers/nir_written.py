"""NIR files as tests read them, and networks to write into them."""

import dataclasses

import numpy as np
import pytest

import tet_deploy as td
from tet_deploy.ir.graph import chain
from tet_deploy.ir.nodes import LIF, Flatten, Input, Linear, Readout

h5py = pytest.importorskip("h5py", reason="writes NIR files")
READERS = ("tet_deploy", ">", ">=")  # that fire as we do; as NIR's text has it; at the threshold, as SpikingJelly's do


def read(path):
    """Everything in a file, as nested dicts."""

    def found(group):
        return {name: found(each) if isinstance(each, h5py.Group) else each[()] for name, each in group.items()}

    with h5py.File(path) as file:
        return found(file)


def exported(graph, folder):
    return read(td.export(graph, folder / "net.nir", to="nir"))["node"]


def differing(graph, path, frames, reader):
    """Spikes that differ of those that there are, between a network and what a file of it says to readers of a framework."""
    loaded = td.load_nir(path, source="tet_deploy" if reader == "tet_deploy" else "nir")
    if reader == ">=":
        nodes = (dataclasses.replace(node, comparison=">=") if isinstance(node, LIF) else node for node in loaded)
        loaded = dataclasses.replace(loaded, nodes=tuple(nodes))
    assert loaded.input.encoding == graph.input.encoding
    ours, theirs = (td.run(each, frames, runtime="reference", probes="spikes") for each in (graph, loaded))
    differ = sum(int((theirs.spikes[name] != sent).sum()) for name, sent in ours.spikes.items())
    assert differ or np.array_equal(ours.readout, theirs.readout)
    return differ


def with_neurons(graph, **fields):
    return graph.replace({node.name: dataclasses.replace(node, **fields) for node in graph.of_kind(LIF)})


def neuron_network(**fields):
    weight = np.array([[0.3, 0.1], [0.7, 0.2], [0.9, 0.3]], np.float32)
    return chain(
        [
            Input(name="input", shape=(2,)),
            Linear(name="fc", weight=weight),
            LIF(name="lif", **fields),
            Linear(name="out", weight=np.eye(3, dtype=np.float32)),
            Readout(name="readout"),
        ]
    )


def image_network(*layers):
    rng, nodes = (
        np.random.default_rng(1),
        [Input(name="input", shape=(2, 8, 6)), *layers, LIF(name="lif"), Flatten(name="flat")],
    )
    size = int(np.prod(chain([*nodes[:-1], Flatten(name="flat"), Readout(name="readout")]).shapes["readout"]))
    weight = rng.integers(-8, 9, (5, size)).astype(np.float32) / 8
    return chain([*nodes, Linear(name="fc", weight=weight, bias=weight[:, 0]), Readout(name="readout")])
