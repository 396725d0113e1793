"""Networks of format 1 are checked against their old digest and carried over."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from tet_deploy.errors import ArtifactError
from tet_deploy.ir.artifact import load, save
from tet_deploy.passes import lower

FILES = Path(__file__).parents[1] / "versions" / "v0_1"


def header_of(path):
    with safe_open(path, framework="np") as file:
        return json.loads(file.metadata()["tet_deploy"])


def edited(name, folder, change):
    """A copy of a file of format 1 after `change(header, tensors)`."""
    header, tensors = header_of(FILES / name), load_file(FILES / name)
    change(header, tensors)
    save_file(tensors, folder / name, metadata={"tet_deploy": json.dumps(header)})
    return folder / name


@pytest.mark.parametrize("network", ["digits", "events"])
def test_what_layers_cost_before_folding_is_on_the_layers(network):
    """As if this version had folded the network; its weights lie on a finer grid since."""
    old = load(FILES / f"{network}.float.safetensors")
    with np.load(FILES / f"{network}.frames.npz") as arrays:
        new = lower(load(FILES / f"{network}.traced.safetensors"), arrays["frames"])
    assert [(node.name, node.kind, node.inputs) for node in old] == [(node.name, node.kind, node.inputs) for node in new]
    assert [getattr(node, "dense_macs", None) for node in old] == [getattr(node, "dense_macs", None) for node in new]
    folded = [node.name for node in old if getattr(node, "dense_macs", None) is not None]
    assert folded == {"digits": ["conv3", "fc"], "events": ["7", "11"]}[network]
    assert "dense_macs" not in old.metadata


def test_the_old_digest_stays_in_the_metadata(tmp_path):
    """So that an ONNX file or a bundle that version 0.1 made of the network can be told; saved anew, it is of format 2."""
    path = FILES / "digits.int8.safetensors"
    graph = load(path)
    assert graph.metadata["digest_of_format_1"] == header_of(path)["digest"]
    again = load(save(graph, tmp_path / "again.safetensors"))
    assert header_of(tmp_path / "again.safetensors")["format"] == 2
    assert again.digest() == graph.digest() and dict(again.metadata) == dict(graph.metadata)


def changed_parameter(header, tensors):
    header["nodes"][2]["threshold"] += 1


def changed_weight(header, tensors):
    tensors["conv1/weight"][0, 0, 0, 0] += 1


def changed_digest(header, tensors):
    header["digest"] = header["digest"][::-1]


def field_of_format_2(header, tensors):
    header["nodes"][1]["dense_macs"] = 5


def header_of_format_2(header, tensors):
    header["writer"] = "0.1.0"


def counts(text):
    def change(header, tensors):
        header["metadata"]["dense_macs"] = text

    return change


BROKEN = {
    "parameter": (changed_parameter, "does not match its digest"),
    "weight": (changed_weight, "does not match its digest"),
    "digest": (changed_digest, "does not match its digest"),
    "field of format 2": (field_of_format_2, "counts of multiply-accumulates before folding are damaged"),
    "header of format 2": (header_of_format_2, "holds 'writer', which is unknown"),
    "counts are no JSON": (counts("{"), "cannot be read as a network file"),
    "counts are a list": (counts("[1]"), "counts of multiply-accumulates before folding are damaged"),
    "counts are words": (counts('{"conv1": "many"}'), "'conv1': dense_macs must be a whole number; got 'many'"),
    "counts are negative": (counts('{"conv1": -1}'), "'conv1': dense_macs must lie in 0.."),
    "counts are huge": (counts('{"conv1": 1' + "0" * 4000 + "}"), "'conv1': dense_macs must lie in 0.."),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_are_refused(case, tmp_path):
    """A changed file of format 1 gives an ArtifactError that names the file."""
    change, message = BROKEN[case]
    path = edited("digits.int8.safetensors", tmp_path, change)
    with pytest.raises(ArtifactError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ") and len(str(caught.value)) < len(str(path)) + 450
