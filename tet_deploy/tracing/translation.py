"""The nodes that the calls of a model's forward() become, one call after the other."""

from __future__ import annotations

import dataclasses
import operator
from collections import Counter
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, fx, nn

from tet_deploy.errors import GraphError
from tet_deploy.ir.nodes import Add, Flatten, Input, Node, Output, Readout
from tet_deploy.ir.normalization import normalized
from tet_deploy.ir.shapes import Shape
from tet_deploy.tracing import normalization, step_norms
from tet_deploy.tracing.calls import BY_STEP, is_copy
from tet_deploy.tracing.capture import Captured
from tet_deploy.tracing.eval_mode import owner
from tet_deploy.tracing.foreign import spikingjelly
from tet_deploy.tracing.layers import LAYERS, RESHAPING_LAYERS, convert, converter_of, is_neurons, layout_needed

_ADDITIONS = (operator.add, torch.add, "add")  # functions, and names of methods
_RESHAPES = (
    torch.flatten,
    torch.reshape,
    torch.unflatten,
    "flatten",
    "unflatten",
    "reshape",
    "view",
)
_REDUCTIONS = ("mean", "sum", torch.mean, torch.sum)
_DROPOUTS = (nn.functional.dropout, nn.functional.dropout2d)
_MOVES = ("transpose", "permute", "swapaxes", "movedim", torch.transpose, torch.permute, torch.swapaxes, torch.movedim)
_PICKS = (operator.getitem, "flip", "select", "narrow", torch.flip, torch.select, torch.narrow)
_LAYOUTS = {"step": "one step", "separate": "all steps, [T, B, ...]", "merged": "all steps as one batch, [T*B, ...]"}
_POOLS: dict[Any, tuple[type[nn.Module], tuple[str, ...]]] = {  # function -> the layer that it is, and its arguments
    nn.functional.avg_pool2d: (
        nn.AvgPool2d,
        ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"),
    ),
    nn.functional.adaptive_avg_pool2d: (nn.AdaptiveAvgPool2d, ("output_size",)),
    nn.functional.max_pool2d: (
        nn.MaxPool2d,
        ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices"),
    ),
    torch.max_pool2d: (nn.MaxPool2d, ("kernel_size", "stride", "padding", "dilation", "ceil_mode")),
}
_SUPPORTED = (
    f"Supported layers: {', '.join(kind.__name__ for kind in [*LAYERS, *RESHAPING_LAYERS])}; functions: a + b, flatten, "
    "reshape, view, dropout, avg_pool2d, max_pool2d; of frames (x - mean) / std by constants; at the end mean and sum over "
    "time."
)


class Call(NamedTuple):
    """A layer, and which of its calls in one run of the model, from 0."""

    layer: nn.Module
    number: int


