"""Whatever is wrong with an ONNX file is found before it runs, and said in one short line."""

import contextlib
import json
import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from tet_deploy.errors import ArtifactError
from tet_deploy.exporters.to_onnx import to_onnx
from tet_deploy.onnx_file import check_seal, sealed
from tet_deploy.runtimes.onnx_session import OnnxRuntime
from tet_deploy.testing import random_frames, random_quantized_network


@pytest.fixture(scope="module")
def content(tmp_path_factory) -> bytes:
    """A small quantized network with all probes, as a file."""
    graph = random_quantized_network(np.random.default_rng(11), layers=1)
    return to_onnx(graph, tmp_path_factory.mktemp("onnx") / "net.onnx", probes="all").read_bytes()


def refused(content: bytes, folder: Path, message: str) -> None:
    """The file gives an ArtifactError that names it and fits on three lines, however much of the file it is about."""
    path = folder / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=message) as caught:
        OnnxRuntime(path)
    text = str(caught.value).removeprefix(f"{path}: ")
    assert text != str(caught.value) and len(text) < 600 and text.count("\n") < 3 and text.isprintable()


def test_no_flipped_bit_goes_unnoticed(content, tmp_path):
    """One flipped bit, in any byte of the file, checksum included, and the file is refused."""
    rng, unsealed = np.random.default_rng(0), []
    for index in range(len(content)):
        changed = bytearray(content)
        changed[index] ^= 1 << int(rng.integers(8))
        with contextlib.suppress(ArtifactError):
            assert not check_seal(bytes(changed))
            unsealed.append(bytes(changed))
    assert len(unsealed) <= 21  # the 17 letters of the seal's key, and what protobuf writes around them
    for changed in unsealed:
        refused(changed, tmp_path, "lacks its checksum|cannot be read")


def test_no_prefix_is_taken_for_a_file(content, tmp_path):
    """A file that was cut off, anywhere, is refused."""
    path = tmp_path / "cut.onnx"
    for size in range(0, len(content), 97):
        path.write_bytes(content[:size])
        with pytest.raises(ArtifactError):
            OnnxRuntime(path)


def _edited(content: bytes, edit) -> bytes:
    """The file after an edit that knows how to seal."""
    model = onnx.load_from_string(content)
    edit(model)
    return sealed(model.SerializeToString(deterministic=True))


def _with_entry(content: bytes, key: str, value: str) -> bytes:
    def edit(model):
        next(entry for entry in model.metadata_props if entry.key == f"tet_deploy.{key}").value = value

    return _edited(content, edit)


def _foreign(_: bytes) -> bytes:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "foreign", [x], [y])
    opset = helper.make_opsetid("", 21)
    return helper.make_model(graph, opset_imports=[opset], ir_version=10).SerializeToString()


def _unsealed(content: bytes) -> bytes:
    model = onnx.load_from_string(content)
    kept = [entry for entry in model.metadata_props if entry.key != "tet_deploy.sha256"]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    return model.SerializeToString()


def _with_weights_elsewhere(content: bytes) -> bytes:
    def edit(model):
        weight = next(tensor for tensor in model.graph.initializer if tensor.name.endswith("/weight"))
        weight.data_location = TensorProto.EXTERNAL
        weight.external_data.add(key="location", value="/etc/hostname")
        weight.ClearField("raw_data")

    return _edited(content, edit)


