"""Write a float network as a NIR file, in numbers of which every framework that reads such files makes the same steps.

NIR says of a neuron tau dv/dt = v_leak - v + r I ; z = v > v_threshold ; v = v_reset where z. Euler's step of dt,

    v <- v + dt / tau * (v_leak - v + r I)

is our u = decay * v + I with potentials in units of 1 / (1 - decay), where

    tau = dt / (1 - decay) ; r = 1 ; v_threshold = threshold * (1 - decay) ; v_leak = v_reset = 0

and for decay 1 an IF, v <- v + dt r I with r = 1 / dt. Sums have no node: edges that meet are added.
"""

from __future__ import annotations

import io
import itertools
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import singledispatch
from pathlib import Path
from typing import Any

import numpy as np

from tet_deploy._version import __version__
from tet_deploy.errors import GraphError, MissingDependencyError, TetDeployWarning, warn
from tet_deploy.files import Kind, head, written_whole
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.names import LONGEST_NAME
from tet_deploy.ir.nodes import LIF, Add, AvgPool, Conv, Flatten, Input, LeakyReadout, Linear, Node, Readout
from tet_deploy.ir.shapes import Shape
from tet_deploy.ir.spec import TRACED, check
from tet_deploy.ir.values import ANALOG, Value, total, values

try:
    import h5py  # type: ignore[import-untyped]  # it ships no type information
except ModuleNotFoundError as error:
    raise MissingDependencyError(
        "exporting to NIR needs the package h5py. Install it: pip install 'tet-deploy[nir]'."
    ) from error

NIR_VERSION = "1.0.8"  # the first with v_reset is 1.0.6
DT = 1e-4  # seconds of a step; the default of most frameworks, and fixed in snnTorch
_PRODUCER = "producer"  # the name of the file's attribute, which stands in its first bytes
_LEAST, _GREATEST = 1e-30, 1e30  # thresholds, far from where float32 ends once they are scaled
_ROUNDED = 2.0**-21  # of a number: what 1 / tau, dt / tau, its product with the input and v_threshold in float32 are off by
_WHOLE = Value(kind=ANALOG, least=-np.inf, greatest=np.inf, fraction_bits=0)  # finer ones keep a threshold on their grid

NIR_FILE = Kind(
    "a NIR file of tet_deploy",
    lambda path: (start := head(path, 2048)).startswith(b"\x89HDF") and b"producer\0" in start and b"\0tet_deploy " in start,
)


def to_nir(graph: Graph, path: str | os.PathLike[str]) -> Path:
    """Write a float network, lowered or traced, to a NIR file, whole or not at all.

    Parameters
    ----------
    graph
        The network, without batch norm.
    path
        The file to write.

    Returns
    -------
    Path
        The file, equal byte for byte for equal networks. `td.load_nir(path)` reads it.

    Raises
    ------
    GraphError
        The network is quantized, or holds a node that has no exact form in NIR.
    ArtifactError
        The folder does not exist or cannot be written, or another kind of file lies there.

    Warns
    -----
    TetDeployWarning
        Weights lie on no grid, as a traced network's: readers that fire at the threshold may spike otherwise.

    Examples
    --------
    >>> to_nir(graph, "net.nir").name
    'net.nir'
    """
    check(graph, TRACED)
    if graph.is_quantized:
        raise GraphError(
            "a quantized network has no NIR form, as a chip's neurons truncate and NIR's do not. Export the float network "
            "that it was quantized from."
        )
    about = {"dt": DT, "encoding": graph.input.encoding, "graph_digest": graph.digest()}
    network = _network(graph)
    if network.loose:
        warn(
            f"node {network.loose[0]!r}: its inputs lie on no grid that float32 holds. Nobody knows which potentials meet "
            f"the threshold, and readers that fire at it, as SpikingJelly's neurons do, may spike otherwise; so in "
            f"{len(network.loose)} of {len(graph.of_kind(LIF))} populations. Export what td.lower(graph, frames) gives.",
            TetDeployWarning,
        )
    content = {"type": "NIRGraph", "nodes": network.nodes, "edges": network.edges, "metadata": about}
    with written_whole(path, NIR_FILE) as temporary:
        temporary.write_bytes(_hdf5({"version": NIR_VERSION, "node": content}))
    return Path(path)