class Translation:
    """The nodes so far, and for each call of the program the name of the node that holds its result."""

    def __init__(self, model: nn.Module, captured: Captured, first: Input) -> None:
        self.model = model
        self.captured, self.program, self.results = captured, captured.program, captured.results
        self.nodes: list[Node] = [first]
        self.sources: dict[fx.Node, str] = {}
        self.neurons: dict[str, nn.Module] = {}
        self.calls: dict[str, Call] = {}
        self.called = Counter[nn.Module]()
        self.calls_per_step = Counter[nn.Module]()
        self.readout: Call | None = None
        self.constants: set[fx.Node] = set()
        self.raw: set[fx.Node] = set()  # frames, where forward() goes on to normalize them
        self.taken = {"input", "readout"}

    @property
    def graph_input(self) -> Input:
        """The first node."""
        assert isinstance(self.nodes[0], Input)
        return self.nodes[0]

    def add(self, call: fx.Node) -> None:
        if not isinstance(self.results[call], Tensor) and call.op != "output":
            return  # a shape, or a number made from one
        if call.op == "get_attr" or (call.all_input_nodes and self.constants.issuperset(call.all_input_nodes)):
            self.constants.add(call)  # a parameter used as such: an error where something takes it
            return
        if call is self.captured.frames:
            self.sources[call] = "input"
        elif self.captured.makes_frames(call):
            return
        elif call.op == "placeholder":
            raise GraphError(f"the model's forward() must take frames only; it also takes {call.target!r}.")
        elif call.op == "call_module":
            self._take_layer(call)
        elif call.op == "output":
            self._take_output(call)
        elif self._normalizes(call):
            self._take_normalization(call)
        elif call.target in _ADDITIONS:
            self._take_addition(call)
        elif call.target in _RESHAPES or is_copy(call):
            self._take_reshape(call, _owner(call, "flatten"))
        elif call.target in _POOLS:
            self._take_pool(call)
        elif self._is_over_time(call):
            self._take_last(call)
        elif call.target in _DROPOUTS and call.kwargs.get("training") is False:
            self.sources[call] = self._source(call, _operand(call))
        else:
            self._refuse_norm_by_step(call)
            raise _unsupported(call)

    def values(self) -> dict[str, np.ndarray]:
        """What each node's layer gave, [T, B, ...]."""
        values: dict[str, np.ndarray] = {}
        for call, name in self.sources.items():
            if call in self.raw:
                continue
            if name not in values:
                values[name] = self.captured.separate(call)
            elif call.op == "call_module" and not np.array_equal(values[name], self.captured.separate(call), equal_nan=True):
                raise GraphError(f"layer {str(call.target)!r}: must pass on what it takes in eval mode, and changes it.")
        return values

    def check_normalization(self) -> None:
        """See that the Input makes of frames what forward() does before any layer, up to the float32 of its numbers."""
        node, found = self.graph_input, [call for call, name in self.sources.items() if name == "input"]
        if node.mean is None or node.deviation is None:
            return
        raw, given = self.captured.separate(self.captured.frames), self.captured.separate(found[-1])
        sides = (1,) * (len(node.shape) - 1)
        reach = (np.abs(raw) + np.abs(node.mean).reshape(-1, *sides)) / np.abs(node.deviation).reshape(-1, *sides)
        if not (np.abs(normalized(node, raw) - given) <= 2.0**-22 * reach).all():
            raise GraphError(f"{_owner(found[-1], found[-1].name)!r}: does not give the frames normalized as it says.")

    def _take_layer(self, call: fx.Node) -> None:
        path, layer = str(call.target), self.program.get_submodule(str(call.target))
        this = Call(layer, self.called[layer])
        self.called[layer] += 1
        self.calls_per_step[layer] += self.captured.is_by_step(call)
        if isinstance(layer, RESHAPING_LAYERS):
            self._take_reshape(call, path)
            return
        if converter_of(layer) is None:
            step_norms.refuse(layer, path)
            self._refuse_norm_by_step(call)
            kind = f"{type(layer).__module__}.{type(layer).__qualname__}"
            remedy = spikingjelly.REMEDY if spikingjelly.is_layer(layer) else _SUPPORTED
            raise GraphError(f"layer {path!r}: a {kind} cannot be traced. {remedy}")
        if self.captured.by_step and BY_STEP in call.meta:
            raise GraphError(
                f"layer {path!r}: its container walks through time, and neurons outside of it take one step. Set one step "
                "mode for the whole model: functional.set_step_mode(model, 'm')."
            )
        if this.number and spikingjelly.is_neurons(layer):
            raise GraphError(
                f"layer {path!r}: this {type(layer).__name__} is called again, and goes on from the state that its first "
                "call left, which no node can express. Give each call a layer of its own; if forward() loops over time, "
                "trace what it calls in the loop."
            )
        self._take_computing_layer(call, layer, path)
        self.calls.setdefault(self.sources[call], this)
        if is_neurons(layer):
            self.neurons[self.sources[call]] = layer

    def _take_pool(self, call: fx.Node) -> None:
        kind, names = _POOLS[call.target]
        given = {**dict(zip(names, call.args[1:], strict=False)), **call.kwargs}
        layer = kind(**{key: value for key, value in given.items() if key != "input"})
        self._take_computing_layer(call, layer, _owner(call, kind.__name__))

    def _take_computing_layer(self, call: fx.Node, layer: nn.Module, path: str) -> None:
        source = self._source(call, _operand(call))
        layout, shape = self._layout(_operand(call), path)
        if self.captured.is_by_step(call):
            layout = "step"
        if (layout_needed(layer), layout) not in [(None, layout), (layout, layout), ("merged", "step")]:
            raise _wrong_layout(layer, path, layout)
        nodes = convert(layer, self._unique(path), self._node(source), shape, lines=self.captured.lines)
        if nodes and isinstance(nodes[-1], Output):
            nodes = (*nodes[:-1], dataclasses.replace(nodes[-1], name="readout"))
        self._append(call, nodes, source)

    def _take_addition(self, call: fx.Node) -> None:
        terms = [*call.args, *(call.kwargs[key] for key in ("input", "other") if key in call.kwargs)]
        name = _owner(call, "add")
        sources = tuple(self._source(call, term) for term in terms)
        layouts = [self._layout(term, name) for term in terms]
        if call.kwargs.get("alpha", 1) != 1 or layouts[1:] != layouts[:1]:
            raise GraphError(f"{name!r}: an addition must be a + b of one shape; got {layouts}.")
        self._append(call, (Add(name=self._unique(name), inputs=sources),), "")

    def _normalizes(self, call: fx.Node) -> bool:
        """Whether it is an operation between frames and numbers."""
        what, value, numbers = normalization.operands(call) or ("", None, None)
        known = numbers in self.constants if isinstance(numbers, fx.Node) else isinstance(numbers, (int, float))
        return bool(what) and known and isinstance(value, fx.Node) and self.sources.get(value) == "input"

    def _take_normalization(self, call: fx.Node) -> None:
        what, value, given = normalization.operands(call) or ("", None, 0)
        name = _owner(call, call.name)
        if isinstance(given, fx.Node):
            tensor: Any = self.results[given]
            given = tensor[0] if self.captured.is_by_step(given) else tensor
        before, (_, shape) = self.graph_input, self._layout(value, name)
        numbers = normalization.of_channels(given, (shape[0], shape[-1]) if self.captured.lines else shape)
        after = None if numbers is None or shape != before.shape else normalization.after(before, what, numbers)
        if after is None:
            self._refuse_norm_by_step(call)
            raise GraphError(
                f"{name!r}: may normalize frames by one number, or one for each of {shape[0]} channels, all finite and no "
                f"factor 0; got numbers of shape {tuple(np.shape(given))}."
            )
        if any("input" in node.inputs for node in self.nodes):
            raise GraphError(f"{name!r}: normalizes frames that other layers take as they come. Normalize them for all.")
        self.raw |= {call for call, source in self.sources.items() if source == "input"}
        self.nodes[0], self.sources[call] = after, "input"

    def _take_reshape(self, call: fx.Node, name: str) -> None:
        source = self._source(call, _operand(call))
        before, after = self._layout(_operand(call), name)[1], self._layout(call, name)[1]
        if after == before:
            self.sources[call] = source  # only time and batch were merged or separated
        elif len(after) == 1:
            self._append(call, (Flatten(name=self._unique(name), inputs=(source,)),), source)
        else:
            raise GraphError(f"{name!r}: may flatten a sample, not turn {before} into {after}. {_SUPPORTED}")

    def _is_over_time(self, call: Any) -> bool:
        """Whether it is x.mean(0), x.sum(0) and the like, or that divided by a number."""
        if not isinstance(call, fx.Node) or self.captured.is_by_step(call):
            return False
        if call.target is operator.truediv and isinstance(call.args[1], (int, float)):
            return call.args[1] > 0 and self._is_over_time(call.args[0])
        given = [*call.args[1:], *(call.kwargs[key] for key in call.kwargs if key not in ("input", "keepdim"))]
        first = given in ([0], [(0,)], [[0]]) and not isinstance(given[0], bool)
        return call.target in _REDUCTIONS and first and not call.kwargs.get("keepdim", False)

    def _take_last(self, call: fx.Node) -> None:
        """What is done over time, which is what the readout's decision does anyway."""
        if all(self._is_over_time(user) for user in call.users):
            return
        if [user.op for user in call.users] != ["output"]:
            raise GraphError(
                f"{_owner(call, call.name)!r}: a mean or sum over time must be the last that forward() does. What is linear "
                "may stand before it as well: fc(x).mean(0) for fc(x.mean(0))."
            )

    def _take_output(self, call: fx.Node) -> None:
        result: Any = call.args[0]
        reduced = self._is_over_time(result)
        while self._is_over_time(result):
            result = _operand(result)
        value = self.results[result] if isinstance(result, fx.Node) else result
        layout = self.captured.layout(result) if isinstance(value, Tensor) else None
        if layout is None or layout[0] != "separate" or len(layout[1]) != 1:
            found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise GraphError(
                f"the model must return the readout of every step, [T, B, K] (here T={self.captured.steps}, "
                f"B={self.captured.samples}), or its mean or sum over time; got {found}."
            )
        source = self._source(call, result)
        integrates = isinstance(self._node(source), Output)
        if not integrates:
            self.nodes.append(Readout(name="readout", inputs=(source,)))
        if reduced or integrates:
            self.readout = self.calls.get(source)
        if not reduced:
            self.sources[call] = "readout"

    def _refuse_norm_by_step(self, call: fx.Node) -> None:
        """Tell of a call that cannot be traced that it belongs to a batch norm which depends on the step, where it does."""
        path = _caller(call)
        module = self.model.get_submodule(path)
        step_norms.refuse(module, path)
        norms = step_norms.listed(module)
        if norms and call.target is operator.getitem and isinstance(call.args[1], int):  # forward() picks a step
            raise step_norms.refusal(owner(module, path), norms)

    def _append(self, call: fx.Node, nodes: tuple[Node, ...], source: str) -> None:
        self.nodes.extend(nodes)
        self.sources[call] = nodes[-1].name if nodes else source

    def _source(self, call: fx.Node, argument: Any) -> str:
        if not isinstance(argument, fx.Node) or argument not in self.sources:
            name = _owner(call, call.name)
            raise GraphError(f"{name!r}: must work on values of the network only; got {argument!r}. {_SUPPORTED}")
        if argument in self.raw:
            name = _owner(call, call.name)
            raise GraphError(f"{name!r}: takes frames as they come, which others take normalized. Normalize them for all.")
        source = self.sources[argument]
        if isinstance(self._node(source), Output) and call.op != "output":
            name = str(call.target) if call.op == "call_module" else _owner(call, call.name)
            raise GraphError(
                f"{name!r}: takes the potential of layer {argument.target!r}, which never resets: it must be what the model "
                "returns. Let spikes go on, with reset_mechanism='zero'."
            )
        return source

    def _node(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)

    def _layout(self, argument: Any, name: str) -> tuple[str, Shape]:
        layout = self.captured.layout(argument)
        if layout is None:
            sizes = f"{tuple(self.results[argument].shape)} for T={self.captured.steps}, B={self.captured.samples}"
            raise GraphError(f"{name!r}: must keep [T, B, ...] or [T*B, ...], time first; got {sizes}.")
        return layout

    def _unique(self, name: str) -> str:
        candidate, number = name, 1
        while candidate in self.taken:
            number += 1
            candidate = f"{name}_{number}"
        self.taken.add(candidate)
        return candidate


