"""What an exported ONNX file is: valid, free in steps and samples, reproducible, and refused where it could not be exact."""

import hashlib
import json

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from tet_deploy.errors import ArgumentError, ArtifactError, GraphError
from tet_deploy.exporters.to_onnx import to_onnx
from tet_deploy.ir.graph import Graph, chain
from tet_deploy.ir.nodes import LIF, AvgPool, Conv, Flatten, Input, Linear, Quantization, Readout
from tet_deploy.passes import fold_pooling, quantize
from tet_deploy.runtimes.reference import ReferenceRuntime
from tet_deploy.testing import random_float_network, random_frames, random_quantized_network

MAKERS = [random_float_network, random_quantized_network]
scans_see_outer_values = pytest.mark.skipif(
    tuple(map(int, onnx.__version__.split(".")[:2])) < (1, 22),
    reason="the evaluator of onnx before 1.22 cannot run a Scan that uses values from outside",
)


def _linear_network(
    inputs: int = 4, *, weight: int = 100, threshold: float | np.ndarray = 100, bits: int = 8, exponent: int = 0
) -> Graph:
    """Quantized: `inputs` neurons -> 2 LIF neurons -> 2 classes, all weights equal."""
    unit = Quantization(scale=1.0)
    return chain(
        [
            Input(name="input", shape=(inputs,), quantization=Quantization(scale=1.0, bits=bits)),
            Linear(name="fc", weight=np.full((2, inputs), weight, dtype=np.int16), quantization=unit),
            LIF(
                name="lif",
                threshold=threshold,
                bias=np.ones(2, dtype=np.int16),
                quantization=Quantization(scale=1.0, bits=17, bias_exponent=exponent),
            ),
            Linear(name="out", weight=np.eye(2, dtype=np.int8), quantization=unit),
            Readout(name="readout", quantization=unit),
        ]
    )


def _pooled(rng: np.random.Generator) -> Graph:
    """Float: an average pool that was folded into a linear layer."""
    kernel, weight = (rng.integers(-8, 9, shape).astype(np.float32) / 8 for shape in ((2, 2, 1, 1), (3, 8)))
    nodes = [Input(name="input", shape=(2, 4, 4), encoding="events"), Conv(name="conv", weight=kernel), LIF(name="lif")]
    nodes += [AvgPool(name="pool", kernel=(2, 2), stride=(2, 2)), Flatten(name="flatten"), Linear(name="fc", weight=weight)]
    return fold_pooling(chain([*nodes, Readout(name="readout")]))


def _quantized_pool(rng: np.random.Generator) -> Graph:
    graph = _pooled(rng)
    return quantize(graph, random_frames(graph, rng))


def _read(graph: onnx.GraphProto) -> set[str]:
    """Names of the values that operators and branches take."""
    inner = (attribute.g for node in graph.node for attribute in node.attribute)
    taken = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    return taken.union(*(_read(branch) for branch in inner))


@pytest.mark.parametrize("probes", ["none", "spikes", "all"])
@pytest.mark.parametrize("make", MAKERS)
def test_files_pass_the_checker(make, probes, tmp_path):
    """Files pass onnx.checker with full shape inference, and inference that is strict, for every choice of probes."""
    graph = make(np.random.default_rng(1))
    model = onnx.load(to_onnx(graph, tmp_path / "net.onnx", probes=probes))
    onnx.checker.check_model(model, full_check=True)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    lifs = [node.name for node in graph.of_kind(LIF)]
    wanted = {"none": [], "spikes": ["spikes"], "all": ["spikes", "potentials"]}[probes]
    assert {out.name for out in model.graph.output} == {"readout", "logits"} | {f"{n}.{w}" for n in lifs for w in wanted}


@pytest.mark.parametrize("make", MAKERS)
def test_steps_and_samples_are_free(make, tmp_path):
    """The numbers of steps and samples are symbols in every input and output, never numbers."""
    model = onnx.load(to_onnx(make(np.random.default_rng(2)), tmp_path / "net.onnx", probes="all"))
    for value in [*model.graph.input, *model.graph.output]:
        leading = [dim.dim_param for dim in value.type.tensor_type.shape.dim][:2]
        assert leading == (["B", ""] if value.name == "logits" else ["T", "B"])


