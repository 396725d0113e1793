"""Collects the pieces of one ONNX graph: nodes, constants, functions, outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onnx import AttributeProto, FunctionProto, GraphProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from tet_deploy.ir.nodes import Conv, Input, Node, Pair
from tet_deploy.onnx_file import FRAMES

FRAMES_TB = "/frames_TB"  # the numbers of steps and samples, known at run time only


def own(node: Node, what: str) -> str:
    """Name of a value inside the graph that belongs to a node.

    These, and the values that belong to no node, begin with a slash. No node's name holds one, and so no input or output
    does: whatever the nodes are called, no two values share a name.
    """
    return f"/{node.name}/{what}"


def beside(value: str, what: str) -> str:
    """Name of a value that belongs to another one, an input or an output; it begins with two slashes, as no node's does."""
    return f"//{value}/{what}"


class OnnxBuilder:
    """Grows one ONNX graph of an operator set."""

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, TensorProto] = {}
        self.functions: dict[str, FunctionProto] = {}
        self.inputs: list[ValueInfoProto] = []
        self.outputs: list[ValueInfoProto] = []
        self.declared: dict[str, ValueInfoProto] = {}
        self.op("Shape", [FRAMES], FRAMES_TB, start=0, end=2)

    def op(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Append an operator with one output; returns the output's name."""
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def drop_unused(self) -> None:
        """Leave out what nobody uses, neither an output nor another operator nor a branch of one: operators and constants.

        ONNX Runtime warns of each constant that a session would not need.
        """
        used, kept = {value.name for value in self.outputs}, []
        for node in reversed(self.nodes):
            if used.intersection(node.output):
                kept.append(node)
                used |= _read_by(node)
        self.nodes = kept[::-1]
        self.constants = {name: array for name, array in self.constants.items() if name in used}

    def mean_over_time(self, value: str, output: str) -> str:
        """The mean of a value over its first axis."""
        if self.opset < 18:  # where the axes are no input yet
            return self.op("ReduceMean", [value], output, axes=[0], keepdims=0)
        return self.op("ReduceMean", [value, self.integers([0])], output, keepdims=0)

    def added(self, terms: Sequence[str], output: str) -> str:
        """The sum of values of one type and shape; a single one is passed on as it is."""
        total, *others = terms
        for index, term in enumerate(others):
            total = self.op("Add", [total, term], output if index == len(others) - 1 else f"{output}_{index}")
        return total

    def convolution(self, node: Conv, inputs: Sequence[str]) -> str:
        """ONNX's Conv of a value, a weight and perhaps a bias, as the node moves its kernel: the node's current."""
        return self.op(
            "Conv",
            inputs,
            own(node, "current"),
            kernel_shape=list(node.weight.shape[2:]),
            strides=list(node.stride),
            pads=[*node.padding, *node.padding],
            dilations=list(node.dilation),
            group=node.groups,
        )

    def pooled(self, node: Node, value: str, windows: Pair) -> str:
        """The averages over windows side by side, before a node."""
        return self.op("AveragePool", [value], own(node, "pooled"), kernel_shape=windows, strides=windows)

    def normalized(self, node: Input) -> str:
        """The frames [T, B, *shape] as `ir.normalization` says."""
        value = FRAMES
        for what, kind, array in (("mean", "Sub", node.mean), ("deviation", "Div", node.deviation)):
            if array is not None:
                shaped = array.astype(np.float32).reshape(-1, *(1,) * (len(node.shape) - 1))
                value = self.op(kind, [value, self.constant(own(node, what), shaped)], own(node, f"by_{what}"))
        return value

    def call(self, function: FunctionProto, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> None:
        """Append a call of a local function, which becomes part of the model."""
        self.functions[function.name] = function
        domain, name = function.domain, outputs[0]
        self.nodes.append(
            helper.make_node(function.name, list(inputs), list(outputs), name=name, domain=domain, **attributes)
        )

    def constant(self, name: str, array: np.ndarray) -> str:
        """Store an array in the model; returns its name."""
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def scalar(self, value: float, dtype: Any) -> str:
        """A constant without axes, stored once however often it is used."""
        number = np.asarray(value, dtype=dtype)
        return self.constant(f"/{number.dtype.name}({value})", number)

    def integers(self, values: Sequence[int]) -> str:
        """A constant list of int64 (shapes, axes, paddings), stored once however often it is used."""
        return self.constant(f"/int64{list(values)}", np.array(values, dtype=np.int64))

    def input(self, name: str, dtype: int, shape: Sequence[int | str]) -> str:
        """Add an input to the graph; `dtype` is one of TensorProto's."""
        self.inputs.append(helper.make_tensor_value_info(name, dtype, list(shape)))
        return name

    def output(self, name: str, dtype: int, shape: Sequence[int | str]) -> None:
        """Make a value an output of the graph; `dtype` is one of TensorProto's."""
        self.outputs.append(helper.make_tensor_value_info(name, dtype, list(shape)))

    def wrapped(self, sums: str, inside: tuple[int, int], wrap: Callable[[], str], count: str, axes: int) -> str:
        """Sums [T, B, ...], of so many more axes, as `wrap` makes them, and an output of how many it changed: int64 [T, B].

        `wrap` appends its operators and returns what they give. They stand in a branch that is not taken while the least and
        the greatest sum lie inside the range; to look at those costs less than to wrap.
        """
        least, greatest = (self.op(kind, [sums], beside(count, kind), keepdims=0) for kind in ("ReduceMin", "ReduceMax"))
        below = self.op("Less", [least, self.scalar(inside[0], np.int32)], beside(count, "below"))
        above = self.op("Greater", [greatest, self.scalar(inside[1], np.int32)], beside(count, "above"))
        outside = self.op("Or", [below, above], beside(count, "outside"))
        nodes, self.nodes = self.nodes, []
        changed = wrap()
        same = self.op("Equal", [sums, changed], beside(count, "same"))
        ones = self.op(
            "Cast", [self.op("Not", [same], beside(count, "differ"))], beside(count, "ones"), to=TensorProto.INT64
        )
        total = self.op("ReduceSum", [ones, self.integers(list(range(2, 2 + axes)))], beside(count, "total"), keepdims=0)
        then = _branch(self.nodes, changed, total)
        self.nodes = []
        zero = helper.make_tensor("zero", TensorProto.INT64, [1], [0])
        self.op("Identity", [sums], beside(count, "unchanged"))
        self.op("ConstantOfShape", [FRAMES_TB], beside(count, "none"), value=zero)
        otherwise = _branch(self.nodes, beside(count, "unchanged"), beside(count, "none"))
        self.nodes = nodes
        result = beside(count, "sums")
        self.nodes.append(
            helper.make_node("If", [outside], [result, count], name=result, then_branch=then, else_branch=otherwise)
        )
        self.output(count, TensorProto.INT64, ["T", "B"])
        return result

    def declare(self, name: str, dtype: int, shape: Sequence[int | str]) -> None:
        """State the type and shape of a value inside the graph, for runtimes that cannot infer them."""
        self.declared[name] = helper.make_tensor_value_info(name, dtype, list(shape))


def _read_by(node: NodeProto) -> set[str]:
    branches = (attribute.g.node for attribute in node.attribute if attribute.type == AttributeProto.GRAPH)
    return set(node.input).union(*(_read_by(inner) for nodes in branches for inner in nodes))


def _branch(nodes: Sequence[NodeProto], sums: str, count: str) -> GraphProto:
    infos = [(sums, TensorProto.INT32), (count, TensorProto.INT64)]
    return helper.make_graph(list(nodes), "branch", [], [helper.make_tensor_value_info(*info, None) for info in infos])