def _operand(call: fx.Node) -> Any:
    return call.args[0] if call.args else call.kwargs.get("input")


def _wrong_layout(layer: nn.Module, path: str, layout: str) -> GraphError:
    needed, kind = layout_needed(layer), type(layer).__name__
    if spikingjelly.is_layer(layer):
        return GraphError(
            f"layer {path!r}: {kind} of step_mode {layer.step_mode!r} is given {_LAYOUTS[layout]}. Set one step mode for "
            "the whole model: functional.set_step_mode(model, 'm')."
        )
    return GraphError(
        f"layer {path!r}: {kind} needs time and batch {needed}; they are {layout}. Let a TimeMajor hold the layers: it "
        "merges them where that is right."
    )


def _owner(call: fx.Node, name: str) -> str:
    """Name for what a function gives: the path of the module whose forward() calls it, then its own."""
    return f"{_caller(call)}.{name}".lstrip(".")


def _caller(call: fx.Node) -> str:
    """Path of the module whose forward() makes a call; empty if it is the model's own."""
    stack: list[str] = [path for path in call.meta.get("nn_module_stack", {}) if path and path != call.target]
    return stack[-1] if stack else ""


def _unsupported(call: fx.Node) -> GraphError:
    if call.target in _MOVES:
        return GraphError(
            f"{_owner(call, call.name)!r}: moves axes; time must stay first, and the batch second. x.flatten(0, 1) merges "
            "them, and y.unflatten(0, x.shape[:2]) takes them apart again."
        )
    if call.target in _PICKS:
        return GraphError(
            f"{_owner(call, call.name)!r}: takes some steps or samples, or turns them round, which no node does. Return "
            "the readout of every step, or its mean or sum over time, and choose among the steps afterwards."
        )
    kind = call.op.removeprefix("call_")
    name = call.target if isinstance(call.target, str) else getattr(call.target, "__name__", str(call.target))
    return GraphError(f"{_owner(call, call.name)!r}: {kind} {name!r} cannot be traced. {_SUPPORTED}")