def _hdf5(content: Mapping[str, Any]) -> memoryview:
    """A file's bytes; made in memory, as the HDF5 library crashes where a disk is full."""
    made = io.BytesIO()
    with h5py.File(made, "w") as file:
        file.attrs[_PRODUCER] = np.bytes_(f"tet_deploy {__version__}")
        _write(file, content)
    return made.getbuffer()


def _write(group: Any, content: Mapping[str, Any]) -> None:
    """Groups of groups and arrays, without times."""
    for name, value in content.items():
        if isinstance(value, dict):
            _write(group.create_group(name), value)
        else:
            text = h5py.string_dtype() if isinstance(value, (str, list)) else None
            group.create_dataset(name, data=np.array(value, object) if text else value, dtype=text, track_times=False)


@dataclass
class _Network:
    graph: Graph
    grids: Mapping[str, Value]  # what each node sends
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)
    loose: list[str] = field(default_factory=list)  # populations whose inputs lie on no grid

    def connect(self, sources: Counter[str], name: str) -> None:
        """Edges from all sources; one that counts several times, or one of several at an output, goes through a layer."""
        is_output = len(sources) > 1 and self.nodes.get(name, {}).get("type") == "Output"
        if is_output:  # most readers do not add there
            summed = self.add(name, ".sum", _multiple(1, self.graph.shapes[name]))
            self.edges.append((summed, name))
            name = summed
        for source, count in sources.items():
            if count > 1:
                times = self.add(name, ".times", _multiple(count, self.graph.shapes[source]))
                self.edges.append((source, times))
                source = times
            self.edges.append((source, name))

    def add(self, user: str, what: str, fields: dict[str, Any]) -> str:
        """Append a node that serves another one; its name, like that one's."""
        taken = {_in_torch(other) for other in (*self.nodes, *(node.name for node in self.graph))}
        stem = user[: LONGEST_NAME - 20] + what
        name = next(
            free
            for free in itertools.chain([stem], map(f"{stem}_{{}}".format, itertools.count(2)))
            if _in_torch(free) not in taken
        )
        self.nodes[name] = fields
        return name


def _network(graph: Graph) -> _Network:
    """Nodes by their names, and edges between them, of which none stands twice."""
    _check_names(graph)
    network = _Network(graph, values(graph, _WHOLE))
    sends: dict[str, Counter[str]] = {}  # node -> the nodes whose sum it sends
    for node in graph:
        sources: Counter[str] = sum((sends[name] for name in node.inputs), Counter())
        fields = _fields(node, network)
        if not fields:  # a sum
            sends[node.name] = sources
            continue
        sends[node.name] = Counter([node.name])
        network.nodes[node.name] = fields
        network.connect(sources, node.name)
        if isinstance(node, LeakyReadout):
            output = network.add(node.name, ".output", _output(graph.shapes[node.name]))
            network.edges.append((node.name, output))
    return network


def _check_names(graph: Graph) -> None:
    known: dict[str, str] = {}
    for node in graph:
        other = known.setdefault(_in_torch(node.name), node.name)
        if other != node.name:
            raise GraphError(
                f"node {node.name!r}: must differ from {other!r} in more than a dot, as the frameworks that read NIR files "
                "write _ for it. Rename one of them."
            )


def _in_torch(name: str) -> str:
    """What nirtorch calls a node."""
    return name.replace(".", "_")


def _multiple(factor: int, shape: Shape) -> dict[str, Any]:
    """A layer that sends `factor` times what it is sent."""
    weight = _narrow(np.eye(shape[0]) * factor)
    if len(shape) == 1:
        return {"type": "Linear", "weight": weight}
    return _convolution(shape, weight[:, :, None, None], None, (1, 1), (0, 0), (1, 1))


@singledispatch
def _fields(node: Node, network: _Network) -> dict[str, Any]:
    raise GraphError(
        f"node {node.name!r}: a {node.kind} has no NIR form; Conv, Linear, AvgPool, Flatten, Add and LIF have. "
        "td.lower(graph, frames) folds batch norms; of neurons, train LIF."
    )


