"""Networks and their runs, for tests that count them."""

import dataclasses

import numpy as np

from tet_deploy.counting import Price, table
from tet_deploy.ir.graph import chain
from tet_deploy.ir.nodes import LIF, AvgPool, Conv, Flatten, Input, Linear, Readout
from tet_deploy.runtimes.reference import ReferenceRuntime
from tet_deploy.testing import random_float_network, random_frames, random_quantized_network


def random_run(seed=0, samples=5, encoding="analog", quantized=False):
    rng = np.random.default_rng(seed)
    graph = (random_quantized_network if quantized else random_float_network)(rng, encoding=encoding, layers=2)
    frames = random_frames(graph, rng, steps=3, samples=samples)
    return graph, ReferenceRuntime(graph).run(frames, probes="spikes"), frames


def pooled_graph(rng):
    return chain(
        [
            Input(name="input", shape=(1, 4, 4)),
            Conv(name="conv", weight=rng.normal(size=(2, 1, 3, 3)).astype(np.float32), padding=(1, 1)),
            LIF(name="lif", decay=1.0),
            AvgPool(name="pool", kernel=(2, 2), stride=(2, 2)),
            Flatten(name="flatten"),
            Linear(name="fc", weight=rng.normal(size=(3, 8)).astype(np.float32)),
            Readout(name="readout"),
        ]
    )


def still_run():
    rng = np.random.default_rng(1)
    graph = pooled_graph(rng)
    frames = np.repeat(rng.normal(size=(1, 4, 1, 4, 4)).astype(np.float32), 3, axis=0)
    return graph, ReferenceRuntime(graph).run(frames, probes="spikes"), frames


def own_table(name="45nm-fp32", picojoules=1.7):
    """A table of a user's: the paper's with another price, under a name of the user's choice."""
    return dataclasses.replace(table("45nm-fp32"), name=name, addition=Price(picojoules=picojoules, source="my own"))