@pytest.mark.parametrize("make", MAKERS)
def test_bytes_are_deterministic(make, tmp_path):
    """Equal networks give equal bytes, and another network gives others."""
    first, again, other = (
        to_onnx(make(np.random.default_rng(seed)), tmp_path / f"{i}.onnx").read_bytes() for i, seed in enumerate([3, 3, 4])
    )
    assert first == again != other


@pytest.mark.parametrize("make", MAKERS)
def test_provenance_is_in_the_metadata(make, tmp_path):
    """The file says which graph it came from, what goes in, and which populations it has."""
    graph = make(np.random.default_rng(5), encoding="events").with_metadata(dataset="digits")
    model = onnx.load(to_onnx(graph, tmp_path / "net.onnx"))
    entries = {entry.key: entry.value for entry in model.metadata_props}
    assert entries["tet_deploy.graph_digest"] == graph.digest()
    assert json.loads(entries["tet_deploy.input"]) == {"shape": list(graph.input.shape), "encoding": "events"}
    assert json.loads(entries["tet_deploy.metadata"]) == {"dataset": "digits"}
    assert list(json.loads(entries["tet_deploy.populations"])) == [node.name for node in graph.of_kind(LIF)]
    assert entries["tet_deploy.version"] == model.producer_version


@scans_see_outer_values
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("make", MAKERS)
def test_onnx_reference_evaluator_agrees(make, seed, tmp_path):
    """The evaluator of the ONNX project, an implementation of its own, computes every spike and potential alike."""
    rng = np.random.default_rng(seed)
    graph = make(rng, layers=1)
    frames = random_frames(graph, rng, steps=3, samples=2)
    evaluator = ReferenceEvaluator(str(to_onnx(graph, tmp_path / "net.onnx", probes="all")))
    found = dict(zip(evaluator.output_names, evaluator.run(None, {"frames": frames}), strict=True))
    expected = ReferenceRuntime(graph).run(frames)
    assert np.array_equal(found["readout"], expected.readout)
    for name in expected.spikes:
        assert np.array_equal(found[f"{name}.spikes"], expected.spikes[name])
        assert np.array_equal(found[f"{name}.potentials"], expected.potentials[name])


@scans_see_outer_values
@pytest.mark.parametrize("make", MAKERS)
def test_logits_are_the_mean_readout_in_float_units(make, tmp_path):
    """`logits` is the readout averaged over time; a quantized network's is divided by 64 * scale."""
    rng = np.random.default_rng(6)
    graph = make(rng, layers=1)
    frames = random_frames(graph, rng, steps=4, samples=2)
    evaluator = ReferenceEvaluator(str(to_onnx(graph, tmp_path / "net.onnx")))
    readout, logits = evaluator.run(["readout", "logits"], {"frames": frames})
    unit = 64 * graph.readout.quantization.scale if graph.is_quantized else 1
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, readout.astype(np.float64).mean(axis=0) / unit, rtol=1e-6)  # float32 rounding


