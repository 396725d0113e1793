"""One scale for all synapses of a population; identities add up to theirs."""

import json

import numpy as np
import pytest

from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import LIF, Conv, Flatten, Input, Linear, Readout
from tet_deploy.ir.shapes import dense_macs
from tet_deploy.passes import quantize
from tet_deploy.passes.lower_residual import identity
from tet_deploy.runtimes.reference import ReferenceRuntime
from tet_deploy.validation import compare


def residual(largest, rng):
    """stem - l0 - conv + identity of l0 - l1 - fc, with conv's weights up to `largest`."""
    stem = Conv(name="stem", inputs=("input",), weight=rng.uniform(-1, 1, (3, 2, 3, 3)).astype(np.float32), padding=(1, 1))
    l0 = LIF(name="l0", inputs=("stem",))
    conv = Conv(
        name="conv", inputs=("l0",), weight=rng.uniform(-largest, largest, (3, 3, 3, 3)).astype(np.float32), padding=(1, 1)
    )
    skip = identity(l0, (3, 5, 5), "l1.identity")
    fc = Linear(name="fc", inputs=("flatten",), weight=rng.uniform(-1, 1, (4, 75)).astype(np.float32))
    return Graph(
        (
            Input(name="input", shape=(2, 5, 5), encoding="events"),
            *(stem, l0, conv, skip, LIF(name="l1", inputs=("conv", "l1.identity"), threshold=1.2)),
            *(Flatten(name="flatten", inputs=("l1",)), fc, Readout(name="readout", inputs=("fc",))),
        )
    )


@pytest.mark.parametrize("largest", [1.0, 0.3, 0.05, 0.001])
def test_identities_share_the_scale_within_the_range_of_a_weight(largest):
    """Their integers add up to round(1 * s), in at most eight synapse nodes; the file says which, and what they cost."""
    rng = np.random.default_rng(0)
    graph, frames = residual(largest, rng), rng.poisson(0.5, (5, 16, 2, 5, 5)).astype(np.float32)
    int8 = quantize(graph, frames, threshold_classes=1)
    parts = [int8[name] for name in int8["l1"].inputs if name.startswith("l1.identity")]
    scale = int8["l1"].quantization.scale
    assert sum(int(part.weight[0, 0, 0, 0]) for part in parts) == round(scale)
    assert all(np.abs(part.weight.astype(int)).max() <= 127 for part in parts) and len(parts) <= 8
    assert len(parts) == 1 or scale > 127
    assert json.loads(int8.metadata["quantization"])["l1"]["layers"] == list(int8["l1"].inputs)
    assert sum(dense_macs(part, int8.shapes[part.name]) for part in parts) == 0
    before, after = ReferenceRuntime(graph).run(frames), ReferenceRuntime(int8).run(frames)
    assert np.mean(before.spikes["l1"] != after.spikes["l1"]) < 0.03  # as of feed-forward layers of 7-bit weights


def test_both_terms_of_a_shortcut_count():
    """Without the identity, or with it taken twice, the network would be another one."""
    rng = np.random.default_rng(1)
    graph, frames = residual(0.3, rng), rng.poisson(0.5, (5, 8, 2, 5, 5)).astype(np.float32)
    int8 = quantize(graph, frames)
    assert not compare(ReferenceRuntime(int8).run(frames), ReferenceRuntime(without_identities(int8)).run(frames)).equal


def without_identities(graph):
    nodes = [node for node in graph if not node.name.startswith("l1.identity")]
    alone = [node if node.name != "l1" else type(node)(**{**vars(node), "inputs": ("conv",)}) for node in nodes]
    return Graph(tuple(alone))
