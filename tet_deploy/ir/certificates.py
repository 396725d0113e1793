"""What can never happen in a quantized network, for any frames: a presynaptic sum that wraps, a potential held at the limit.

    wraps       |presynaptic sum| > 2^17 - 1: shifted by 6 it leaves the chip's 24 bit; of neurons with a synaptic
                current, what such sums add up to in it: they times 4096 / decay_u
    saturates   the membrane potential would fall below -(2^23 - 1) and is held there

A potential above the upper limit needs no certificate: it exceeds every threshold, so that the neuron fires and is reset
whether it was held or not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

from tet_deploy import dynamics
from tet_deploy.errors import GraphError
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import LIF, CubaLIF, LeakyReadout, Population, Readout
from tet_deploy.ir.values import Value, total, values
from tet_deploy.layout import Table


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """How far one population can ever go.

    Attributes
    ----------
    least_sum, greatest_sum
        Bounds of the presynaptic sum, over all ports, or of the synaptic current that it flows into, in weight mantissas.
    least_potential
        Bound of the membrane potential, in units of 1/64 mantissa; -infinity where it may fall for ever.
    """

    least_sum: int
    greatest_sum: int
    least_potential: float

    @property
    def cannot_wrap(self) -> bool:
        """Whether no presynaptic sum can leave what the chip holds."""
        return max(-self.least_sum, self.greatest_sum) <= dynamics.LARGEST_SYNAPTIC_SUM

    @property
    def cannot_saturate(self) -> bool:
        """Whether no membrane potential can be held at the lower limit."""
        return self.cannot_wrap and self.least_potential > -dynamics.STATE_LIMIT


def certificates(graph: Graph) -> Mapping[str, Certificate]:
    """The certificate of each population of a quantized network, by its name.

    Raises
    ------
    GraphError
        A float network: its numbers are limited by float32 alone.
    """
    if not graph.is_quantized:
        raise GraphError("certificates are of a quantized network's integers; this one holds floats. Use td.quantize.")
    sent = values(graph)
    return {
        node.name: certificate(node, total([sent[name] for name in node.inputs]))
        for node in graph
        if isinstance(node, Population)
    }


def certificate_rows(graph: Graph) -> list[dict[str, Any]]:
    """One row per population of a quantized network: its name, the bounds of its sums, and what no frames can make it do."""
    return [
        {
            "population": name,
            "least_sum": found.least_sum,
            "greatest_sum": found.greatest_sum,
            "wrap_impossible": found.cannot_wrap,
            "saturation_impossible": found.cannot_saturate,
        }
        for name, found in certificates(graph).items()
    ]


def certificate_table(graph: Graph, latency: Mapping[str, int]) -> Table:
    """The rows as a table, with the step of a pipeline in which each population answers."""
    words = {True: "impossible", False: "possible"}
    rows = [
        (
            row["population"],
            f"{row['least_sum']:,} to {row['greatest_sum']:,}",
            words[row["wrap_impossible"]],
            words[row["saturation_impossible"]],
            latency[row["population"]],
        )
        for row in certificate_rows(graph)
    ]
    title = f"Whatever the frames: sums (the chip holds {dynamics.LARGEST_SYNAPTIC_SUM:,}), and steps until Lava answers"
    return Table(title, ("population", "sums", "wrapping", "saturating", "latency"), rows)


def certificate(node: Population, presynaptic: Value) -> Certificate:
    """That of one population, fed by such a presynaptic sum.

    Raises
    ------
    GraphError
        A kind of population of which no bound is known.
    """
    least, greatest, decay = int(presynaptic.least), int(presynaptic.greatest), dynamics.decay_u(node)
    least = min(least, least * dynamics.DECAY_ONE // decay)  # c >= kept * c + x forever: c >= x / (1 - kept)
    greatest = max(greatest, -(-greatest * dynamics.DECAY_ONE // decay))
    return Certificate(least_sum=least, greatest_sum=greatest, least_potential=_least_potential(node, least))


@singledispatch
def _least_potential(node: Population, least_sum: int) -> float:
    raise GraphError(f"node {node.name!r}: no bound is known for the potential of a {node.kind}.")


@_least_potential.register(Readout)
@_least_potential.register(LeakyReadout)
def _(node: Readout | LeakyReadout, least_sum: int) -> float:
    return 0.0  # the chip keeps none


@_least_potential.register(LIF)
@_least_potential.register(CubaLIF)
def _(node: LIF | CubaLIF, least_sum: int) -> float:
    """v >= kept * v + x forever, with x the least input of a step: v >= x / (1 - kept)."""
    assert node.quantization is not None
    bias = dynamics.shifted_bias(node.bias, node.quantization.bias_exponent)
    x = (least_sum << dynamics.FRACTION_BITS) + min(0, int(bias if isinstance(bias, int) else bias.min()))
    leak = float(dynamics.decay_v(node).min()) / dynamics.DECAY_ONE
    if x >= 0:
        return 0.0
    return x / leak if leak else -math.inf
