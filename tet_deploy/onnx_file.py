"""What the writer and the reader of an ONNX file agree on: the names of its values, its metadata and its seal.

The seal is a checksum over every byte of the file, kept in its metadata; it stands for 64 zeros while it is computed. A file
can so be checked without parsing it, and before ONNX Runtime sees it.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tet_deploy.errors import ArtifactError, shown
from tet_deploy.files import Kind, head
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.names import check_name
from tet_deploy.ir.nodes import Input, LeakyReadout, Quantization, Spiking
from tet_deploy.ir.shapes import Shape, output_shape
from tet_deploy.ranges import CLIPPED, KINDS, Possible, possible

FORMAT = 2
UNSEALED_FORMAT = 1  # what version 0.1 wrote: the same but for the seal
FRAMES, READOUT, LOGITS = "frames", "readout", "logits"  # the input, and two outputs of every file
READOUT_STATE = "readout/potential"  # under which a leaky readout's state goes; no node has such a name
# A model begins with its IR version, in two bytes, and its producer.
ONNX_FILE = Kind("an ONNX file of tet_deploy", lambda path: head(path)[2:].startswith(b"\x12\x0atet_deploy"))

_SEAL = "tet_deploy.sha256"
_EMPTY_SEAL = 64 * "0"
_SEAL_BEGINS = bytes([10, len(_SEAL)]) + _SEAL.encode() + bytes([18, len(_EMPTY_SEAL)])  # the entry in protobuf's encoding
_STRING_OF_8_BEGINS = re.compile(rb"(\n|\x8a\x80*\0)(\x08|\x88\x80*\0)\Z")  # the key "location", however it is encoded


def output_of(node: str, what: str) -> str:
    """Name of the output that carries the "spikes", "potentials" or state "after" the run of a population.

    The state "before" the run is an input. "wrapped" and "saturated" count what left its range, of synapses too.
    """
    return f"{node}.{what}"


@dataclass(frozen=True)
class Description:
    """What a file's metadata says of the network: its digest, its input, the shape of each LIF node, its own metadata.

    Attributes
    ----------
    messages
        The input whose messages may be clipped, by its name; empty in a float network.
    possible
        Nodes that may leave the chip's range, see `ranges.possible`; None in a file that does not say so, as older ones.
    leaky_readout
        Whether the readout keeps something from step to step.
    """

    format: int
    digest: str
    input_shape: Shape
    encoding: str
    populations: Mapping[str, Shape]
    metadata: Mapping[str, str]
    messages: Mapping[str, Input] = field(default_factory=dict)
    possible: Possible | None = None
    leaky_readout: bool = False


def metadata_of(graph: Graph, version: str) -> dict[str, str]:
    """The metadata of a file that holds this network, with an empty seal."""
    shapes = {node.name: list(graph.shapes[node.name]) for node in graph.of_kind(Spiking)}
    return {
        "tet_deploy.format": str(FORMAT),
        "tet_deploy.version": version,
        "tet_deploy.graph_digest": graph.digest(),
        "tet_deploy.input": json.dumps({"shape": list(graph.input.shape), "encoding": graph.input.encoding}),
        "tet_deploy.populations": json.dumps(shapes),
        **({"tet_deploy.leaky_readout": "true"} if isinstance(graph.readout, LeakyReadout) else {}),
        "tet_deploy.ranges": json.dumps({"messages": _messages(graph), **possible(graph)}),
        "tet_deploy.metadata": json.dumps(dict(graph.metadata), sort_keys=True),
        _SEAL: _EMPTY_SEAL,
    }


def read_metadata(metadata: Mapping[str, str]) -> Description:
    """Read what `metadata_of` wrote.

    Raises
    ------
    ArtifactError
        Not a file of ours, of another format, or an entry that is not what it must be.
    GraphError
        A name that no node may have.
    """
    found = metadata.get("tet_deploy.format")
    if found is None:
        raise ArtifactError("an ONNX file, but not one that tet_deploy wrote. Export the network with to_onnx.")
    if found not in (str(FORMAT), str(UNSEALED_FORMAT)):
        raise ArtifactError(
            f"this version reads formats {UNSEALED_FORMAT} and {FORMAT}; the file has format {shown(found)}. "
            "Export the network again, or use the version that did."
        )
    digest = metadata.get("tet_deploy.graph_digest", "")
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise _damaged("graph_digest", "64 hexadecimal digits", digest)
    source, populations = _entry(metadata, "input"), _entry(metadata, "populations")
    if source.get("encoding") not in ("analog", "events"):
        raise _damaged("input", "an encoding, 'analog' or 'events'", source)
    for name in populations:
        check_name(name)
    shape = _shape("input", source.get("shape"))
    return Description(
        format=int(found),
        digest=digest,
        input_shape=shape,
        encoding=source["encoding"],
        populations={name: _shape("populations", shape) for name, shape in populations.items()},
        leaky_readout="tet_deploy.leaky_readout" in metadata,
        metadata=_texts(metadata) if "tet_deploy.metadata" in metadata else {},
        **(_ranges(_entry(metadata, "ranges"), shape, source["encoding"]) if "tet_deploy.ranges" in metadata else {}),
    )


def _messages(graph: Graph) -> dict[str, list[Any]]:
    """Scale and bits, and where the network normalizes frames, which older versions do not know, mean and deviation."""
    node, units = graph.input, graph.input.quantization
    if units is None:
        return {}
    arrays = [array.tolist() for array in (node.mean, node.deviation) if array is not None]
    return {node.name: [units.one_scale, units.bits, *arrays]}


def _ranges(entry: dict[str, Any], shape: Shape, encoding: str) -> dict[str, Any]:
    messages, found = entry.get("messages"), {kind: entry.get(kind) for kind in KINDS}
    if not isinstance(messages, dict) or not all(map(_is_units, messages.values())):
        raise _damaged("ranges", "the scale and bits of messages", messages)
    for names in (list(messages), *found.values()):
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise _damaged("ranges", "names of nodes", names)
        for name in names:
            check_name(name)
    if not set(found[CLIPPED] or ()) <= messages.keys():
        raise _damaged("ranges", "the messages of each node that may clip them", messages)
    return {
        "messages": {name: _input(name, shape, encoding, units) for name, units in messages.items()},
        "possible": {kind: tuple(names or ()) for kind, names in found.items()},
    }


def _is_units(value: Any) -> bool:
    if not isinstance(value, list) or len(value) not in (2, 4) or [type(each) for each in value[:2]] != [float, int]:
        return False
    arrays = all(isinstance(array, list) and all(type(each) is float for each in array) for array in value[2:])
    return bool(0 < value[0] < math.inf and 2 <= value[1] <= 32 and arrays)


def _input(name: str, shape: Shape, encoding: str, units: list[Any]) -> Input:
    """As `_messages` wrote it.

    Raises
    ------
    GraphError
        Its arrays do not fit its shape.
    """
    scale, bits, *arrays = units
    mean, deviation = (np.array(array, np.float32) for array in arrays) if arrays else (None, None)
    quantization = Quantization(scale=scale, bits=bits)
    node = Input(name=name, shape=shape, encoding=encoding, mean=mean, deviation=deviation, quantization=quantization)
    if arrays:
        output_shape(node, ())  # checks them against the shape
    return node


def sealed(content: bytes) -> bytes:
    """The file's bytes with their seal filled in."""
    start = content.rindex(_SEAL_BEGINS) + len(_SEAL_BEGINS)
    return b"".join((content[:start], _checksum(content, start), content[start + len(_EMPTY_SEAL) :]))


