"""Faults to plant, one of each kind: a network, a recording or an ONNX file with one thing wrong in one population."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import onnx
import onnxruntime
import pytest

import tet_deploy as td
from tet_deploy.contracts import Recording
from tet_deploy.debugging import causes
from tet_deploy.dynamics import LARGEST_SYNAPTIC_SUM
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import LIF, Conv, Input, Linear, Node, Population
from tet_deploy.meaning import evaluate
from tet_deploy.onnx_file import output_of
from tet_deploy.testing import random_float_network, random_frames, random_quantized_network


@dataclass(frozen=True, kw_only=True, eq=False)
class Planted:
    """What is given to the debugger, and what it has to find."""

    expected: Graph
    found: Recording
    frames: np.ndarray
    described: Graph | None
    node: str
    cause: str


def changed(rng, graph: Graph, kinds, change: Callable[[Node], Node | None], frames) -> tuple[Graph, str] | None:
    """A copy with one node changed such that the run differs, and the population that the node is or feeds."""
    nodes = [node for node in graph if isinstance(node, kinds)]
    before = td.run(graph, frames)
    for index in rng.permutation(len(nodes)):
        node = nodes[index]
        other = change(node)
        if other is None:
            continue
        copy = graph.replace({node.name: other})
        population = node.name if isinstance(node, Population) else graph.consumers(node.name)[0].name
        if not td.pipeline.validation.compare(before, td.run(copy, frames)).equal:
            return copy, population
    return None


def in_a_graph(cause: str, kinds, change, network=random_float_network):
    """A fault in the arrays or numbers of one node, of which the network itself tells."""

    def plant(rng) -> Planted | None:
        graph = network(rng)
        frames = random_frames(graph, rng, steps=6, samples=4)
        found = changed(rng, graph, kinds, lambda node: change(rng, node), frames)
        if found is None:
            return None
        copy, population = found
        return Planted(
            expected=graph, found=td.run(copy, frames), frames=frames, described=copy, node=population, cause=cause
        )

    return plant


def _coarse(rng, node):
    step = np.abs(node.weight).max() / int(rng.integers(2, 6))
    return dataclasses.replace(node, weight=(np.rint(node.weight / step) * step).astype(np.float32)) if step else None


def _clipped(rng, node):
    limit = np.quantile(np.abs(node.weight), rng.uniform(0.3, 0.8))
    return dataclasses.replace(node, weight=np.clip(node.weight, -limit, limit)) if limit else None


def _bias(rng, node):
    if node.bias is None:
        return None
    step = int(rng.integers(100, 1000))
    return dataclasses.replace(node, bias=(np.rint(node.bias / step) * step).astype(node.bias.dtype))


def _decay(rng, node):
    return dataclasses.replace(
        node, decay=float(rng.choice([share for share in (0.25, 0.5, 0.75, 1.0) if share != node.decay]))
    )


def plant_clipped_messages(rng) -> Planted | None:
    """A runtime that cuts frames off at fewer events than the network allows."""
    graph = random_float_network(rng, encoding="events")
    frames = rng.poisson(2.0, (6, 4, *graph.input.shape)).astype(np.float32)
    found = td.run(graph, np.minimum(frames, 2.0 ** int(rng.integers(1, 3)) - 1))
    return _first_behind_input(graph, found, frames, causes.MESSAGE_CLIPPING)


def plant_input_scale(rng) -> Planted | None:
    """Frames that were scaled before they came."""
    graph = (random_float_network if rng.random() < 0.5 else random_quantized_network)(rng, encoding="analog")
    frames = random_frames(graph, rng, steps=6, samples=4)
    found = td.run(graph, frames * float(rng.choice([0.5, 2.0, 0.25, 1 / 255])))
    return _first_behind_input(graph, found, frames, causes.INPUT_SCALE)


def _first_behind_input(graph, found, frames, cause) -> Planted | None:
    if td.pipeline.validation.compare(td.run(graph, frames), found).equal:
        return None
    node = next(
        node.name
        for node in graph
        if isinstance(node, Population) and any(graph[name].inputs[0] == graph.input.name for name in node.inputs)
    )
    return Planted(expected=graph, found=found, frames=frames, described=None, node=node, cause=cause)


def plant_border(rng) -> Planted | None:
    """A convolution whose window lies one pixel beside where it should."""
    graph = (random_float_network if rng.random() < 0.5 else random_quantized_network)(rng)
    frames = random_frames(graph, rng, steps=6, samples=4)
    dy, dx = [(0, 1), (1, 0), (-1, 0), (0, -1), (1, 1)][int(rng.integers(5))]

    def moved(node):
        if node.dilation != (1, 1):
            return None
        weight = np.zeros((*node.weight.shape[:2], node.weight.shape[2] + 2, node.weight.shape[3] + 2), node.weight.dtype)
        weight[:, :, 1 - dy : 1 - dy + node.weight.shape[2], 1 - dx : 1 - dx + node.weight.shape[3]] = node.weight
        return dataclasses.replace(node, weight=weight, padding=(node.padding[0] + 1, node.padding[1] + 1))

    found = changed(rng, graph, Conv, moved, frames)
    if found is None:
        return None
    return Planted(
        expected=graph, found=td.run(found[0], frames), frames=frames, described=None, node=found[1], cause=causes.BORDER
    )


def plant_latency(rng) -> Planted | None:
    """A population that was recorded a step late."""
    graph = (random_float_network if rng.random() < 0.5 else random_quantized_network)(rng)
    frames = random_frames(graph, rng, steps=7, samples=4)
    right = td.run(graph, frames)
    names = [name for name, spikes in right.spikes.items() if 0.05 < spikes.mean() < 0.95]
    if not names:
        return None
    name = str(rng.choice(names))

    def late(array):
        return np.concatenate([np.zeros_like(array[:1]), array[:-1]])

    found = dataclasses.replace(
        right,
        spikes={key: late(value) if key == name else value for key, value in right.spikes.items()},
        potentials={key: late(value) if key == name else value for key, value in right.potentials.items()},
    )
    return Planted(expected=graph, found=found, frames=frames, described=None, node=name, cause=causes.LATENCY)


def plant_batch_norm(rng) -> Planted | None:
    """A model in which one batch norm was left in training mode."""
    import torch

    from tet_deploy.nn import LIF as Neurons
    from tet_deploy.nn import TimeMajor

    torch.manual_seed(int(rng.integers(2**31)))
    channels = [2, *(int(rng.integers(3, 7)) for _ in range(3))]
    layers: list[torch.nn.Module] = []
    for before, after in itertools.pairwise(channels):
        norm = torch.nn.BatchNorm2d(after)
        with torch.no_grad():
            norm.running_mean.normal_(0, 0.3)
            norm.running_var.uniform_(0.3, 2.0)
            norm.bias.fill_(0.4)
        layers += [torch.nn.Conv2d(before, after, 3, padding=1), norm, Neurons()]
    model = TimeMajor(*layers, torch.nn.Flatten(), torch.nn.Linear(channels[-1] * 36, 4)).eval()
    graph = td.trace(model, input_shape=(2, 6, 6), encoding="events")
    frames = rng.poisson(0.7, (5, 6, 2, 6, 6)).astype(np.float32)
    index = int(rng.integers(3))
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    norms[index].train()
    neurons = [(node.name, model.get_submodule(node.name)) for node in graph if isinstance(node, LIF)]
    return Planted(
        expected=graph,
        found=_as_torch_runs(model, neurons, frames),
        frames=frames,
        described=None,
        node=neurons[index][0],
        cause=causes.BATCH_NORM,
    )


def _as_torch_runs(model, neurons, frames) -> Recording:
    """What the neurons of a model give, in whatever mode it is; potentials follow from what they take."""
    import torch

    spikes, potentials = {}, {}

    def hook(name, layer):
        def hear(module, taken, given):
            current, v, found = taken[0].numpy(), np.zeros(given.shape[1:], np.float32), []
            for step, fired in enumerate(given.numpy()):
                v = np.where(fired > 0, np.float32(0), v * np.float32(layer.decay) + current[step])
                found.append(v)
            spikes[name], potentials[name] = given.numpy().astype(np.uint8), np.stack(found)

        return hear

    handles = [layer.register_forward_hook(hook(name, layer)) for name, layer in neurons]
    with torch.no_grad():
        readout = model(torch.from_numpy(frames)).numpy()
    for handle in handles:
        handle.remove()
    return Recording(spikes=spikes, potentials=potentials, readout=readout, runtime="torch")


def plant_comparison(rng, folder) -> Planted | None:
    """An ONNX file in which one population fires at its threshold already."""
    graph = random_float_network(rng, grid=1)
    frames = random_frames(graph, rng, steps=6, samples=4)
    frames = np.rint(frames)
    path = td.export(graph, folder / f"net{int(rng.integers(2**40))}.onnx", to="onnx", probes="all")
    model = onnx.load(path)
    calls = [node for node in model.graph.node if node.op_type.startswith("LIF")]
    right = td.run(graph, frames)
    names = [node.name for node in graph.of_kind(LIF)]
    for index in rng.permutation(len(calls)):
        if calls[index].op_type.startswith("LIFFromThreshold"):
            continue  # it fires there by right
        twin = onnx.FunctionProto()
        twin.CopyFrom(next(function for function in model.functions if function.name == calls[index].op_type))
        twin.name = "NotStrict"
        body = next(a.g for node in twin.node if node.op_type == "Scan" for a in node.attribute if a.HasField("g"))
        _fire_at_the_threshold(body)
        edited = onnx.ModelProto()
        edited.CopyFrom(model)
        edited.functions.append(twin)
        [node for node in edited.graph.node if node.op_type.startswith("LIF")][index].op_type = "NotStrict"
        found = _as_onnx_runs(edited, names, frames)
        if not td.pipeline.validation.compare(right, found).equal:
            return Planted(
                expected=graph, found=found, frames=frames, described=None, node=names[index], cause=causes.COMPARISON
            )
    return None


def _fire_at_the_threshold(step: onnx.GraphProto) -> None:
    """Not `u > threshold` but not `u < threshold`, which ONNX Runtime 1.19 knows the shape of."""
    nodes = []
    for node in step.node:
        if node.op_type != "Greater":
            nodes.append(node)
            continue
        nodes.append(onnx.helper.make_node("Less", node.input, ["below"]))
        nodes.append(onnx.helper.make_node("Not", ["below"], node.output))
    del step.node[:]
    step.node.extend(nodes)


def _as_onnx_runs(model: onnx.ModelProto, names, frames) -> Recording:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    outputs = [output.name for output in session.get_outputs()]
    found = dict(zip(outputs, session.run(None, {session.get_inputs()[0].name: frames}), strict=True))
    return Recording(
        spikes={name: found[output_of(name, "spikes")].astype(np.uint8) for name in names},
        potentials={name: found[output_of(name, "potentials")] for name in names},
        readout=found["readout"],
        runtime="onnx",
    )


def in_real_numbers(graph: Graph) -> Graph:
    """The float network that a quantized one stands for."""

    def real(node):
        if isinstance(node, Input):
            return dataclasses.replace(node, quantization=None)
        if isinstance(node, (Conv, Linear)):
            population = graph.consumers(node.name)[0]
            source = node
            while source.inputs and not isinstance(source, LIF):
                source = graph[source.inputs[0]]
            unit = population.quantization.scale / (graph.input.quantization.scale if isinstance(source, Input) else 1.0)
            bias = None
            if population.bias is not None and population.inputs[0] == node.name:
                shift = population.quantization.bias_exponent if isinstance(population, LIF) else 0
                bias = (population.bias.astype(np.float64) * 2**shift / 64 / population.quantization.scale).astype(
                    np.float32
                )
            return dataclasses.replace(node, weight=(node.weight / unit).astype(np.float32), bias=bias, quantization=None)
        if isinstance(node, LIF):
            return dataclasses.replace(
                node, bias=None, threshold=node.threshold / node.quantization.scale, quantization=None
            )
        return dataclasses.replace(node, bias=None, quantization=None) if isinstance(node, Population) else node

    return Graph(tuple(real(node) for node in graph))


def consistent(graph: Graph) -> Graph:
    """The same integers, with scales of layers that follow from those of the populations and of the input."""

    def scaled(node):
        if not isinstance(node, (Conv, Linear)):
            return node
        source = node
        while source.inputs and not isinstance(source, LIF):
            source = graph[source.inputs[0]]
        unit = graph.input.quantization.scale if isinstance(source, Input) else 1.0
        scale = graph.consumers(node.name)[0].quantization.scale / unit
        return dataclasses.replace(node, quantization=dataclasses.replace(node.quantization, scale=scale))

    return Graph(tuple(scaled(node) for node in graph))


def plant_wrap(rng) -> Planted | None:
    """A first population whose sums wrap on these frames, in a network whose real numbers do not."""
    graph = consistent(random_quantized_network(rng, encoding="analog", layers=int(rng.integers(1, 4))))
    first = next(node for node in graph if isinstance(node, Conv))
    population = graph.consumers(first.name)[0]
    if first.weight[0].size < 9:
        return None
    heavy = dataclasses.replace(first, weight=np.where(first.weight < 0, 90, 127).astype(np.int8))
    high = dataclasses.replace(population, threshold=60_000)
    graph = graph.replace({first.name: heavy, population.name: high})
    frames = (rng.integers(90, 128, (5, 4, *graph.input.shape)) / graph.input.quantization.scale).astype(np.float32)
    inside = dataclasses.replace(heavy, quantization=None)
    sums = evaluate(inside, [frames.reshape(-1, *graph.input.shape) * graph.input.quantization.scale], {})
    if np.abs(sums).max() <= LARGEST_SYNAPTIC_SUM:
        return None
    return _against_real(graph, frames, population.name, causes.WRAP, population.name)


def plant_saturation(rng) -> Planted | None:
    """A population that sinks to the lowest potential and is held there."""
    graph = consistent(random_quantized_network(rng, encoding="events", layers=int(rng.integers(1, 4))))
    node = graph.of_kind(LIF)[int(rng.integers(len(graph.of_kind(LIF))))]
    sinking = dataclasses.replace(
        node,
        decay=1.0,
        bias=np.full(len(node.bias), -4000, np.int16),
        quantization=dataclasses.replace(node.quantization, bias_exponent=7),
    )
    graph = graph.replace({node.name: sinking})
    frames = random_frames(graph, rng, steps=24, samples=2)
    return _against_real(graph, frames, node.name, causes.SATURATION, node.name)


def _against_real(graph, frames, population, cause, node) -> Planted | None:
    real = in_real_numbers(graph)
    return Planted(expected=real, found=td.run(graph, frames), frames=frames, described=graph, node=node, cause=cause)


PLANTINGS = {
    "weight rounding": in_a_graph(causes.WEIGHT_ROUNDING, (Conv, Linear), _coarse),
    "clipped weights": in_a_graph(causes.WEIGHT_CLIPPING, (Conv, Linear), _clipped),
    "bias rounding": in_a_graph(causes.BIAS, LIF, _bias, random_quantized_network),
    "decay rounding": in_a_graph(causes.DECAY, LIF, _decay),
    "clipped messages": plant_clipped_messages,
    "input scale": plant_input_scale,
    "pooling border": plant_border,
    "latency": plant_latency,
    "batch norm": plant_batch_norm,
    "comparison": plant_comparison,
    "wrap": plant_wrap,
    "saturation": plant_saturation,
}


@pytest.fixture(scope="session")
def plant(tmp_path_factory):
    """Grow the first fault of a kind, from a generator, that changes anything."""
    folder = tmp_path_factory.mktemp("plantings")

    def planted(kind: str, rng) -> Planted:
        grow = PLANTINGS[kind]
        more = (folder,) if "folder" in inspect.signature(grow).parameters else ()
        while (found := grow(rng, *more)) is None:
            pass
        return found

    return planted


@pytest.fixture(scope="session")
def kinds():
    """Names of all kinds of fault that can be planted here."""
    return [kind for kind in PLANTINGS if kind != "batch norm" or find_spec("torch")]


@pytest.fixture(scope="session")
def integers_and_reals():
    """A random quantized network, and the float network that it stands for."""

    def both(rng, wrap: bool) -> tuple[Graph, Graph]:
        graph = consistent(random_quantized_network(rng, wrap=wrap))
        return graph, in_real_numbers(graph)

    return both
