"""A file of any opset that we offer computes the same, and other opsets are refused."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator

from tet_deploy.errors import ArgumentError
from tet_deploy.exporters.to_onnx import OLDEST_OPSET, to_onnx
from tet_deploy.ir.nodes import LIF
from tet_deploy.runtimes.onnx_session import OnnxRuntime
from tet_deploy.runtimes.reference import ReferenceRuntime
from tet_deploy.testing import random_float_network, random_frames, random_quantized_network

NEWEST = onnx.defs.onnx_opset_version()
OPSETS = range(OLDEST_OPSET, NEWEST + 1)
MAKERS = [random_float_network, random_quantized_network]
RELEASE = tuple(map(int, onnx.__version__.split(".")[:2]))


def _file(make, opset, folder):
    rng = np.random.default_rng(4)
    graph = make(rng, layers=2)
    frames = random_frames(graph, rng, steps=3, samples=2)
    path = to_onnx(graph, folder / "net.onnx", probes="all", ranges=True, opset=opset)
    return graph, frames, path


def _newest_of_the_runtime() -> int:
    """Of ONNX Runtime, which refuses opsets that were no release yet when it was one."""
    for opset in reversed(OPSETS):
        x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
        y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
        graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "one", [x], [y])
        imported = [onnx.helper.make_opsetid("", opset)]
        ir_version = onnx.helper.find_min_ir_version_for(imported)
        content = onnx.helper.make_model(graph, opset_imports=imported, ir_version=ir_version).SerializeToString()
        try:
            onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        except Exception:  # its exceptions share no base class
            continue
        return opset
    raise AssertionError("ONNX Runtime takes none of these opsets")


@pytest.fixture(scope="module")
def newest_of_the_runtime():
    return _newest_of_the_runtime()


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("make", MAKERS)
def test_every_opset_gives_the_same_spikes_on_onnx_runtime(make, opset, tmp_path, newest_of_the_runtime):
    """Checked in full and strictly, and equal to the reference in every spike, potential and readout."""
    graph, frames, path = _file(make, opset, tmp_path)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    assert {entry.version for part in (model, *model.functions) for entry in part.opset_import if not entry.domain} == {
        opset
    }
    if opset > newest_of_the_runtime:
        pytest.skip(f"this ONNX Runtime ends at opset {newest_of_the_runtime}")
    found, expected = OnnxRuntime(path, threads=1).run(frames), ReferenceRuntime(graph).run(frames)
    assert np.array_equal(found.readout, expected.readout)
    for name in expected.spikes:
        assert np.array_equal(found.spikes[name], expected.spikes[name])
        assert np.array_equal(found.potentials[name], expected.potentials[name])
    assert any(expected.spikes[node.name].any() for node in graph.of_kind(LIF))


@pytest.mark.skipif(RELEASE < (1, 22), reason="the evaluator of onnx before 1.22 cannot run a Scan with values from outside")
@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("make", MAKERS)
def test_every_opset_gives_the_same_spikes_on_the_evaluator_of_onnx(make, opset, tmp_path):
    """The evaluator of the ONNX project, an implementation of its own, gives every spike and potential of the reference."""
    graph, frames, path = _file(make, opset, tmp_path)
    evaluator = ReferenceEvaluator(str(path))
    found = dict(zip(evaluator.output_names, evaluator.run(None, {"frames": frames}), strict=True))
    expected = ReferenceRuntime(graph).run(frames)
    assert np.array_equal(found["readout"], expected.readout)
    for name in expected.spikes:
        assert np.array_equal(found[f"{name}.spikes"], expected.spikes[name])
        assert np.array_equal(found[f"{name}.potentials"], expected.potentials[name])


def test_21_is_the_default(tmp_path):
    """What a file takes is what it took: opset 21 with IR version 10."""
    graph = random_float_network(np.random.default_rng(0), layers=1)
    path = to_onnx(graph, tmp_path / "net.onnx")
    model = onnx.load(path)
    assert (model.opset_import[0].version, model.ir_version) == (21, 10)
    assert path.read_bytes() == to_onnx(graph, tmp_path / "again.onnx", opset=21).read_bytes()


@pytest.mark.parametrize("opset", [16, 0, -1, NEWEST + 1, 21.0, "21", True, None])
def test_other_opsets_are_refused(opset, tmp_path):
    """Too old, too new for the installed onnx, or no whole number: an error that says the bounds, and no file."""
    with pytest.raises(ArgumentError, match=rf"opset: must be a whole number within 17\.\.{NEWEST}"):
        to_onnx(random_float_network(np.random.default_rng(0), layers=1), tmp_path / "net.onnx", opset=opset)
    assert not list(tmp_path.iterdir())
