"""What a NIR file holds and has no exact form here is refused: the node, what was found, the way out."""

import itertools
from pathlib import Path

import numpy as np
import pytest

import tet_deploy as td
from tet_deploy.errors import GraphError, TetDeployError
from tet_deploy.ir.nodes import LIF, SOFT_RESETS, CubaLIF
from tet_deploy.testing import random_float_network

pytest.importorskip("h5py", reason="writes NIR files")
INF, NAN = float("inf"), float("nan")


def edited(graph, name, **changes):
    """The graph with fields of one node changed, or left out where None."""
    fields = {key: value for key, value in (graph["nodes"][name] | changes).items() if value is not None}
    return graph | {"nodes": graph["nodes"] | {name: fields}}


def neuron(f, **changes):
    return f.chain(f.linear(), f.lif(3, **changes), f.linear(3, 3))


def cuba(f, **changes):
    constants = {"tau_syn": 2e-4, "tau_mem": 4e-4, "r": 4.0, "w_in": 2.0, "v_leak": 0.0, "v_reset": 0.0, "v_threshold": 0.5}
    constants = {name: value for name, value in (constants | changes).items() if value is not None}
    return node(f, {"type": "CubaLIF"} | {name: np.full(3, value) for name, value in constants.items()}, first="input_1")


def node(f, fields, shape=(4,), first="input"):
    return f.chain(f.linear() if shape == (4,) else f.conv(), fields, f.flatten(), shape=shape, first=first)


def image(f, *nodes):
    return f.chain(*nodes, f.flatten(), shape=(2, 6, 6))


def scaled(f, factors, *others):
    return f.chain({"type": "Scale", "scale": np.asarray(factors, np.float32)}, *others)


def edges(f, *more, nodes=None, without=()):
    graph = f.chain(f.linear(), f.lif(3))
    kept = [edge for edge in graph["edges"] if edge not in without]
    return graph | {"edges": [*kept, *more], "nodes": graph["nodes"] | (nodes or {})}


