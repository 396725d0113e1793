"""Collects the pieces of one ONNX graph: nodes, constants, functions, outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import FunctionProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

FRAMES, READOUT, LOGITS = "frames", "readout", "logits"  # input and outputs of every exported graph
FRAMES_TB = "frames_TB"  # the numbers of steps and samples, known at run time only


class OnnxBuilder:
    """Grows one ONNX graph.

    Values that belong to a node are named `<node>.<what>`, with no dot in `<what>`: so they never clash with each other, nor
    with the names above.
    """

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, TensorProto] = {}
        self.functions: dict[str, FunctionProto] = {}
        self.outputs: list[ValueInfoProto] = []
        self.op("Shape", [FRAMES], FRAMES_TB, start=0, end=2)

    def op(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Append an operator with one output; returns the output's name."""
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def call(self, function: FunctionProto, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> None:
        """Append a call of a local function, which becomes part of the model."""
        self.functions[function.name] = function
        name = outputs[0].rpartition(".")[0]
        self.nodes.append(
            helper.make_node(function.name, list(inputs), list(outputs), name=name, domain=function.domain, **attributes)
        )

    def constant(self, name: str, array: np.ndarray) -> str:
        """Store an array in the model; returns its name."""
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def scalar(self, value: float, dtype: Any) -> str:
        """A constant without axes, stored once however often it is used."""
        number = np.asarray(value, dtype=dtype)
        return self.constant(f"{number.dtype.name}({value})", number)

    def integers(self, values: Sequence[int]) -> str:
        """A constant list of int64 (shapes, axes, paddings), stored once however often it is used."""
        return self.constant(f"int64{list(values)}", np.array(values, dtype=np.int64))

    def output(self, name: str, dtype: int, shape: Sequence[int | str]) -> None:
        """Make a value an output of the graph; `dtype` is one of TensorProto's."""
        self.outputs.append(helper.make_tensor_value_info(name, dtype, list(shape)))