BAD = {
    "empty": (lambda content: b"", "is empty"),
    "text": (lambda content: b"not an onnx file at all", "cannot be read as an ONNX network"),
    "half": (lambda content: content[: len(content) // 2], "cannot be read as an ONNX network"),
    "one byte short": (lambda content: content[:-1], "does not match its checksum"),
    "one byte long": (lambda content: content + b"\0", "does not match its checksum"),
    "foreign": (_foreign, "not one that tet_deploy wrote"),
    "no checksum": (_unsealed, "lacks its checksum"),
    "weights elsewhere": (_with_weights_elsewhere, "keeps weights in another file"),
    "format": (lambda content: _with_entry(content, "format", "99"), "formats 1 and 2; the file has format '99'"),
    "digest": (lambda content: _with_entry(content, "graph_digest", "x" * 10**5), "graph_digest must hold 64"),
    "no UTF-8": (lambda content: sealed(content.replace(b'{"shape"', b'{"sha\xffe"')), "cannot be read .*utf-8"),
}
SHAPES = [
    "3",
    "[]",
    "[2, -5, 5]",
    "[2, 0, 5]",
    "[2, 1e400, 5]",
    "[true, 5, 5]",
    "[2, 5.0, 5]",
    "[9, 9, 9]",
    f"[{10**21}, 9]",
]
NO_OBJECTS = ["", "{", "7", "null", "[1]", "[" * 10**5, '{"a":' * 10**5, '"' + "x" * 10**5 + '"', "9" * 10**4]
NAMES = ["/etc/passwd", "a\nb", "\ud800", "x" * 10**5]
ENTRIES = [
    *(("input", text) for text in ["{}", *NO_OBJECTS]),
    *(("input", f'{{"shape": {shape}, "encoding": "analog"}}') for shape in SHAPES),
    *(("input", f'{{"shape": [2, 5, 5], "encoding": {encoding}}}') for encoding in ('"sounds"', "1", '["events"]')),
    *(("populations", text) for text in NO_OBJECTS),
    *(("populations", f'{{"layer0.lif": {shape}}}') for shape in ['"b"', "[NaN]", *SHAPES]),
    *(("populations", json.dumps({name: [3]})) for name in NAMES),
]


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_refused(case, content, tmp_path):
    """Not ONNX, cut off, not ours, of another format, changed, or not wholly in the file."""
    change, message = BAD[case]
    refused(change(content), tmp_path, message)


@pytest.mark.parametrize(("key", "value"), ENTRIES, ids=lambda text: ascii(text)[:60])
def test_hostile_metadata_is_refused(key, value, content, tmp_path):
    """Wrong types, sizes that cannot be, endless nesting, names that no node has, shapes that the graph does not have."""
    refused(_with_entry(content, key, value), tmp_path, f"{key} must hold|as the metadata says|its name")


@pytest.mark.skipif(
    tuple(map(int, onnxruntime.__version__.split(".")[:2])) < (1, 23),
    reason="onnxruntime before 1.23 prints that it tries again, and cannot be told not to",
)
def test_nothing_is_printed(content, tmp_path, capfd):
    """A file that ONNX Runtime stumbles over gives the error and nothing else on stdout or stderr."""
    refused(sealed(content.replace(b"layer0.lif.spikes", b"layer0.lif\xffspikes")), tmp_path, "cannot be read")
    assert capfd.readouterr() == ("", "")


def test_populations_that_the_graph_does_not_give_are_said_when_asked_for(content, tmp_path):
    """Metadata may name a LIF node without outputs, as in files without probes; asking for it says how to export it."""
    path = tmp_path / "net.onnx"
    path.write_bytes(_with_entry(content, "populations", '{"other": [3]}'))
    runtime = OnnxRuntime(path)
    with pytest.raises(ArtifactError, match=r"does not carry the spikes of 'other'.*Export it again"):
        runtime.run(np.zeros((1, 1, *runtime.input_shape)))


def test_outputs_that_are_not_as_declared_are_refused(tmp_path):
    """A graph whose outputs have other sizes than it declares, which ONNX Runtime lets pass, gives no recording."""
    rng = np.random.default_rng(13)
    graph = random_quantized_network(rng, layers=1)
    path = to_onnx(graph, tmp_path / "net.onnx")

    def edit(model):
        (add,) = [node for node in model.graph.node if node.output[0] == "readout"]
        add.output[0] = "/readout"
        model.graph.node.append(helper.make_node("Concat", ["/readout", "/readout"], ["readout"], axis=1))

    path.write_bytes(_edited(path.read_bytes(), edit))
    with pytest.raises(ArtifactError, match="output 'readout' must be of shape"):
        OnnxRuntime(path).run(random_frames(graph, rng), probes="none")


@pytest.mark.parametrize("kind", ["nothing", "a folder", "a FIFO", "a device", "a loop"])
def test_what_is_no_file_is_refused_at_once(kind, tmp_path):
    """Nothing is opened that could hang or never end."""
    path = tmp_path / "net.onnx"
    if kind == "a folder":
        path.mkdir()
    elif kind == "a FIFO":
        os.mkfifo(path)
    elif kind != "nothing":
        path.symlink_to("/dev/zero" if kind == "a device" else path)
    wanted = {"nothing": "no such file", "a loop": "cannot be read"}.get(kind, f"must be a file; it is {kind}")
    with pytest.raises(ArtifactError, match=wanted):
        OnnxRuntime(path)
