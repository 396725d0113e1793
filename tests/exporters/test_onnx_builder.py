"""Whatever its nodes are called, a network becomes a file that runs."""

import functools
import itertools

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tet_deploy.errors import GraphError
from tet_deploy.exporters.to_onnx import to_onnx
from tet_deploy.ir.artifact import load, save
from tet_deploy.ir.graph import Graph, chain
from tet_deploy.ir.names import check_name
from tet_deploy.ir.nodes import LIF, Conv, Flatten, Input, Linear, Quantization, Readout
from tet_deploy.runtimes.onnx_session import OnnxRuntime
from tet_deploy.runtimes.reference import ReferenceRuntime
from tet_deploy.testing import random_frames

QUANTIZED = [False, True]
EVERYTHING = {"probes": "all", "stream": True, "ranges": True}


def _network(names, quantized: bool, encoding: str = "events") -> Graph:
    """Eight nodes, two of them LIF; every kind of value that an exported graph may hold, wraps among them."""
    rng, unit = np.random.default_rng(0), Quantization(scale=1.0) if quantized else None
    weights = [
        rng.integers(-127, 128, shape).astype("i1" if quantized else "f4") for shape in [(4, 2, 3, 3), (3, 64), (2, 3)]
    ]
    name = iter(names)
    return chain(
        [
            Input(name=next(name), shape=(4, 4, 4), encoding=encoding, quantization=unit),
            Conv(name=next(name), weight=weights[0], groups=2, padding=(1, 1), quantization=unit),
            LIF(name=next(name), threshold=300, quantization=unit),
            Flatten(name=next(name)),
            Linear(name=next(name), weight=weights[1], quantization=unit),
            LIF(name=next(name), threshold=100, quantization=unit),
            Linear(name=next(name), weight=weights[2], quantization=unit),
            Readout(name=next(name), quantization=unit),
        ]
    )


def _allowed(name: str) -> bool:
    try:
        check_name(name)
    except GraphError:
        return False
    return True


@functools.cache
def vocabulary(folder) -> tuple[str, ...]:
    """What the exporter calls its values, operators and functions where nodes are called a to h, now and in version 0.1."""
    words = [
        "frames",
        "readout",
        "logits",
        "frames_TB",
        "readout_shape",
        "a",
        "a.spikes",
        "a.potentials",
        "int64",
        "network",
    ]
    for quantized in QUANTIZED:
        file = to_onnx(_network("abcdefgh", quantized), folder / "net.onnx", **EVERYTHING)
        graphs = [(model := onnx.load(file)).graph, *model.functions]
        graphs += [part.g for f in model.functions for node in f.node for part in node.attribute if part.HasField("g")]
        for node in itertools.chain.from_iterable(graph.node for graph in graphs):
            words += [node.name, node.op_type, *node.input, *node.output]
    dotted = [word.strip("/").replace("/", ".") for word in words]
    stems = [word.rpartition(".")[0] for word in dotted]
    inlined = [
        f"_inlfunc_{function}_{word}" for function in ("LIF", "FixedPointLIFWithPotentials") for word in ("v", "spike")
    ]
    return tuple(sorted({word for word in [*dotted, *stems, *inlined] if _allowed(word)}))


def _check(graph: Graph, folder, **options) -> None:
    """Saved, loaded, exported and run, all is as it was."""
    assert load(save(graph, folder / "net.safetensors")).digest() == graph.digest()
    frames = random_frames(graph, np.random.default_rng(0), steps=3, samples=1)
    expected = ReferenceRuntime(graph).run(frames)
    found = OnnxRuntime(to_onnx(graph, folder / "net.onnx", **options), threads=1).run(frames)
    assert np.array_equal(found.readout, expected.readout)
    for lif in graph.of_kind(LIF):
        assert np.array_equal(found.spikes[lif.name], expected.spikes[lif.name])
        assert np.array_equal(found.potentials[lif.name], expected.potentials[lif.name])
        assert expected.spikes[lif.name].any()


COLLIDING = [
    ("logits", "frames_TB"),
    ("readout", "frames"),
    ("b.sums", "e.sums"),
    ("a", "a.spikes"),
    ("b.shape", "f.merged"),
]


@pytest.mark.parametrize("quantized", QUANTIZED)
@pytest.mark.parametrize(("first", "second"), COLLIDING, ids=lambda name: name)
def test_populations_may_be_called_like_our_own_values(first, second, quantized, tmp_path):
    """In version 0.1 these names gave a file that ONNX Runtime refused."""
    names = list("abcdefgh") if first != "a" else list("zbcdefgh")
    _check(_network([*names[:2], first, *names[3:5], second, *names[6:]], quantized), tmp_path, probes="all")


@pytest.mark.parametrize("names", ["a c.wrapped c d e f g h", "a b c d c.wrapped f g h", "f.before b c d e f g h"])
@pytest.mark.parametrize("options", [{}, {"stream": True}, {"ranges": True}, {"stream": True, "ranges": True}])
def test_nodes_may_be_called_like_what_belongs_to_an_output(names, options, tmp_path):
    """Where these counted what left its range, or began with a potential, two values of one name were refused."""
    _check(_network(names.split(), True, "analog"), tmp_path, probes="all", **options)


@pytest.mark.parametrize("quantized", QUANTIZED)
@settings(max_examples=25)
@given(data=st.data())
def test_any_names_survive_files_and_runtimes(quantized, data, tmp_path_factory):
    """Nodes may have names of any script, and those that the exporter itself uses for other nodes."""
    folder = tmp_path_factory.getbasetemp()
    letters = st.characters(categories=("L", "M", "N"), include_characters="_-.:+@")
    own, foreign = st.sampled_from(vocabulary(folder)), st.text(letters, min_size=1, max_size=5).filter(_allowed)
    names = data.draw(st.lists(st.one_of(own, own, foreign), min_size=8, max_size=8, unique=True), label="names")
    _check(_network(names, quantized), folder, **data.draw(st.sampled_from([EVERYTHING, {"probes": "all"}])))
