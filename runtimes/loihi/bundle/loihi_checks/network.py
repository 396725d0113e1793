"""What a plan may say: each number within what a Loihi core holds, each shape and each latency as its sources make it.

Lava checks none of it. A number too large silently becomes another one, and a kernel with too few channels drops the rest.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

Shape = tuple[int, ...]

_LARGEST_WEIGHT = 127
_LARGEST_GEOMETRY = 127  # Lava keeps kernel sizes, strides, padding, dilation and groups in int8
_LARGEST_BITS = 24
_LARGEST_THRESHOLD = 2**17 - 1
_LARGEST_DECAY = 4095
_LARGEST_BIAS, _LARGEST_BIAS_EXPONENT = 2**12 - 1, 7
_LARGEST_SUM = {"conv": 2**31 - 1, "dense": 2**23 - 1}  # a Conv wraps into 24 bit from int32, a Dense does not wrap
_WRAPPED = 2**23
_CURRENT_DECAY = "current_decay"  # of neurons with a synaptic current
_LIVES_ONE_STEP = 4096  # that of all others
_LONGEST_NAME = 220  # a node's 200, and what a relay adds
_LARGEST_MAP = 2**28  # values of one population
_LARGEST_LATENCY = 2**20
LONGEST_PERIOD = 2**20
_LARGEST_SCALE = float(np.finfo(np.float32).max)
_PAIRS = {"stride": 1, "padding": 0, "dilation": 1}  # and their least value
_KEYS = {
    "conv": "kind name latency source weight message_bits input_shape stride padding dilation groups flat_output",
    "dense": "kind name latency source weight message_bits",
    "sum": "kind name latency sources message_bits shape",
    "lif": "kind name latency sources shape threshold decay bias bias_exponent",
}
_RANGES = {"clipped": ("input",), "wrapped": ("conv", "lif"), "saturated": ("lif",)}  # and of which kinds of node


class _Wire(NamedTuple):
    """What a node sends: its shape in Lava's layout, the largest magnitude, the bits of a message, and when.

    Sums of synapses, which populations take, have no bits; 0 bits are spikes.
    """

    shape: Shape
    largest: int
    bits: int | None
    latency: int


def check_network(plan: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Check all that a plan says of its network, and its weights and biases.

    Raises
    ------
    ValueError
        Something is missing, of another type, out of its range, or does not fit the rest; the message names it.
    """
    unused = dict(arrays)
    _need("digest", "a text", plan.get("digest"), isinstance(plan.get("digest"), str))
    entry = _input(plan.get("input"))
    _need("input encoding", "'analog' or 'events'", entry["encoding"], entry["encoding"] in ("analog", "events"))
    scale = entry["scale"]
    _need("input scale", "a positive number", scale, type(scale) in (int, float) and 0 < scale <= _LARGEST_SCALE)
    bits = _integer("input", entry, "bits", 2, _LARGEST_BITS)
    wires = {_name("input", entry): _Wire(_shape("input", entry)[::-1], 2 ** (bits - 1) - 1, bits, 0)}
    nodes = plan.get("nodes")
    _need("nodes", "a list of nodes", nodes, isinstance(nodes, list) and len(nodes) > 0)
    taken: set[str] = set()
    for index, node in enumerate(nodes or ()):
        kind = str(node.get("kind")) if isinstance(node, dict) else ""
        _need(f"node {index + 1}", f"an object of kind {', '.join(_KEYS)}", node, kind in _KEYS)
        more = f" {_CURRENT_DECAY}" if kind == "lif" and _CURRENT_DECAY in node else ""
        _record(f"node {index + 1}", node, _KEYS[kind] + more)
        name = _name(f"node {index + 1}", node)
        here = f"node {name!r}"
        _need(here, "of a name of its own", name, name not in wires)
        _need(here, "named without '/'", name, kind == "sum" or "/" not in name)
        taken |= set(_sources(here, node, wires))
        check = {"conv": _synapses, "dense": _synapses, "sum": _sum, "lif": _population}[kind]
        wires[name] = check(here, node, unused, wires)
    if "period" in plan:
        period = _integer("plan", plan, "period", 1, LONGEST_PERIOD)
        _need("plan: period", "a power of two", period, period & (period - 1) == 0)
    taken |= set(_readout(plan.get("readout"), unused, wires))
    if "host" in plan:
        _host(plan["host"], entry["name"], plan["nodes"], plan["readout"])
    _need("nodes", "without any that nothing takes", sorted(wires.keys() - taken), taken == wires.keys())
    _ranges(plan.get("ranges", {}), {"input": [entry], **{kind: _of_kind(nodes, kind) for kind in _KEYS}})
    _need("arrays.npz", "without arrays that nothing uses", list(unused), not unused)


