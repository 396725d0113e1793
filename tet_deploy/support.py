"""What each stage of the chain takes, kind by kind, and what in one network a target would refuse.

Both ask the code that does it: the rules by kind of node (`functools.singledispatch`) of each stage, and the exporters
themselves, so that neither can promise what does not work.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tet_deploy import deployment
from tet_deploy.arguments import check_named
from tet_deploy.errors import GraphError, MissingDependencyError
from tet_deploy.exporters import EXPORTERS
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import KINDS, LIF, WEIGHTED, Input, Node, Output, Population, Quantization, Readout, Spiking
from tet_deploy.ir.spec import DEPLOYABLE
from tet_deploy.layout import Table
from tet_deploy.passes import fold
from tet_deploy.passes.fit import populations

YES, NO, LOWERED, ABSENT = "yes", "no", "lowered", "not installed"
MEANING = {
    YES: "taken",
    NO: "refused by name, with the way out",
    LOWERED: "td.lower removes it before",
    ABSENT: "the stage's library is not here, see tet-deploy doctor",
}


def stages() -> dict[str, str]:
    """Where the rules by kind of node of each stage are, as "module:function"."""
    return {
        "reference": "tet_deploy.meaning:evaluate",
        "integers": "tet_deploy.passes.fit:populations",
        "energy": "tet_deploy.counting.traffic:_neuron",
        **{f"{name} {form}": rules for name, entry in EXPORTERS.items() for form, rules in entry.rules.items()},
    }


def supported() -> dict[str, dict[str, str]]:
    """By kind of node what each stage makes of it: one of `MEANING`."""
    return {kind: {stage: _cell(cls, stage, rules) for stage, rules in stages().items()} for kind, cls in KINDS.items()}


def _cell(kind: type[Node], stage: str, rules: str) -> str:
    if stage not in ("reference", "energy") and not issubclass(kind, DEPLOYABLE.kinds):
        return LOWERED
    only = {"integers": Population, "energy": Spiking}.get(stage)  # the others are alike, whatever neurons there are
    if only is not None and not issubclass(kind, only):
        return YES
    if stage == "reference" and issubclass(kind, Population):
        rules = "tet_deploy.dynamics:step"
    module, function = rules.split(":")
    try:
        dispatch: Any = getattr(importlib.import_module(module), function)
    except (ImportError, MissingDependencyError):
        return ABSENT
    return YES if dispatch.dispatch(kind) is not dispatch.dispatch(object) else NO


def sources() -> dict[str, list[str]]:
    """What comes in: the layers of torch that tracing knows, and NIR's nodes; empty where torch or h5py is missing."""
    found: dict[str, list[str]] = {"torch layers": [], "NIR nodes": []}
    with contextlib.suppress(ImportError, MissingDependencyError):
        layers = importlib.import_module("tet_deploy.tracing.layers").LAYERS
        found["torch layers"] = sorted({kind.__name__ for kind in layers})
    with contextlib.suppress(ImportError, MissingDependencyError):
        found["NIR nodes"] = sorted(importlib.import_module("tet_deploy.importing.nir.kinds").KINDS)
    return found


def support_table() -> Table:
    """The kinds by stages, for people."""
    rows = [(kind, *cells.values()) for kind, cells in supported().items()]
    return Table("Kinds of node, and the stages that take them", ("kind", *stages()), rows, text=tuple(stages()))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fault:
    """What a target refuses: a node's name, or None where it is the network as a whole, and the exporter's words."""

    node: str | None
    message: str


def faults(graph: Graph, target: str) -> list[Fault]:
    """All that an exporter would refuse in a network, one after the other; nothing is kept of what is written on the way.

    Each node that is refused is exchanged for a harmless one of the same shape, and the exporter asked again. Of a float
    network and a target for integers, kinds are told; which numbers fit is known once it is quantized.

    Parameters
    ----------
    graph
        Any network; a traced one is folded first, as `td.lower` does.
    target
        The name of an exporter.

    Raises
    ------
    ArgumentError
        No exporter of that name.
    """
    check_named("target", target, EXPORTERS)
    found: list[Fault] = []
    try:
        graph = graph if graph.is_quantized else fold(graph)
    except GraphError as error:
        return [_fault(error)]
    if EXPORTERS[target].quantized and not graph.is_quantized:
        return _by_kind(graph, target)
    with tempfile.TemporaryDirectory() as folder:
        while True:
            try:
                deployment.export(graph, Path(folder) / f"{len(found)}{EXPORTERS[target].suffix}", to=target)
            except GraphError as error:
                fault = _fault(error)
                name = fault.node
                if name is None or name in [known.node for known in found]:  # a harmless node was refused: it lies elsewhere
                    return found if fault in found else [*found, fault]
                found.append(fault)
                graph = graph.replace({name: _harmless(graph[name])})
            else:
                return found


def _by_kind(graph: Graph, target: str) -> list[Fault]:
    """Of a float network what no rounding could bring to a target for integers."""
    wanted = ["integers", *(stage for stage in stages() if stage.startswith(f"{target} "))]
    cells = supported()
    messages = {node: _refusal(node, target, [cells.get(node.kind, {}).get(stage) for stage in wanted]) for node in graph}
    return [Fault(node=node.name, message=message) for node, message in messages.items() if message]


def _refusal(node: Node, target: str, found: list[str | None]) -> str | None:
    if isinstance(node, Population):
        try:
            populations(node, None, 1.0)  # which may refuse a setting of a kind that it takes
        except GraphError as error:
            return str(error)
    refused = f"node {node.name!r}: {target} does not take a {node.kind}. See tet-deploy doctor --supported."
    return refused if NO in found else None


def _fault(error: GraphError) -> Fault:
    named = re.match(r"node '([^']*)'", str(error))
    return Fault(node=named[1] if named else None, message=str(error))


def _harmless(node: Node) -> Node:
    """A node of the same place and shape that any target takes."""
    quantized = getattr(node, "quantization", None) is not None
    if isinstance(node, Input):
        return dataclasses.replace(node, quantization=Quantization(scale=1.0) if quantized else None)
    if isinstance(node, WEIGHTED):
        weight = np.zeros(node.weight.shape, np.int8 if quantized else np.float32)
        return dataclasses.replace(
            node, weight=weight, bias=None, quantization=Quantization(scale=1.0) if quantized else None
        )
    if isinstance(node, Population):
        kind = Readout if isinstance(node, Output) else LIF
        return kind(name=node.name, inputs=node.inputs, quantization=Quantization(scale=1.0) if quantized else None)
    return node
