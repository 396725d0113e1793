"""Networks survive the file, and broken files are refused."""

import json
import struct

import numpy as np
import pytest
from safetensors.numpy import save_file

from tet_deploy.errors import ArtifactError
from tet_deploy.ir.artifact import load, save
from tet_deploy.testing import random_float_network, random_quantized_network


@pytest.mark.parametrize("make", [random_float_network, random_quantized_network])
@pytest.mark.parametrize("seed", range(4))
def test_networks_survive_the_file(make, seed, tmp_path):
    """A saved and loaded network has the same digest and metadata."""
    graph = make(np.random.default_rng(seed)).with_metadata(note="äöü")
    loaded = load(save(graph, tmp_path / "net.safetensors"))
    assert loaded.digest() == graph.digest()
    assert dict(loaded.metadata) == dict(graph.metadata)


@pytest.fixture
def saved(tmp_path):
    return save(random_float_network(np.random.default_rng(0)), tmp_path / "net.safetensors")


def _split(path):
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def _join(path, header, body):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def _edit_network(path, edit):
    header, body = _split(path)
    network = json.loads(header["__metadata__"]["tet_deploy"])
    edit(network)
    header["__metadata__"]["tet_deploy"] = json.dumps(network)
    _join(path, header, body)


def _huge_tensor(path):
    header, body = _split(path)
    name = next(key for key in header if key != "__metadata__")
    header[name]["shape"] = [10**12]
    _join(path, header, body)


def _nan(path):
    header, body = _split(path)
    _join(path, header, struct.pack("<f", float("nan")) * (len(body) // 4))


BROKEN = {
    "missing": (lambda path: path.unlink(), "no such file"),
    "text": (lambda path: path.write_text("hello, this is not a network"), "damaged or of another kind"),
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-40]), "damaged or of another kind"),
    "header claims 2^60 bytes": (lambda path: path.write_bytes(struct.pack("<Q", 2**60) + b"x" * 50), "damaged"),
    "tensor of 10^12 elements": (_huge_tensor, "damaged or of another kind"),
    "foreign": (lambda path: save_file({"w": np.zeros(3)}, path), "not a network that tet_deploy wrote"),
    "other format": (lambda path: _edit_network(path, lambda n: n.update(format=99)), "format 1; the file has format 99"),
    "unknown kind": (lambda path: _edit_network(path, lambda n: n["nodes"][1].update(kind="Conv7")), "kind must be one of"),
    "unknown field": (lambda path: _edit_network(path, lambda n: n["nodes"][1].update(colour=1)), "has no field 'colour'"),
    "lost field": (lambda path: _edit_network(path, lambda n: n["nodes"][0].pop("shape")), "lacks a field"),
    "wrong type": (lambda path: _edit_network(path, lambda n: n["nodes"][0].update(shape="big")), "must be of type"),
    "lost array": (lambda path: _edit_network(path, lambda n: n["nodes"][1]["arrays"].append("x")), "lacks its array"),
    "shape mismatch": (
        lambda path: _edit_network(path, lambda n: n["nodes"][0].update(shape=[9, 9, 9])),
        "no valid network",
    ),
    "changed parameter": (lambda path: _edit_network(path, lambda n: n["nodes"][2].update(decay=0.25)), "digest"),
    "nodes are no list": (lambda path: _edit_network(path, lambda n: n.update(nodes=7)), "lacks the list of nodes"),
    "NaN weights": (_nan, "NaN"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_are_refused(case, saved):
    """A file that is not a sound network gives an ArtifactError of at most three lines that names the file."""
    damage, message = BROKEN[case]
    damage(saved)
    with pytest.raises(ArtifactError, match=message) as caught:
        load(saved)
    assert str(saved) in str(caught.value)
    assert str(caught.value).count("\n") < 3


def test_nothing_is_left_when_writing_fails(tmp_path):
    """Saving into a folder that does not exist leaves no file and names the path."""
    with pytest.raises(ArtifactError, match="cannot be written"):
        save(random_float_network(np.random.default_rng(0)), tmp_path / "absent" / "net.safetensors")
    assert list(tmp_path.iterdir()) == []