def check_seal(content: bytes) -> bool:
    """Whether the file has a seal.

    Raises
    ------
    ArtifactError
        It has one that its content does not match, or keeps weights in another file, which no seal covers.
    """
    before_location = (content[max(0, match.start() - 20) : match.start()] for match in re.finditer(b"location", content))
    if any(map(_STRING_OF_8_BEGINS.search, before_location)):
        raise ArtifactError("keeps weights in another file, which to_onnx never does. Export the network with to_onnx.")
    start = content.rfind(_SEAL_BEGINS) + len(_SEAL_BEGINS)
    if start < len(_SEAL_BEGINS):
        return False
    if content[start : start + len(_EMPTY_SEAL)] != _checksum(content, start):
        raise ArtifactError(
            "its content does not match its checksum, as it is damaged or was changed by another tool. Export the network "
            "again, or run a file that was changed on purpose in onnxruntime itself."
        )
    return True


def _checksum(content: bytes, start: int) -> bytes:
    view = memoryview(content)
    sha = hashlib.sha256(view[:start])
    sha.update(_EMPTY_SEAL.encode())
    sha.update(view[start + len(_EMPTY_SEAL) :])
    return sha.hexdigest().encode()


def _entry(metadata: Mapping[str, str], key: str) -> dict[str, Any]:
    text = metadata.get(f"tet_deploy.{key}", "")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise _damaged(key, "a JSON object", text)
    return value


def _texts(metadata: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in _entry(metadata, "metadata").items() if isinstance(value, str)}


def _shape(key: str, value: Any) -> Shape:
    if not isinstance(value, list) or not value or not all(type(size) is int and size > 0 for size in value):
        raise _damaged(key, "shapes of positive whole numbers", value)
    return tuple(value)


def _damaged(key: str, wanted: str, found: object) -> ArtifactError:
    return ArtifactError(
        f"its metadata is damaged: {key} must hold {wanted}; found {shown(found)}. Export the network again."
    )
