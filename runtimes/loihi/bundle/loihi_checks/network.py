"""What a plan may say: each number within what a Loihi core holds, each shape as the layer before makes it.

Lava checks none of it. A number too large silently becomes another one, and a kernel with too few channels drops the rest.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from typing import Any

import numpy as np

Shape = tuple[int, ...]

_LARGEST_WEIGHT = 127
_LARGEST_GEOMETRY = 127  # Lava keeps kernel sizes, strides, padding, dilation and groups in int8
_LARGEST_BITS = 24
_LARGEST_THRESHOLD = 2**17 - 1
_LARGEST_DECAY = 4095
_LARGEST_BIAS, _LARGEST_BIAS_EXPONENT = 2**12 - 1, 7
_LARGEST_SUM = {"Conv": 2**31 - 1, "Dense": 2**23 - 1}  # Conv wraps into 24 bit from int32, Dense does not wrap
_LONGEST_NAME = 200
_LARGEST_MAP = 2**28  # values of one population
_LARGEST_SCALE = float(np.finfo(np.float32).max)
_PAIRS = {"stride": 1, "padding": 0, "dilation": 1}  # and their least value


def check_network(plan: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Check all that a plan says of its network, and its weights and biases.

    Raises
    ------
    ValueError
        Something is missing, of another type, out of its range, or does not fit the rest; the message names it.
    """
    unused = dict(arrays)
    _need("digest", "a text", plan.get("digest"), isinstance(plan.get("digest"), str))
    entry = _record("input", plan.get("input"), "name shape encoding scale bits")
    _name("input", entry)
    _need("input encoding", "'analog' or 'events'", entry["encoding"], entry["encoding"] in ("analog", "events"))
    scale = entry["scale"]
    _need("input scale", "a positive number", scale, type(scale) in (int, float) and 0 < scale <= _LARGEST_SCALE)
    wire, bits = _shape("input", entry)[::-1], _integer("input", entry, "bits", 2, _LARGEST_BITS)
    layers, names = plan.get("layers"), set()
    _need("layers", "a list of layers", layers, isinstance(layers, list) and len(layers) > 0)
    for index, layer in enumerate(layers):
        here = f"layer {index + 1}"
        _record(here, layer, "synapses population")
        wire = _synapses(here, layer["synapses"], unused, wire, bits if index == 0 else 0)
        if index + 1 < len(layers):
            names.add(_population(here, layer["population"], unused, wire))
    _need(f"{here}: population", "none, as the readout follows", layer["population"], layer["population"] is None)
    _need("populations", "of different names", sorted(names), len(names) == len(layers) - 1)
    _readout(plan.get("readout"), unused, wire)
    _need("arrays.npz", "without arrays that nothing uses", list(unused), not unused)


def _synapses(here: str, value: Any, unused: dict[str, np.ndarray], wire: Shape, bits: int) -> Shape:
    """Shape of the sums, in Lava's layout."""
    conv = isinstance(value, dict) and value.get("process") == "Conv"
    geometry = "input_shape stride padding dilation groups flat_output"
    _record(f"{here}: synapses", value, "name process weight message_bits " + geometry * conv)
    _name(here, value)
    _need(f"{here}: process", "'Conv' or 'Dense'", value["process"], conv or value["process"] == "Dense")
    _integer(here, value, "message_bits", bits, bits)
    weight = _array(here, value["weight"], unused, 4 if conv else 2)
    _need(
        f"{here}: weights",
        "int8 within -127..127",
        weight.dtype,
        weight.dtype == np.int8 and weight.min() >= -_LARGEST_WEIGHT,
    )
    largest_message, limit = 2 ** (bits - 1) - 1 if bits else 1, _LARGEST_SUM[value["process"]]
    largest = int(np.abs(weight).reshape(len(weight), -1).sum(axis=1, dtype=np.int64).max()) * largest_message
    _need(f"{here}: the largest possible sum", f"at most {limit}", largest, largest <= limit)
    shape = _convolved(here, value, wire, weight.shape) if conv else (weight.shape[0],)
    inputs = math.prod(value["input_shape"]) if conv else weight.shape[1]
    _need(f"{here}: inputs", f"{math.prod(wire)} as before it", inputs, inputs == math.prod(wire))
    _need(f"{here}: outputs", f"within 1..{_LARGEST_MAP}", shape, min(shape) > 0 and math.prod(shape) <= _LARGEST_MAP)
    return (math.prod(shape),) if conv and value["flat_output"] else shape


