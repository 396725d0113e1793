"""What left the chip's range, in numbers that add up however samples are split, and that survive a file."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tet_deploy as td
from tet_deploy.errors import ArtifactError
from tet_deploy.ir.graph import chain
from tet_deploy.ir.nodes import LIF, Input, Linear, Quantization, Readout
from tet_deploy.range_totals import RangeTotals
from tet_deploy.runtimes.reference import ReferenceRuntime

UNITS, RNG = Quantization(scale=1.0), np.random.default_rng(2)
GRAPH = chain(
    [
        Input(name="input", shape=(900,), quantization=Quantization(scale=60.0)),
        Linear(name="hidden", weight=RNG.integers(60, 128, (9, 900), dtype=np.int8), quantization=UNITS),
        LIF(name="lif", threshold=4000, quantization=UNITS),
        Linear(name="fc", weight=np.ones((4, 9), np.int8), quantization=UNITS),
        Readout(name="readout", quantization=UNITS),
    ]
)
WHOLE = ReferenceRuntime(GRAPH).run(
    (RNG.normal(2.2, 1.0, (3, 12, 900)) * RNG.choice([-1, 1], (3, 12, 1))).astype(np.float32)
)


@settings(max_examples=40)
@given(cuts=st.lists(st.integers(1, 11), max_size=5, unique=True), order=st.randoms())
def test_totals_add_up_however_samples_are_split(cuts, order):
    """In any order, through JSON, with the first place of all; a sum changes neither term."""
    edges = [0, *sorted(cuts), 12]
    parts = [RangeTotals.of(GRAPH, WHOLE.ranges.sample(a, b), start=a) for a, b in itertools.pairwise(edges)]
    order.shuffle(parts)
    parts = [RangeTotals.from_state(json.loads(json.dumps(part.to_state()))) for part in parts]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    assert total == RangeTotals.of(GRAPH, WHOLE.ranges) and total.said


def test_totals_say_of_how_many_and_where_first():
    """Denominators are values, not steps; the first place is the earliest step and in it the first sample."""
    totals = RangeTotals.of(GRAPH, WHOLE.ranges, start=40)
    found = totals.clipped["input"]
    assert found.of == 3 * 12 * 900 and totals.wrapped["lif"].of == totals.saturated["lif"].of == 3 * 12 * 9
    assert found.count == WHOLE.ranges.clipped["input"].sum() and found.limit == 127 / 60
    steps, samples = WHOLE.ranges.wrapped["lif"].nonzero()
    assert totals.wrapped["lif"].first == (steps[0], 40 + samples[0])


@pytest.mark.filterwarnings("ignore::tet_deploy.errors.TetDeployWarning")
@pytest.mark.parametrize("decay", [1.0, 0.98])
def test_what_calibration_did_too_is_no_reason_to_calibrate_again(decay):
    """Potentials that inhibition drives down on the very frames of calibration: the way out is another."""
    weight = np.random.default_rng(0).integers(-8, 3, (8, 16)).astype(np.float32) / 8
    nodes = [Input(name="input", shape=(16,)), Linear(name="hidden", weight=weight), LIF(name="lif", decay=decay)]
    nodes += [Linear(name="fc", weight=np.eye(4, 8, dtype=np.float32)), Readout(name="readout")]
    frames = np.rint(np.random.default_rng(1).random((20, 4, 16)) * 40).astype(np.float32)
    graph = td.lower(chain(nodes), frames)
    for shown, advice in (
        (frames, "So were potentials in calibration"),
        (frames[:1], "Quantize again with frames like these"),
    ):
        quantized = td.quantize(graph, shown)
        totals = RangeTotals.of(quantized, td.run(quantized, frames).ranges)
        found = totals.saturated["lif"]
        assert found.count and found.limit == 2**23 - 1 and (found.calibrated == found.limit) == (shown is frames)
        assert totals.advice().startswith(advice) and ("td.quantize" in totals.advice()) == (shown is not frames)


DAMAGE = {
    "more than all": lambda state: state["clipped"]["input"].update(count=10**9),
    "no place": lambda state: state["clipped"]["input"].update(first=None),
    "a negative count": lambda state: state["clipped"]["input"].update(count=-1),
    "a name that no node has": lambda state: state["wrapped"].update({"a/b": state["clipped"]["input"]}),
    "no limit": lambda state: state["clipped"]["input"].update(limit="high"),
    "an infinite limit": lambda state: state["clipped"]["input"].update(limit=float("inf")),
    "no kind": lambda state: state.pop("wrapped"),
    "a list of nodes": lambda state: state.update(wrapped=[]),
    "unknown numbers": lambda state: state.update(unknown=[3]),
    "three places": lambda state: state["clipped"]["input"].update(first=[0, 0, 0]),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_state_is_refused(case):
    """In one line that names the field."""
    state = RangeTotals.of(GRAPH, WHOLE.ranges).to_state()
    DAMAGE[case](state)
    with pytest.raises(ArtifactError, match="ranges"):
        RangeTotals.from_state(state)
