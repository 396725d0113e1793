"""A neuron's step over time as an ONNX function: a Scan that keeps T and B free, and that ONNX Runtime inlines.

Before 1.24 a Scan fails at run time where the shape of its input was not inferred, so the exporter states it.
All functions take [T, B, ...] and give spikes, and on request membrane potentials after the reset, of the same shape. Decay
and threshold are attributes; those that `by_channel` names are inputs behind the first, which broadcast against a step. On
request they begin with a given membrane potential [B, ...] and give the last one, so that a run can go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from onnx import AttributeProto, FunctionProto, GraphProto, NodeProto, helper

DOMAIN, DOMAIN_VERSION = "tet_deploy", 1
OPSET = 21  # onnx 1.16, ONNX Runtime 1.19 and later

_node = helper.make_node


@dataclass(frozen=True)
class Scan:
    """A step (v, x -> v_next and what is seen of it) over the first axis of `x`, from the state `before` to `after`."""

    x: str
    state_type: int
    seen: Mapping[str, tuple[str, int]]

    def over(self, step: Sequence[NodeProto], prefix: str = "") -> NodeProto:
        """The scan of such a step; its outputs are `after` and what is seen, behind the prefix."""
        step = [*step]
        if "potentials" in self.seen:
            step.append(_node("Identity", ["v_next"], ["potential"]))
        body = helper.make_graph(
            step,
            "step",
            [helper.make_tensor_value_info(value, self.state_type, None) for value in ("v", "x")],
            [
                helper.make_tensor_value_info(value, kind, None)
                for value, kind in (("v_next", self.state_type), *self.seen.values())
            ],
        )
        outputs = [f"{prefix}{name}" for name in ("after", *self.seen)]
        return _node("Scan", ["before", self.x], outputs, body=body, num_scan_inputs=1)


def scanning_function(
    name: str, equation: str, inputs: Sequence[str], nodes: Sequence[NodeProto], scan: Scan, states: bool
) -> FunctionProto:
    """A function that gives what a scan sees; its doc string is the equation of a step.

    It begins with v = 0; with `states`, with its last input, `before`, and its last output, `after`, is what v then is.
    """
    name, outputs = f"{name}WithPotentials" if "potentials" in scan.seen else name, [*scan.seen]
    zeros = [
        _node("Shape", [scan.x], ["step_shape"], start=1),
        _node("ConstantOfShape", ["step_shape"], ["before"], value=helper.make_tensor("zero", scan.state_type, [1], [0])),
    ]
    if states:
        name, inputs, outputs, zeros = f"{name}WithStates", [*inputs, "before"], [*outputs, "after"], []
    attributes = sorted(_referred(nodes))
    imports = [helper.make_opsetid("", OPSET)]
    begins = "before" if states else "0"
    return helper.make_function(
        DOMAIN,
        name,
        list(inputs),
        outputs,
        [*zeros, *nodes],
        imports,
        attributes=attributes,
        doc_string=f"In each step over the first axis, from {begins} on:  {equation}",
    )


def _referred(nodes: Iterable[NodeProto]) -> set[str]:
    """Attributes of the call that the nodes name, or those inside them."""
    own = {a.ref_attr_name for node in nodes for a in node.attribute if a.ref_attr_name}
    return own.union(*(_referred(a.g.node) for node in nodes for a in node.attribute if a.HasField("g")))


def what_is_seen(spike_type: int, state_type: int, potentials: bool) -> dict[str, tuple[str, int]]:
    """What a scan gives of each step: by output the value of a step, and its type."""
    spikes = {"spikes": ("spike", spike_type)}
    return spikes | ({"potentials": ("potential", state_type)} if potentials else {})


def branch(nodes: Sequence[NodeProto], outputs: Mapping[str, int]) -> GraphProto:
    """One side of an If, which gives these values of these types."""
    infos = [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()]
    return helper.make_graph(list(nodes), "branch", [], infos)


def attribute(name: str, kind: AttributeProto.AttributeType, output: str | None = None) -> NodeProto:
    """A constant whose value is the attribute of that name in the function's call."""
    node = _node("Constant", [], [output or name])
    value = {AttributeProto.FLOAT: "value_float", AttributeProto.INT: "value_int"}[kind]
    node.attribute.append(AttributeProto(name=value, ref_attr_name=name, type=kind))
    return node
