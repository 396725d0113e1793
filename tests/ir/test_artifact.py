"""Networks survive the file, and broken files are refused."""

import dataclasses
import hashlib
import json
import os
import struct

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tet_deploy.errors import ArtifactError
from tet_deploy.ir.artifact import load, save
from tet_deploy.ir.nodes import LIF
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
    graph = random_float_network(np.random.default_rng(0))
    first = graph.of_kind(LIF)[0]  # whose decay the tests change
    graph = graph.replace({first.name: dataclasses.replace(first, decay=0.5)})
    return save(graph.with_metadata(accuracy="0.9812"), tmp_path / "net.safetensors")


def checksum(header, tensors):
    """As the module's docstring says it."""
    sha = hashlib.sha256(json.dumps(header, sort_keys=True).encode() + b"\n")
    for name, array in sorted(tensors.items()):
        sha.update(json.dumps([name, array.dtype.str, list(array.shape)]).encode() + b"\n" + array.tobytes())
    return sha.hexdigest()


def read(path):
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def write(path, header, body):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def header_of(path):
    return json.loads(read(path)[0]["__metadata__"]["tet_deploy"])


def sealed(path, header, tensors=None, replace=("", "")):
    """Write the file anew with this header, and the checksum that belongs to it; then replace something in its text."""
    tensors = load_file(path) if tensors is None else tensors
    if isinstance(header, dict):
        header.pop("checksum", None)
        header["checksum"] = checksum(header, tensors)
    save_file(tensors, path, metadata={"tet_deploy": json.dumps(header).replace(*replace, 1)})


def edit(path, change):
    """Change the header; its checksum is put right, as a forger would."""
    header = header_of(path)
    change(header)
    sealed(path, header)


def edit_tensors(path, change):
    tensors = load_file(path)
    change(tensors)
    sealed(path, header_of(path), tensors)


def flipped(path, bit):
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def metadata_only(path):
    """One digit of the accuracy, and nothing else."""
    data = path.read_bytes()
    assert data.count(b"0.9812") == 1
    path.write_bytes(data.replace(b"0.9812", b"0.9912"))


def huge_tensor(path):
    header, body = read(path)
    name = next(key for key in header if key != "__metadata__")
    header[name]["shape"] = [10**12]
    write(path, header, body)


def unsealed(path):
    header = header_of(path)
    header["nodes"][2]["decay"] = 0.25
    save_file(load_file(path), path, metadata={"tet_deploy": json.dumps(header)})


def written(path, value, meaning=0.5):
    """A decay as Python's JSON would not write it."""
    header = header_of(path)
    header["nodes"][2]["decay"] = meaning
    sealed(path, header, replace=(f'"decay": {json.dumps(meaning)}', f'"decay": {value}'))


def a_node(index, **fields):
    return lambda path: edit(path, lambda header: header["nodes"][index].update(fields))


def a_header(**fields):
    return lambda path: edit(path, lambda header: header.update(fields))