REFUSED = {
    # kinds
    "synaptic current": (cuba, "node 'n1': how a CubaLIF of source 'nir' makes a step is not in the file.*Train with"),
    "current without a time constant": (lambda f: cuba(f, tau_syn=None), "node 'n1': lacks 'tau_syn'"),
    "integrator": (lambda f: node(f, {"type": "CubaLI"}), "node 'n1': CubaLI has no exact form.*average over time"),
    "delay": (lambda f: node(f, {"type": "Delay", "delay": 1.0}), "node 'n1': Delay has no exact form.*without delays"),
    "unknown": (lambda f: node(f, {"type": "MaxPool2d"}), "node 'n1': its type 'MaxPool2d' is none that is known. Use"),
    "no type": (lambda f: node(f, {"r": 1.0}), "node 'n1': says no type"),
    "a type in numbers": (lambda f: node(f, {"type": 3}), "node 'n1': says no type"),
    # neurons
    "no reset": (lambda f: neuron(f, v_reset=None), "node 'n1': how it resets is not in the file.*reset='zero'"),
    "rests elsewhere": (lambda f: neuron(f, v_leak=1.2), "node 'n1': v_leak = 1.2 and v_reset = 0 must be one potential"),
    "resets elsewhere": (lambda f: neuron(f, v_leak=0.1, v_reset=0.1), "node 'n1': v_reset = 0.1 must be 0"),
    "infinite": (lambda f: neuron(f, tau=INF), "node 'n1': tau must hold finite numbers.*snnTorch's beta = 1"),
    "not a number": (lambda f: neuron(f, v_threshold=NAN), "node 'n1': v_threshold must hold finite numbers"),
    "negative tau": (lambda f: neuron(f, tau=-1e-3), "node 'n1': tau must be positive; got -0.001"),
    "tau of 0": (lambda f: neuron(f, tau=0.0), "node 'n1': tau must be positive; got 0"),
    "tau below dt": (lambda f: neuron(f, tau=1e-5), "node 'n1': tau = 1e-05 and dt = 0.0001 give a decay of -9"),
    "tiny tau": (lambda f: neuron(f, tau=5e-324), "node 'n1': tau = 4.94066e-324 and dt"),
    "huge tau": (lambda f: neuron(f, tau=1e300), "node 'n1': tau must hold numbers within float32's range"),
    "no resistance": (lambda f: neuron(f, r=0.0), "node 'n1': r must be positive"),
    "threshold of 0": (lambda f: neuron(f, v_threshold=0.0), "node 'n1': its threshold.*positive and finite; it is 0"),
    "thresholds within a channel": (
        lambda f: image(f, f.conv(), f.lif(3, 4, 4) | {"v_threshold": np.arange(1.0, 49).reshape(3, 4, 4)}),
        "node 'n1': v_threshold must be one number for all neurons of a channel.*or for each channel",
    ),
    "within a channel": (
        lambda f: image(f, f.conv(), f.lif(3, 4, 4) | {"tau": np.linspace(2e-4, 8e-4, 48).reshape(3, 4, 4)}),
        "node 'n1': tau must be one number for all neurons of a channel.*Train with one tau",
    ),
    "other neurons": (lambda f: edited(neuron(f), "n1", tau=np.full(7, 2e-4)), r"node 'n1': tau has shape \(7,\).*\(3,\)"),
    "unknown field": (lambda f: edited(neuron(f), "n1", reset_mode="soft"), "'reset_mode' is none of the fields"),
    "lacking field": (lambda f: edited(neuron(f), "n1", tau=None), "node 'n1': lacks 'tau', which a node of type LIF has"),
    "text for a number": (lambda f: edited(neuron(f), "n1", tau="fast"), "node 'n1': tau must hold numbers; got 'fast'"),
    "a group for a number": (lambda f: edited(neuron(f), "n1", tau={"x": 1}), "n1': tau must hold numbers; got a group"),
    "no numbers": (lambda f: edited(neuron(f), "n1", tau=np.zeros(0)), "node 'n1': tau must hold numbers; got nothing"),
    # layers
    "weights of NaN": (lambda f: f.chain(f.linear(weight=np.full((3, 4), NAN))), "node 'n0': weight must hold finite"),
    "weights of another size": (lambda f: f.chain(f.linear(inputs=5)), r"node 'n0': weight must be \[K, 4\]"),
    "weights of three axes": (lambda f: f.chain(f.linear(weight=np.ones((2, 3, 4)))), "node 'n0': weight must be"),
    "bias of another size": (lambda f: f.chain(f.affine(bias=np.ones(5))), r"node 'n0': bias must have shape \(3,\)"),
    "weights beyond float32": (lambda f: f.chain(f.linear(weight=np.full((3, 4), 1e300))), "weight must hold .* 1e.300"),
    "text for weights": (lambda f: f.chain(f.linear(weight="w.npy")), "node 'n0': weight must hold numbers; got 'w.npy'"),
    "stride of 0": (lambda f: image(f, f.conv(stride=0)), "node 'n0': stride and dilation"),
    "half a stride": (lambda f: image(f, f.conv(stride=0.5)), "node 'n0': stride must hold whole"),
    "huge stride": (lambda f: image(f, f.conv(stride=2**40)), "node 'n0': stride must hold whole"),
    "three strides": (lambda f: image(f, f.conv(stride=[1, 1, 1])), "n0': stride must hold 2"),
    "padding by a name": (lambda f: image(f, f.conv(padding="full")), "n0': padding must be numb"),
    "same, even": (lambda f: image(f, f.conv(size=2, padding="same")), "n0': padding must be"),
    "groups of 0": (lambda f: image(f, f.conv(groups=0)), "node 'n0': .*0 groups"),
    "kernel too large": (lambda f: image(f, f.conv(size=9)), "node 'n0': its output must have"),
    "huge padding": (lambda f: image(f, f.conv(padding=2**30)), "node 'n0': its padded input"),
    "padded mean": (lambda f: node(f, f.pool("AvgPool2d", padding=1), (2, 6, 6)), "node 'n1': an average pool must not be"),
    "huge window": (lambda f: node(f, f.pool("SumPool2d", size=2**20), (2, 6, 6)), "node 'n1': its windows must have"),
    "no window": (lambda f: node(f, f.pool("SumPool2d", size=0), (2, 6, 6)), "node 'n1': its windows must have"),
    "flattened in part": (lambda f: node(f, f.flatten(start_dim=1), (2, 6, 6)), "node 'n1': start_dim 1 and end_dim -1"),
    "flattened elsewhere": (lambda f: node(f, f.flatten(input_type=[9, 4]), (2, 6, 6)), "node 'n1': input_type says"),
    "a scale alone": (lambda f: scaled(f, [2] * 4, f.lif(4)), "node 'n0': a Scale is folded into a layer behind it"),
    "an inexact scale": (lambda f: scaled(f, [0.1] * 4, f.linear(weight=np.full((3, 4), 0.1, "f4"))), "its factors"),
    "a scale of another size": (lambda f: scaled(f, [2, 4, 8], f.linear()), r"node 'n0': its scale, of shape \(3,\)"),
    "no scale": (lambda f: f.chain({"type": "Scale"}, f.linear()), "node 'n0': lacks 'scale'"),
    # the graph
    "recurrent": (lambda f: edges(f, ("n1", "n0")), "nodes 'n0', 'n1', 'output': feed each other in a loop.*Recurrent"),
    "a loop of one": (lambda f: edges(f, ("n1", "n1")), "feed each other in a loop"),
    "an edge to nowhere": (lambda f: edges(f, ("n1", "n7")), "an edge names 'n7', and no node is called so"),
    "an edge twice": (lambda f: edges(f, ("n0", "n1")), "the edge from 'n0' to 'n1' stands twice"),
    "two inputs": (lambda f: edges(f, ("b", "n0"), nodes={"b": f.input(4)}), "one Input; found 'input', 'b'|'b', 'input'"),
    "two outputs": (lambda f: edges(f, ("n0", "b"), nodes={"b": f.output(3)}), "one Output; found .*'output'"),
    "no output": (lambda f: edges(f, without=[("n1", "output")]), "node 'output': nothing feeds it|one Output|one Input"),
    "no edges": (lambda f: edges(f) | {"edges": []}, "one Input|nothing feeds|nothing uses"),
    "an unused node": (lambda f: edges(f, ("n0", "b"), nodes={"b": f.linear(3, 3)}), "node 'b': nothing uses what it sends"),
    "a node that nothing feeds": (lambda f: edges(f, ("b", "output"), nodes={"b": f.linear()}), "'b': nothing feeds it"),
    "a shape of nothing": (lambda f: edited(edges(f), "input", shape=[0]), r"node 'input': its shape is \(0,\)"),
    "a batch": (lambda f: edited(edges(f), "input", shape=[2, 4]), r"its shape is \(2, 4\).*without an axis of batch"),
    "a huge shape": (lambda f: edited(edges(f), "input", shape=[2**30]), "node 'input': its output must have between"),
    "a shape of too many": (lambda f: edited(edges(f), "input", shape=[4] * 40), "node 'input': shape must hold at most 32"),
    "a name with a space": (
        lambda f: f.graph({"a b": f.input(4), "o": f.output(4)}, [("a b", "o")]), "node 'a b': its name holds ' '"
    ),
    "a name with a slash, which HDF5 takes for a group": (
        lambda f: f.graph({"a/b": f.input(4), "o": f.output(4)}, [("a/b", "o")]), "node 'a': says no type"
    ),
    "edges that are no pairs": (lambda f: edges(f) | {"edges": np.array([["a", "b", "c"]], "S1")}, "edges must be pairs"),
    "edges in numbers": (lambda f: edges(f) | {"edges": np.ones((2, 2))}, "edges must be pairs"),
    "no nodes": (lambda f: f.graph({}, []), "graph '/': holds no nodes"),
    "nodes in numbers": (lambda f: edges(f) | {"nodes": 3}, "graph '/': holds no nodes"),
    "a graph with more fields": (lambda f: edges(f) | {"recurrent": 1}, "node '/': 'recurrent' is none of the fields"),
    "no graph": (lambda f: f.linear(), "no NIR network: a NIR file has a group 'node' of type NIRGraph"),
    "recurrent within": (
        lambda f: f.graph(
            {"input": f.input(4), "output": f.output(4), "r": f.graph(
                {"in": f.input(4), "lif": f.lif(4), "w": f.linear(4, 4), "out": f.output(4)},
                [("in", "lif"), ("lif", "w"), ("w", "lif"), ("lif", "out")])},
            [("input", "r"), ("r", "output")],
        ),
        "nodes 'output', 'r.lif', 'r.out', 'r.w': feed each other in a loop",
    ),
    "nested without an output": (
        lambda f: f.graph(
            {"input": f.input(4), "sub": f.graph({"in": f.input(4)}, []), "output": f.output(4)},
            [("input", "sub"), ("sub", "output")],
        ),
        "graph 'sub': must have one Output; found none",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_by_name(case, files):
    """One to three lines that begin with the file and name the node."""
    make, error = REFUSED[case]
    path = files.write(make(files))
    with pytest.raises(TetDeployError, match=error) as caught:
        td.load_nir(path, source="nir")
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and message.count("\n") <= 2 and message.endswith(".")


OTHER_SOURCES = {
    "snntorch writes no IF": (
        "snntorch",
        lambda f: {"r": np.ones(3), "v_threshold": np.ones(3), "type": "IF"},
        "writes no IF neurons",
    ),
    "another dt of snntorch": ("snntorch", lambda f: f.lif(3, r=4.0), "do not belong to dt = 0.0001.*Say dt=5e-05"),
    "another dt of spikingjelly": (
        "spikingjelly",
        lambda f: {"type": "IF", "r": np.full(3, 1e3), "v_threshold": np.ones(3), "v_reset": np.zeros(3)},
        "r = 1000 do not belong to dt = 0.0001.*Say dt=0.001",
    ),
    "norse's tau": ("norse", lambda f: f.lif(3, tau=0.01), "tau = 0.01 is none that norse 1.1 writes.*source='nir'"),
    "rockpool's reset": ("rockpool", lambda f: f.lif(3, v_reset=None), "subtract their threshold and may spike several"),
    "rockpool's r": ("rockpool", lambda f: f.lif(3, r=1e-9, v_reset=None), "r = 1e-09 is none that Rockpool writes"),
    "another dt of rockpool": (
        "rockpool",
        lambda f: f.lif(3, r=24.0, tau=0.0025, v_reset=None),
        "r = 24 .*Say dt=0.000100079",
    ),
    "threshold below the reset": ("spikingjelly", lambda f: f.lif(3, v_leak=1.0, v_reset=1.0), "its threshold.*positive"),
}


@pytest.mark.parametrize("case", OTHER_SOURCES)
def test_what_a_source_never_writes_is_refused(case, files):
    """The error says what that source writes, or which dt would fit."""
    source, make, error = OTHER_SOURCES[case]
    said = {"reset": "zero"} if source in ("snntorch", "rockpool") and "subtract" not in error else {}
    said |= {"dt": 1e-3} if case == "another dt of rockpool" else {}
    with pytest.raises(TetDeployError, match=f"node 'n1': .*{error}"):
        td.load_nir(files.write(files.chain(files.linear(), make(files))), source=source, **said)


SOFT = {
    "rests elsewhere": (
        lambda f: neuron(f, v_leak=0.1, v_reset=0.1),
        "nir",
        "v_leak = 0.1 must be 0 where a spike subtracts the threshold. Train with a rest of 0",
    ),
    "a number to reset to": (
        lambda f: node(f, {"type": "IF", "r": 1e4, "v_threshold": np.ones(3), "v_reset": np.full(3, 0.25)}),
        "spikingjelly",
        "SpikingJelly writes no neurons that subtract their threshold.* Say reset='zero'",
    ),
    "several spikes a step": (
        lambda f: neuron(f, v_reset=None),
        "rockpool",
        "may spike several times a step, which has no form here",
    ),
}


@pytest.mark.parametrize("case", SOFT)
def test_what_a_soft_reset_contradicts_is_refused(case, files):
    """Told reset="subtract", of neurons that do something else."""
    make, source, error = SOFT[case]
    with pytest.raises(TetDeployError, match=f"node 'n1': {error}|node 'n1': .*{error}"):
        td.load_nir(files.write(make(files)), source=source, reset="subtract")


CURRENTS = {
    "resets elsewhere": ({"v_reset": 0.25}, "v_leak and v_reset 0.*they are 0 and 0.25"),
    "another dt": ({"w_in": 4.0}, "r = 4 and tau = 0.0002 do not belong to dt = 0.0001"),
    "scaled input": ({"w_in": 1.0}, "input is scaled by 0.5 and 1.*Say the dt"),
    "scaled current": ({"r": 1.0}, "input is scaled by 1 and 0.25"),
    "negative tau": ({"tau_syn": -2e-4}, "tau_syn must be positive"),
    "tau below dt": ({"tau_mem": 5e-5, "r": 0.5}, "w_in and r must be"),
    "threshold of 0": ({"v_threshold": 0.0}, "its threshold.*positive and finite"),
}


@pytest.mark.parametrize("case", CURRENTS)
def test_currents_that_spikingjelly_never_writes_are_refused(case, files):
    """By the node's name; what it writes is read."""
    changes, error = CURRENTS[case]
    (kept,) = td.load_nir(files.write(cuba(files)), source="spikingjelly").of_kind(CubaLIF)
    assert (kept.current_decay, kept.decay, kept.threshold, kept.comparison) == (0.5, 0.75, 0.5, ">=")
    with pytest.raises(TetDeployError, match=f"node 'n1': .*{error}"):
        td.load_nir(files.write(cuba(files, **changes)), source="spikingjelly")


def test_another_reset_than_the_files_own_is_refused(tmp_path):
    """Our own files say how their neurons reset, and neurons with a current have no other form: nothing is overruled."""
    folder = Path(__file__).parent / "nir_files"
    for name, reset in itertools.product(("cuba", "lif", "if"), SOFT_RESETS):
        with pytest.raises(GraphError, match=r"node '_1': SpikingJelly writes no neurons that subtract their threshold"):
            td.load_nir(folder / f"spikingjelly_{name}.nir", source="spikingjelly", reset=reset)
    path = td.export(random_float_network(np.random.default_rng(0)), tmp_path / "net.nir", to="nir")
    assert td.load_nir(path, source="tet_deploy", reset="zero").of_kind(LIF)
    with pytest.raises(GraphError, match=r"node 'layer0.lif': the neurons of this file reset to 0.*Say reset='zero'"):
        td.load_nir(path, source="tet_deploy", reset="subtract")
