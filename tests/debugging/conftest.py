"""Faults to plant, one of each kind: a network, a recording or an ONNX file with one thing wrong in one population."""

from __future__ import annotations

import inspect
from importlib.util import find_spec

import pytest
from plantings.integers import consistent, in_real_numbers, plant_saturation, plant_wrap
from plantings.numbers import clipped_weights, coarse_bias, coarse_weights, other_decay
from plantings.onnx_files import plant_comparison
from plantings.planted import Planted, in_a_graph
from plantings.runs import plant_border, plant_clipped_messages, plant_input_scale, plant_latency
from plantings.torch_models import plant_batch_norm

from tet_deploy.debugging import causes
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import LIF, Conv, Linear
from tet_deploy.testing import random_quantized_network

PLANTINGS = {
    "weight rounding": in_a_graph(causes.WEIGHT_ROUNDING, (Conv, Linear), coarse_weights),
    "clipped weights": in_a_graph(causes.WEIGHT_CLIPPING, (Conv, Linear), clipped_weights),
    "bias rounding": in_a_graph(causes.BIAS, LIF, coarse_bias, random_quantized_network),
    "decay rounding": in_a_graph(causes.DECAY, LIF, other_decay),
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

    def both(rng, wrap: bool, currents: bool = False) -> tuple[Graph, Graph]:
        graph = consistent(random_quantized_network(rng, wrap=wrap, currents=currents))
        return graph, in_real_numbers(graph)

    return both
