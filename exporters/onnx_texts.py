"""What a file says of itself to somebody who was only handed the file: doc strings, and metadata for people."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import onnx

from tet_deploy.dynamics import largest_message
from tet_deploy.errors import ArgumentError, shown
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import Input, Output
from tet_deploy.onnx_file import FRAMES, LOGITS, READOUT, READOUT_STATE
from tet_deploy.units import MANTISSA, unit, units

LICENCE, CLASSES = "tet_deploy.licence", "tet_deploy.classes"
_TRAINING = ("model", "data", "data_arguments", "steps", "seed", "recipe", "finetuned")  # of a network's metadata
_ACCURACIES = ("trained_accuracy", "finetuned_accuracy")  # each with `_of`: in words, of what and on which samples
# Where a path that begins at a root, a drive or a home begins, up to its last name.
_FOLDERS = re.compile(r"(?<![^\s\"'=(\[,])(?:~|[A-Za-z]:)?[\\/]+(?=[^\s\\/])(?:[^\s\"'\\/]+[\\/]+)*")
_OUTPUTS = {
    "spikes": "Spikes of the neurons {name!r}, uint8 [T, B, {shape}]: 1 where one fires in that step, else 0.",
    "potentials": "Membrane potentials of the neurons {name!r} after each step's reset, [T, B, {shape}]{unit}.",
    "before": "State: {state} before the first step, [B, {shape}]{unit}. Zeros at rest; feed the output of the same name "
    "that ends in .after to go on where another run ended.",
    "after": "State: {state} after the last step, [B, {shape}]{unit}. Feed it as the input of the same name that ends in "
    ".before to go on from here.",
    "wrapped": "How many sums of {name!r} left 24 bit and wrapped, as on the chip, in each step and sample, int64 [T, B].",
    "saturated": "How many potentials of {name!r} were held at the least value of 24 bit in each step and sample, int64 "
    "[T, B].",
}


def explain(model: onnx.ModelProto, graph: Graph, metadata: Mapping[str, str]) -> None:
    """Write the doc strings of the model, its graph, and each of its inputs and outputs."""
    classes = json.loads(metadata[CLASSES])
    for value in (*model.graph.input, *model.graph.output):
        value.doc_string = _value_text(value.name, graph, classes)
    model.graph.doc_string = (
        "Layers without memory run once over the merged axis [T*B]; each population of neurons is a local function, whose "
        "doc string is its equation, that scans over T. Values inside begin with a slash and the name of their node."
    )
    model.doc_string = _model_text(graph, metadata, states=len(model.graph.input) > 1)


def metadata_for_people(graph: Graph, *, classes: Sequence[str], licence: str, opset: int) -> dict[str, str]:
    """Entries that no runtime needs. All are there in every file, empty where nothing is known.

    Raises
    ------
    ArgumentError
        Names of other than all classes, or what is no text.
    """
    known = graph.metadata
    accuracies = {known.get(f"{key}_of", key): known[key] for key in _ACCURACIES if key in known}
    return {
        "tet_deploy.onnx": onnx.__version__,
        "tet_deploy.opset": str(opset),
        LICENCE: _text("licence", licence),
        CLASSES: json.dumps(_class_names(graph, classes)),
        "tet_deploy.units": json.dumps(units(graph)),
        "tet_deploy.accuracy": json.dumps(accuracies),
        "tet_deploy.training": json.dumps({key: known[key] for key in _TRAINING if key in known}),
    }


def for_others(graph: Graph) -> Graph:
    """The network without what its metadata says of places on this machine, where its data lie above all."""
    known = {key: without_folders(text) for key, text in graph.metadata.items()}
    try:
        arguments = json.loads(known["data_arguments"])
        known["data_arguments"] = json.dumps({key: value for key, value in arguments.items() if key != "root"})
    except (
        KeyError,
        ValueError,
        AttributeError,
        RecursionError,
    ):  # nothing is said of them, or metadata is another program's
        pass
    return graph.with_metadata(**known)


def without_folders(text: str) -> str:
    """A text in which nothing but its last name is left of a path that begins at a root, a drive or a home.

    Of JSON it is the texts inside that are looked at, as the escape of a letter, "\\u795e", looks like a folder.
    """
    try:
        told = json.loads(text)
        kept = _without_folders_inside(told)
    except (ValueError, RecursionError):
        return _FOLDERS.sub("", text)
    return text if kept == told else json.dumps(kept)


def _without_folders_inside(told: Any) -> Any:
    if isinstance(told, str):
        return without_folders(told)
    if isinstance(told, list):
        return [_without_folders_inside(each) for each in told]
    if isinstance(told, dict):
        return {_without_folders_inside(key): _without_folders_inside(value) for key, value in told.items()}
    return told


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ArgumentError(f"{name}: must be a text; got {shown(value)}.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ArgumentError(f"{name}: {shown(value)} holds half of a character, which no file can hold.") from None
    return value


def _class_names(graph: Graph, names: Any) -> list[str]:
    count = graph.shapes[graph.readout.name][0]
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise ArgumentError(f"classes: must be a list of names; got {shown(names)}.")
    found = [_text("classes", name) for name in names]
    if found and (len(found) != count or len(set(found)) != count):
        raise ArgumentError(f"classes: must name each of the {count} classes once, in their order; got {shown(found)}.")
    return found


def _model_text(graph: Graph, metadata: Mapping[str, str], *, states: bool) -> str:
    kind = (
        "Integers as on a Loihi core: every spike, potential and readout is an exact integer, equal on every runtime."
        if graph.is_quantized
        else "Float32 weights."
    )
    accuracies = [f"Accuracy {value}, {of}." for of, value in json.loads(metadata["tet_deploy.accuracy"]).items()]
    known = json.loads(metadata["tet_deploy.training"]).items()
    training = "; ".join(f"{key} {value}" for key, value in known if not value.startswith("{"))  # JSON is for programs
    return "\n".join(
        [
            f"A spiking network, written by tet_deploy {metadata['tet_deploy.version']}.",
            "Feed `frames` [T, B, C, H, W] of T steps and B samples, both free; the decision on a sample is the greatest of "
            "its `logits` [B, K]. The doc strings of the inputs and outputs say what their numbers mean.",
            "A run begins with the states that are fed." if states else "Every run begins at rest: all states are 0.",
            kind,
            *accuracies,
            *([f"Trained: {training}."] if training else []),
            f"Licence: {metadata[LICENCE] or 'not stated'}.",
            f"Network {metadata['tet_deploy.graph_digest']}.",
        ]
    )


def _value_text(name: str, graph: Graph, classes: Sequence[str]) -> str:
    if name in (READOUT, LOGITS):
        return _readout_text(name, graph, classes)
    if name == FRAMES:
        return _frames_text(graph)
    held, _, what = name.rpartition(".")
    if held == READOUT_STATE:
        return _OUTPUTS[what].format(
            state="the leaky readout", shape=graph.shapes[graph.readout.name][0], unit=_in_units(graph.readout)
        )
    node = graph[held.partition("/")[0]]
    shape = ", ".join(map(str, graph.shapes[node.name]))
    state = f"{'synaptic currents' if '/' in held else 'membrane potentials'} of the neurons {node.name!r}"
    return _OUTPUTS[what].format(name=node.name, state=state, shape=shape, unit=_in_units(node))


def _in_units(node: Any) -> str:
    if node.quantization is None:
        return ""
    scale = unit(node).tolist()
    each = f"{scale!r}, 64 * scale," if isinstance(scale, float) else "tet_deploy.units in the metadata, by channel,"
    return f", whole numbers; divided by {each} they are in units of the float network"


def _frames_text(graph: Graph) -> str:
    source, about = graph.input, graph.metadata
    axes = {1: "N values", 3: "C channels, H rows, W columns"}.get(len(source.shape), "the shape of one frame")
    shape = ", ".join(map(str, source.shape))
    parts = [f"Frames, float32 [T, B, {shape}]: T time steps and B samples, both free; then {axes}."]
    if source.encoding == "events":
        parts.append(
            "Values are counts: how many events a pixel sent in the time of a step, whole numbers from 0, not scaled."
        )
        if source.shape[0] == 2 and "data" in about:  # frames that tet_deploy made; others may order them otherwise
            parts.append("Channel p counts events of polarity p: 0 is OFF (darker), 1 is ON (brighter).")
        if "time_bin" in about:
            parts.append(f"A step lasts {about['time_bin']}.")
    else:
        parts.append("Values are real numbers as the network was trained on; a still image is the same frame in every step.")
    if "steps" in about:
        parts.append(f"Trained with T = {about['steps']}.")
    return " ".join([*parts, *_normalization_text(source), *_messages_text(source), *_range_text(graph)])


def _normalization_text(source: Input) -> list[str]:
    if source.mean is None or source.deviation is None:
        return ["They are not normalized in the file."]
    mean, deviation = source.mean.tolist(), source.deviation.tolist()
    return [f"Feed them raw: the file itself subtracts the mean {mean} of each channel and divides by {deviation}."]


def _messages_text(source: Input) -> list[str]:
    if source.quantization is None:
        return []
    limit, scale = largest_message(source.quantization), source.quantization.one_scale
    return [f"The file then multiplies by {scale!r}, rounds half to even, and clips to -{limit}..{limit}."]


def _range_text(graph: Graph) -> list[str]:
    """Between which values the frames lay that lowering saw, or of a quantized network, calibration."""
    about, when = graph.metadata, "" if graph.input.mean is None else ", once they were normalized,"
    try:
        seen = json.loads(about["calibration"])[graph.input.name] if graph.is_quantized else json.loads(about["frames_seen"])
        return [f"What the network was fitted to{when} lay between {seen['least']:g} and {seen['greatest']:g}."]
    except (
        KeyError,
        TypeError,
        ValueError,
        RecursionError,
    ):  # older networks lack it, and metadata may be another program's
        return []


def _readout_text(name: str, graph: Graph, classes: Sequence[str]) -> str:
    node, count = graph.readout, graph.shapes[graph.readout.name][0]
    order = f"in order {', '.join(classes)}" if classes else f"0 to {count - 1} in the order of the training's labels"
    decision = "The decision is the class of the greatest, the first of equal ones"
    if name == LOGITS:
        return (
            f"Logits, float32 [B, {count}]: the mean of `readout` over T in units of the float network, not a probability "
            f"(softmax makes it one); of the classes {order}. {decision}."
        )
    return f"Readout of each step, [T, B, {count}], of the classes {order}{_of_readout(node)} {decision} of its mean over T."


def _of_readout(node: Output) -> str:
    if node.quantization is None:
        return "."
    return (
        f"; int64: divided by {MANTISSA * node.quantization.one_scale!r}, 64 * scale, it is in units of the float network."
    )
