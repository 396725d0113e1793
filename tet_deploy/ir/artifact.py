"""One file holds one network: safetensors, with the nodes as JSON in its header.

It is the only thing that crosses interpreters and machines. It holds data only; reading it cannot run code, and its size
bounds the memory that reading takes.

Format 2. The safetensors metadata holds one string, `tet_deploy`, a JSON object:

    format      2
    writer      version of tet_deploy that wrote the file, for messages
    nodes       in order, an object each: kind, name, inputs, the other fields that are no arrays and not None (see
                `ir.nodes`), and `arrays`, the names of those that are; field F of node N is the tensor "N/F"
    metadata    object of strings: where the network came from; no result depends on it
    digest      SHA-256 of what the network computes and costs, see `ir.digest`
    checksum    SHA-256 of the whole content: this object but for the checksum, and every tensor, see `_checksum`

A field or tensor that is not listed here is refused, and so is a newer format; format 1 is read, see `ir.artifact_v1`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save as to_bytes

from tet_deploy import file_kinds
from tet_deploy._version import __version__
from tet_deploy.errors import ArtifactError, GraphError, cut, first_line, shown
from tet_deploy.files import Kind, has_header, written_whole
from tet_deploy.ir import artifact_v1
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import from_record, to_record
from tet_deploy.ir.spec import need_graph

FORMAT = 2
_HEADER_KEY = "tet_deploy"
_FIELDS: dict[str, type] = {"format": int, "nodes": list, "metadata": dict, "digest": str}
_FIELDS_SINCE_2 = _FIELDS | {"writer": str, "checksum": str}
_SEPARATOR = "/"
_LONGEST_HEADER = 2**24  # characters; a network of 50,000 nodes has fewer
NETWORK = Kind("a network of tet_deploy", has_header(_HEADER_KEY))


def save(graph: Graph, path: str | os.PathLike[str]) -> Path:
    """Write a network to a .safetensors file, whole or not at all; another network that lies there is replaced.

    Raises
    ------
    ArtifactError
        The folder does not exist or cannot be written, or something else lies there.

    Examples
    --------
    >>> td.load(td.save(int8, "int8.safetensors")).digest() == int8.digest()
    True
    """
    path = Path(path)
    nodes, tensors = [], {}
    for node in need_graph(graph):
        plain, arrays = to_record(node)
        nodes.append(plain | {"arrays": sorted(arrays)})
        tensors.update({f"{node.name}{_SEPARATOR}{field}": array for field, array in arrays.items()})
    header = {
        "format": FORMAT,
        "writer": __version__,
        "nodes": nodes,
        "metadata": dict(graph.metadata),
        "digest": graph.digest(),
    }
    header["checksum"] = _checksum(header, tensors)
    with written_whole(path, NETWORK) as temporary:
        temporary.write_bytes(to_bytes(tensors, metadata={_HEADER_KEY: json.dumps(header, ensure_ascii=False)}))
    return path


def load(path: str | os.PathLike[str]) -> Graph:
    """Read a network that `save` wrote, this version's or an earlier one's.

    Raises
    ------
    ArtifactError
        No such file, not a file of ours, truncated, changed, damaged, or of a newer version.
    """
    path = file_kinds.expected(path, file_kinds.NETWORK, "Give a network; td.save and `tet-deploy convert` write one.")
    try:
        with safe_open(path, framework="np") as file:
            header = _header(path, file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it cannot be iterated
        if header["format"] != 1 and header.pop("checksum") != _checksum(header, tensors):
            raise _changed(path, "checksum")
        return _graph(path, header, tensors)
    except ArtifactError:
        raise
    except GraphError as error:
        raise ArtifactError(f"{path}: holds no valid network: {cut(str(error))}") from error
    except Exception as error:  # a file can be wrong in any way: it must not surprise the caller
        raise ArtifactError(
            f"{path}: cannot be read as a network file, it is damaged or of another kind ({first_line(error)}). "
            "Write it again."
        ) from error


def _checksum(header: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of the header as JSON, keys sorted, then by name of each tensor, as JSON [name, dtype, shape], and its bytes.

    Each JSON is ASCII and ends with a newline; numbers are little endian.
    """
    sha = hashlib.sha256(json.dumps(header, sort_keys=True).encode() + b"\n")
    for name, array in sorted(tensors.items()):
        stored = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        sha.update(json.dumps([name, stored.dtype.str, list(stored.shape)]).encode() + b"\n")
        sha.update(stored.data)
    return sha.hexdigest()