def _input(value: Any) -> Mapping[str, Any]:
    """The input, which normalizes its frames where it has a mean and a deviation for each channel."""
    normalizes = isinstance(value, dict) and ("mean" in value or "deviation" in value)
    entry = _record("input", value, "name shape encoding scale bits" + (" mean deviation" if normalizes else ""))
    channels = _shape("input", entry)[0]
    for key in ("mean", "deviation") if normalizes else ():
        numbers = entry[key]
        good = isinstance(numbers, list) and len(numbers) == channels and all(type(each) is float for each in numbers)
        good = good and all(math.isfinite(each) and (each != 0 or key == "mean") for each in numbers)
        _need(f"input {key}", f"{channels} finite numbers, and no deviation 0", numbers, good)
    return entry


def _sources(here: str, node: Mapping[str, Any], wires: Mapping[str, _Wire]) -> list[str]:
    names = node["sources"] if "sources" in node else [node["source"]]
    good = isinstance(names, list) and names and all(isinstance(name, str) and name in wires for name in names)
    _need(f"{here}: sources", "names of nodes before it", names, bool(good))
    return list(names)


def _synapses(here: str, node: Mapping[str, Any], unused: dict[str, np.ndarray], wires: Mapping[str, _Wire]) -> _Wire:
    """What synapses send: the sums of the step before."""
    wire, conv = _messages(here, node["source"], wires, node["message_bits"]), node["kind"] == "conv"
    _latency(here, node, [wire], later=1)
    weight = _array(here, node["weight"], unused, 4 if conv else 2)
    small = weight.dtype == np.int8 and weight.min() >= -_LARGEST_WEIGHT
    _need(f"{here}: weights", "int8 within -127..127", weight.dtype, small)
    limit = _LARGEST_SUM[node["kind"]]
    largest = int(np.abs(weight).reshape(len(weight), -1).sum(axis=1, dtype=np.int64).max()) * wire.largest
    _need(f"{here}: the largest possible sum", f"at most {limit}", largest, largest <= limit)
    shape = _convolved(here, node, weight.shape) if conv else (weight.shape[0],)
    inputs = math.prod(node["input_shape"]) if conv else weight.shape[1]
    _need(f"{here}: inputs", f"{math.prod(wire.shape)} as before it", inputs, inputs == math.prod(wire.shape))
    _need(f"{here}: outputs", f"within 1..{_LARGEST_MAP}", shape, min(shape) > 0 and math.prod(shape) <= _LARGEST_MAP)
    flat = conv and node["flat_output"]
    return _Wire((math.prod(shape),) if flat else shape, min(largest, _WRAPPED), None, node["latency"])


def _messages(here: str, name: str, wires: Mapping[str, _Wire], bits: Any) -> _Wire:
    wire = wires[name]
    _need(f"{here}: source", "what sends messages, not sums", name, wire.bits is not None)
    _need(f"{here}: message_bits", f"{wire.bits} as {name!r} sends", bits, type(bits) is int and bits == wire.bits)
    return wire


def _latency(here: str, node: Mapping[str, Any], wires: list[_Wire], later: int) -> None:
    latency = _integer(here, node, "latency", 0, _LARGEST_LATENCY)
    found = [wire.latency + later for wire in wires]
    _need(f"{here}: latency", f"{latency} along every branch", found, set(found) == {latency})


def _convolved(here: str, value: Mapping[str, Any], weight: Shape) -> Shape:
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


def _sum(here: str, node: Mapping[str, Any], unused: dict[str, np.ndarray], wires: Mapping[str, _Wire]) -> _Wire:
    """Messages of several nodes, added up; of one, a step late."""
    shape, bits = _shape(here, node)[::-1], node["message_bits"]
    listed = isinstance(bits, list) and len(bits) == len(node["sources"])
    _need(f"{here}: message_bits", "one number for each source", bits, listed)
    sources = [_messages(here, name, wires, width) for name, width in zip(node["sources"], bits, strict=True)]
    _latency(here, node, sources, later=1)
    for wire in sources:
        _need(f"{here}: shape", f"{list(wire.shape[::-1])} as its sources send", shape[::-1], wire.shape == shape)
    largest = sum(wire.largest for wire in sources)
    spikes = [wire.bits for wire in sources] == [0]
    width = 0 if spikes else largest.bit_length() + 1
    _need(f"{here}: its messages", f"of at most {_LARGEST_BITS} bits", width, width <= _LARGEST_BITS)
    return _Wire(shape, largest, width, node["latency"])