@_fields.register
def _(node: Input, network: _Network) -> dict[str, Any]:
    if node.mean is not None:
        raise GraphError(
            f"node {node.name!r}: normalizes its frames, which no node of NIR does. Give td.trace the model without its "
            "normalization, and normalize frames before."
        )
    return {"type": "Input", "shape": np.array(node.shape)}


@_fields.register
def _(node: Readout, network: _Network) -> dict[str, Any]:
    return _output(network.graph.shapes[node.name])


def _output(shape: Shape) -> dict[str, Any]:
    return {"type": "Output", "shape": np.array(shape)}


@_fields.register
def _(node: LeakyReadout, network: _Network) -> dict[str, Any]:
    shape = network.graph.shapes[node.name]
    about = {"dt": DT, "decay": node.decay}
    constants = {name: _per_neuron(value, shape) for name, value in _leak(node.decay).items()}
    return {"type": "LI" if node.decay < 1 else "I", **constants, "metadata": about}


def _leak(decay: float | np.ndarray) -> dict[str, Any]:
    """Constants of a potential in units of 1 / (1 - decay); of an integrator without a leak in its own."""
    if np.all(np.equal(decay, 1)):
        return {"r": 1 / DT}
    # SpikingJelly refuses tau = dt; that little more is no decay that float32 could tell from 0
    return {"tau": np.maximum(DT / (1 - decay), np.nextafter(DT, 1)), "r": 1, "v_leak": 0}


@_fields.register
def _(node: Linear, network: _Network) -> dict[str, Any]:
    weight = {"weight": _numbers(node, "weight")}
    if node.bias is None:
        return {"type": "Linear", **weight}
    return {"type": "Affine", **weight, "bias": _numbers(node, "bias")}


@_fields.register
def _(node: Conv, network: _Network) -> dict[str, Any]:
    bias = None if node.bias is None else _numbers(node, "bias")
    weight, padding = _square(_dense(_numbers(node, "weight"), node.groups), node)
    return _convolution(network.graph.shapes[node.inputs[0]], weight, bias, node.stride, padding, node.dilation)


def _convolution(
    x: Shape, weight: np.ndarray, bias: np.ndarray | None, stride: Shape, padding: Shape, dilation: Shape
) -> dict[str, Any]:
    return {
        "type": "Conv2d",
        "input_shape": np.array(x[1:]),
        "weight": weight,
        "bias": np.zeros(len(weight), weight.dtype) if bias is None else bias,  # readers want one
        "stride": np.array(stride),
        "padding": np.array(padding),
        "dilation": np.array(dilation),
        "groups": 1,
    }


def _dense(weight: np.ndarray, groups: int) -> np.ndarray:
    """Groups as blocks of one kernel: NIR's shape inference knows no groups, and SpikingJelly refuses them."""
    if groups == 1:
        return weight
    outputs, inputs = len(weight) // groups, weight.shape[1]
    dense = np.zeros((len(weight), inputs * groups, *weight.shape[2:]), weight.dtype)
    for group in range(groups):
        rows = slice(group * outputs, (group + 1) * outputs)
        dense[rows, group * inputs : (group + 1) * inputs] = weight[rows]
    return dense