def _header(path: Path, strings: Mapping[str, str]) -> dict[str, Any]:
    """The header's fields, their types checked; what is in the lists and objects is not."""
    if len(strings[_HEADER_KEY]) > _LONGEST_HEADER:
        raise ArtifactError(
            f"{path}: its header is longer than {_LONGEST_HEADER} characters, which no network's is. Write it again."
        )
    header = json.loads(strings[_HEADER_KEY], object_pairs_hook=_without_duplicates, parse_constant=_no_constant)
    version = header.get("format") if isinstance(header, dict) else None
    if type(version) is not int or version < 1:
        raise ArtifactError(f"{path}: its header says format {shown(version)}. The file is damaged; write it again.")
    if version > FORMAT:
        raise ArtifactError(
            f"{path}: is of format {shown(version)}, written by tet_deploy {shown(header.get('writer'))}; this version, "
            f"{__version__}, reads formats up to {FORMAT}. Update tet_deploy, or write the file again with this version."
        )
    fields = _FIELDS if version == 1 else _FIELDS_SINCE_2
    wrong = [name for name, kind in fields.items() if type(header.get(name)) is not kind]
    unknown = [name for name in (*header, *strings) if name not in fields and name != _HEADER_KEY]
    if wrong or unknown:
        found = (
            f"lacks {wrong[0]!r}, or holds it in another form" if wrong else f"holds {shown(unknown[0])}, which is unknown"
        )
        raise ArtifactError(f"{path}: its header {found}. The file is damaged; write it again.")
    return dict(header)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"its header holds {shown(next(name for name in names if names.count(name) > 1))} twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"its header holds {name}, which is no number")


def _graph(path: Path, header: dict[str, Any], tensors: dict[str, np.ndarray]) -> Graph:
    records = [_record(plain, tensors) for plain in header["nodes"]]
    if tensors:
        raise GraphError(f"no node has the array {shown(min(tensors))}. Write the file again.")
    if header["format"] == 1:
        artifact_v1.check_kinds(records)
    graph = Graph(tuple(from_record(*record) for record in records), header["metadata"])
    expected = graph.digest()
    if header["format"] == 1:
        expected = artifact_v1.digest(records)
        graph = artifact_v1.carried_over(graph, expected)
    if header["digest"] != expected:
        raise _changed(path, "digest")
    return graph


def _record(node: Any, tensors: dict[str, np.ndarray]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A node's plain fields and its arrays, which are taken out of `tensors`."""
    fields = node.get("arrays") if isinstance(node, dict) else None
    if not isinstance(fields, list) or not all(isinstance(field, str) for field in fields):
        raise GraphError(f"its nodes must be objects that list their arrays; got {shown(node)}. Write the file again.")
    plain, arrays = {key: value for key, value in node.items() if key != "arrays"}, {}
    for field in fields:
        key = f"{plain.get('name')}{_SEPARATOR}{field}"
        if key not in tensors or field in plain:
            raise GraphError(f"node {shown(plain.get('name'))}: the file lacks its array {shown(field)}. Write it again.")
        arrays[field] = tensors.pop(key)
    return plain, arrays


def _changed(path: Path, what: str) -> ArtifactError:
    return ArtifactError(
        f"{path}: its content does not match its {what}. It was changed after it was written; write it again."
    )