def _convolved(here: str, value: Mapping[str, Any], wire: Shape, weight: Shape) -> Shape:
    sizes = _shape(here, value, "input_shape")
    _need(f"{here}: input_shape", "[W, H, C]", sizes, len(sizes) == 3)
    groups = _integer(here, value, "groups", 1, _LARGEST_GEOMETRY)
    channels = [weight[3] * groups, weight[0] % groups]
    _need(f"{here}: channels of the kernel", f"{sizes[2]} in {groups} groups", weight, channels == [sizes[2], 0])
    _need(f"{here}: kernel", f"at most {_LARGEST_GEOMETRY} wide", weight, max(weight[1:3]) <= _LARGEST_GEOMETRY)
    _need(f"{here}: flat_output", "true or false", value["flat_output"], type(value["flat_output"]) is bool)
    for key, least in _PAIRS.items():
        pair = value[key]
        good = isinstance(pair, list) and len(pair) == 2
        good = good and all(type(size) is int and least <= size <= _LARGEST_GEOMETRY for size in pair)
        _need(f"{here}: {key}", f"two whole numbers within {least}..{_LARGEST_GEOMETRY}", pair, good)
    stride, padding, dilation = (value[key] for key in _PAIRS)
    spans = [sizes[i] + 2 * padding[i] - dilation[i] * (weight[1 + i] - 1) - 1 for i in (0, 1)]
    return (*(spans[i] // stride[i] + 1 for i in (0, 1)), weight[0])


def _population(here: str, value: Any, unused: dict[str, np.ndarray], wire: Shape) -> str:
    here = f"{here}: population"
    _record(here, value, "name shape threshold decay bias bias_exponent")
    shape = _shape(here, value)
    _need(f"{here}: shape", f"{list(wire[::-1])} as its synapses make it", shape, shape == wire[::-1])
    _integer(here, value, "threshold", 1, _LARGEST_THRESHOLD)
    _integer(here, value, "decay", 0, _LARGEST_DECAY)
    _integer(here, value, "bias_exponent", 0, _LARGEST_BIAS_EXPONENT)
    if value["bias"] is not None:
        bias = _array(here, value["bias"], unused, 1)
        good = bias.dtype.kind == "i" and bias.shape == wire[-1:]
        good = good and bias.min() >= -_LARGEST_BIAS - 1 and bias.max() <= _LARGEST_BIAS
        _need(f"{here}: bias", f"{wire[-1]} integers of 13 bit", f"{bias.dtype} {bias.shape}", good)
    return _name(here, value)


def _readout(value: Any, unused: dict[str, np.ndarray], wire: Shape) -> None:
    _record("readout", value, "name shape bias")
    _name("readout", value)
    shape = _shape("readout", value)
    _need("readout shape", f"{list(wire)} as its synapses make it", shape, len(shape) == 1 and shape == wire)
    if value["bias"] is not None:
        bias = _array("readout", value["bias"], unused, 1)
        _need(
            "readout bias",
            f"{wire[0]} integers",
            f"{bias.dtype} {bias.shape}",
            bias.dtype.kind == "i" and bias.shape == wire,
        )


def _need(where: str, requirement: str, found: Any, good: bool) -> None:
    if not good:
        raise ValueError(f"{where} must be {requirement}; got {reprlib.repr(found)}")


def _record(where: str, value: Any, keys: str) -> Mapping[str, Any]:
    wanted = keys.split()
    found = sorted(value) if isinstance(value, dict) else None
    _need(where, f"an object of {', '.join(wanted)}", found or value, found == sorted(wanted))
    return dict(value)


def _name(where: str, value: Mapping[str, Any]) -> str:
    name = value["name"]
    good = isinstance(name, str) and 0 < len(name) <= _LONGEST_NAME and name.isprintable() and "/" not in name
    _need(f"{where}: name", f"1 to {_LONGEST_NAME} printable characters, no '/'", name, good)
    return str(name)


def _integer(where: str, value: Mapping[str, Any], key: str, low: int, high: int) -> int:
    number = value[key]
    _need(f"{where}: {key}", f"a whole number within {low}..{high}", number, type(number) is int and low <= number <= high)
    return int(number)


def _shape(where: str, value: Mapping[str, Any], key: str = "shape") -> Shape:
    shape = value[key]
    good = isinstance(shape, list) and len(shape) in (1, 3) and all(type(size) is int and size > 0 for size in shape)
    _need(f"{where}: {key}", "[N] or three sizes", shape, good)
    return tuple(shape)


def _array(where: str, key: Any, unused: dict[str, np.ndarray], axes: int) -> np.ndarray:
    array = unused.pop(key, None) if isinstance(key, str) else None
    good = array is not None and array.ndim == axes and array.size > 0
    _need(f"{where}: array", f"the name of one of {axes} axes that no other layer uses", key, good)
    assert array is not None
    return array