NEWER = "A newer version may have written the file: update tet_deploy"
BROKEN = {
    "missing": (lambda path: path.unlink(), "no such file"),
    "text": (lambda path: path.write_text("hello, this is not a network"), "damaged or of another kind"),
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "FIFO": (lambda path: (path.unlink(), os.mkfifo(path)), "it is a FIFO"),
    "link to a device": (lambda path: (path.unlink(), path.symlink_to("/dev/zero")), "it is a device"),
    "folder": (lambda path: (path.unlink(), path.mkdir()), "it is a folder"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-40]), "damaged or of another kind"),
    "header claims 2^60 bytes": (lambda path: path.write_bytes(struct.pack("<Q", 2**60) + b"x" * 50), "damaged"),
    "tensor of 10^12 elements": (huge_tensor, "damaged or of another kind"),
    "foreign": (lambda path: save_file({"w": np.zeros(3)}, path), "a safetensors file of another program"),
    "newer format": (a_header(format=3, writer="0.9.0"), r"of format 3, written by tet_deploy '0.9.0'.*Update tet_deploy"),
    "newer format with other fields": (lambda path: sealed(path, {"format": 3, "layers": 1}), "Update tet_deploy"),
    "format in words": (a_header(format="two"), "its header says format 'two'"),
    "format true": (a_header(format=True), "its header says format True"),
    "unknown header field": (a_header(colour=1), "its header holds 'colour', which is unknown"),
    "another header": (
        lambda path: save_file(load_file(path), path, metadata={"tet_deploy": json.dumps(header_of(path)), "note": ""}),
        "holds 'note', which is unknown",
    ),
    "no digest": (lambda path: edit(path, lambda header: header.pop("digest")), "its header lacks 'digest'"),
    "header is no object": (lambda path: sealed(path, [2]), "its header says format None"),
    "unknown kind": (a_node(1, kind="Conv7"), rf"kind must be one of .* got 'Conv7'\. {NEWER}"),
    "unknown field": (a_node(1, colour=1), rf"has no field 'colour'\. {NEWER}"),
    "unknown array": (
        lambda path: edit_tensors(path, lambda tensors: tensors.update(extra=np.zeros(3))),
        "no node has the array 'extra'",
    ),
    "lost field": (lambda path: edit(path, lambda header: header["nodes"][0].pop("shape")), "Input lacks its field 'shape'"),
    "wrong type": (a_node(0, shape="big"), "shape must be a tuple of whole numbers; got 'big'"),
    "flag for a number": (a_node(2, decay=True), "decay must be a number or a numpy array; got True"),
    "number without an end": (a_node(2, threshold=10**400), "threshold must be a number"),
    "infinite number": (lambda path: written(path, "1e999", float("inf")), "decay must be finite"),
    "array in plain fields": (a_node(1, weight=3), "'layer0.conv': the file lacks its array 'weight'"),
    "half a quantization": (a_node(1, quantization={"scale": 1.0, "colour": 2}), "Quantization has no field 'colour'"),
    "lost array": (lambda path: edit(path, lambda header: header["nodes"][1]["arrays"].append("x")), "lacks its array 'x'"),
    "arrays are no list": (a_node(1, arrays=3), "must be objects that list their arrays"),
    "shape mismatch": (a_node(0, shape=[9, 9, 9]), "no valid network"),
    "endless stride": (a_node(1, stride=[10**30, 1]), "stride and dilation must lie in 1.."),
    "negative cost": (a_node(1, dense_macs=-1), "dense_macs must lie in 0.."),
    "changed parameter": (a_node(2, decay=0.25), "does not match its digest"),
    "changed without a seal": (unsealed, "does not match its checksum"),
    "changed metadata": (metadata_only, "does not match its checksum"),
    "no checksum": (
        lambda path: sealed(path, header_of(path), replace=('"checksum"', '"sum"')),
        "its header lacks 'checksum'",
    ),
    "nodes are no list": (a_header(nodes=7), "lacks 'nodes', or holds it in another form"),
    "metadata of numbers": (a_header(metadata={"steps": 4}), "metadata: must hold strings"),
    "metadata of half a character": (a_header(metadata={"note": "\ud800"}), r"metadata: '\\ud800' holds half"),
    "name of half a character": (a_node(1, name="\ud800"), "lacks its array"),
    "a key twice": (
        lambda path: sealed(path, header_of(path), replace=('"digest"', '"writer": "", "digest"')),
        "its header holds 'writer' twice",
    ),
    "deep nesting": (lambda path: written(path, "[" * 50_000 + "]" * 50_000), "recursion"),
    "NaN in the header": (lambda path: written(path, "NaN"), "holds NaN, which is no number"),
    "NaN weights": (
        lambda path: edit_tensors(path, lambda tensors: [array.fill(np.nan) for array in tensors.values()]),
        "holds NaN or infinite",
    ),
    "array of booleans": (
        lambda path: edit_tensors(path, lambda t: t.update({key: array > 0 for key, array in t.items()})),
        "must hold floats or integers",
    ),
    "huge header": (lambda path: sealed(path, {"format": 2, "nodes": "[]," * 2**23}), "header is longer than"),
    "huge field": (a_node(1, **{"colour" * 50_000: 1}), "has no field"),
    "huge value": (a_node(0, shape=[[1] * 100_000] * 3), "shape must be"),
    "huge kind": (a_node(1, kind="C" * 200_000), "kind must be one of"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_are_refused(case, saved):
    """A file that is not a sound network gives an ArtifactError of at most three lines that names the file.

    However much is wrong: no more than 200 characters of the file stand in it, and every terminal can print it.
    """
    damage, message = BROKEN[case]
    damage(saved)
    with pytest.raises(ArtifactError, match=message) as caught:
        load(saved)
    text = str(caught.value)
    assert text.startswith(f"{saved}: ") and text.count("\n") < 3
    assert len(text) < len(str(saved)) + 450
    text.encode()


def test_any_flipped_bit_is_noticed(saved):
    """Header, metadata, weights or padding: no bit of the file can change without being noticed."""
    whole = saved.read_bytes()
    for bit in np.random.default_rng(0).choice(len(whole) * 8, 500, replace=False):
        flipped(saved, int(bit))
        with pytest.raises(ArtifactError):
            load(saved)
        saved.write_bytes(whole)
    load(saved)


def test_equal_networks_give_equal_files(tmp_path):
    """Byte for byte, whatever the memory layout of their arrays was."""
    graph = random_float_network(np.random.default_rng(3))
    layer = graph.nodes[1]
    twin = graph.replace({layer.name: dataclasses.replace(layer, weight=np.asfortranarray(layer.weight))})
    files = [save(each, tmp_path / f"{index}.safetensors").read_bytes() for index, each in enumerate((graph, twin))]
    assert files[0] == files[1]


def test_nothing_is_left_when_writing_fails(tmp_path):
    """Saving into a folder that does not exist leaves no file and names the path."""
    with pytest.raises(ArtifactError, match="cannot be written"):
        save(random_float_network(np.random.default_rng(0)), tmp_path / "absent" / "net.safetensors")
    assert list(tmp_path.iterdir()) == []
