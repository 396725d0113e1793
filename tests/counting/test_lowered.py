"""What a residual network costs does not depend on whether its sums have been lowered."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tet_deploy.counting import estimate
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import LIF, Add, Conv, Flatten, Input, Linear, Readout
from tet_deploy.passes import lower_residual
from tet_deploy.runtimes.reference import ReferenceRuntime


def network(rng, shape=(2, 4, 4)):
    """stem - lif0 - conv - (+ lif0) - lif1 - (SEW: + lif0) - conv - (+ that sum) - lif2 - fc."""

    def conv(name, source):
        weight = rng.integers(-2, 4, (2, 2, 3, 3)).astype(np.float32) / 4
        return Conv(name=name, inputs=(source,), weight=weight, padding=(1, 1))

    return Graph(
        (
            Input(name="input", shape=shape, encoding="events"),
            conv("stem", "input"),
            LIF(name="lif0", inputs=("stem",)),
            conv("conv1", "lif0"),
            Add(name="skip", inputs=("conv1", "lif0")),
            LIF(name="lif1", inputs=("skip",)),
            Add(name="sew", inputs=("lif1", "lif0")),
            conv("conv2", "sew"),
            Add(name="again", inputs=("conv2", "sew")),
            LIF(name="lif2", inputs=("again",)),
            Flatten(name="flatten", inputs=("lif2",)),
            Linear(name="fc", inputs=("flatten",), weight=np.ones((3, 32), np.float32)),
            Readout(name="readout", inputs=("fc",)),
        )
    )


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32))
def test_lowering_changes_no_energy_but_how_graded_skips_are_added(seed):
    """All energies that leave skips out are equal; an identity adds once for each spike, of a sum once for each in it."""
    rng = np.random.default_rng(seed)
    graph, frames = network(rng), rng.poisson(0.6, (3, 2, 2, 4, 4)).astype(np.float32)
    before, after = (
        estimate(net, ReferenceRuntime(net).run(frames, probes="spikes"), frames) for net in (graph, lower_residual(graph))
    )
    for name in ("event", "dense_in", "rate", "ann"):
        assert after.mean(name) == pytest.approx(before.mean(name), rel=1e-12)  # float64 sums in another order
    rows = dict(zip(after.traffic.layers, after.traffic["residual_additions"], strict=True))
    spikes = ReferenceRuntime(graph).run(frames).spikes
    assert rows["lif1.identity"].sum() == spikes["lif0"].sum()
    assert rows["lif2.identity"].sum() == spikes["lif0"].sum() + spikes["lif1"].sum()
