"""What the exporters of a quantized network's layers and neurons to ONNX share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from onnx import TensorProto

from tet_deploy import dynamics
from tet_deploy.contracts import ProbeNames
from tet_deploy.errors import GraphError
from tet_deploy.exporters.onnx_builder import OnnxBuilder, own
from tet_deploy.exporters.onnx_synapses import Messages, need_within
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import Input, Node, Population, Quantization
from tet_deploy.ir.values import Value, total
from tet_deploy.onnx_file import FRAMES, output_of
from tet_deploy.ranges import Possible


@dataclass
class IntegerNetwork:
    """A quantized network on its way into an ONNX graph: what each node sends, and what is shown of it."""

    build: OnnxBuilder
    graph: Graph
    probes: ProbeNames
    states: bool
    counted: Possible
    sent: Mapping[str, Value]
    values: dict[str, Messages] = field(default_factory=dict)
    unit: str = ""
    in_floats: bool = False  # maps are float32 and channels-first, see `onnx_float_convolutions`

    def is_turned(self, name: str) -> bool:
        """Whether what a node sends lies channels-last, and not as its shape says."""
        return len(self.graph.shapes[name]) == 3 and not self.in_floats

    def bounds(self, node: Population) -> Value:
        """Those of the sum over the node's synapses."""
        bounds = total([self.sent[name] for name in node.inputs])
        need_within(node, "largest possible sum over its synapses", int(bounds.magnitude), dynamics.largest_total(node))
        return bounds

    def presynaptic(self, node: Population) -> str:
        """The sum over the node's synapses, int32."""
        sums, gains = self.ports(node)
        for source, gain in gains.items():
            wide = self.build.op("Cast", [source], own(node, f"wide{len(sums)}"), to=TensorProto.INT32)
            factor = self.build.constant(own(node, f"gain{len(sums)}"), gain.astype(np.int32))
            sums.append(self.build.op("Mul", [wide, factor], own(node, f"gained{len(sums)}")))
        return self.build.added(sums, own(node, "presynaptic"))

    def ports(self, node: Population) -> tuple[list[str], dict[str, np.ndarray]]:
        """Sums, int32, and messages with what multiplies them, by channel: parts of one identity become one."""
        sums, gains = [], dict[str, np.ndarray]()
        for name in node.inputs:
            port = self.values[name]
            if port.gain is None:
                sums.append(port.tensor)
            else:
                gains[port.tensor] = gains.get(port.tensor, 0) + port.gain
        return sums, gains

    def one(self) -> str:
        """1, worked out from the number of steps: ONNX Runtime merges operators only where a scale is no constant."""
        if not self.unit:
            steps = self.build.op("Squeeze", [self.build.op("Shape", [FRAMES], "/steps", start=0, end=1)], "/steps_of_run")
            real = self.build.op("Cast", [steps], "/steps_float", to=TensorProto.FLOAT)
            self.unit = self.build.op("Min", [real, self.build.scalar(1, np.float32)], "/one")
        return self.unit

    def state(self, node: Population, held: str) -> tuple[list[str], list[str]]:
        """What a run with states begins with, an input [B, C, H, W] made channels-last, and the name of what it ends in."""
        if not self.states:
            return [], []
        build, shape = self.build, self.graph.shapes[node.name]
        state, which = build.input(output_of(held, "before"), TensorProto.INT32, ["B", *shape]), held.removeprefix(node.name)
        if self.is_turned(node.name):
            state = build.op("Transpose", [state], own(node, f"before{which}"), perm=[0, 2, 3, 1])
        return [state], [own(node, f"after{which}")]

    def show_after(self, after: list[str], node: Population, held: str) -> None:
        """Make what a state ends in, as `state` named it, an output."""
        for value in after:
            self.show(value, output_of(held, "after"), node, ["B"], TensorProto.INT32)

    def show(self, tensor: str, output: str, node: Node, axes: list[int | str], dtype: int) -> None:
        """Make what a node holds or sends an output of this type, channels first behind the leading axes."""
        build, shape, lead = self.build, self.graph.shapes[node.name], len(axes)
        if self.is_turned(node.name):
            build.op("Transpose", [tensor], output, perm=[*range(lead), lead + 2, lead, lead + 1])
        else:
            build.op("Cast", [tensor], output, to=dtype)
        build.output(output, dtype, [*axes, *shape])


def quantization_of(node: Input | Population) -> Quantization:
    """That of a node of a quantized network."""
    if node.quantization is None:
        raise GraphError(
            f"node {node.name!r}: lacks its quantization, the readout has one. Quantize the float network again."
        )
    return node.quantization