@pytest.mark.parametrize(("inputs", "wraps_once", "wraps_24"), [(10, False, False), (11, True, False), (700, True, True)])
def test_wrapping_is_left_out_only_where_it_is_impossible(inputs, wraps_once, wraps_24, tmp_path):
    """Sums of at most 127 * 100 * inputs wrap once from 2^17 on and lose their upper bits from 2^23 on."""
    model = onnx.load(to_onnx(_linear_network(inputs), tmp_path / "net.onnx"))
    kinds = [node.op_type for node in model.graph.node]
    assert ("Where" in kinds, "Mod" in kinds) == (wraps_once, wraps_24)


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (_linear_network(weight=128), r"'fc': largest \|weight\| must lie in 0..127; got 128"),
        (_linear_network(threshold=131072), r"'lif': threshold must lie in 0..131071; got 131072"),
        (_linear_network(threshold=np.array([7, 2**20])), r"'lif': threshold must lie in 0..131071; got 1048576"),
        (_linear_network(bits=9), r"'input': largest message must lie in 0..127; got 255"),
        (_linear_network(exponent=8), r"'lif': bias exponent must lie in 0..7; got 8"),
        (_linear_network(inputs=200_000), r"'fc': largest possible synaptic sum must lie in 0..2139095039; got 2540000000"),
    ],
    ids=["weight", "threshold", "thresholds", "messages", "exponent", "sum"],
)
def test_integers_beyond_the_proof_are_refused(graph, message, tmp_path):
    """What int8, 24 bit or int32 could not hold exactly is an error that names the node, and no file is written."""
    with pytest.raises(GraphError, match=message):
        to_onnx(graph, tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


def test_weights_beyond_float32_are_refused(tmp_path):
    """A float64 weight that float32 cannot hold is an error, not infinity in the file."""
    nodes = [Input(name="input", shape=(2,)), Linear(name="fc", weight=np.full((2, 2), 1e39)), Readout(name="readout")]
    with pytest.raises(GraphError, match="'fc': weight must fit float32"):
        to_onnx(chain(nodes), tmp_path / "net.onnx")


def test_unknown_probes_are_refused(tmp_path):
    """A probe that names no population is an error."""
    with pytest.raises(ArgumentError, match="no LIF node has that name"):
        to_onnx(_linear_network(), tmp_path / "net.onnx", probes=["fc"])


@pytest.mark.parametrize("make", MAKERS)
def test_values_inside_the_graph_cannot_have_the_name_of_a_node(make, tmp_path):
    """They begin with a slash, inputs and outputs hold none, and every name is given once; names of operators too."""
    graph = onnx.load(to_onnx(make(np.random.default_rng(8)), tmp_path / "net.onnx", probes="all")).graph
    outer = [value.name for value in [*graph.input, *graph.output]]
    given = [*(value.name for value in graph.input), *(tensor.name for tensor in graph.initializer)]
    given += [output for node in graph.node for output in node.output]
    assert not any("/" in name for name in outer)
    assert all(name.startswith("/") for name in given if name not in outer)
    assert len(given) == len(set(given)) and len({node.name for node in graph.node}) == len(graph.node)


@pytest.mark.parametrize("make", MAKERS)
def test_what_a_scan_takes_is_declared(make, tmp_path):
    """ONNX Runtime before 1.24 fails where it cannot infer a Scan's shapes, so the file states what each LIF takes."""
    graph = make(np.random.default_rng(9))
    model = onnx.load(to_onnx(graph, tmp_path / "net.onnx")).graph
    declared = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in model.value_info
    }
    taken = [declared[node.input[0]] for node in model.node if node.domain == "tet_deploy"]
    shapes = [graph.shapes[node.name] for node in graph.of_kind(LIF)]
    wanted = [(*shape[1:], shape[0]) if graph.is_quantized else shape for shape in shapes]
    assert taken == [["T", "B", *shape] for shape in wanted]


@pytest.mark.parametrize("make", [*MAKERS, _pooled, _quantized_pool])
@pytest.mark.parametrize("probes", ["none", "all"])
def test_a_file_holds_nothing_that_is_not_used(make, probes, tmp_path):
    """Each constant is read, in a branch perhaps; ONNX Runtime warns of others, as of the shape of a flatten that went."""
    model = onnx.load(to_onnx(make(np.random.default_rng(4)), tmp_path / "net.onnx", probes=probes))
    assert {constant.name for constant in model.graph.initializer} <= _read(model.graph)


@pytest.mark.parametrize("make", MAKERS)
def test_the_checksum_is_that_of_the_file(make, tmp_path):
    """`tet_deploy.sha256` is the SHA-256 of the file with 64 zeros in its place, whatever else the metadata says."""
    graph = make(np.random.default_rng(10)).with_metadata(
        note="tet_deploy.sha256", other="\n\x11tet_deploy.sha256\x12@" + "0" * 64
    )
    content = to_onnx(graph, tmp_path / "net.onnx").read_bytes()
    (seal,) = [entry.value for entry in onnx.load_from_string(content).metadata_props if entry.key == "tet_deploy.sha256"]
    assert content.count(seal.encode()) == 1
    assert hashlib.sha256(content.replace(seal.encode(), b"0" * 64)).hexdigest() == seal


def test_an_unwritable_place_is_an_error_and_leaves_nothing(tmp_path):
    """A missing folder, or a folder in the file's place, is an error; no temporary file stays."""
    (tmp_path / "taken").mkdir()
    for path in (tmp_path / "missing" / "net.onnx", tmp_path / "taken"):
        with pytest.raises(ArtifactError, match="cannot be written"):
            to_onnx(_linear_network(), path)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
