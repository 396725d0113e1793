"""One file holds one network: safetensors, with the nodes as JSON in its header.

It is the only thing that crosses interpreters and machines. It holds data only; reading it cannot run code, and its size
bounds the memory that reading takes.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save as to_bytes

from tet_deploy.errors import ArtifactError, GraphError, first_line
from tet_deploy.files import Kind, has_header, regular_file, written_whole
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import from_record, to_record
from tet_deploy.ir.spec import need_graph

FORMAT = 1
_HEADER_KEY = "tet_deploy"
_SEPARATOR = "/"
NETWORK = Kind("a network of tet_deploy", has_header(_HEADER_KEY))


def save(graph: Graph, path: str | os.PathLike[str]) -> Path:
    """Write a network to a .safetensors file, whole or not at all; another network that lies there is replaced.

    Raises
    ------
    ArtifactError
        The folder does not exist or cannot be written, or something else lies there.
    """
    path = Path(path)
    nodes, tensors = [], {}
    for node in need_graph(graph):
        plain, arrays = to_record(node)
        nodes.append(plain | {"arrays": sorted(arrays)})
        tensors.update({f"{node.name}{_SEPARATOR}{field}": np.array(array) for field, array in arrays.items()})
    header = {"format": FORMAT, "nodes": nodes, "metadata": dict(graph.metadata), "digest": graph.digest()}
    with written_whole(path, NETWORK) as temporary:
        temporary.write_bytes(to_bytes(tensors, metadata={_HEADER_KEY: json.dumps(header)}))
    return path


def load(path: str | os.PathLike[str]) -> Graph:
    """Read a network that `save` wrote.

    Raises
    ------
    ArtifactError
        No such file, not a file of ours, truncated, of another format, or damaged.
    """
    path = regular_file(path, "Give a network; td.save and `tet-deploy convert` write one.")
    try:
        with safe_open(path, framework="np") as file:
            header = _header(path, file.metadata())
            return _graph(path, header, file)
    except ArtifactError:
        raise
    except Exception as error:  # a file can be wrong in any way: it must not surprise the caller
        raise ArtifactError(
            f"{path}: cannot be read as a network file, it is damaged or of another kind ({first_line(error)}). "
            "Write it again."
        ) from error


def _header(path: Path, metadata: dict[str, str] | None) -> dict[str, Any]:
    if not metadata or _HEADER_KEY not in metadata:
        kind = "a training checkpoint" if metadata and "tet_deploy_checkpoint" in metadata else "a safetensors file"
        raise ArtifactError(
            f"{path}: {kind}, but not a network that tet_deploy wrote. Turn a checkpoint into one with `tet-deploy convert`."
        )
    header = json.loads(metadata[_HEADER_KEY])
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        found = header.get("format") if isinstance(header, dict) else header
        raise ArtifactError(
            f"{path}: this version reads format {FORMAT}; the file has format {found!r}. "
            "Write it again, or read it with the version that wrote it."
        )
    nodes, strings = header.get("nodes"), header.get("metadata")
    if not isinstance(nodes, list) or not all(isinstance(node, dict) for node in nodes) or not isinstance(strings, dict):
        raise ArtifactError(
            f"{path}: its header lacks the list of nodes or the metadata. The file is damaged; write it again."
        )
    return header


def _graph(path: Path, header: dict[str, Any], file: Any) -> Graph:
    stored = set(file.keys())
    nodes = []
    try:
        for plain in header["nodes"]:
            fields = plain.pop("arrays", [])
            keys = {field: f"{plain.get('name')}{_SEPARATOR}{field}" for field in fields}
            missing = [key for key in keys.values() if key not in stored]
            if missing:
                raise GraphError(f"node {plain.get('name')!r}: the file lacks its array {missing[0]!r}.")
            nodes.append(from_record(plain, {field: file.get_tensor(key) for field, key in keys.items()}))
        graph = Graph(tuple(nodes), {str(key): str(value) for key, value in header["metadata"].items()})
    except GraphError as error:
        raise ArtifactError(f"{path}: holds no valid network: {error}") from error
    if graph.digest() != header.get("digest"):
        raise ArtifactError(
            f"{path}: its content does not match its digest. It was changed after it was written; write it again."
        )
    return graph