def _square(weight: np.ndarray, node: Conv) -> tuple[np.ndarray, Shape]:
    """A kernel with rows or columns of zeros around it, and the padding that goes with it; NIR's shape inference takes a
    kernel's height for its width. A kernel of an odd by an even size stays as it is."""
    kernel = weight.shape[2:]
    margins = tuple(max(kernel) - size for size in kernel)
    if any(margin % 2 for margin in margins):
        return weight, node.padding
    around = tuple(margin // 2 for margin in margins)
    padding = tuple(pad + margin * step for pad, margin, step in zip(node.padding, around, node.dilation, strict=True))
    return np.pad(weight, ((0, 0), (0, 0), *((margin, margin) for margin in around))), padding


@_fields.register
def _(node: AvgPool, network: _Network) -> dict[str, Any]:
    return {
        "type": "AvgPool2d",
        "kernel_size": np.array(node.kernel),
        "stride": np.array(node.stride),
        "padding": np.array((0, 0)),
    }


@_fields.register
def _(node: Add, network: _Network) -> dict[str, Any]:
    return {}


@_fields.register
def _(node: Flatten, network: _Network) -> dict[str, Any]:
    shape = network.graph.shapes[node.inputs[0]]
    return {"type": "Flatten", "input_type": np.array(shape), "start_dim": 0, "end_dim": -1}


@_fields.register
def _(node: LIF, network: _Network) -> dict[str, Any]:
    decay = np.asarray(node.decay, np.float64)
    leaks = bool((decay < 1).all())
    if not leaks and decay.min() < 1:
        raise GraphError(
            f"node {node.name!r}: a decay of 1 beside others has no NIR form, which has a LIF or an IF for all neurons of a "
            "node. Use a decay just below 1."
        )
    gain = 1 - decay if leaks else np.ones(())
    neuron = {"v_threshold": _threshold(node, network, gain) * gain, "v_reset": 0, **_leak(decay)}
    shape = network.graph.shapes[node.name]
    threshold = np.asarray(node.threshold, np.float64)
    about = {
        "dt": DT,
        "decay": _by_channel(decay, shape),
        "threshold": _by_channel(threshold, shape),
        "comparison": node.comparison,
    }
    return {
        "type": "LIF" if leaks else "IF",
        **{name: _per_neuron(value, shape) for name, value in neuron.items()},
        "metadata": about,
    }


def _threshold(node: LIF, network: _Network, gain: np.ndarray) -> np.ndarray:
    """What to write so that readers whose spike is v > threshold and those whose is v >= threshold spike alike.

    In float32, u >= threshold is u > the number before. u > threshold is u >= the number behind, and u > that too where no
    potential is that number, as on a grid of presynaptic inputs that is coarser than numbers are there. Where the gain is no
    power of two readers round what they multiply by it, and what is written lies further off than all that together.
    """
    least, greatest = np.min(node.threshold), np.max(node.threshold)
    if not _LEAST < least <= greatest < _GREATEST:
        raise GraphError(
            f"node {node.name!r}: threshold must lie between {_LEAST:g} and {_GREATEST:g} for NIR; it goes from {least:g} "
            f"to {greatest:g}. Multiply it and the weights before it by one factor."
        )
    threshold = np.asarray(node.threshold, np.float32)
    is_strict = node.comparison == ">"
    near = np.nextafter(threshold, np.float32(np.inf if is_strict else -np.inf)).astype(np.float64)
    wide = threshold.astype(np.float64)
    is_exact = np.frexp(gain)[0] == 0.5
    far = np.where(is_exact, near, wide * (1 + _ROUNDED if is_strict else 1 - _ROUNDED))
    bits = total([network.grids[name] for name in node.inputs]).fraction_bits
    step = 0.0 if bits is None else 2.0**-bits
    if step < np.max(abs(near - wide)):  # finer than float32 there: no potential is meant to meet the threshold
        network.loose.append(node.name)
    has_ties = (step >= abs(far - wide) * np.where(is_exact, 1, 2)) & (wide % (step or 1) == 0)
    return np.where(has_ties, far, wide if is_strict else near)


def _per_neuron(value: Any, shape: Shape) -> np.ndarray:
    """One number for each neuron, of a number for all or for each channel; float32 where that holds them exactly."""
    return np.broadcast_to(_narrow(_by_channel(np.asarray(value, np.float64), shape)), shape).copy()


def _by_channel(array: np.ndarray, shape: Shape) -> np.ndarray:
    """One number as it is, or an array [C] such that it broadcasts to the shape."""
    return array.reshape(-1, *(1,) * (len(shape) - 1)) if array.ndim else array


def _numbers(node: Node, name: str) -> np.ndarray:
    wide = np.asarray(getattr(node, name), np.float64)
    if np.abs(wide).max() > np.finfo(np.float32).max:
        raise GraphError(f"node {node.name!r}: {name} must fit float32; its largest is {np.abs(wide).max():.3g}.")
    return _narrow(wide)


def _narrow(wide: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        narrow = wide.astype(np.float32)
    return narrow if np.array_equal(narrow, wide) else wide