def _population(here: str, node: Mapping[str, Any], unused: dict[str, np.ndarray], wires: Mapping[str, _Wire]) -> _Wire:
    if _CURRENT_DECAY in node:
        _integer(here, node, _CURRENT_DECAY, 1, _LIVES_ONE_STEP)
    shape = _ports(here, node, wires)
    for key, low, high in (("threshold", 1, _LARGEST_THRESHOLD), ("decay", 0, _LARGEST_DECAY)):
        if isinstance(node[key], str):
            values = _array(here, node[key], unused, 1)
            good = values.dtype == np.int32 and values.shape == shape[-1:]
            good = good and values.min() >= low and values.max() <= high
            _need(f"{here}: {key}", f"{shape[-1]} int32 within {low}..{high}", str(values.dtype), good)
        else:
            _integer(here, node, key, low, high)
    _integer(here, node, "bias_exponent", 0, _LARGEST_BIAS_EXPONENT)
    if node["bias"] is not None:
        bias = _array(here, node["bias"], unused, 1)
        good = bias.dtype.kind == "i" and bias.shape == shape[-1:]
        good = good and bias.min() >= -_LARGEST_BIAS - 1 and bias.max() <= _LARGEST_BIAS
        _need(f"{here}: bias", f"{shape[-1]} integers of 13 bit", f"{bias.dtype} {bias.shape}", good)
    return _Wire(shape, 1, 0, node["latency"])


def _ports(here: str, node: Mapping[str, Any], wires: Mapping[str, _Wire]) -> Shape:
    """Check the synapses that a population sums; its shape in Lava's layout."""
    ports, shape = [wires[name] for name in node["sources"]], _shape(here, node)[::-1]
    for name, wire in zip(node["sources"], ports, strict=True):
        _need(f"{here}: sources", "synapses", name, wire.bits is None)
        _need(f"{here}: shape", f"{list(wire.shape[::-1])} as {name!r} sends", shape[::-1], wire.shape == shape)
    _latency(here, node, ports, later=0)
    total, most = sum(wire.largest for wire in ports), _largest_total(node.get(_CURRENT_DECAY, _LIVES_ONE_STEP))
    _need(f"{here}: the largest possible sum", f"at most {most}", total, total <= most)
    return shape


def _largest_total(current_decay: int) -> int:
    """Over all synapses of a population: int32 holds it shifted by 6, its current before the wrap, potential and bias."""
    return (2**24 + (2**31 - 2**25) * current_decay // _LIVES_ONE_STEP) >> 6


def _readout(node: Any, unused: dict[str, np.ndarray], wires: Mapping[str, _Wire]) -> list[str]:
    leaky = isinstance(node, dict) and "decay" in node
    _record("readout", node, f"name sources latency shape bias{' decay' if leaky else ''}")
    _name("readout", node)
    sources = _sources("readout", node, wires)
    shape = _ports("readout", node, wires)
    _need("readout shape", "[classes]", shape, len(shape) == 1)
    if node["bias"] is not None:
        bias = _array("readout", node["bias"], unused, 1)
        good = bias.dtype.kind == "i" and bias.shape == shape
        _need("readout bias", f"{shape[0]} integers", f"{bias.dtype} {bias.shape}", good)
    if leaky:
        _integer("readout", node, "decay", 0, _LARGEST_DECAY)
    return sources


def _host(names: Any, first: str, nodes: list[Any], readout: Mapping[str, Any]) -> None:
    """Check that what the host computes is a first layer: all that frames flow into, of which others take spikes alone."""
    good = isinstance(names, list) and all(isinstance(name, str) for name in names) and len(set(names)) == len(names)
    _need("host", "a list of different names", names, good)
    part = {node["name"]: node for node in nodes if node["name"] in names}
    kinds = [node["kind"] for node in part.values()]
    _need("host", "synapses and populations", names, len(part) == len(names) and "lif" in kinds and "sum" not in kinds)
    silent = {first, *(name for name, node in part.items() if node["kind"] != "lif")}
    for node in (*nodes, readout):
        sources = set(node["sources"] if "sources" in node else [node["source"]])
        inside = node["name"] in part
        fits = sources <= silent if inside else not sources & silent
        _need(f"node {node['name']!r}", "fed by the host's part alone, or by its spikes", sorted(sources), fits)


def _ranges(value: Any, nodes: Mapping[str, list[Any]]) -> None:
    """Check of which nodes a plan says that their values may leave their range; older ones say nothing."""
    _need("ranges", f"an object of {', '.join(_RANGES)}", value, isinstance(value, dict) and value.keys() <= _RANGES.keys())
    for kind, names in value.items():
        known = {node["name"] for each in _RANGES[kind] for node in nodes[each]}
        good = isinstance(names, list) and all(isinstance(name, str) and name in known for name in names)
        _need(f"ranges: {kind}", "different names of nodes", names, good and len(set(names)) == len(names))


def _of_kind(nodes: Any, kind: str) -> list[Any]:
    return [node for node in nodes if node["kind"] == kind]


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
    good = isinstance(name, str) and 0 < len(name) <= _LONGEST_NAME and name.isprintable()
    _need(f"{where}: name", f"1 to {_LONGEST_NAME} printable characters", name, good)
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
